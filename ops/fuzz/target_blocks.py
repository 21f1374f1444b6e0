"""PcapngReader: pcapng captures with hostile blocks, cut anywhere. A plain reading of the format is the model."""

from __future__ import annotations

import struct
import tempfile

from cases import Case
from models import pcapng
from targets import Target

from appliance import NotACapture, PcapError
from appliance.pcap.opening import open_offline

KINDS = (pcapng.ENHANCED, pcapng.SIMPLE, pcapng.OLD, pcapng.INTERFACE, pcapng.SECTION, 5, 0xBAD)
ORDERS = "<>"
TRUE = 0  # of an item: the length in its head is that of its bytes


def body(order: str, kind: int, interface: int, captured: int, data: bytes) -> bytes:
    """Return the fields that a block of a kind begins with, and the data."""
    size = captured or len(data)
    if kind == pcapng.SECTION:
        return struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, interface & 2, -1)
    if kind == pcapng.INTERFACE:
        return struct.pack(f"{order}HHI", (1, 101, 113, 999)[interface & 3], 0, captured) + data
    if kind == pcapng.ENHANCED:
        return struct.pack(f"{order}IIIII", interface & 3, captured, size, size, size) + data
    if kind == pcapng.SIMPLE:
        return struct.pack(f"{order}I", size) + data
    if kind == pcapng.OLD:
        return struct.pack(f"{order}HHIIII", interface & 3, 0, captured, size, size, size) + data
    return data


def content(case: Case) -> bytes:
    """The file: the first knob is the byte order of the first section, the second how many bytes the end lacks."""
    order = ORDERS[case.knob(0, 2)]
    parts = []
    for (kind, interface, captured, length), data in [((4, 0, 0, 0), b""), ((3, 0, 0, 0), b""), *case.items]:
        name = KINDS[kind % len(KINDS)]
        if name == pcapng.SECTION:
            order = ORDERS[(case.knob(0, 2) + interface) % 2]
        made = body(order, name, interface, captured, data)
        made += bytes(-len(made) % 4)
        said = length or 12 + len(made)
        parts.append(struct.pack(f"{order}II", name, said) + made + struct.pack(f"{order}I", said))
    whole = b"".join(parts)
    return whole[: max(0, len(whole) - case.knob(1, 100))]


def seeds() -> list[Case]:
    clock = struct.pack("<HHB3xHH", 9, 1, 9, 0, 0)
    items = [((kind, kind & 1, TRUE, TRUE), bytes([kind]) * 60) for kind in (0, 1, 2, 5, 6)]
    mixed = [*items, ((3, 1, TRUE, TRUE), clock), ((0, 1, TRUE, TRUE), b"x" * 20), ((4, 1, 0, 0), b""), *items]
    return [Case([0, 0], items), Case([1, 0], items), Case([0, 7], mixed), Case([1, 0], mixed)]


def run(case: Case) -> int:
    whole = content(case)
    frames, sound = pcapng.read(whole)
    found, ended = [], True
    with tempfile.NamedTemporaryFile() as file:
        file.write(whole)
        file.flush()
        try:
            with open_offline(file.name) as handle:
                for packet in handle.packets():
                    about = packet.metadata
                    found.append((packet.data, about.ts_ns, about.wirelen, packet.link_type))
        except NotACapture:
            assert not frames, "not read, though it has frames"
            return 0
        except PcapError:
            ended = False
    assert (found, ended) == (frames, sound), "not what the format says"
    return len(case.items)


# kind of block, interface, captured length or time (0: the true one), length of the block (0: the true one)
TARGET = Target("blocks", struct.Struct("<IIII"), seeds, run, unit="blocks")
