"""The output as Parquet: a queue, a thread and the files. Same interface as JsonLinesOutput.

A Parquet file is readable only with its last bytes. So it is written under a name that ends with .part, and renamed
atomically when it is whole and on the disk: to output.path at the end of the run or, with rotation, to the names of
rotation.py. The unfinished file of a killed process is lost, and the next process counts its events. A file that is
moved meanwhile is finished in its new place, and another begins; the events of a removed one are lost.

A thread does the work, because a row group takes some tenths of a second; Arrow does not hold the interpreter's lock.
Its queue is bounded, in bytes.
"""

from __future__ import annotations

import errno
import queue
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from appliance.config.schema import Output as Options
from appliance.ipc.event_batch import Body
from appliance.output.output_path import CHECK_INTERVAL_S, OutputError, SandboxedPath
from appliance.output.parquet_file import ParquetFile
from appliance.output.parquet_table import Columns
from appliance.output.rotation import Archive
from appliance.runtime import log
from appliance.stats.page import Page

LOSSLESS_LIMIT = 64 << 20  # bytes; the sender waits for us, so a longer queue is of no use
RETRY_INTERVAL_S = 1.0  # between a failed write and the next


class ParquetOutput:
    """The Parquet output; see the module. Owns the output counters of the feed's page.

    An event counts as written when its file is complete; until then it counts in `open_events`.
    """

    fd = -1
    pollable = False
    lost = False  # events that cannot be written are dropped

    def __init__(self, options: Options, page: Page, limit: int, *, lossless: bool) -> None:
        self.options = options
        self.path = Path(options.path)
        self.page = page
        self.limit = LOSSLESS_LIMIT if lossless else limit
        self.lossless = lossless
        self.closed = False
        self._archive = Archive(self.path, options, page) if options.rotates else None
        self._part = Path(options.opened)
        self._queue: queue.SimpleQueue[tuple[bytes, int] | None] = queue.SimpleQueue()
        self._size = 0  # bytes given to the thread
        self._done_size = 0  # of these, bytes that it has processed
        self._told: queue.SimpleQueue[dict[str, int]] = queue.SimpleQueue()  # counts of the thread
        self._open: ParquetFile | None = None
        self._due = float("inf")  # time.time() at which the file reaches its maximum age
        self._retry_at = 0.0  # time.monotonic()
        self._crash: BaseException | None = None
        self._begun = False
        self._check_at = 0.0  # time.monotonic() of the thread's next check of the path
        self._failing = False  # the last write failed
        self._fault: OSError | None = None  # the last one, for the feed
        self._sandboxed_path = SandboxedPath(options.opened)
        page.add("dropped_output", page["open_events"])  # of the previous process
        page["open_events"] = 0
        if self._archive:
            self._archive.start()
        elif self.path.is_dir():
            raise OutputError(f"output.path (-o) {self.path}: Is a directory")
        self._thread = threading.Thread(target=self._run, name="parquet", daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """Start the thread. There will be a file even without events, but no existing one changes until
        it is complete.
        """
        if not self._begun:
            self._begun = True
            self.page.add("output_opened", 1)
            self._part.unlink(missing_ok=True)

    # -- the feed's side -------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        """Return whether the thread has work left."""
        return self._done_size < self._size

    @property
    def full(self) -> bool:
        """Return whether the queue exceeds its limit."""
        return self._size - self._done_size >= self.limit

    def write(self, body: Body, events: int) -> None:
        """Queue one message of `events` events."""
        if self.closed or (self.full and not self.lossless):
            self.page.add("dropped_output", events)
            return
        self._size += len(body)
        self.page.add("open_events", events)
        self._queue.put((bytes(body), events))

    def flush(self) -> None:
        """Add the counts of the thread to the page."""
        while not self._told.empty():
            for key, count in self._told.get().items():
                self.page.add(key, count)
        if self._crash is not None:
            raise self._crash

    def tick(self) -> None:
        """Add the counts of the thread to the page; the thread closes old files. Raises OutOfReach."""
        self.flush()
        fault, self._fault = self._fault, None
        if fault is not None:
            self._sandboxed_path.check(fault)

    def check_path_soon(self) -> None:
        """Make the thread check the path at once."""
        self._check_at = 0.0
        self._queue.put((b"", 0))

    def pause(self, timeout_s: float) -> None:
        """Wait a while for the thread."""
        time.sleep(timeout_s)

    def close(self, wait: Callable[[], bool] = lambda: False) -> None:
        """End the file and wait until it is complete. Process closed files while wait() returns True."""
        self.closed = True
        self._queue.put(None)
        self._thread.join()
        self.flush()
        if self._archive:
            self._archive.finish(wait)

    # -- the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._work(Columns())
        except BaseException as error:  # a fault of ours: it ends the feed, see flush
            self._crash = error

    def _work(self, columns: Columns) -> None:
        while True:
            try:
                got = self._queue.get(timeout=max(0.01, min(1.0, self._due - time.time())))
            except queue.Empty:
                got = b"", 0
            if got is None:
                break
            body, events = got
            if events:
                self._add(columns, body, events)
                self._done_size += len(body)
            if self._open is not None and time.monotonic() >= self._check_at:
                self._check_path(self._open)
            if self._open is not None and self._is_full(self._open):
                self._finish(self._open)
        if self._open is None and not self._archive and self._begun:
            self._begin(columns)  # a run without events makes a file without rows
        if self._open is not None:
            self._finish(self._open)

    def _is_full(self, file: ParquetFile) -> bool:
        most = self.options.rotate_bytes
        return time.time() >= self._due or bool(most and file.size >= most)

    def _begin(self, columns: Columns) -> None:
        if time.monotonic() < self._retry_at:
            return
        try:
            self._open = ParquetFile(columns, self._part)
        except OSError as error:
            self._retry_at = time.monotonic() + RETRY_INTERVAL_S
            self._tell(write_errors=1)
            self._log_once(error)
            return
        self._check_at = time.monotonic() + CHECK_INTERVAL_S
        age = self.options.rotate_s
        self._due = (time.time() // age + 1) * age if age else float("inf")

    def _add(self, columns: Columns, body: bytes, events: int) -> None:
        if self._open is None:
            self._begin(columns)
        if self._open is None:
            self._tell(dropped_output=events, open_events=-events)
            return
        try:
            self._open.add(body, events)
        except OSError as error:
            self._drop_file(self._open, error)

    def _check_path(self, file: ParquetFile) -> None:
        """Begin another file if this one was moved or removed."""
        self._check_at = time.monotonic() + CHECK_INTERVAL_S
        if not file.moved:
            return
        self._tell(output_opened=1)
        if file.removed:
            self._drop_file(file, FileNotFoundError(errno.ENOENT, "the file was removed while it was written"))
            self._retry_at = 0.0
            return
        log.warning(
            f"output.path (-o) {file.path}: the file was moved; it is finished in its new place, and another begins",
            reason="output",
        )
        self._end(file, None)

    def _finish(self, file: ParquetFile) -> None:
        """Complete a file under its last name, unless it was moved."""
        self._check_path(file)
        if self._open is file:
            self._end(file, self.path)

    def _end(self, file: ParquetFile, name: Path | None) -> None:
        """Write the rest of a file. name: its final name without rotation; None: keep the current one."""
        try:
            if name is None:
                file.complete()
            else:
                name = self._archive.free_name(datetime.now(UTC)) if self._archive else name
                file.finish(name)
        except OSError as error:
            self._drop_file(file, error)
            return
        self._open, self._due = None, float("inf")
        self._failing = False
        good = {"written_events": file.events - file.bad, "written_bytes": file.bytes, "dropped_output": file.bad}
        self._tell(open_events=-file.events, **good)
        if self._archive and name is not None:
            self._tell(rotations=1)
            self._archive.add(name)

    def _drop_file(self, file: ParquetFile, error: OSError) -> None:
        """Drop this file after a write error; the next event begins another."""
        file.abandon()
        self._open, self._due = None, float("inf")
        self._retry_at = time.monotonic() + RETRY_INTERVAL_S
        self._tell(write_errors=1, dropped_output=file.events, open_events=-file.events)
        self._log_once(error)

    def _log_once(self, error: OSError) -> None:
        """Log an error once, until a write succeeds again."""
        self._fault = error
        if not self._failing:
            self._failing = True
            text = f"output.path (-o) {self._part}: {error.strerror or error}; events are not written"
            log.warning(text, reason="output")

    def _tell(self, **counts: int) -> None:
        self._told.put(counts)
