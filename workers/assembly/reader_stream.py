"""Stream: the receiver of an Assembler's bytes; and ReaderStream, a ready one with the interface of a file.

One thread calls Assembler.assemble() and supplies the bytes, another reads them: a goroutine in gopacket's
tcpreader, a thread here. Between them stands a bounded buffer.
"""

from __future__ import annotations

import io
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    from typing_extensions import Buffer

CHECK_INTERVAL_S = 0.2  # interval at which an assembler that waits for a reader checks that the reader is alive


class Given(Protocol):
    """The part of an assembly.Piece that a ReaderStream reads."""

    @property
    def data(self) -> bytes: ...
    @property
    def skip(self) -> int: ...


class DataLost(Exception):
    """A gap: `skip` bytes are missing here, or -1 at the start of a mid-stream connection."""

    def __init__(self, skip: int) -> None:
        super().__init__("the stream was picked up in the middle" if skip < 0 else f"{skip} bytes are missing here")
        self.skip = skip


class Stream:
    """One direction of a connection. Subclass it, or bring any object with these two methods."""

    def reassembled(self, pieces: Sequence[Given]) -> None:
        """Receive the next pieces of the stream, in order, each byte once."""

    def complete(self) -> None:
        """Receive the end of the stream; the assembler calls this once, after every piece."""


