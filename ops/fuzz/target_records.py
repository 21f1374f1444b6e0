"""SavefileReader: capture files with hostile lengths, cut anywhere, compared with libpcap on the same bytes."""

from __future__ import annotations

import struct
import tempfile

from capture_file_readers import by_libpcap, by_us
from cases import Case
from targets import Target

MAGICS = (0xA1B2C3D4, 0xA1B23C4D)
SNAPLENS = (262144, 0, 64, 65535, 0x7FFFFFFF, 0xFFFFFFFF)
LINKS = (1, 113, 189)
TRUE = 0  # of an item: the length in its head is that of its bytes


def seeds() -> list[Case]:
    sizes = [60, 1514, 0, 9014, 65535, 60, 262144]
    items = [((n, n * 1000, TRUE, size), bytes([n]) * size) for n, size in enumerate(sizes[:6])]
    out = [Case([magic, snaplen, 0, 0], list(items)) for magic in range(2) for snaplen in range(len(SNAPLENS))]
    return [*out, Case([0, 0, 0, 5], list(items)), Case([0, 0, 1, 0], [((1, 1, 200, 60), b"x" * 60), *items])]


def content(case: Case) -> bytes:
    """The file: knobs choose its head and how many bytes its end lacks."""
    head = struct.pack(
        "<IHHiIII",
        MAGICS[case.knob(0, len(MAGICS))],
        2,
        4,
        0,
        0,
        SNAPLENS[case.knob(1, len(SNAPLENS))],
        LINKS[case.knob(2, len(LINKS))],
    )
    parts = [head]
    for (seconds, fraction, captured, wire), data in case.items:
        parts += struct.pack("<IIII", seconds, fraction, captured or len(data), wire), data
    whole = b"".join(parts)
    return whole[: max(len(head), len(whole) - case.knob(3, 100))]


def run(case: Case) -> int:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content(case))
        file.flush()
        assert by_us(file.name) == by_libpcap(file.name), "not what libpcap reads"
    return len(case.items)


# seconds, fraction of a second, length in the record's head (0: the true one), length on the wire
TARGET = Target("records", struct.Struct("<IIII"), seeds, run, unit="records")
