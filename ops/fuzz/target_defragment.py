"""Defragmenter: fragments with hostile offsets, lengths, ids and order. Through the Sharder they go in target shard.

Beside the sanitizers: every fragment ends in one outcome, the limits hold, and what comes out has the length it says.
"""

from __future__ import annotations

import struct

from builders import KEY, SECOND, START_NS
from cases import Case
from packets import WORDS, fragments, segment
from targets import Target

from appliance.wire.ip_reassembler import Defragmenter

DATAGRAMS = (16384, 1, 2, 7)
BYTES = (1 << 25, 1 << 17)


def seeds() -> list[Case]:
    out = []
    for flow in (0, 2):
        for size in (10, 700, 3000, 64_000):
            packet = segment(flow, False, 1, 1, 16, 5, 0, bytes(range(256)) * (size // 256 + 1), ethernet=False)
            for place, sizes in enumerate(([1480], [24, 512], [8] if size < 1000 else [4096])):
                pieces = [((1000, 0), each) for each in fragments(packet, sizes, size)]
                out.append(Case([place, 0, 0], pieces))
                out.append(Case([place, 1, 1], pieces[::-1]))
                out.append(Case([place, 0, 0], [each for piece in pieces for each in (piece, piece)]))
    return out


def run(case: Case) -> int:
    most, room = DATAGRAMS[case.knob(0, len(DATAGRAMS))], BYTES[case.knob(1, len(BYTES))]
    defragmenter = Defragmenter(KEY, most, room, (30 * SECOND, SECOND, 1)[case.knob(2, 3)])
    now = START_NS if case.knob(3, 2) == 0 else (1 << 64) - 10 * SECOND
    given = 0
    for (step, vlans), data in case.items:
        now = now + step & 0xFFFFFFFFFFFFFFFF
        try:
            whole = defragmenter.push(data, now, vlans & 0xFFF | 0x8000 if vlans else 0)
        except ValueError:
            continue
        given += 1
        assert defragmenter.datagrams_held <= most, defragmenter.datagrams_held
        assert defragmenter.bytes_held <= room, defragmenter.bytes_held
        if whole is not None:
            packet, _ = whole
            v6 = packet[0] >> 4 == 6
            assert len(packet) == struct.unpack_from(">H", packet, 4 if v6 else 2)[0] + 40 * v6, packet[:8]
    for _ in range(2):
        counts = defragmenter.counts()
        ended = sum(value for name, value in counts.items() if name.startswith("fragments."))
        assert ended == given, (given, counts)
        defragmenter.end()
    assert defragmenter.counts()["fragments.held"] == 0, defragmenter.counts()
    assert defragmenter.datagrams_held == defragmenter.bytes_held == 0
    return len(case.items)


# ns since the fragment before, VLAN id (0: none)
TARGET = Target("defragment", struct.Struct("<qH"), seeds, run, WORDS, unit="fragments")
