"""The writing side of the ring: one file at a time, and the oldest goes when the ring is full.

A file gets its space when it is made, so that the disk cannot be full in its middle; its length is that of what was
written. The parts of a flush are written in this order: blocks, entries, header of the index. A killed recorder leaves
a file that lacks at most the end of its last flush; the next start cuts that off. With a public key the files are
sealed (ring/sealing.py). The next start cannot read them, and cuts them behind their last whole chunk.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from appliance.ipc.frame_batch import BatchHeader
from appliance.native import disk_space
from appliance.native.safe_files import OUTPUT_MODE, own_folder, write_all
from appliance.ring import pcapng
from appliance.ring.blocks import block_at, frame_of, interface_of, walk
from appliance.ring.frame_blocks import FrameBlocks, number_of_frame, offsets_of
from appliance.ring.index import (
    DATA,
    ENTRY,
    HEADER_BYTES,
    INDEX,
    INDEX_SUFFIX,
    SEALED_SUFFIX,
    IndexHeader,
    entries_before,
    number_in,
    unpacked,
)

if TYPE_CHECKING:
    from appliance.ring.sealing import PublicKey, Sealer

FILES = 16  # of a full ring, at least
MOST_FILE_BYTES = 1 << 26
KEY_BYTES = 16
ETHERNET = 1  # DLT_EN10MB
MORE_BYTES = 48  # most bytes by which a frame with its entry is longer than its record in a batch
WRITE_BYTES = 1 << 23  # after which the kernel begins to write
KEPT_BYTES = 1 << 26  # of a file that stay in memory, for a reader that comes soon
SHARES_OF_AGE = 8  # files of a ring with a limit of age
RAW_READ = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class OldFile(NamedTuple):
    """A finished file of the ring."""

    number: int
    name: str
    size: int  # bytes, with its index
    last_ns: int  # time of its last frame


class _Totals:
    """Frames of one interface in a file: those that came, and those of them that were left out."""

    __slots__ = ("came", "left_out")

    def __init__(self) -> None:
        self.came = self.left_out = 0


class _OpenFile:
    """The file that is written now."""

    def __init__(self, folder: int, name: str, number: int, space: int, sealer: Sealer | None) -> None:
        """Make it, with its space. Raises OSError; then there is no file."""
        self._sealer = sealer
        self.number, self.name = number, name
        self.made_at = time.monotonic()
        self.key = sealer.index_key if sealer else os.urandom(KEY_BYTES)
        self.interfaces: dict[tuple[int, int, bool], int] = {}  # capture, link type, reassembled: its number
        self.totals: dict[int, _Totals] = {}
        self.frames = 0  # with those that are collected
        self.flushed = 0  # those that are written
        self.left_out = 0
        self.written = self.entry_bytes = 0  # of both files on the disk
        self.data_bytes = 0  # of blocks
        self._handed_over = 0  # bytes for which that has happened
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self._data = os.open(name, flags, OUTPUT_MODE, dir_fd=folder)
        self._index = -1
        try:
            self._index = os.open(name + INDEX_SUFFIX, flags, OUTPUT_MODE, dir_fd=folder)
            try:
                disk_space.reserve(self._data, space)
            except OSError as fault:
                if fault.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                    raise
            self.blocks = FrameBlocks(self.key)
            if sealer:
                write_all(self._data, sealer.head)
                self.written = len(sealer.head)
            self.blocks.add(pcapng.section("frames recorded by the appliance"))
            self.flush()
        except OSError:
            self._close()
            for one in (name, name + INDEX_SUFFIX):
                with suppress(OSError):
                    os.unlink(one, dir_fd=folder)
            raise

    def interface(self, capture: int, link_type: int, name: str, *, reassembled: bool = False) -> int:
        """Return the number of an interface in this file."""
        known = capture, link_type, reassembled
        number = self.interfaces.get(known)
        if number is None:
            number = self.interfaces[known] = len(self.interfaces)
            self.totals[number] = _Totals()
            shown = f"{name} (reassembled)" if reassembled else name
            self.blocks.add(pcapng.interface(ETHERNET if reassembled else link_type, shown), number=0)
        return number

    def flush(self) -> None:
        """Write what is collected. Raises OSError; then the file is as before."""
        blocks, entries = self.blocks.take()
        plain_bytes = len(blocks)
        if self._sealer:
            blocks, entries = self._sealer.seal(DATA, blocks), self._sealer.seal(INDEX, entries)
        try:
            write_all(self._data, blocks)
            write_all(self._index, self._header() + entries if not self.entry_bytes else entries)
        except OSError:
            for descriptor, size in ((self._data, self.written), (self._index, self.entry_bytes)):
                with suppress(OSError):
                    os.ftruncate(descriptor, size)
                    os.lseek(descriptor, size, os.SEEK_SET)
            self.left_out += self.frames - self.flushed
            self.frames = self.flushed
            raise
        self.flushed = self.frames
        self.data_bytes += plain_bytes
        self.written += len(blocks)
        self.entry_bytes += len(entries) + (0 if self.entry_bytes else HEADER_BYTES)
        self.note()
        if self.written - self._handed_over >= WRITE_BYTES:
            disk_space.begin_writing(self._data, self._handed_over, self.written - self._handed_over)
            disk_space.forget(self._data, max(0, self._handed_over - KEPT_BYTES - WRITE_BYTES), 2 * WRITE_BYTES)
            self._handed_over = self.written

    def note(self, *, closed: bool = False) -> None:
        """Write the header of the index."""
        os.pwrite(self._index, self._header(closed=closed), 0)

    def _header(self, *, closed: bool = False) -> bytes:
        first, last = self.blocks.first_ns, self.blocks.last_ns
        key = bytes(KEY_BYTES) if self._sealer else self.key
        return IndexHeader(key, self.data_bytes, first, last, self.frames, self.left_out, closed).packed()

    @property
    def size(self) -> int:
        """Return its bytes, with the index and what is collected."""
        return self.written + self.blocks.collected + self.entry_bytes

    def finish(self) -> OldFile:
        """Write how many frames are missing, and close it; the space that it did not use is free again."""
        for number, totals in self.totals.items():
            self.blocks.add(pcapng.statistics(number, self.blocks.last_ns, totals.came, totals.left_out))
        with suppress(OSError):
            self.flush()
        with suppress(OSError):
            os.ftruncate(self._data, self.written)
            self.note(closed=True)
        self._close()
        return OldFile(self.number, self.name, self.size, self.blocks.last_ns)

    def _close(self) -> None:
        for descriptor in (self._data, self._index):
            if descriptor >= 0:
                os.close(descriptor)


class RingWriter:
    """The ring in one folder, which only this process writes.

    limit: bytes of all files; age_s: of the last frame of a file that is removed, 0 for no limit. key: public, to seal
    the files to it. Raises OSError, and FolderBusy if another process has the ring.
    """

    def __init__(self, path: Path, limit: int, age_s: int, key: PublicKey | None = None) -> None:
        self.path = path
        self._key = key
        self.removed_files = self.torn_bytes = 0
        self._folder = own_folder(path, "another recorder writes there")
        self._file: _OpenFile | None = None
        self._newest_ns = 0
        self._old: list[OldFile] = []
        self.configure(limit, age_s)
        self._recover()

    def configure(self, limit: int, age_s: int) -> None:
        """Take new limits, for the files to come."""
        self._limit, self._age_s = limit, age_s
        self._file_bytes = min(limit // FILES, MOST_FILE_BYTES)

    @property
    def size(self) -> int:
        """Return the bytes of all files."""
        return sum(old.size for old in self._old) + (self._file.size if self._file else 0)

    @property
    def files(self) -> int:
        """Return how many files there are."""
        return len(self._old) + (self._file is not None)

    @property
    def oldest_ns(self) -> int:
        """Return the time of the last frame of the oldest file; 0 if there is none."""
        return self._old[0].last_ns if self._old else self._newest_ns

    def full(self, batch: BatchHeader, message: memoryview) -> bool:
        """Return whether a batch does not fit into the file any more. Flush then, before it is added."""
        file = self._file
        if file is None or not file.frames:
            return False
        return file.size + len(message) + batch.frames * MORE_BYTES > self._file_bytes

    def add(self, batch: BatchHeader, message: memoryview, name: str, share: int) -> tuple[int, int]:
        """Collect the frames of a batch; return how many, and their bytes. Raises OSError if no file can be made.

        name: of its interface. share: connections to leave out, in 256ths.
        """
        if self.full(batch, message):
            self.flush()
            self._rotate()
        file = self._file or self._begin()
        number = file.interface(batch.capture, batch.link_type, name)
        reassembled = (
            file.interface(batch.capture, batch.link_type, name, reassembled=True) if batch.reassembled else number
        )
        frames, size = file.blocks.add_batch(message, number, reassembled, share)
        totals = file.totals[number]
        totals.came += batch.frames
        totals.left_out += batch.frames - frames
        file.left_out += batch.frames - frames
        file.frames += frames
        self._newest_ns = max(self._newest_ns, file.blocks.last_ns)
        return frames, size

    def flush(self) -> None:
        """Write what is collected. Raises OSError; then nothing of it is in the ring, and the next file is another."""
        if self._file is None or not self._file.blocks.collected:
            return
        try:
            self._file.flush()
        except OSError:
            self._rotate()
            raise

    def tick(self, now_ns: int) -> None:
        """Begin another file, and remove old ones, where their age asks for it. now_ns: the clock of the frames."""
        if not self._age_s:
            return
        file = self._file
        if file and file.frames and time.monotonic() - file.made_at >= self._age_s / SHARES_OF_AGE:
            self.flush()
            self._rotate()
        while self._old and self._old[0].last_ns < now_ns - self._age_s * 1_000_000_000:
            self._remove_oldest()

    def close(self) -> None:
        """Finish the file, and leave the ring to another process."""
        if self._file:
            self._rotate()
        os.close(self._folder)

    def _begin(self) -> _OpenFile:
        while self._old and self.size + self._file_bytes > self._limit:
            self._remove_oldest()
        number = self._old[-1].number + 1 if self._old else 1
        name = f"frames-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{number:06}.pcapng"
        sealer = None
        if self._key is not None:
            from appliance.ring.sealing import Sealer  # here: an open ring has no use for the library

            name, sealer = name + SEALED_SUFFIX, Sealer(self._key)
        self._file = _OpenFile(self._folder, name, number, self._file_bytes, sealer)
        return self._file

    def _rotate(self) -> None:
        if self._file:
            self._old.append(self._file.finish())
            self._file = None

    def _remove_oldest(self) -> None:
        old = self._old.pop(0)
        for name in (old.name, old.name + INDEX_SUFFIX):
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._folder)
        self.removed_files += 1

    # -- the files of an earlier recorder ----------------------------------------------------------------------------

    def _recover(self) -> None:
        for name in os.listdir(self._folder):
            number = number_in(name)
            if number is None:
                continue
            with suppress(OSError):  # an unreadable file stays as it is, and is none of the ring
                self._old.append(self._recovered(name, number))
        self._old.sort()
        self._newest_ns = max((old.last_ns for old in self._old), default=0)

    def _recovered(self, name: str, number: int) -> OldFile:
        """Return a file of an earlier recorder. One that was not finished is cut behind its last whole block."""
        data = os.open(name, RAW_READ, dir_fd=self._folder)
        with open(data, "r+b", buffering=0):
            flags = RAW_READ | os.O_CREAT
            with open(
                os.open(name + INDEX_SUFFIX, flags, OUTPUT_MODE, dir_fd=self._folder), "r+b", buffering=0
            ) as index:
                known = index.readall() or b""
                header = unpacked(known)
                if name.endswith(SEALED_SUFFIX):
                    return OldFile(number, name, *self._cut(data, index.fileno(), header))
                if header is None or not header.closed or header.data_bytes != os.fstat(data).st_size:
                    header, known = self._repaired(data, header, known[HEADER_BYTES:])
                    index.seek(0)
                    write_all(index.fileno(), known)
                    index.truncate()
            return OldFile(number, name, header.data_bytes + len(known), header.last_ns)

    def _cut(self, data: int, index: int, header: IndexHeader | None) -> tuple[int, int]:
        """Cut a sealed file and its index behind their last whole chunks; return their size and the last time.

        Blocks behind those in the header stay readable with the private key.
        """
        from appliance.ring.sealing import chunks, first_chunk  # here: an open ring has no use for the library

        total = 0
        for descriptor in (data, index):

            def read(offset: int, length: int, descriptor: int = descriptor) -> bytes:
                return os.pread(descriptor, length, offset)

            size = os.fstat(descriptor).st_size
            end = first_chunk(read) if descriptor == data else min(size, HEADER_BYTES)
            if header is None or not header.closed:
                for chunk in chunks(read, end, size) if end else ():
                    end = chunk.end
                self.torn_bytes += (size - end) * (descriptor == data)
                os.ftruncate(descriptor, end)
                size = end
            total += size
        last_ns = header.last_ns if header and header.last_ns else os.fstat(data).st_mtime_ns
        return total, last_ns

    def _repaired(self, data: int, header: IndexHeader | None, entries: bytes) -> tuple[IndexHeader, bytes]:
        """Cut a file behind its last whole block, and return its index: the header, and all of it."""
        if header is None or header.data_bytes > os.fstat(data).st_size:
            header, entries = IndexHeader(os.urandom(KEY_BYTES)), b""

        def read(offset: int, length: int) -> bytes:
            return os.pread(data, length, offset)

        end, first_ns, last_ns, frames = header.data_bytes, header.first_ns, header.last_ns, header.frames
        found = bytearray(entries_before(entries, end))
        interfaces = [one for offset, _ in offsets_of(found, {0}) if (one := interface_of(block_at(read, offset)))]
        for offset, block in walk(read, end):
            end = offset + len(block)
            interface = interface_of(block)
            if interface is not None:
                interfaces.append(interface)
            frame = frame_of(block)
            number = 0 if interface else None
            if frame is not None and frame.interface < len(interfaces):
                number = number_of_frame(header.key, interfaces[frame.interface].link_type, frame.data, frame.wirelen)
                first_ns = min(first_ns or frame.ts_ns, frame.ts_ns)
                last_ns, frames = max(last_ns, frame.ts_ns), frames + 1
            if number is not None:
                found += ENTRY.pack(number, offset // 4)
        self.torn_bytes += max(0, os.fstat(data).st_size - end)
        os.ftruncate(data, end)
        repaired = header._replace(data_bytes=end, first_ns=first_ns, last_ns=last_ns, frames=frames, closed=True)
        return repaired, repaired.packed() + found
