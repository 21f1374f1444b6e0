"""The same frames in other file formats."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

NANO, MICRO = 0xA1B23C4D, 0xA1B2C3D4
Record = tuple[int, int, bytes]  # ns, length on the wire, what was captured


def records(path: Path) -> Iterator[Record]:
    """The frames of a little-endian pcap file with nanoseconds, as the traffic builder writes it."""
    data = path.read_bytes()
    assert struct.unpack_from("<I", data)[0] == NANO
    at = 24
    while at < len(data):
        seconds, nanos, kept, wire = struct.unpack_from("<IIII", data, at)
        at += 16
        yield seconds * 1_000_000_000 + nanos, wire, data[at : at + kept]
        at += kept


def write_pcap(path: Path, source: Path, *, order: str, magic: int) -> None:
    """pcap of this byte order ("<" or ">") and resolution."""
    unit = 1 if magic == NANO else 1000
    parts = [struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 262144, 1)]
    for ns, wire, frame in records(source):
        seconds, rest = divmod(ns, 1_000_000_000)
        parts += [struct.pack(f"{order}IIII", seconds, rest // unit, len(frame), wire), frame]
    path.write_bytes(b"".join(parts))


def _block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = 12 + len(body)
    return struct.pack(f"{order}II", kind, length) + body + struct.pack(f"{order}I", length)


def write_pcapng(path: Path, source: Path, *, order: str) -> None:
    """pcapng of one section and one Ethernet interface whose clock counts nanoseconds."""
    section = _block(order, 0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))
    resolution = struct.pack(f"{order}HHB3xHH", 9, 1, 9, 0, 0)
    parts = [section, _block(order, 1, struct.pack(f"{order}HHI", 1, 0, 262144) + resolution)]
    for ns, wire, frame in records(source):
        head = struct.pack(f"{order}IIIII", 0, ns >> 32, ns & 0xFFFFFFFF, len(frame), wire)
        parts.append(_block(order, 6, head + frame))
    path.write_bytes(b"".join(parts))
