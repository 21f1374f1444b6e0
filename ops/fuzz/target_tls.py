"""TLS of both sides in hostile records, splits and losses. Another split of the same bytes gives the same facts."""

from __future__ import annotations

import json
import struct
from typing import Any

from cases import Case, Item
from cover import Exact
from targets import Target
from tls_bytes import (
    ALERT,
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    HANDSHAKE,
    RETRY_RANDOM,
    USUAL,
    certificate,
    client_hello,
    full_1_2,
    full_1_3,
    key_exchange,
    message,
    records,
    server_hello,
    server_hello_1_3,
    supported_versions,
)

from workers.tls.certificate import Certificates
from workers.tls.context import TlsContext
from workers.tls.handshake import Handshake
from workers.tls.handshake_json import handshake_json

(RAW, RECORDS, MESSAGE, LOSS, CHANGE, WARNING, ENCRYPTED) = range(7)  # what an item is
LIMITS: tuple[dict[str, Any], ...] = (
    {},
    {"ja3": True},
    {"max_hello_bytes": 100, "max_certificate_bytes": 100, "max_values": 2, "max_name_bytes": 4, "ja3": True},
    {"max_total_bytes": 200},
)
LONGEST = 16_384
WORDS = [
    b"\x16\3\1", b"\x14\3\3\0\1\1", b"\x15\3\3\0\2\2\x28", b"\x17\3\3", b"\1\0\0", b"\2\0\0", b"\x0b\0\0", b"\x0c\0\0",
    b"\0\0\0\7\0\5\0\0\2ab", b"\0\x10\0\5\0\3\2h2", b"\0\x2b\0\3\2\3\4", b"\0\x2b\0\2\3\4", b"\0\x33\0\x24\0\x1d\0\x20",
    b"\0\x29\0\2\0\0", b"\0\x0d\0\4\0\2\4\3", b"\0\x0a\0\4\0\2\0\x1d", b"\0\x0b\0\2\1\0", b"\x0a\x0a\0\0",
    b"\xfe\x0d\0\1\0", b"\0\x23\0\0", b"\0\x2a\0\0", RETRY_RANDOM, b"\xff\xff", b"\0\0\0", b"\3\0\x17", b"\x7f\x17",
    b"\xba\xad",
]  # fmt: skip


def seeds() -> list[Case]:
    retry = server_hello([(43, b"\3\4"), (51, b"\0\x17")], cipher=0x1302, random=RETRY_RANDOM)
    scenes: list[list[tuple[int, bytes]]] = [
        full_1_2(b"0" * 300),
        full_1_3(),
        [(0, records(HANDSHAKE, client_hello(USUAL), 1)), *full_1_2()[1:]],
        [(0, b"\x16\3\1\0\1\1"), (0, b"GET / HTTP/1.1\r\n\r\n")],
    ]
    cases = [
        Case([limit, step], [((side, RAW, 0, 0), data) for side, data in scene])
        for limit in range(len(LIMITS))
        for step, scene in enumerate(scenes)
    ]
    extensions = [*USUAL, supported_versions(0x0304), (41, b"x"), (42, b""), (0xFE0D, b"y"), (35, b"z"), (0x1A1A, b"")]
    bodies: list[Item] = [
        ((0, MESSAGE, 1, 0), client_hello(extensions)[4:]),
        ((1, MESSAGE, 2, 50), server_hello_1_3()[4:]),
        ((0, CHANGE, 0, 0), b""),
        ((0, ENCRYPTED, 0, 0), bytes(60)),
        ((1, ENCRYPTED, 0, 0), bytes(60)),
    ]
    older: list[Item] = [
        ((0, MESSAGE, 1, 0), client_hello(USUAL)[4:]),
        ((1, MESSAGE, 2, 9), server_hello([])[4:]),
        ((1, MESSAGE, 11, 70), certificate(b"1" * 90, b"2" * 50)[4:]),
        ((1, MESSAGE, 12, 3), key_exchange()[4:]),
        ((1, LOSS, 0, 20), b""),
        ((1, RECORDS, 0, 5), message(14, b"")),
        ((1, WARNING, 0, 0), b"\1\x70"),
    ]
    again: list[Item] = [((0, MESSAGE, 1, 0), client_hello(extensions)[4:]), ((1, MESSAGE, 2, 0), retry[4:]), *bodies]
    for items in (bodies, older, again):
        cases += [Case([limit, 3], list(items)) for limit in range(len(LIMITS))]
        for place in range(len(items)):
            cases.append(Case([0, 2], [*items[:place], ((place % 2, LOSS, 0, 30), b""), *items[place + 1 :]]))
    return cases


def said(item: Item) -> bytes | int:
    """The bytes of an item, or how many are lost."""
    (_, what, kind, size), data = item
    what %= 7
    size = min(size or LONGEST, LONGEST)
    if what == LOSS:
        return size
    if what == RECORDS:
        return records(HANDSHAKE, data, max(size, len(data) // 200 + 1))
    if what == MESSAGE:
        return records(HANDSHAKE, message(kind, data), max(size, len(data) // 200 + 1))
    if what == CHANGE:
        return records(CHANGE_CIPHER_SPEC, b"\1", 1)
    if what == WARNING:
        return records(ALERT, data, LONGEST)
    if what == ENCRYPTED:
        return records(APPLICATION_DATA, data, LONGEST)
    return data


def facts(case: Case, step: int) -> str:
    """The facts of a case as text, each item fed in pieces of `step` bytes; 0: as it is."""
    limits = LIMITS[case.knob(0, len(LIMITS))]
    context = TlsContext(certificates=Certificates(max_values=2, max_name_bytes=40), **limits)
    handshake = Handshake(context)
    for place, item in enumerate(case.items):
        side, data = item[0][0] & 1, said(item)
        if isinstance(data, int):
            handshake.lose(side, data, place)
            continue
        for at in range(0, len(data), step or len(data) or 1):
            handshake.feed(side, Exact(data[at : at + (step or len(data))]), place)
        assert context.buffered <= context.max_total_bytes
    seen = handshake.finish()
    assert context.buffered == 0, "a finished handshake holds memory"
    made = handshake.facts()
    assert json.loads(handshake_json(handshake)) == made, "the JSON is not the facts"
    assert seen or set(made["appliance"]["tls"]) <= {"alert", "bytes"}, made
    bytes_of = made["appliance"]["tls"].pop("bytes", {})
    assert all(count >= 0 for count in bytes_of.values())
    return json.dumps(made)


def run(case: Case) -> int:
    whole = facts(case, 0)
    lossless = all(item[0][1] % 7 != LOSS for item in case.items)
    # A reader that lost its place looks for the start of a record at the start of a piece.
    if lossless and case.knob(0, len(LIMITS)) != 3:
        assert facts(case, (1, 2, 7, 100)[case.knob(1, 4)]) == whole, "another split, other facts"
    return len(case.items)


# side, what it is, type of the message, bytes in a record or bytes lost (0: as many as there are)
TARGET = Target("tls", struct.Struct("<BBBH"), seeds, run, WORDS, unit="pieces")
