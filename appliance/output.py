"""The output: JSON Lines in a file, or into whatever reads our standard output.

Never blocks, never raises once it is open. A regular file takes a message whole or, when the disk is full, not at all:
a half-written one is cut off again, and so is a half line that a killed process left. When a file is full or old it
gets another name at one stroke and a new one begins (archive.py). A pipe takes what its reader leaves room for; the
rest waits here, up to a limit.
"""

from __future__ import annotations

import errno
import json
import os
import select
import stat
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from appliance.archive import Archive
from appliance.eventbatch import Buffer
from appliance.options import Output as Options
from appliance.stats import Page

PATIENT_LIMIT = 8 << 20  # bytes; when the sender waits for us, there is no use in holding more
FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
AGAIN_S = 1.0  # between two tries to close a file, when there is no way to
LOOK = 65536  # bytes read at a time from the end of a file, to find its last line
ATOMIC = 4096  # PIPE_BUF: a pipe or terminal that poll() calls writable takes this much without blocking


class OutputError(Exception):
    """The output cannot be opened. The text is for a person."""


class Output:
    """Appends messages to a path ("-": descriptor 1, "": nowhere). Owns the output counters of the feed's page.

    patient: the caller stops while `full`, so nothing is dropped; else what exceeds `limit` bytes is, and is counted.
    """

    def __init__(self, options: Options, page: Page, limit: int, *, patient: bool) -> None:
        self.options = options
        self.path = path = options.path
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
        self._due = 0.0  # time.time() at which the file is old enough
        self._again_at = 0.0  # time.monotonic() of the next try to close it
        self._archive: Archive | None = None
        if path:
            self._open()

    def _open(self) -> None:
        try:
            if self.path == "-":
                self.fd = 1
            else:
                self.fd = os.open(self.path, FLAGS, 0o644)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # a named pipe that nobody reads yet
            raise OutputError(f"output.path (-o) {self.path}: {error.strerror}") from error
        mode = os.fstat(self.fd).st_mode
        self._regular = stat.S_ISREG(mode)
        if self._regular and self.path != "-":
            self._take_over()
        elif self._regular:
            self._whole = os.lseek(self.fd, 0, os.SEEK_CUR)
        elif self.path == "-":
            try:  # our own view of the same pipe: O_NONBLOCK on the shared one would surprise whoever else has it
                self.fd = os.open("/proc/self/fd/1", os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError:
                self._piece = ATOMIC

    def _take_over(self) -> None:
        """Goes on behind what is in the file, after the half line is cut off that a killed process left."""
        end = _end_of_lines(Path(self.path))
        torn = os.fstat(self.fd).st_size - end
        if torn:
            os.ftruncate(self.fd, end)
            self.page.add("torn_bytes", torn)
        self._whole = os.lseek(self.fd, 0, os.SEEK_END)
        if self.options.rotates:
            self._due = self._next_due(os.fstat(self.fd).st_mtime)
            self._archive = Archive(Path(self.path), self.options, self.page)
            self._archive.start()

    def _next_due(self, now: float) -> float:
        """Files end at multiples of their age: hourly ones at the full hour, UTC."""
        age = self.options.rotate_s
        return (now // age + 1) * age if age else float("inf")

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
        """Takes one message of that many events, without its last newline; the body may change afterwards."""
        if not self.path:
            return
        if self.closed or (self.full and not self.patient):
            self.page.add("dropped_output", events)
            return
        most = self.options.rotate_bytes
        if self._archive and most and self._whole and self._whole + len(body) + 1 > most:
            self._rotate(self._archive)
        written = self._write_at_once(body, events)
        if written <= len(body):
            line = memoryview(b"".join((body, b"\n")))
            self._waiting.append((line[written:], events, len(line)))
            self._size += len(line) - written
            self.flush()

    def _write_at_once(self, body: Buffer, events: int) -> int:
        """Writes a message without a copy, if nothing waits before it; how many bytes of it."""
        if self._waiting or self._piece == ATOMIC or self.fd < 0:
            return 0
        try:
            written = os.writev(self.fd, (body, b"\n"))
        except OSError:
            return 0
        if written == len(body) + 1:
            self._wrote(events, written)
        return written

    def _wrote(self, events: int, length: int) -> None:
        self._whole = os.lseek(self.fd, 0, os.SEEK_CUR) if self._regular else 0
        self.page.add("written_events", events)
        self.page.add("written_bytes", length)

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
            self._wrote(events, length)

    def tick(self) -> None:
        """Closes the file when it is old enough. Call it in every turn."""
        if self._archive and time.time() >= self._due:
            if self._whole:
                self._rotate(self._archive)
            else:
                self._due = self._next_due(time.time())

    def _rotate(self, archive: Archive) -> None:
        """Gives the file its last name and begins another; when that fails, goes on with it for the time being."""
        if time.monotonic() < self._again_at:
            return
        try:
            closed = archive.free_name(datetime.now(UTC))
            os.rename(self.path, closed)
            try:
                fresh = os.open(self.path, FLAGS | os.O_EXCL, 0o644)
            except OSError:
                os.rename(closed, self.path)
                raise
        except OSError:
            self._again_at = time.monotonic() + AGAIN_S
            self.page.add("rotation_errors", 1)
            return
        os.close(self.fd)
        self.fd, self._whole = fresh, 0
        self._due = self._next_due(time.time())
        self.page.add("rotations", 1)
        archive.add(closed)

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

    def close(self, wait: Callable[[], bool] = lambda: False) -> None:
        """Ends the output; what is still waiting is dropped and counted. Closed files are seen to while wait()."""
        self._give_up()
        if self._archive:
            self._archive.finish(wait)
        self.closed = True
        if self.fd > 2:
            os.close(self.fd)
        self.fd = -1


def _end_of_lines(path: Path) -> int:
    """Where whole lines end. What comes after them is kept when it is a line without its end, and not half an event."""
    with path.open("rb") as file:
        size = place = file.seek(0, os.SEEK_END)
        tail = b""
        while place and b"\n" not in tail:
            step = min(LOOK, place)
            place -= step
            file.seek(place)
            tail = file.read(step) + tail
    last = tail[tail.rfind(b"\n") + 1 :]
    if not last.startswith(b"{"):
        return size
    try:
        json.loads(last)
    except ValueError:
        return size - len(last)
    return size
