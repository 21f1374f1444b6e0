"""The messages of a worker to the files process: pieces of bodies behind a header.

    header   record, its bytes   record, its bytes …

A body has a number, unique in one life of its worker. Its DATA records have its decoded bytes in their order, and the
place of the first of them. END has the size and the SHA-256 of the whole; ABANDON says that there will be no END.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from appliance.ipc.event_batch import BadMessage, Buffer

FILE_MAGIC = b"HCF1"
FILE_HEADER = struct.Struct("<4sB1xHQQ")  # magic, flags, worker, epoch, cumulative
FILE_RECORD = struct.Struct("<B3xIQQ")  # kind, bytes behind it, number of the body, place or size
FILE_BATCH_BYTES = 1 << 18
LAST = 1  # of the flags: nothing more comes from this worker
DATA, END, ABANDON = 1, 2, 3
DIGEST_BYTES = 32


class FileRecord(NamedTuple):
    """One record of a message; `data` is a view into the message."""

    kind: int
    number: int
    place: int
    data: memoryview


class FileMessage(NamedTuple):
    """A message from a worker; `cumulative` is the number of its END records before it, over all its lives."""

    worker: int
    epoch: int
    cumulative: int
    records: list[FileRecord]
    last: bool

    @property
    def ends(self) -> int:
        """Return the number of END records."""
        return sum(record.kind == END for record in self.records)


def unpack_files(data: Buffer) -> FileMessage:
    """Read a message. Raises BadMessage."""
    view = memoryview(data)
    if len(view) < FILE_HEADER.size:
        raise BadMessage(f"a message of files has at least {FILE_HEADER.size} bytes, not {len(view)}")
    magic, flags, worker, epoch, cumulative = FILE_HEADER.unpack_from(view)
    if magic != FILE_MAGIC:
        raise BadMessage("a message of files starts with HCF1")
    records, at = [], FILE_HEADER.size
    while at < len(view):
        if len(view) - at < FILE_RECORD.size:
            raise BadMessage("a message of files ends within a record")
        kind, length, number, place = FILE_RECORD.unpack_from(view, at)
        at += FILE_RECORD.size
        if length > len(view) - at or not DATA <= kind <= ABANDON or (kind == END and length != DIGEST_BYTES):
            raise BadMessage("a record of a message of files contradicts itself")
        records.append(FileRecord(kind, number, place, view[at : at + length]))
        at += length
    return FileMessage(worker, epoch, cumulative, records, bool(flags & LAST))


class FileBatchWriter:
    """A message of files being written into a buffer, which it does not own."""

    def __init__(self, buffer: memoryview, worker: int, epoch: int, cumulative: int) -> None:
        self.buffer = buffer
        self.ends = 0
        self.used = FILE_HEADER.size
        FILE_HEADER.pack_into(buffer, 0, FILE_MAGIC, 0, worker, epoch, cumulative)

    @property
    def empty(self) -> bool:
        """Return whether it has no record."""
        return self.used == FILE_HEADER.size

    def add_data(self, number: int, place: int, data: memoryview) -> int:
        """Add the first bytes of a piece, as many as fit; return how many."""
        count = min(len(data), len(self.buffer) - self.used - FILE_RECORD.size)
        if count <= 0:
            return 0
        self._add(DATA, number, place, data[:count])
        return count

    def add_end(self, number: int, size: int, digest: bytes) -> bool:
        """Add the end of a body; return whether it fits."""
        if len(self.buffer) - self.used < FILE_RECORD.size + DIGEST_BYTES:
            return False
        self._add(END, number, size, memoryview(digest))
        self.ends += 1
        return True

    def add_abandon(self, number: int) -> bool:
        """Add that a body has no end; return whether it fits."""
        if len(self.buffer) - self.used < FILE_RECORD.size:
            return False
        self._add(ABANDON, number, 0, memoryview(b""))
        return True

    def mark_last(self) -> None:
        """Mark the message as the last of its worker."""
        self.buffer[4] = LAST

    def _add(self, kind: int, number: int, place: int, data: memoryview) -> None:
        FILE_RECORD.pack_into(self.buffer, self.used, kind, len(data), number, place)
        self.used += FILE_RECORD.size
        self.buffer[self.used : self.used + len(data)] = data
        self.used += len(data)

    def message(self) -> memoryview:
        """Return the bytes of the message."""
        return self.buffer[: self.used]
