"""The output: JSON Lines in a file, or into whatever reads our standard output.

Never blocks, never raises once it is open. A regular file takes a message whole or, when the disk is full, not at all:
a half-written one is cut off again. A pipe takes what its reader leaves room for; the rest waits here, up to a limit.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from collections import deque

from appliance.bus import Buffer
from appliance.stats import Page

PATIENT_LIMIT = 8 << 20  # bytes; when the sender waits for us, there is no use in holding more
ATOMIC = 4096  # PIPE_BUF: a pipe or terminal that poll() calls writable takes this much without blocking


class OutputError(Exception):
    """The output cannot be opened. The text is for a person."""


class Output:
    """Appends messages to `path` ("-": descriptor 1, "": nowhere). Owns the output counters of the feed's page.

    patient: the caller stops while `full`, so nothing is dropped; else what exceeds `limit` bytes is, and is counted.
    """

    def __init__(self, path: str, page: Page, limit: int, *, patient: bool) -> None:
        self.path = path
        self.page = page
        self.limit = PATIENT_LIMIT if patient else limit
        self.patient = patient
        self.fd = -1
        self.closed = not path
        self._regular = False
        self._piece = 1 << 20  # bytes per write
        self._waiting: deque[tuple[memoryview, int, int]] = deque()  # rest of a message, its events and bytes
        self._size = 0
        self._whole = 0  # position behind the last whole message, of a regular file
        if path:
            self._open()

    def _open(self) -> None:
        try:
            if self.path == "-":
                self.fd = 1
            else:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
                self.fd = os.open(self.path, flags, 0o644)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # a named pipe that nobody reads yet
            raise OutputError(f"output.path (-o) {self.path}: {error.strerror}") from error
        mode = os.fstat(self.fd).st_mode
        self._regular = stat.S_ISREG(mode)
        if self._regular:
            self._whole = os.lseek(self.fd, 0, os.SEEK_CUR if self.path == "-" else os.SEEK_END)
        elif self.path == "-":
            try:  # our own view of the same pipe: O_NONBLOCK on the shared one would surprise whoever else has it
                self.fd = os.open("/proc/self/fd/1", os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError:
                self._piece = ATOMIC

    @property
    def waiting(self) -> bool:
        """Whether something is not written yet."""
        return bool(self._waiting)

    @property
    def full(self) -> bool:
        """Whether more is waiting than should."""
        return self._size >= self.limit

    @property
    def pollable(self) -> bool:
        """Whether `fd` can be polled: for room, and for its reader's end."""
        return self.fd >= 0 and not self._regular and not self.closed

    def write(self, body: Buffer, events: int) -> None:
        """Takes one message of that many events, without its last newline."""
        if not self.path:
            return
        if self.closed or (self.full and not self.patient):
            self.page.add("dropped_output", events)
            return
        line = memoryview(b"".join((body, b"\n")))
        self._waiting.append((line, events, len(line)))
        self._size += len(line)
        self.flush()

    def flush(self) -> None:
        """Writes what can be written now, and notices a reader that is gone."""
        if self.fd < 0 and not self.closed:
            self._open()
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
            except OSError:
                self._failed(events)
                continue
            self._size -= written
            if written < len(rest):
                self._waiting[0] = rest[written:], events, length
                continue
            self._waiting.popleft()
            self._whole = os.lseek(self.fd, 0, os.SEEK_CUR) if self._regular else 0
            self.page.add("written_events", events)
            self.page.add("written_bytes", length)

    def _write(self, rest: memoryview) -> int:
        if self._piece == ATOMIC and not self._poll(select.POLLOUT, 0):
            raise BlockingIOError
        return os.write(self.fd, rest[: self._piece])

    def _failed(self, events: int) -> None:
        """The disk does not take it: gives this message up, whole."""
        rest, _, _ = self._waiting.popleft()
        self._size -= len(rest)
        self.page.add("write_errors", 1)
        self.page.add("dropped_output", events)
        if self._regular:
            try:
                os.ftruncate(self.fd, self._whole)
                os.lseek(self.fd, self._whole, os.SEEK_SET)
            except OSError:
                pass  # the disk is worse off than full; the next message meets it again

    def _broken(self) -> bool:
        return bool(self._poll(0, 0))

    def _poll(self, events: int, timeout_s: float) -> bool:
        poll = select.poll()
        poll.register(self.fd, events)
        return bool(poll.poll(timeout_s * 1000))

    def _reader_gone(self) -> None:
        """Nobody will ever read what follows: the supervisor is told, and ends the run."""
        self.closed = True
        self.page["output_closed"] = 1
        self._give_up()

    def _give_up(self) -> None:
        self.page.add("dropped_output", sum(events for _, events, _ in self._waiting))
        self._waiting.clear()
        self._size = 0

    def pause(self, timeout_s: float) -> None:
        """Waits until there may be room."""
        if self.pollable:
            self._poll(select.POLLOUT, timeout_s)
        elif self.waiting:
            select.select([], [], [], timeout_s)

    def close(self) -> None:
        """Ends the output; what is still waiting is dropped and counted."""
        self._give_up()
        self.closed = True
        if self.fd > 2:
            os.close(self.fd)
        self.fd = -1
