"""Blocks of the ring's files as bytes: their frames, their interfaces, and where the last whole one ends."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from appliance.ring.pcapng import DATA_LINKS, ENHANCED_PACKET, INTERFACE, NAME, SECTION, STATISTICS

HEAD = 28  # bytes of a packet block in front of its frame
LEAST, LONGEST = 12, 1 << 24  # bytes of a block
OUR_KINDS = (SECTION, INTERFACE, STATISTICS, ENHANCED_PACKET)

Read = Callable[[int, int], bytes]  # offset, length: the bytes there, fewer at the end


class Interface(NamedTuple):
    """An interface of a file. link_type: a DLT_ value of libpcap."""

    link_type: int
    name: str


class Frame(NamedTuple):
    """A frame of a file. interface: its number in the file."""

    ts_ns: int
    interface: int
    wirelen: int
    data: bytes


def block_size(head: bytes) -> int:
    """Return the bytes of the block with this start; 0 if it is none that the ring has."""
    if len(head) < 8:
        return 0
    kind, size = struct.unpack_from("<II", head)
    return size if kind in OUR_KINDS and LEAST <= size <= LONGEST and size % 4 == 0 else 0


def block_at(read: Read, offset: int, ahead: int = 4096) -> bytes:
    """Return the whole block at an offset; b"" if there is none. ahead: bytes to read at once."""
    data = read(offset, ahead)
    size = block_size(data)
    if size > len(data):
        data += read(offset + len(data), size - len(data))
    if not size or len(data) < size or struct.unpack_from("<I", data, size - 4)[0] != size:
        return b""
    return data[:size]


def walk(read: Read, offset: int) -> Iterator[tuple[int, bytes]]:
    """Yield the whole blocks from an offset on, each with its own."""
    while block := block_at(read, offset):
        yield offset, block
        offset += len(block)


def frame_of(block: bytes) -> Frame | None:
    """Return the frame of a packet block; None of any other block."""
    if len(block) < HEAD + 4 or struct.unpack_from("<I", block)[0] != ENHANCED_PACKET:
        return None
    number, high, low, size, wirelen = struct.unpack_from("<5I", block, 8)
    if size > len(block) - HEAD - 4:
        return None
    return Frame(high << 32 | low, number, wirelen, block[HEAD : HEAD + size])


def interface_of(block: bytes) -> Interface | None:
    """Return the interface that a block describes; None of any other block."""
    if len(block) < 20 or struct.unpack_from("<I", block)[0] != INTERFACE:
        return None
    link_type = struct.unpack_from("<H", block, 8)[0]
    code, size = struct.unpack_from("<HH", block, 16)
    name = block[20 : 20 + size].decode(errors="replace") if code == NAME and size <= len(block) - 24 else ""
    return Interface(DATA_LINKS.get(link_type, link_type), name)
