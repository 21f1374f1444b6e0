"""QUIC datagrams, damaged or with hostile frames under a good seal. Memory is given back, and limits hold."""

from __future__ import annotations

import json
import struct

from cases import Case, Item
from cover import Exact
from quic_packets import DRAFT_29, HANDSHAKE, V1, V2, ZERO_RTT, ack, crypto, initial, negotiation, other, retry
from targets import Target
from tls_bytes import USUAL, client_hello, server_hello_1_3, supported_versions

from workers.quic.context import QuicContext
from workers.quic.table import QuicTable
from workers.tls.context import TlsContext

(RAW, CLIENT_FRAMES, SERVER_FRAMES, RETRIED_FRAMES, BEHIND_ZERO_RTT) = range(5)  # what an item is
VERSIONS = (V1, V2, DRAFT_29)
ID, SERVER_ID = b"client's", b"server's"
LIMITS: tuple[dict[str, int], ...] = (
    {},
    {"max_crypto_bytes": 200, "max_crypto_pieces": 2, "max_connections": 2},
    {"max_initials_per_second": 3},
)
WORDS = [
    b"\6\0",
    b"\6\x40\x40",
    b"\2\0\0\0\0",
    b"\3\0\0\0\0\1\1\1",
    b"\x1c\x41\x28\0\0",
    b"\xff" * 8,
    b"\x7f\xff\xff\xff",
]


def seeds_of() -> list[list[Item]]:
    """Scenes of one connection each."""
    hello = client_hello([*USUAL, supported_versions(0x0304)])
    answer = ack() + crypto(0, server_hello_1_3())
    pieces = [crypto(at, hello[at : at + 40]) for at in range(0, len(hello), 40)]
    return [
        [((0, CLIENT_FRAMES, 0, 0), crypto(0, hello)), ((1, SERVER_FRAMES, 0, 0), answer)],
        [((0, CLIENT_FRAMES, number, 0), piece) for number, piece in enumerate(reversed(pieces))],
        [((0, CLIENT_FRAMES, 0, 0), b"".join(pieces[::2])), ((0, BEHIND_ZERO_RTT, 1, 0), b"".join(pieces[1::2]))],
        [
            ((0, CLIENT_FRAMES, 0, 0), crypto(0, hello)),
            ((1, RAW, 0, 0), retry(b"", SERVER_ID)),
            ((0, RETRIED_FRAMES, 1, 0), crypto(0, hello)),
        ],
        [((0, RAW, 0, 0), other(ZERO_RTT) + other(HANDSHAKE)), ((1, RAW, 0, 0), negotiation(b"", ID, V1, V2))],
        [((0, RAW, 0, 0), initial(crypto(0, hello), ID)), ((1, RAW, 0, 0), initial(answer, ID, server=True))],
        [((0, CLIENT_FRAMES, 0, 0), crypto(0, hello)), ((1, SERVER_FRAMES, 0, 0), b"\x1c\x41\x28\0\0")],
    ]


def seeds() -> list[Case]:
    return [
        Case([limit, version], list(scene))
        for limit in range(len(LIMITS))
        for version in range(len(VERSIONS))
        for scene in seeds_of()
    ]


def sealed(item: Item, number_of_version: int) -> bytes:
    """An item as a datagram: its bytes as they are, or as frames under a seal."""
    version = VERSIONS[number_of_version]
    (_, what, number, _), data = item
    what %= 5
    if what == RAW:
        return data[:65_000]
    frames = data[:60_000]
    if what == SERVER_FRAMES:
        return initial(frames, ID, number=number, server=True, version=version, target=b"", source=SERVER_ID)
    if what == RETRIED_FRAMES:
        return initial(frames, SERVER_ID, number=number, version=version, token=b"token")
    packet = initial(frames, ID, number=number, version=version)
    return other(ZERO_RTT, 50, ID, version=version) + packet if what == BEHIND_ZERO_RTT else packet


def run(case: Case) -> int:
    context = QuicContext(TlsContext(max_total_bytes=100_000), **LIMITS[case.knob(0, len(LIMITS))])
    table = QuicTable(context)
    version = case.knob(1, len(VERSIONS))
    events = []
    for place, item in enumerate(case.items):
        side, key = item[0][0] & 1, item[0][3] % 4
        said = table.feed(key, side, Exact(sealed(item, version)), place)
        if said == "known":
            events.append(table.connection)
        assert context.tls.buffered <= context.tls.max_total_bytes
        assert len(table) <= context.max_connections
    counts = context.counts()
    assert counts["initials"] <= max(context.max_initials_per_second, 1), counts
    ended = table.finish()
    assert context.tls.buffered == 0, "connections that ended hold memory"
    assert len(events) + len(ended) <= counts["connections"], "one connection, two events"
    for each in [*events, *ended]:
        json.dumps(each.facts())
    return len(case.items)


# side, what it is, packet number, which connection
TARGET = Target("quic", struct.Struct("<BBHB"), seeds, run, WORDS, unit="datagrams")
