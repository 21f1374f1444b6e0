"""pcapng read plainly: what appliance.pcap.pcapng_blocks has to give, block by block, with struct and nothing else."""

from __future__ import annotations

import struct
from dataclasses import dataclass

SECTION, INTERFACE, OLD, SIMPLE, ENHANCED = 0x0A0D0D0A, 1, 2, 3, 6
LONGEST, LONG = 16 << 20, 256 << 10
SECOND = 1_000_000_000


@dataclass
class Interface:
    """A section's description of one interface."""

    link_type: int
    snaplen: int
    resolution: int = 6
    offset_s: int = 0


class Odd(Exception):
    """A block is not as the format says."""


def read(data: bytes) -> tuple[list[tuple[bytes, int, int, int]], bool]:
    """Return (bytes, ns, wire length, link type) of each frame, and whether the file is whole and sound."""
    frames: list[tuple[bytes, int, int, int]] = []
    try:
        _read(data, frames)
    except (Odd, struct.error):
        return frames, False
    return frames, True


def _read(data: bytes, frames: list[tuple[bytes, int, int, int]]) -> None:
    at, order = 0, ""
    interfaces: list[Interface] = []
    while at < len(data):
        if data[at : at + 4] == b"\x0a\x0d\x0d\x0a":
            order = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}.get(data[at + 8 : at + 12], "")
        if not order:
            raise Odd
        kind, length = struct.unpack_from(f"{order}II", data, at)
        if length < 12 or length % 4 or at + 12 > len(data):
            raise Odd
        if kind not in (SECTION, INTERFACE, OLD, SIMPLE, ENHANCED) and length > LONG:
            at += length  # passed over, whatever its last length says
            if at > len(data):
                raise Odd
            continue
        if length > LONGEST or at + length > len(data):
            raise Odd
        body = data[at + 8 : at + length - 4]
        if struct.unpack_from(f"{order}I", data, at + length - 4)[0] != length:
            raise Odd
        if kind == SECTION:
            if struct.unpack_from(f"{order}HH", body, 4) not in ((1, 0), (1, 2)) or len(body) < 16:
                raise Odd
            interfaces = []
        elif kind == INTERFACE:
            interfaces.append(_interface(order, body))
        elif kind in (OLD, SIMPLE, ENHANCED):
            frames.append(_frame(order, kind, body, interfaces))
        at += length


def _interface(order: str, body: bytes) -> Interface:
    link_type, _, snaplen = struct.unpack_from(f"{order}HHI", body)
    made = Interface({101: 12}.get(link_type, link_type), snaplen)  # LINKTYPE_RAW is DLT_RAW on Linux
    at = 8
    while at + 4 <= len(body):
        code, size = struct.unpack_from(f"{order}HH", body, at)
        at += 4
        if code == 0:
            break
        if at + size > len(body):
            raise Odd
        if code == 9 and size:
            made.resolution = body[at]
            if made.resolution & 0x7F > (63 if made.resolution & 0x80 else 19):
                raise Odd
        elif code == 14 and size >= 8:
            made.offset_s = struct.unpack_from(f"{order}q", body, at)[0]
        at += (size + 3) & ~3
    return made


def _frame(order: str, kind: int, body: bytes, interfaces: list[Interface]) -> tuple[bytes, int, int, int]:
    number, high, low = 0, 0, 0
    if kind == SIMPLE:
        (wire,) = struct.unpack_from(f"{order}I", body)
        captured, data = min(wire, len(body) - 4), body[4:]
    else:
        form = "IIIII" if kind == ENHANCED else "HxxIIII"
        number, high, low, captured, wire = struct.unpack_from(order + form, body)
        data = body[20:]
    if number >= len(interfaces):
        raise Odd
    made = interfaces[number]
    if kind == SIMPLE and made.snaplen:
        captured = min(captured, made.snaplen)
    if captured > len(data):
        raise Odd
    ticks, digits = high << 32 | low, made.resolution & 0x7F
    if made.resolution & 0x80:
        seconds, part = ticks >> digits, ticks & ((1 << digits) - 1)
        ns = (part >> max(0, digits - 34)) * SECOND >> min(digits, 34)
    else:
        seconds, part = divmod(ticks, 10**digits)
        ns = part * SECOND // 10**digits
    seconds = (seconds + made.offset_s) & (1 << 64) - 1
    return data[:captured], _nanoseconds(seconds, ns), wire, made.link_type


def _nanoseconds(seconds: int, ns: int) -> int:
    """As the capture keeps a time: seconds that look negative are those of a file that counts 32 bits."""
    if seconds >> 63:
        seconds += 1 << 32
    return (seconds * SECOND + ns) & (1 << 64) - 1
