"""Stream: what an Assembler hands bytes to; and ReaderStream, a ready one that is read like a file.

The bytes come from the thread that calls Assembler.assemble() and are read in another: a goroutine in gopacket's
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

CHECK_S = 0.2  # how often an assembler that waits for a reader looks whether there still is one


class Given(Protocol):
    """What a ReaderStream takes of an assembly.Piece."""

    @property
    def data(self) -> bytes: ...
    @property
    def skip(self) -> int: ...


class DataLost(Exception):
    """Bytes are missing here: `skip` of them, or -1 where the stream was picked up in the middle."""

    def __init__(self, skip: int) -> None:
        super().__init__("the stream was picked up in the middle" if skip < 0 else f"{skip} bytes are missing here")
        self.skip = skip


class Stream:
    """One direction of a connection. Subclass it, or bring any object with these two methods."""

    def reassembled(self, pieces: Sequence[Given]) -> None:
        """The next pieces of the stream, in order, each byte once."""

    def complete(self) -> None:
        """Nothing more comes; called once, after everything."""


class ReaderStream(io.RawIOBase, Stream):
    """A Stream that is a binary file: read(), readline(), iteration, io.BufferedReader around it.

    Reads wait for bytes and give b"" once the stream is complete and read to its end. Where bytes are missing, one read
    raises DataLost, and the next goes on behind the hole (what readline() or a BufferedReader had collected for the
    interrupted call is gone; read() loses nothing); lost="ignore" goes on without.

    `limit` bytes may wait to be read. Then assemble() waits for the reader, as in gopacket: whoever stops reading must
    close() or discard(), or be started by serve(), which closes by itself. A stream whose reading thread has ended
    counts as closed. Where waiting can never end (no other thread is there to read, or the reader waits for another
    stream that this very thread feeds) assemble() raises RuntimeError, this stream ends, and the others go on.

    wait=False is for one thread that assembles and reads in turn: neither side waits, a read gives None while nothing
    is there, and what does not fit into the limit is lost, and said so like any loss.
    """

    _waiting: ClassVar[dict[threading.Thread, ReaderStream]] = {}  # in which stream a thread waits for bytes

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
        """Takes pieces from the assembler; waits while the limit is reached."""
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
            if nobody := self._nobody():
                raise RuntimeError(f"a ReaderStream is full, and {nobody}")
            self._changed.wait(CHECK_S)

    def _nobody(self) -> str:
        """Why the thread that feeds this stream would wait for a reader for ever, or nothing."""
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
        """The assembler says that nothing more comes."""
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
        """The first piece, of which _at bytes are read; b"" at the end, None if there is nothing and no waiting."""
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
        """True."""
        return True

    def readinto(self, buffer: Buffer, /) -> int | None:
        """Some bytes, as soon as there are any; 0 at the end. Raises DataLost where bytes are missing."""
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
        """Some of the bytes that come next, which stay; b"" at the end. It makes readline() fast."""
        with self._changed:
            return (self._next() or b"")[self._at :]

    def discard(self) -> int:
        """Reads to the end and forgets it, losses too; how many bytes that were."""
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
        """Nobody reads any more: what waits is dropped, and what still comes."""
        with self._changed:
            self._pieces.clear()
            self._held = self._at = 0
            super().close()
            self._changed.notify_all()

    def serve(self, read: Callable[[ReaderStream], object]) -> threading.Thread:
        """Starts a daemon thread that calls read(self), and closes the stream when that returns or raises."""

        def run() -> None:
            try:
                read(self)
            finally:
                self.close()

        self._reader = threading.Thread(target=run, name="ReaderStream", daemon=True)
        self._reader.start()
        return self._reader