class ReaderStream(io.RawIOBase, Stream):
    """A Stream that is a binary file: read(), readline(), iteration, io.BufferedReader around it.

    Reads wait for bytes, and return b"" at the end of the complete stream. At a gap, one read raises DataLost, and the
    next continues behind the gap. (The interrupted call loses the bytes that readline() or a BufferedReader had
    collected; read() loses none.) lost="ignore" skips the gap without an exception.

    `limit` bytes may wait unread. At the limit assemble() waits for the reader, as in gopacket. A reader that stops
    early must close() or discard(), or run under serve(), which closes by itself. A stream whose reading thread has
    ended counts as closed. Where the wait can never end (no other thread can read, or the reader waits for another
    stream that this very thread feeds) assemble() raises RuntimeError, this stream ends, and the others continue.

    wait=False is for one thread that assembles and reads in turn: neither side waits, a read returns None while no
    bytes are there, and bytes beyond the limit are lost, which DataLost reports like any gap.
    """

    _waiting: ClassVar[dict[threading.Thread, ReaderStream]] = {}  # the stream in which a thread waits for bytes

    def __init__(self, lost: Literal["raise", "ignore"] = "raise", limit: int = 1 << 20, wait: bool = True) -> None:
        self._changed = threading.Condition()
        self._pieces: deque[tuple[int, bytes]] = deque()  # (skip, data); read by _at in the first
        self._at = 0
        self._held = 0  # bytes not yet read
        self._dropped = 0  # bytes that did not fit, since the last piece that did
        self._over = False
        self._fed = False
        self._feeder = threading.current_thread()
        self._reader: threading.Thread | None = None
        if lost not in ("raise", "ignore"):
            raise ValueError(f'lost: "raise" or "ignore", not {lost!r}')
        if limit < 1:
            raise ValueError(f"limit: at least 1 byte, not {limit}")
        self._lost = lost
        self._limit = limit
        self._wait = wait

    # -- the assembler's side ----------------------------------------------------------------------------------------

    def reassembled(self, pieces: Sequence[Given]) -> None:
        """Take pieces from the assembler; wait while the limit is reached."""
        with self._changed:
            self._fed = True
            self._feeder = threading.current_thread()
            for piece in pieces:
                if piece.data and self._wait:
                    self._wait_for_room(len(piece.data))
                if self.closed:
                    return
                self._put(piece.skip, piece.data)
            self._changed.notify_all()

    def _put(self, skip: int, data: bytes) -> None:
        if self._dropped:
            skip = self._dropped + max(0, skip)
        if not self._wait and data and self._held and self._held + len(data) > self._limit:
            self._dropped = max(0, skip) + len(data)
            return
        self._dropped = 0
        if skip or data:
            self._pieces.append((skip, data))
            self._held += len(data)

    def _wait_for_room(self, size: int) -> None:
        while self._held and self._held + size > self._limit and not self.closed:
            self._changed.notify_all()
            if self._reader is not None and not self._reader.is_alive():
                self.close()
                return
            if reason := self._never_read():
                raise RuntimeError(f"a ReaderStream is full, and {reason}")
            self._changed.wait(CHECK_INTERVAL_S)

    def _never_read(self) -> str:
        """Return why no thread will ever read this stream while its feeder waits, or an empty string."""
        reader = self._reader
        if reader is None:
            alone = threading.enumerate() == [self._feeder]
            return "no other thread is there to read it: see wait=False" if alone else ""
        if reader is self._feeder:
            return "the thread that reads it is the one that feeds it: see wait=False"
        other = self._waiting.get(reader, self)
        if other is not self and other._feeder is self._feeder and other._hungry:
            return "its reader waits for another stream of the same assembler"
        return ""

    def complete(self) -> None:
        """End the stream: the assembler has no more pieces."""
        with self._changed:
            if self._dropped:
                self._pieces.append((self._dropped, b""))
            self._over = True
            self._changed.notify_all()

    # -- the reader's side -------------------------------------------------------------------------------------------

    @property
    def _hungry(self) -> bool:
        return not (self._pieces or self._over or self.closed)

    def _next(self) -> bytes | None:
        """Return the first piece (_at bytes of it are read), b"" at the end, or None: it would wait at wait=False."""
        thread = threading.current_thread()
        self._reader = thread
        while not self.closed:
            if self._pieces:
                skip, data = self._pieces[0]
                if skip:
                    self._pieces[0] = (0, data)
                    if self._lost == "raise":
                        raise DataLost(skip)
                if self._at < len(data):
                    return data
                self._pieces.popleft()
                self._at = 0
            elif self._over:
                return b""
            elif not self._wait:
                return None
            elif self._fed and self._feeder is thread:
                raise RuntimeError("this thread feeds the ReaderStream: reading would wait for itself; see wait=False")
            else:
                self._waiting[thread] = self
                try:
                    self._changed.wait()
                finally:
                    del self._waiting[thread]
        raise ValueError("read of a closed ReaderStream")

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Buffer, /) -> int | None:
        """Read some bytes as soon as there are any; return their number, 0 at the end. Raises DataLost at a gap."""
        view = memoryview(buffer).cast("B")
        with self._changed:
            data = self._next() if view.nbytes else b""
            if not data:
                return data if data is None else 0
            size = min(view.nbytes, len(data) - self._at)
            view[:size] = memoryview(data)[self._at : self._at + size]
            self._at += size
            self._held -= size
            if self._at == len(data):
                self._pieces.popleft()
                self._at = 0
            self._changed.notify_all()
            return size

    def peek(self, size: int = 0, /) -> bytes:
        """Return some of the bytes that come next, which stay; b"" at the end. It makes readline() fast."""
        with self._changed:
            return (self._next() or b"")[self._at :]

    def discard(self) -> int:
        """Read to the end, discard the bytes and ignore gaps; return the number of bytes."""
        count = 0
        while True:
            try:
                data = self.read(1 << 16)
            except DataLost:
                continue
            if not data:
                return count
            count += len(data)

    def close(self) -> None:
        """Close the reading side: drop the unread bytes, and those that still come."""
        with self._changed:
            self._pieces.clear()
            self._held = self._at = 0
            super().close()
            self._changed.notify_all()

    def serve(self, read: Callable[[ReaderStream], object]) -> threading.Thread:
        """Start a daemon thread that calls read(self), and that closes the stream when read returns or raises."""

        def run() -> None:
            try:
                read(self)
            finally:
                self.close()

        self._reader = threading.Thread(target=run, name="ReaderStream", daemon=True)
        self._reader.start()
        return self._reader
