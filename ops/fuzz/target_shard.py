"""Sharder: any frames into batches, and all that follows; tunnels and fragments among them."""

from __future__ import annotations

import struct

from builders import START_NS
from cases import Case
from drive import CONFIGS, through
from packets import WORDS, fragments, samples, segment
from targets import Target
from wire import ACK, FIN, PSH, SYN, link

from appliance.wire.tcp_locator import LINK_TYPES

SHED = ((0,), (255,), (254, 10, 128, 0))
LINKS = (1, *sorted(LINK_TYPES), 105)


def seeds() -> list[Case]:
    out = []
    found = samples()
    for kind in sorted({each for each, _ in found}):
        frames = [frame for each, frame in found if each == kind]
        for start in range(0, len(frames), 32):
            knobs = [LINKS.index(kind), 2, 1, 4, 1, 0]
            out.append(Case(knobs, [((1000, 0), frame) for frame in frames[start : start + 32]]))
    for flow in (0, 2):
        out.append(Case([0, 0, 1, 4, 1, 0], [((1000, 0), frame) for frame in fragmented(flow)]))
        turned = fragmented(flow)
        turned[1:-1] = turned[-2:0:-1]
        out.append(Case([0, 2, 1, 4, 1, 0], [((1000, 0), frame) for frame in turned]))
        out += [Case([0, 0, 1, 4, 1, 0, shed], [((1000, 0), frame) for frame in fragmented(flow)]) for shed in (1, 2)]
    return out


def fragmented(flow: int) -> list[bytes]:
    """A whole connection whose large packets come in fragments."""
    request = b"GET / HTTP/1.1\r\nX: " + b"a" * 900 + b"\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n"
    packets = [
        segment(flow, False, 99, 0, SYN, 5, 0, b"", ethernet=False),
        segment(flow, True, 499, 100, SYN | ACK, 5, 0, b"", ethernet=False),
        segment(flow, False, 100, 500, ACK | PSH, 5, 0, request, ethernet=False),
        segment(flow, True, 500, 1023, ACK, 5, 0, head + b"z" * 2000, ethernet=False),
        segment(flow, True, 500 + len(head) + 2000, 1023, FIN | ACK, 5, 0, b"", ethernet=False),
        segment(flow, False, 1023, 501 + len(head) + 2000, FIN | ACK, 5, 0, b"", ethernet=False),
    ]
    out = []
    for ident, packet in enumerate(packets):
        pieces = fragments(packet, [1480, 24, 512], ident) if len(packet) > 600 else [packet]
        out += [link(0x86DD if flow & 2 else 0x0800) + piece for piece in pieces]
    return out


def run(case: Case) -> int:
    now = START_NS if case.knob(5, 3) == 0 else 0
    frames = []
    for (step, longer), data in case.items:
        now = now + step & 0xFFFFFFFFFFFFFFFF
        frames.append((now, data, len(data) + longer & 0xFFFFFFFF))
    through(
        frames,
        CONFIGS[case.knob(4, len(CONFIGS))],
        link_type=LINKS[case.knob(0, len(LINKS))],
        workers=1 + case.knob(1, 4),
        batch_bytes=(4096, 5000, 1 << 16)[case.knob(2, 3)],
        max_tunnels=case.knob(3, 17),
        exact=case.knob(2, 2) == 1,
        shed=SHED[case.knob(6, len(SHED))],
    )
    return len(frames)


# ns since the frame before, bytes on the wire beyond those captured
TARGET = Target("shard", struct.Struct("<qI"), seeds, run, WORDS)
