"""The files process: decoded bodies in, files under their SHA-256 out.

`python -m appliance.files.process RUN_DIR` reads the pieces of bodies that workers send, and writes them into the
folder of files.path. A worker never waits for it, except in a run over a file: a body without room on the link is left
out, and counted. When the disk fails, bodies are left out for a second, and then tried again. No message is read twice:
bodies in a message that a killed process had begun are lost, and counted. The process ends with the last message of
every worker.

Exits with 2 if the folder cannot be used.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from appliance.config.schema import Config
from appliance.files.store import FileStore
from appliance.ipc.event_batch import BadMessage
from appliance.ipc.file_batch import ABANDON, DATA, FileRecord, unpack_files
from appliance.ipc.file_link import FileReceiver
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
from appliance.stats.reconcile import close_files

TURN_MESSAGES = 16
SLEEP_S = 0.05  # longest; then it looks at ages and the configuration


class FilesProcess:
    """Everything the process does; `run` does it once."""

    def __init__(self, config: Config, run_dir: Path, page: Page, runtime: ChildRuntime, store: FileStore) -> None:
        self.run_dir = run_dir
        self.page = page
        self.runtime = runtime
        self.store = store
        self.received = [ReceivedCounters(page, worker) for worker in range(config.worker_count)]
        self.epochs: dict[int, int] = {}  # by worker: the life that its parts are from
        close_files(page)
        self.base = page.snapshot()
        self.cursor = AtMostOnceCursor(page)
        self.bus = Bus()
        self.receiver = FileReceiver(self.bus, config, run_dir, self.cursor.first)
        self.failing = False

    def run(self) -> int:
        """Run until the last message of all workers, and return the exit code."""
        waiter = Waiter()
        waiter.watch(self.receiver.socket, read=True)
        self._publish()
        self.runtime.state(READY)
        while not all(counters.ended for counters in self.received):
            self.runtime.heartbeat()
            stopping = self.runtime.stopping
            if fresh := self.runtime.poll_config(self.run_dir):
                self.store.configure(fresh.files)
            received = self._receive()
            self.store.expire(time.time_ns())
            self._publish()
            if not received:
                if stopping:
                    self._count_missing()
                    break
                waiter.wait(SLEEP_S)
        self.runtime.state(DRAINING)
        self.store.close()
        self._publish()
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
        worker = self.receiver.sender
        self.cursor.take(worker, self.receiver.number)
        try:
            message = unpack_files(data)
        except BadMessage:
            self.page.add("invalid_messages", 1)
            return
        counters = self.received[worker]
        counters.close_gap(message.cumulative)
        counters.add(message.ends)
        if self.epochs.setdefault(worker, message.epoch) != message.epoch:
            self.epochs[worker] = message.epoch
            self.store.abandon_all(worker)
        for record in message.records:
            self._take_record(worker, record)
        self.store.flush()
        self._report()
        counters.ended = message.last

    def _take_record(self, worker: int, record: FileRecord) -> None:
        key = worker, record.number
        if record.kind == DATA:
            self.store.add(key, record.place, record.data)
        elif record.kind == ABANDON:
            self.store.abandon(key)
        else:
            self.page.add(self.store.end(key, record.place, bytes(record.data), time.time_ns()), 1)

    def _report(self) -> None:
        """Log the first of several failed writes."""
        fault = self.store.fault
        if fault is not None and not self.failing:
            log.warning(f"files: {self.store.path}: {fault.strerror}; nothing is kept meanwhile", reason="output")
        self.failing = fault is not None

    def _publish(self) -> None:
        store, base = self.store, self.base
        self.page.update(
            {
                "kept_bytes": base["kept_bytes"] + store.kept_bytes,
                "write_errors": base["write_errors"] + store.write_errors,
                "stored_files": store.files,
                "stored_bytes": store.size,
                "oldest_ns": store.oldest_ns,
                **{f"removed.{why}": base[f"removed.{why}"] + count for why, count in store.removed.items()},
            }
        )

    def _count_missing(self) -> None:
        """Count bodies that the workers sent and this process never got as lost, if it stops without the last ones."""
        for worker, counters in enumerate(self.received):
            page = Page.open(Paths(self.run_dir).worker_page(worker), writable=False)
            counters.close_gap(page["files_sent"])


def main(argv: list[str]) -> int:
    """Run the process; the module describes it."""
    run_dir = Path(argv[1])
    page = Page.open(Paths(run_dir).files_page)
    config = configuration(run_dir, page)
    log.start(config, "files", page)
    runtime = ChildRuntime(page, live=not config.lossless)
    os.umask(OUTPUT_UMASK)
    sandbox.enter("files", config, run_dir, page)
    try:
        store = FileStore(config.files, config.files.max_open * config.worker_count, runtime.heartbeat)
    except OSError as fault:
        return runtime.fail(f"files.path {config.files.path}: {fault.strerror}", reason="output")
    try:
        return FilesProcess(config, run_dir, page, runtime, store).run()
    except BusError as error:
        return runtime.fail(str(error), reason="link")


if __name__ == "__main__":
    exit_now(main(sys.argv))
