"""The index beside a file of the ring, and the names of both.

    index = magic, key of the numbers, counts of the file, then an entry for each frame (frame_blocks.pyx)

The header is written last, after the blocks and their entries. So a killed recorder leaves a header that is true of the
file up to `data_bytes`; blocks behind that are read one by one.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

MAGIC = b"CAPRING1"
_HEADER = struct.Struct("<8s16s6Q")
HEADER_BYTES = _HEADER.size
ENTRY = struct.Struct("<II")  # number of a connection, offset of its block in units of four bytes
NAME = re.compile(r"frames-\d{8}T\d{6}Z-(\d{6,12})\.pcapng(?:\.sealed)?")
SEALED_SUFFIX = ".sealed"  # sealing.py
DATA, INDEX = 0, 1  # of what a chunk of a sealed file is
INDEX_SUFFIX = ".index"


class IndexHeader(NamedTuple):
    """The header of an index. closed: nothing more is written. left_out: frames that came and are not in the file."""

    key: bytes
    data_bytes: int = 0
    first_ns: int = 0
    last_ns: int = 0
    frames: int = 0
    left_out: int = 0
    closed: bool = False

    def packed(self) -> bytes:
        """Return the bytes of the header."""
        key, *numbers, closed = self
        return _HEADER.pack(MAGIC, key, *numbers, int(closed))


def unpacked(data: bytes) -> IndexHeader | None:
    """Return the header at the start of an index; None if it is none of this version."""
    if len(data) < HEADER_BYTES or data[: len(MAGIC)] != MAGIC:
        return None
    _, key, data_bytes, first_ns, last_ns, frames, left_out, closed = _HEADER.unpack_from(data)
    return IndexHeader(key, data_bytes, first_ns, last_ns, frames, left_out, closed == 1)


def number_in(name: str) -> int | None:
    """Return the number in the name of a file of the ring; None for any other name."""
    found = NAME.fullmatch(name)
    return int(found[1]) if found else None


def entries_before(entries: bytes, end: int) -> bytes:
    """Return the entries, in their order, of blocks that lie before `end` in the file."""
    low, high = 0, len(entries) // ENTRY.size
    while low < high:  # offsets only grow
        middle = (low + high) // 2
        if ENTRY.unpack_from(entries, middle * ENTRY.size)[1] * 4 < end:
            low = middle + 1
        else:
            high = middle
    return entries[: low * ENTRY.size]
