"""The recorder process: batches of frames in, files of the ring out.

`python -m appliance.recorder.process RUN_DIR` reads each batch where the capture wrote it, and writes its frames into
the files of the ring. The capture never waits for it, except when it reads a file: a recorder without room gets no
batch. Before that happens it leaves out a share of the connections, each as a whole. When the disk fails, it leaves out
everything, and tries again each second. Nothing is recorded twice: frames that a killed recorder had taken and not
written are lost, and counted. It ends with the end marks of all captures.

Exits with 2 if the folder cannot be used.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from appliance.config.schema import Config
from appliance.ipc.event_batch import BadMessage
from appliance.ipc.frame_batch import BadBatch, header
from appliance.ipc.frame_link import RecordReceiver
from appliance.ipc.memory_sizes import record_quota
from appliance.ipc.shared_memory import SharedMemoryError
from appliance.ipc.sockets import Bus, BusError, Waiter
from appliance.native.safe_files import OUTPUT_UMASK
from appliance.recorder.ring_writer import RingWriter
from appliance.recorder.share import LeftOutShare
from appliance.runtime import log, sandbox
from appliance.runtime.child import ChildRuntime, configuration, exit_now
from appliance.runtime.paths import Paths
from appliance.stats.names import DONE, DRAINING, READY
from appliance.stats.page import Page
from appliance.stats.receive_cursor import AtMostOnceCursor
from appliance.stats.received_counters import ReceivedCounters
from appliance.stats.reconcile import close_recorder

TURN_BATCHES = 16
SLEEP_S = 0.05  # longest; then it looks at ages and the configuration
RETRY_S = 1.0  # after a failed write


class Recorder:
    """Everything the process does; `run` does it once."""

    def __init__(self, config: Config, run_dir: Path, page: Page, runtime: ChildRuntime, ring: RingWriter) -> None:
        self.config = config
        self.run_dir = run_dir
        self.page = page
        self.runtime = runtime
        self.ring = ring
        self.captures = range(config.capture_count)
        self.received = [ReceivedCounters(page, capture) for capture in self.captures]
        close_recorder(page)
        self.base_removed, self.base_torn = page["removed_files"], page["torn_bytes"]
        self.cursor = AtMostOnceCursor(page)
        self.bus = Bus()
        self.receiver = RecordReceiver(self.bus, config, run_dir, self.cursor.first)
        self.room = record_quota(config) * config.capture_count  # batches
        self.share = LeftOutShare()
        self.capture_pages: list[Page] = []
        self.collected = self.collected_bytes = 0  # frames that the next flush writes
        self.retry_at = 0.0  # time.monotonic(); until then everything is left out
        self.failing = False
        self.clock_ns = 0  # the newest frame

    def run(self) -> int:
        """Run until the end marks of all captures, and return the exit code."""
        waiter = Waiter()
        waiter.watch(self.receiver.socket, read=True)
        self._publish()
        self.runtime.state(READY)
        while not all(counters.ended for counters in self.received):
            self.runtime.heartbeat()
            stopping = self.runtime.stopping
            if fresh := self.runtime.poll_config(self.run_dir):
                self.ring.configure(fresh.record.bytes, fresh.record.seconds)
            received = self._receive()
            self._flush()
            self._age()
            if not received:
                if stopping:
                    self._count_missing()
                    break
                waiter.wait(SLEEP_S)
        self.runtime.state(DRAINING)
        self._flush()
        self.ring.close()
        self._publish()
        self.bus.close()
        self.runtime.state(DONE)
        return 0

    def _receive(self) -> int:
        """Take the batches that wait, up to a turn's worth; return their number."""
        for count in range(TURN_BATCHES):
            try:
                received = self.receiver.receive()
            except (BadMessage, SharedMemoryError):
                self.page.add("invalid_messages", 1)
                continue
            if received is None:
                return count
            self._take(*received)
        return TURN_BATCHES

    def _take(self, message: memoryview, before: int) -> None:
        page, capture = self.page, self.receiver.sender
        self.cursor.take(capture, self.receiver.number)
        counters = self.received[capture]
        try:
            batch = header(message)
        except BadBatch:
            page.add("invalid_messages", 1)
            return
        counters.close_gap(before)
        counters.add(batch.frames)
        page.add(f"received_batches.{capture}", 1)
        counters.ended = batch.end
        if batch.end:
            return
        if self.ring.full(batch, message):
            self._flush()
        self.share.look(time.monotonic(), self._fill())
        try:
            if time.monotonic() < self.retry_at:
                page.add("left_out.disk", batch.frames)
                return
            name = self.config.interface_names[capture]
            frames, size = self.ring.add(batch, message, name, self.share.share)
        except OSError as fault:
            self._fail(fault, batch.frames)
            return
        except BadBatch:
            page.add("invalid_messages", 1)
            page.add("left_out.behind", batch.frames)
            return
        page.add("left_out.behind", batch.frames - frames)
        self.collected += frames
        self.collected_bytes += size

    def _fill(self) -> float:
        """Return how much of the room for waiting batches is in use; a run over a file waits instead."""
        if self.config.lossless:
            return 0.0
        if not self.capture_pages:
            paths = [Paths(self.run_dir).capture_page(capture) for capture in self.captures]
            self.capture_pages = [Page.open(path, writable=False) for path in paths]
        waiting = sum(
            capture["to_recorder_batches"] - self.page[f"received_batches.{place}"]
            for place, capture in enumerate(self.capture_pages)
        )
        return max(0, waiting) / self.room

    def _flush(self) -> None:
        """Write what was collected, and count it as recorded."""
        frames, size = self.collected, self.collected_bytes
        self.collected = self.collected_bytes = 0
        if not frames:
            return
        try:
            self.ring.flush()
        except OSError as fault:
            self._fail(fault, frames)
        else:
            self.page.add("recorded", frames)
            self.page.add("recorded_bytes", size)
            self.failing = False
        self._publish()

    def _age(self) -> None:
        if self.config.lossless:
            return  # the times of a file say nothing about now
        try:
            self.ring.tick(time.time_ns())
        except OSError as fault:
            self._fail(fault, 0)

    def _fail(self, fault: OSError, frames: int) -> None:
        """Count frames that the disk did not take, with those that were collected before."""
        self.page.add("left_out.disk", frames + self.collected)
        self.page.add("write_errors", 1)
        self.collected = self.collected_bytes = 0
        self.retry_at = time.monotonic() + RETRY_S
        if not self.failing:
            self.failing = True
            log.warning(f"recorder: {self.ring.path}: {fault.strerror}; nothing is recorded meanwhile", reason="output")

    def _publish(self) -> None:
        ring = self.ring
        self.page.update(
            {
                "removed_files": self.base_removed + ring.removed_files,
                "torn_bytes": self.base_torn + ring.torn_bytes,
                "ring_bytes": ring.size,
                "ring_files": ring.files,
                "ring_oldest_ns": ring.oldest_ns,
                "left_out_share": self.share.share,
            }
        )

    def _count_missing(self) -> None:
        """Count frames that the captures sent and this process never got as lost, if it stops without end marks."""
        for capture in self.captures:
            page = Page.open(Paths(self.run_dir).capture_page(capture), writable=False)
            self.received[capture].close_gap(page["to_recorder"])


def main(argv: list[str]) -> int:
    """Run the process; the module describes it."""
    run_dir = Path(argv[1])
    page = Page.open(Paths(run_dir).recorder_page)
    config = configuration(run_dir, page)
    log.start(config, "recorder", page)
    runtime = ChildRuntime(page, live=not config.lossless)
    os.umask(OUTPUT_UMASK)
    if config.record.encrypt_to:  # before the fence, behind which nothing can be loaded
        import appliance.ring.sealing
    sandbox.enter("recorder", config, run_dir, page)
    key = None
    try:
        if config.record.encrypt_to:
            key = appliance.ring.sealing.public_key(Path(config.record.encrypt_to))
    except OSError as fault:
        return runtime.fail(f"record.encrypt_to {config.record.encrypt_to}: {fault.strerror}", reason="keys")
    try:
        ring = RingWriter(Path(config.record.path), config.record.bytes, config.record.seconds, key)
    except OSError as fault:
        return runtime.fail(f"record.path {config.record.path}: {fault.strerror}", reason="output")
    try:
        return Recorder(config, run_dir, page, runtime, ring).run()
    except BusError as error:
        return runtime.fail(str(error), reason="link")


if __name__ == "__main__":
    exit_now(main(sys.argv))
