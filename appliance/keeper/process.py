"""The keeper process: events in, the frames of those that match out of the ring into a folder of its own.

`python -m appliance.keeper.process RUN_DIR` gets a copy of each event from the feed, evaluates record.only, and copies
the frames of matching connections from the ring into the folder kept beside it. The feed never waits for it, except in
a run over a file: events without room on the link pass the keeper, and are counted. A look into the ring reads its
indexes, so several events wait for each, and the next one waits for ten times as long as the last one took. Between two
frames of a look, it takes the events that have come meanwhile. When the disk fails, the frames of that look are left
out. Nothing is kept twice: events that a killed keeper had taken are lost, and counted. It ends with the end mark of
the feed, after a last look. All other processes come first at the processor.

Exits with 2 if the folder cannot be used.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from appliance.config.schema import Config
from appliance.expression.event_filter import compile_where
from appliance.extract.keeping import Kept, Waiting, is_wanted, keep
from appliance.extract.kept_folder import KeptFolder
from appliance.ipc.copy_link import CopyReceiver
from appliance.ipc.event_batch import BadMessage, unpack_events
from appliance.ipc.shared_memory import SharedMemoryError
from appliance.ipc.sockets import Bus, BusError, Waiter
from appliance.native.safe_files import OUTPUT_UMASK
from appliance.runtime import log, sandbox
from appliance.runtime.child import ChildRuntime, configuration, exit_now
from appliance.runtime.paths import Paths
from appliance.stats.names import DONE, DRAINING, READY
from appliance.stats.page import Page
from appliance.stats.receive_cursor import AtMostOnceCursor
from appliance.stats.received_counters import ReceivedCounters
from appliance.stats.reconcile import close_keeper

TURN_MESSAGES = 16
SLEEP_S = 0.1  # longest; then it looks at the time and the configuration
EVERY_S = 10.0  # least time between an event and the look for its frames
PAUSE = 10  # times as long as a look takes, until the next one
BREATH_S = 0.02  # between two looks at the link, during a look into the ring
NICE = 10
CHECK_S = 0.01  # between two looks at the recorder's state, at the end


class KeeperProcess:
    """Everything the process does; `run` does it once."""

    def __init__(self, config: Config, run_dir: Path, page: Page, runtime: ChildRuntime, folder: KeptFolder) -> None:
        self.config = config
        self.run_dir = run_dir
        self.page = page
        self.runtime = runtime
        self.folder = folder
        self.where = compile_where(config.record.only)
        self.waiting = Waiting(EVERY_S)
        close_keeper(page)
        self.received = ReceivedCounters(page, 0)
        self.base_removed = page["removed_files"]
        self.cursor = AtMostOnceCursor(page)
        self.bus = Bus()
        self.receiver = CopyReceiver(self.bus, config, run_dir, self.cursor.first)
        self.failing = False
        self.looking = 0  # events whose frames a look is copying
        self.breath_at = 0.0  # time.monotonic()

    def run(self) -> int:
        """Run until the end mark of the feed, and return the exit code."""
        waiter = Waiter()
        waiter.watch(self.receiver.socket, read=True)
        self._publish()
        self.runtime.state(READY)
        while not self.received.ended:
            self.runtime.heartbeat()
            stopping = self.runtime.stopping
            if fresh := self.runtime.poll_config(self.run_dir):
                self.where = compile_where(fresh.record.only)
                self.folder.most_bytes = fresh.record.kept_bytes
            received = self._receive()
            self._keep(self.waiting.due(time.monotonic()))
            if not received:
                if stopping:
                    self._count_missing()
                    break
                waiter.wait(SLEEP_S)
        self.runtime.state(DRAINING)
        self._wait_for_recorder()
        self._keep(self.waiting.rest())
        self.folder.close()
        self.bus.close()
        self.runtime.state(DONE)
        return 0

    def _receive(self) -> int:
        """Take the messages that wait, up to a turn's worth; return their number."""
        for count in range(TURN_MESSAGES):
            self.runtime.heartbeat()
            try:
                message = self.receiver.receive()
            except (BadMessage, SharedMemoryError):
                self.page.add("invalid_messages", 1)
                continue
            if message is None:
                return count
            self._take(message)
        return TURN_MESSAGES

    def _take(self, data: memoryview) -> None:
        page = self.page
        self.cursor.take(0, self.receiver.number)
        try:
            message = unpack_events(data)
            lines = bytes(message.body).splitlines()
            if len(lines) != message.events:
                raise BadMessage("a message of other events than it says")
        except BadMessage:
            page.add("invalid_messages", 1)
            return
        self.received.close_gap(message.cumulative)
        self.received.add(message.events)
        now = time.monotonic()
        found = [line for line in lines if is_wanted(line, self.where)]
        for line in found:
            self.waiting.add(line, now)
        page.add("unmatched", message.events - len(found))
        page["waiting"] = self.looking + len(self.waiting)
        self.received.ended = message.end

    def _keep(self, lines: list[bytes]) -> None:
        """Look into the ring for the frames of some events."""
        if not lines:
            return
        begun = time.monotonic()
        self.looking = len(lines)
        found = keep(Path(self.config.record.path), self.folder, lines, self._breathe)
        self.looking = 0
        took = time.monotonic() - begun
        self.waiting.every_s = max(EVERY_S, PAUSE * took)
        self.page.add("look_ns", round(took * 1e9))
        self._count(found)

    def _breathe(self) -> None:
        """Take events during a look, as long as memory is for them."""
        now = time.monotonic()
        if now >= self.breath_at:
            self.breath_at = now + BREATH_S
            self.runtime.heartbeat()
            if not self.waiting.full:
                self._receive()

    def _count(self, found: Kept) -> None:
        page = self.page
        page["waiting"] = len(self.waiting)
        page.add("kept", found.kept)
        page.add("kept_frames", found.frames)
        page.add("kept_files", int(found.kept > 0))
        page.add("left_out.not_in_ring", found.not_in_ring)
        page.add("left_out.size", found.too_large)
        page.add("left_out.disk", found.failed)
        page.add("write_errors", int(found.failed > 0))
        if found.fault is not None and not self.failing:
            where = found.fault.filename or self.folder.path
            log.warning(f"keeper: {where}: {found.fault.strerror}; no frames are kept meanwhile", reason="output")
        self.failing = found.fault is not None
        self._publish()

    def _publish(self) -> None:
        folder = self.folder
        self.page.update(
            {
                "removed_files": self.base_removed + folder.removed,
                "stored_files": folder.files,
                "stored_bytes": folder.size,
            }
        )

    def _wait_for_recorder(self) -> None:
        """Wait until the recorder has written the last frames, as it ends with the same captures."""
        limit_s = self.config.run.drain_s / 2
        recorder = Page.open(Paths(self.run_dir).recorder_page, writable=False)
        deadline = time.monotonic() + limit_s
        while self.waiting and recorder["state"] != DONE and self.runtime.heartbeat_until(deadline):
            time.sleep(CHECK_S)

    def _count_missing(self) -> None:
        """Count events that the feed sent and this process never got as lost, if it stops without the end mark."""
        self.received.close_gap(Page.open(Paths(self.run_dir).feed_page, writable=False)["to_keeper"])


def main(argv: list[str]) -> int:
    """Run the process; the module describes it."""
    run_dir = Path(argv[1])
    page = Page.open(Paths(run_dir).keeper_page)
    config = configuration(run_dir, page)
    log.start(config, "keeper", page)
    runtime = ChildRuntime(page, live=not config.lossless)
    os.umask(OUTPUT_UMASK)
    os.nice(NICE)
    sandbox.enter("keeper", config, run_dir, page)
    try:
        folder = KeptFolder(Path(config.record.kept_path), config.record.kept_bytes)
    except OSError as fault:
        return runtime.fail(f"{config.record.kept_path}: {fault.strerror}", reason="output")
    try:
        return KeeperProcess(config, run_dir, page, runtime, folder).run()
    except BusError as error:
        return runtime.fail(str(error), reason="link")


if __name__ == "__main__":
    exit_now(main(sys.argv))
