"""locate: any bytes as a frame of any link type; one item is one frame, so that a case is a few dozen calls."""

from __future__ import annotations

import struct

from cases import Case
from cover import Exact
from packets import WORDS, samples
from targets import Target

from appliance.wire.tcp_locator import LINK_TYPES, VERDICTS, find

LINKS = (*sorted(LINK_TYPES), 105)
QUIC, UDP = 0x20, 0x40  # bits beside the number of tunnels allowed: which datagrams are found, too


def seeds() -> list[Case]:
    out = []
    found = samples()
    for wanted in (0, QUIC, QUIC | UDP):
        for start in range(0, len(found), 32):
            some = found[start : start + 32]
            out.append(Case(items=[((LINKS.index(link), 4 | wanted, 0), frame) for link, frame in some]))
    return out


def run(case: Case) -> int:
    for (link, tunnels, longer), data in case.items:
        frame = Exact(data)
        verdict, net, tcp, length, vlans = find(
            LINKS[link % len(LINKS)],
            frame,
            len(data) + longer & 0xFFFFFFFF,
            (tunnels & 0x1F) % 17,
            quic=bool(tunnels & QUIC),
            udp=bool(tunnels & UDP),
        )
        if verdict in ("found", "datagram"):
            header = 20 if verdict == "found" else 8
            assert verdict == "found" or tunnels & (QUIC | UDP), verdict
            assert data[net] >> 4 in (4, 6), (net, data[net])
            assert net + (40 if data[net] >> 4 == 6 else 20) <= tcp <= 0xFFFF, (net, tcp)
            assert tcp + header <= len(data), (tcp, len(data))
            assert length >= header, length
            assert len(vlans) <= 3, vlans
        else:
            assert verdict in VERDICTS, verdict
    return len(case.items)


# link type, tunnels allowed with the bits of the datagrams wanted, bytes on the wire beyond those captured
TARGET = Target("locate", struct.Struct("<BBI"), seeds, run, WORDS)
