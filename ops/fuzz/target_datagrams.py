"""QUIC on the whole data path: datagrams of both sides in frames, coalesced, in fragments, over the halves of a TAP.

Fragments alone change no event, and each datagram has one outcome.
"""

from __future__ import annotations

import struct

from builders import START_NS, config, timeless
from cases import Case, Item
from drive import Wired, through
from packets import datagram, fragments
from target_quic import WORDS, sealed, seeds_of
from targets import Target
from wire import link

HALVES = {"interfaces": ["a", "b"]}
CONFIGS = (
    config(),
    config(source=HALVES),
    config(quic={"max_initials_per_second": 9, "max_connections": 2, "timeout_s": 0.1, "max_early_datagrams": 3}),
    config(source=HALVES, quic={"max_initials_per_second": 40, "max_early_datagrams": 1, "max_crypto_pieces": 1}),
)


def seeds() -> list[Case]:
    return [
        Case([limits, version, place % 2, size], [((side, what, number, key, place % 2, 1000), data) for
             (side, what, number, key), data in scene])
        for limits in range(len(CONFIGS))
        for version in range(3)
        for size in (0, 64)
        for place, scene in enumerate(seeds_of())
    ]  # fmt: skip


def frames_of(case: Case, size: int) -> list[Wired]:
    """The frames of a case; size: bytes of a fragment, 0 for none."""
    now, out = START_NS, []
    kept = b""
    for place, ((side, what, number, key, joins, idle), data) in enumerate(case.items):
        item: Item = ((side, what, number, key), data)
        kept += sealed(item, case.knob(1, 3))
        if joins & 1 and place + 1 < len(case.items):  # the next packet comes in the same datagram
            continue
        now += idle * 1000
        ports = (50_000 + key % 4, 443)
        packet = datagram(ports[::-1] if side & 1 else ports, kept[:60_000], back=bool(side & 1))
        kept = b""
        pieces = fragments(packet, [size], place) if size and len(packet) > size + 28 else [packet]
        out += [(now, frame, len(frame)) for frame in (link(0x0800) + piece for piece in pieces)]
    return out


def run(case: Case) -> int:
    settings = CONFIGS[case.knob(0, len(CONFIGS))]
    size = 8 * case.knob(3, 200)
    frames = frames_of(case, size)
    outcome = through(frames, settings, exact=case.knob(2, 2) == 1)
    for event in outcome.events:
        tls = event["appliance"]["tls"]
        assert "ja4" not in tls or tls["client_hello"]["complete"], event
    if size > 0 and len(case.items) <= 16 and outcome.capture["fragments.held"] == 0:
        plain = through(frames_of(case, 0), settings, exact=False)
        if outcome.capture["reassembled"] == outcome.capture["offered.0"] == plain.capture["offered.0"]:
            assert timeless(plain.events) == timeless(outcome.events), "fragments alone give other events"
    return len(frames)


# side, what it is, packet number, which connection, whether the next one joins it, µs since the one before
TARGET = Target("datagrams", struct.Struct("<BBHBBI"), seeds, run, WORDS)
