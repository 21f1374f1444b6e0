"""FilePublisher: it counts the files of a worker, and sends their bytes to the files process.

It is the sink of the FileTaps. Bytes are copied once, into a slot of shared memory. Live, a file for which the link has
no room is left out; in a run over a file the publisher waits for the files process.
"""

from __future__ import annotations

import os
import time

from appliance.config.schema import Config
from appliance.ipc.channel import ROOM_CHECK_INTERVAL_S
from appliance.ipc.file_batch import FileBatchWriter
from appliance.ipc.file_link import FileSender
from appliance.runtime.child import ChildRuntime
from appliance.runtime.end_marks import send_end_marks
from appliance.stats.page import Page
from appliance.stats.received_counters import ReceivedCounters

AGE_S = 0.02  # of the first bytes in a message that is not full
END_WAIT_S = 5.0  # of a live run, for the files process to take the last message


class FilePublisher:
    """The worker's end of the link to the files process. Owns the counters of files in the worker's page."""

    def __init__(
        self, config: Config, worker: int, page: Page, link: FileSender, runtime: ChildRuntime, epoch: int
    ) -> None:
        self.worker = worker
        self.page = page
        self.link = link
        self.runtime = runtime
        self.epoch = epoch
        self.lossless = config.lossless
        self.deadline: float | None = None  # time.monotonic(); set by a stop: the end of all waiting
        self.folder = os.path.abspath(config.files.path)
        self.most = config.files.max_open
        self.open = 0
        self.number = 0  # of the next file
        self._batch: FileBatchWriter | None = None
        self._since = 0.0  # when the first bytes of the batch came
        self._gone: list[int] = []  # files that the receiver should abandon, and does not know it yet

    def path_of(self, sha256: str) -> str:
        """Return the path that a file with this digest gets."""
        return f"{self.folder}/{sha256}"

    # -- the sink of the taps ------------------------------------------------------------------------------------------

    def begin(self) -> int:
        """Return the number of a new file, or -1 if there are too many; then it is counted as left out."""
        self.page.add("files_offered", 1)
        if self.open >= self.most:
            self.page.add("files_left_out.open", 1)
            return -1
        self._count_open(1)
        self.number += 1
        return self.number - 1

    def add(self, number: int, place: int, data: memoryview) -> bool:
        """Copy the next bytes of a file. Without room the file is counted as left out; return False."""
        while data:
            batch = self._writer()
            if batch is None:
                self._leave_out(number, "link", told=place > 0)
                return False
            count = batch.add_data(number, place, data)
            if not count:
                self._send(batch)
            place += count
            data = data[count:]
        return True

    def end(self, number: int, size: int, digest: bytes) -> bool:
        """End a file. Without room it is counted as left out; return False."""
        for _ in range(2):
            batch = self._writer()
            if batch is None:
                break
            if batch.add_end(number, size, digest):
                self._count_open(-1)
                # It is sent with its message. After a kill before that, close_worker() counts it.
                return True
            self._send(batch)
        self._leave_out(number, "link", told=True)
        return False

    def leave_out(self, number: int, reason: str) -> None:
        """Count the reason for which a file has no end, and have its bytes removed."""
        self._leave_out(number, reason, told=True)

    def _leave_out(self, number: int, reason: str, *, told: bool) -> None:
        self.page.add(f"files_left_out.{reason}", 1)
        self._count_open(-1)
        if told:  # so there are at most `most` of these
            self._gone.append(number)
        if self._batch is not None:
            self._tell_gone(self._batch)

    def _count_open(self, more: int) -> None:
        self.open += more
        self.page["files_open"] = self.open + (self._batch.ends if self._batch is not None else 0)

    # -- messages ------------------------------------------------------------------------------------------------------

    def _writer(self) -> FileBatchWriter | None:
        """Return the message to write into; None: the link has no room."""
        if self._batch is not None:
            return self._batch
        slot = self.link.acquire()
        while slot is None and self.lossless and self.runtime.heartbeat_until(self.deadline):
            time.sleep(ROOM_CHECK_INTERVAL_S)
            slot = self.link.acquire()
        if slot is None:
            return None
        self._batch = FileBatchWriter(slot, self.worker, self.epoch, self.page["files_sent"])
        self._since = time.monotonic()
        self._tell_gone(self._batch)
        return self._batch

    def _tell_gone(self, batch: FileBatchWriter) -> None:
        while self._gone and batch.add_abandon(self._gone[-1]):
            self._gone.pop()

    def _send(self, batch: FileBatchWriter) -> None:
        self._batch = None
        self.page.add("files_sent", batch.ends)  # first: after a kill in between, they count as lost
        self.page["files_open"] = self.open
        self.link.put(batch.message())

    def flush(self) -> None:
        """Send what waits, if it has waited long enough."""
        if self._batch is not None and time.monotonic() - self._since >= AGE_S:
            self._send(self._batch)

    def finish(self, files: Page) -> bool:
        """Send the last message until the page of the files process shows that it came; return whether it did.

        Live, it waits for some seconds at most: files never hold up a worker."""
        end = time.monotonic() + END_WAIT_S
        end = min(end, self.deadline) if self.deadline is not None else end

        def send(due: list[int]) -> list[int]:
            batch = self._writer()
            if batch is None:
                return []
            batch.mark_last()
            self._send(batch)
            return due

        received = ReceivedCounters(files, self.worker)
        wait = self.runtime.heartbeat_until
        return send_end_marks([received], send, lambda: wait(self.deadline if self.lossless else end))
