"""A reader of the ring: the frames of some connections out of all of its files, also while a recorder writes them."""

from __future__ import annotations

import heapq
import os
from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from appliance.ring.blocks import Frame, Interface, Read, block_at, frame_of, interface_of, walk
from appliance.ring.frame_blocks import number_of_frame, offsets_of
from appliance.ring.index import HEADER_BYTES, INDEX_SUFFIX, SEALED_SUFFIX, number_in, unpacked
from appliance.ring.pcapng import section
from appliance.ring.time_order import TimeOrder

if TYPE_CHECKING:
    from appliance.ring.sealing import Opener, PrivateKey

FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
LATEST_NS = (1 << 64) - 1

Numbers = Callable[[bytes], Collection[int]]  # key of an index: the numbers of the wanted connections


class Place(NamedTuple):
    """The place of a frame in the ring."""

    ts_ns: int
    source: tuple[str, int]  # name of its interface, and number of its connection
    file: RingFile
    offset: int


class RingFile:
    """One file of the ring, open. It stays readable when the recorder removes it.

    identity: the private key to sealed files. Raises OSError.
    """

    def __init__(self, path: Path, identity: PrivateKey | None = None) -> None:
        self.path = path
        self._data = os.open(path, FLAGS)
        try:
            self._open(path, identity)
        except OSError:
            self.close()
            raise

    def _open(self, path: Path, identity: PrivateKey | None) -> None:
        self._read: Read = self._pread
        opener: Opener | None = None
        if path.name.endswith(SEALED_SUFFIX):
            from appliance.ring.sealing import Opener, SealError  # here: other files have no use for the library

            if identity is None:
                raise SealError("encrypted (record.encrypt_to); reading it needs the private key", path)
            opener = Opener(path, self._pread, identity)
        try:
            index = os.open(path.with_name(path.name + INDEX_SUFFIX), FLAGS)
        except OSError:
            self.header, self._entries = None, b""
        else:
            with open(index, "rb", buffering=0) as file:
                known = file.readall() or b""
            # The header is read first, and written last: entries behind it belong to blocks that are read one by one.
            self.header = unpacked(known)
            self._entries = known[HEADER_BYTES:]
            if opener is not None:
                self._entries = opener.entries(known)
        self.key = self.header.key if self.header else os.urandom(16)
        if opener is not None:
            self.key = opener.index_key
            self._read = opener.data(os.fstat(self._data).st_size).read
        self._end = self.header.data_bytes if self.header else 0
        self._interfaces: list[Interface] = []
        for offset, _ in self._indexed({0}):
            self._note(block_at(self._read, offset))

    def close(self) -> None:
        os.close(self._data)

    def overlaps(self, since_ns: int, until_ns: int) -> bool:
        """Return whether it may have frames of this time."""
        if self.header is None or not self.header.closed:
            return self.header is None or self.header.first_ns <= until_ns
        return self.header.frames > 0 and self.header.first_ns <= until_ns and self.header.last_ns >= since_ns

    def places(self, numbers: Numbers) -> Iterator[Place]:
        """Yield the places of the frames of some connections, in the order of the file."""
        wanted = set(numbers(self.key)) - {0}
        for offset, number in self._indexed(wanted):
            frame = self._head(offset)
            if frame is not None:
                yield Place(frame.ts_ns, (self._interfaces[frame.interface].name, number), self, offset)
        for offset, block in self._unindexed():
            frame = frame_of(block)
            if frame is None:
                self._note(block)
            elif frame.interface < len(self._interfaces):
                link_type, name = self._interfaces[frame.interface]
                found = number_of_frame(self.key, link_type, frame.data, frame.wirelen)
                if found is not None and found in wanted:
                    yield Place(frame.ts_ns, (name, found), self, offset)

    def read(self, offset: int) -> tuple[Frame, Interface] | None:
        """Return the frame at a place, and its interface; None if the file was cut there."""
        frame = frame_of(block_at(self._read, offset))
        return None if frame is None else (frame, self._interfaces[frame.interface])

    def whole(self) -> bytes:
        """Return the file up to its last whole block."""
        end = self._end
        for offset, block in self._unindexed():
            end = offset + len(block)
        return self._read(0, end)

    @property
    def first_ns(self) -> int:
        """Return the time of its earliest frame in the index; LATEST_NS without any."""
        return (self.header.first_ns if self.header else 0) or LATEST_NS

    def _note(self, block: bytes) -> None:
        interface = interface_of(block)
        if interface is not None:
            self._interfaces.append(interface)

    def _pread(self, offset: int, length: int) -> bytes:
        return os.pread(self._data, length, offset)

    def _indexed(self, numbers: Collection[int]) -> list[tuple[int, int]]:
        return [place for place in offsets_of(self._entries, numbers) if place[0] < self._end]

    def _unindexed(self) -> Iterator[tuple[int, bytes]]:
        return iter(()) if self.header is not None and self.header.closed else walk(self._read, self._end)

    def _head(self, offset: int) -> Frame | None:
        frame = frame_of(block_at(self._read, offset))
        return frame if frame is not None and frame.interface < len(self._interfaces) else None


class Ring:
    """The files of a ring, in the order in which they were written. Raises OSError if the folder cannot be read.

    identity: the private key to sealed files.
    """

    def __init__(self, folder: Path, identity: PrivateKey | None = None) -> None:
        names = sorted((number, name) for name in os.listdir(folder) if (number := number_in(name)) is not None)
        self.files: list[RingFile] = []
        for _, name in names:
            try:
                self.files.append(RingFile(folder / name, identity))
            except FileNotFoundError:
                pass  # the recorder has removed it
            except OSError:
                self.close()
                raise

    def close(self) -> None:
        for file in self.files:
            file.close()

    def capture(self, since_ns: int = 0, until_ns: int = LATEST_NS) -> Iterator[bytes]:
        """Yield one pcapng capture in pieces: the files that may have frames of this time, by the time of the frames.

        Batches of two workers lie behind each other in the ring, although their frames came at the same time.
        """
        files = [file for file in self.files if file.overlaps(since_ns, until_ns)]
        order = TimeOrder()
        yield section("frames of a ring")
        for place, file in enumerate(files):
            yield order.add(file.whole(), min((later.first_ns for later in files[place + 1 :]), default=LATEST_NS))
        yield order.add(b"", LATEST_NS)

    def places(self, numbers: Numbers) -> Places:
        """Return the frames of some connections: each connection in the order of the ring, and all of them by time."""
        return Places(self.files, numbers)


class Places:
    """The places of the frames of some connections, in 24 bytes each. Each iteration gives the same."""

    def __init__(self, files: Sequence[RingFile], numbers: Numbers) -> None:
        self._files = files
        self._streams: dict[tuple[str, int], array[int]] = {}  # by source: time, number of the file, offset
        self.files: list[RingFile] = []  # those with such a frame
        for number, file in enumerate(files):
            for place in file.places(numbers):
                self._streams.setdefault(place.source, array("Q")).extend((place.ts_ns, number, place.offset))
                if not self.files or self.files[-1] is not file:
                    self.files.append(file)

    def __iter__(self) -> Iterator[Place]:
        return heapq.merge(*map(self._stream, self._streams), key=attrgetter("ts_ns"))

    def _stream(self, source: tuple[str, int]) -> Iterator[Place]:
        packed = self._streams[source]
        for at in range(0, len(packed), 3):
            ts_ns, number, offset = packed[at : at + 3]
            yield Place(ts_ns, source, self._files[number], offset)
