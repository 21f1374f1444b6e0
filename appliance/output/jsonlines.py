"""The output as JSON Lines, to a file or the reader of standard output. Never blocks.

A regular file gets whole messages. If the disk is full, a partial message is truncated again, and so is the partial
line of a killed process. A file that is full or old is renamed atomically, and a new one begins (rotation.py). A pipe
takes as much as its reader leaves room for; the rest is queued here, up to a limit.

Other programs (logrotate) may move or remove the file or its folder. Each second, and on SIGHUP, the path is compared
with the open file, and reopened if it is another one. A named pipe waits for its next reader.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from appliance.config.schema import Output as Options
from appliance.ipc.event_batch import Body
from appliance.ipc.shared_memory import LeaseTail, SharedMemoryError
from appliance.native.file_identity import is_still
from appliance.output.last_line import end_of_lines
from appliance.output.output_file import open_output
from appliance.output.output_path import CHECK_INTERVAL_S, OutputError, SandboxedPath
from appliance.output.rotation import Rotation
from appliance.runtime import log
from appliance.stats.page import Page

LOSSLESS_LIMIT = 8 << 20  # bytes; the sender waits for us, so a longer queue is of no use
PIPE_RETRY_INTERVAL_S = 0.05  # between two attempts to open a named pipe without a reader
ATOMIC = 4096  # PIPE_BUF: a writable pipe or terminal takes this much without blocking


class JsonLinesOutput:
    """Appends messages to a path ("-": descriptor 1, "": nowhere). Owns the output counters of the feed's page.

    lossless: the caller stops while `full`, so nothing is dropped. Otherwise messages beyond `limit` bytes are dropped
    and counted. reader_timeout_s: how long events of a lossless run wait for the next reader of a named pipe after its
    reader left; then the output is closed.
    """

    def __init__(
        self, options: Options, page: Page, limit: int, *, lossless: bool, reader_timeout_s: float = float("inf")
    ) -> None:
        self.options = options
        self.path = path = options.path
        self.page = page
        self.limit = LOSSLESS_LIMIT if lossless else limit
        self.lossless = lossless
        self.fd = -1
        self.closed = not path
        self.lost = False  # the file was open and cannot be reopened
        self._regular = False
        self._piece = 1 << 20  # bytes per write
        self._waiting: deque[tuple[memoryview, int, int]] = deque()  # rest of a message, its events and bytes
        self._size = 0
        self._whole = 0  # offset behind the last whole message of a regular file
        self._begun = False
        self._create = True  # create a missing file; not a named pipe
        self._check_at = 0.0  # time.monotonic() of the next check of the path
        self._reader_timeout_s = reader_timeout_s
        self._reader_due: float | None = None  # time.monotonic() at which a lost reader must have a successor
        self._failing = False  # the last message could not be written
        self._sandboxed_path = SandboxedPath(path)
        self._rotation = Rotation(Path(path), options, page) if options.rotates and path not in ("", "-") else None

    def begin(self) -> None:
        """Open the path, unless it is open. The first feed of a lossless run empties a file, others append.

        Raises OutputError if the path cannot be opened before any event depends on it.
        """
        if self.closed or self._begun:
            return
        self._begun = True
        try:
            self.fd = 1 if self.path == "-" else open_output(self.path)
        except OSError as error:
            if self._lacks_reader(error):
                self._create = False
                if not self.page["output_opened"]:
                    text = f"output.path (-o) {self.path}: this named pipe has no reader yet; events wait for one"
                    log.warning(text, reason="output")
                return
            if not self.lossless and not self.page["output_opened"]:
                raise OutputError(f"output.path (-o) {self.path}: {error.strerror}") from error
            self._report_unreachable(error)
            return
        self._adopt(replace=self.lossless and not self.page["output_opened"])
        self.page.add("output_opened", 1)

    def _adopt(self, *, replace: bool = False) -> None:
        """Adopt the open descriptor: append to the content of a file, after the partial line of a killed process."""
        self.lost = False
        self._reader_due = None
        self._check_at = time.monotonic() + CHECK_INTERVAL_S
        self._regular = self._create = stat.S_ISREG(os.fstat(self.fd).st_mode)
        if self.path == "-":
            self._reopen_stdout()
        elif self._regular:
            if replace:
                os.ftruncate(self.fd, 0)
            self._cut_torn()
            self._whole = os.lseek(self.fd, 0, os.SEEK_END)
            if self._rotation:
                self._rotation.begin(os.fstat(self.fd).st_mtime)

    def _reopen_stdout(self) -> None:
        """Reopen standard output for ourselves: O_NONBLOCK on the shared description would affect other processes."""
        if self._regular:
            self._whole = os.lseek(self.fd, 0, os.SEEK_CUR)
            return
        try:
            self.fd = os.open("/proc/self/fd/1", os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            self._piece = ATOMIC

    def _cut_torn(self) -> None:
        end = end_of_lines(Path(self.path))
        partial = os.fstat(self.fd).st_size - end
        if partial > 0:
            os.ftruncate(self.fd, end)
            self.page.add("torn_bytes", partial)

    @property
    def waiting(self) -> bool:
        """Return whether a message is not written yet."""
        return bool(self._waiting)

    @property
    def full(self) -> bool:
        """Return whether the queue exceeds its limit. A path that cannot be reopened does not count."""
        return self._size >= self.limit and not self.lost

    @property
    def pollable(self) -> bool:
        """Return whether `fd` can be polled: for room, and for the end of its reader."""
        return self.fd >= 0 and not self._regular and not self.closed

    def write(self, body: Body, events: int) -> None:
        """Write or queue one message of `events` events, without its last newline; the body may change afterwards."""
        if not self.path:
            return
        if self.closed or (self._size >= self.limit and (self.lost or not self.lossless)):
            self.page.add("dropped_output", events)
            return
        if self._rotation and self._whole and self._rotation.exceeds(self._whole + len(body) + 1):
            self._rotate(self._rotation)
        written = self._write_at_once(body, events)
        if written <= len(body):
            try:
                line = memoryview(b"".join((memoryview(body), b"\n")))
            except SharedMemoryError:
                self._complete_partial_line(written, events)
                return
            self._waiting.append((line[written:], events, len(line)))
            self._size += len(line) - written
            self.flush()

    def _complete_partial_line(self, written: int, events: int) -> None:
        """Complete a partial line whose memory the worker truncated: no event may follow on that line."""
        self.page.add("write_errors", 1)
        self.page.add("dropped_output", events)
        if written and self._regular:
            self._waiting.append((memoryview(b""), 0, written))
            self._cut_back()
            self._waiting.pop()
        elif written:
            self._waiting.append((memoryview(b"\n"), 0, 1))
            self._size += 1

    def _write_at_once(self, body: Body, events: int) -> int:
        """Write a message without a copy if the queue is empty. Return the number of bytes written."""
        if self._waiting or self._piece == ATOMIC or self.fd < 0:
            return 0
        try:
            written = os.writev(self.fd, (body.in_place() if isinstance(body, LeaseTail) else body, b"\n"))
        except OSError:
            return 0
        if written == len(body) + 1:
            self._wrote(events, written)
        return written

    def _wrote(self, events: int, length: int) -> None:
        self._whole = os.lseek(self.fd, 0, os.SEEK_CUR) if self._regular else 0
        self._failing = False
        self.page.add("written_events", events)
        self.page.add("written_bytes", length)

    def flush(self) -> None:
        """Write as much of the queue as possible, and notice the end of the reader."""
        if self.pollable and self._broken():
            self._reader_gone()
        while self._waiting and self.fd >= 0:
            rest, events, length = self._waiting[0]
            try:
                written = self._write(rest)
            except BlockingIOError:
                return
            except BrokenPipeError:
                self._reader_gone()
                return
            except OSError as error:
                self._failed(events, error)
                continue
            self._size -= written
            if written < len(rest):
                self._waiting[0] = rest[written:], events, length
                continue
            self._waiting.popleft()
            self._wrote(events, length)

    def tick(self) -> None:
        """Check the path if that is due, and rotate an old file. Called in every turn. Raises OutOfReach."""
        now = time.monotonic()
        if now >= self._check_at:
            self.check_path()
        if self._reader_due is not None and self.fd < 0:
            if not self._waiting:
                self._reader_due = now + self._reader_timeout_s
            elif now >= self._reader_due:
                self._abandon()
        if self._rotation and self._rotation.is_due:
            if self._whole:
                self._rotate(self._rotation)
            else:
                self._rotation.postpone()

    def check_path_soon(self) -> None:
        """Schedule a check of the path for the next turn."""
        self._check_at = 0.0

    # -- what others do to the path ----------------------------------------------------------------------------------

    def check_path(self) -> None:
        """Reopen the path if it names another file than the open one. Raises OutOfReach."""
        self._check_at = time.monotonic() + CHECK_INTERVAL_S
        if self.closed or not self._begun or self.path == "-" or (self.fd >= 0 and is_still(self.path, self.fd)):
            return
        try:
            fresh = open_output(self.path, create=self._create)
        except OSError as error:
            if not self._lacks_reader(error):
                self._report_unreachable(error)
                return
            self._check_at = time.monotonic() + PIPE_RETRY_INTERVAL_S
            if self.fd >= 0:
                self._close_file()
            return
        if self.fd >= 0 and self.lossless and self._whole and os.fstat(self.fd).st_nlink == 0:
            self.page.add("write_errors", 1)  # the written events are lost, and the feed cannot replay them
        if self.fd >= 0 or self.lost:
            log.warning(f"output.path (-o) {self.path}: the file was moved or removed; reopened", reason="output")
        if self.fd >= 0:
            self._close_file()
        self.fd = fresh
        self._adopt()
        self.page.add("output_opened", 1)

    def _lacks_reader(self, error: OSError) -> bool:
        """Return whether the path is a named pipe without a reader."""
        try:
            return error.errno == errno.ENXIO and stat.S_ISFIFO(os.stat(self.path).st_mode)
        except OSError:
            return False

    def _report_unreachable(self, error: OSError) -> None:
        """Report that the path cannot be opened. The open file stays in use while it has any name."""
        self._sandboxed_path.check(error)
        if self.fd >= 0 and os.fstat(self.fd).st_nlink == 0:
            self._close_file()
        if not self.lost:
            where = "the open file is used" if self.fd >= 0 else "events wait for it"
            text = f"output.path (-o) {self.path}: it cannot be reopened: {error.strerror}; {where}"
            log.warning(text, reason="output")
        self.lost = True

    def _close_file(self) -> None:
        """Close the file. A partial message starts again in the next one."""
        if self._waiting:
            rest, events, length = self._waiting[0]
            if len(rest) < length:
                self._cut_back()
                self._size += length - len(rest)
                self._waiting[0] = memoryview(rest.obj), events, length
        os.close(self.fd)
        self.fd, self._whole = -1, 0

    def _rotate(self, rotation: Rotation) -> None:
        """Begin another file; after a failure, continue with this one for now."""
        if not rotation.may_try:
            return
        if not is_still(self.path, self.fd):  # the path names a new file, perhaps of another owner
            self.check_path_soon()
            return
        fresh = rotation.next_file()
        if fresh >= 0:
            os.close(self.fd)
            self.fd, self._whole = fresh, 0
            self._check_at = time.monotonic() + CHECK_INTERVAL_S

    def _write(self, rest: memoryview) -> int:
        if self._piece == ATOMIC and not self._poll(select.POLLOUT, 0):
            raise BlockingIOError
        return os.write(self.fd, rest[: self._piece])

    def _failed(self, events: int, error: OSError) -> None:
        """Drop this whole message after a write error."""
        if self._regular and len(self._waiting[0][0]) < self._waiting[0][2]:
            self._cut_back()
        rest, _, _ = self._waiting.popleft()
        self._size -= len(rest)
        self.page.add("write_errors", 1)
        self.page.add("dropped_output", events)
        if not self._failing:
            self._failing = True
            name = "standard output" if self.path == "-" else self.path
            log.warning(f"output.path (-o) {name}: {error.strerror}; events are not written", reason="output")

    def _cut_back(self) -> None:
        """Truncate a partial message, unless another program has changed the file meanwhile."""
        rest, _, length = self._waiting[0]
        if not self._regular:
            return
        try:
            end = os.lseek(self.fd, 0, os.SEEK_CUR)
            if os.fstat(self.fd).st_size == end:
                self._whole = end - (length - len(rest))
                os.ftruncate(self.fd, self._whole)
                os.lseek(self.fd, self._whole, os.SEEK_SET)
        except OSError:
            pass  # the disk is worse than full; the next message reports it

    def _broken(self) -> bool:
        return bool(self._poll(0, 0))

    def _poll(self, events: int, timeout_s: float) -> bool:
        poll = select.poll()
        poll.register(self.fd, events)
        return bool(poll.poll(timeout_s * 1000))

    def _reader_gone(self) -> None:
        """Handle the end of the reader. A named pipe may get another; without standard output the supervisor ends the
        run.
        """
        if self.path != "-":
            log.warning(f"output.path (-o) {self.path}: its reader closed it; events wait for another", reason="output")
            self._close_file()
            self._check_at = time.monotonic() + PIPE_RETRY_INTERVAL_S
            if self.lossless:
                self._reader_due = time.monotonic() + self._reader_timeout_s
            return
        self._abandon()

    def _abandon(self) -> None:
        """Close the output for the rest of the run, because it has no reader; the supervisor ends the run."""
        self.closed = True
        self.page["output_closed"] = 1
        self._give_up()

    def _give_up(self) -> None:
        self.page.add("dropped_output", sum(events for _, events, _ in self._waiting))
        self._waiting.clear()
        self._size = 0

    def pause(self, timeout_s: float) -> None:
        """Wait until there may be room."""
        if self.pollable:
            self._poll(select.POLLOUT, timeout_s)
        elif self.waiting:
            select.select([], [], [], timeout_s)

    def close(self, wait: Callable[[], bool] = lambda: False) -> None:
        """Close the output; drop and count the queue. Process closed files while wait() returns True."""
        self._give_up()
        if self._rotation:
            self._rotation.archive.finish(wait)
        self.closed = True
        if self.fd > 2:
            try:
                os.close(self.fd)
            except OSError as error:  # a file system that reports a write error on close
                self.page.add("write_errors", 1)
                log.warning(f"output.path (-o) {self.path}: {error.strerror}", reason="output")
        self.fd = -1
