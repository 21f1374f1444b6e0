"""HTTP/2 with hostile frames and header blocks, gaps and joins: bounded, and the same however the bytes are split."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from cases import Case, Item
from targets import Target

from workers.http2.detection import speaker
from workers.http2.driver import Http2Driver

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
RAW, FRAME, GAP = range(3)
LENGTH_TRUE = 0  # of an item: the length in the frame's header is that of its bytes
MAX_HEAD = 4096
MAX_HELD = 16384
MAX_STREAMS = 8
MEMORY = 1 << 19  # of two directions: tables of 64 KiB with their entries, a block, and what is searched

REQUEST = bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff")
RESPONSE = bytes.fromhex("4803333032580770726976617465")
HEADERS, DATA, SETTINGS, CONTINUATION, PUSH_PROMISE, RST_STREAM = 1, 0, 4, 9, 5, 3


def item(side: int, kind: int, flags: int, stream: int, data: bytes = b"") -> Item:
    return (side, FRAME, kind, flags, stream, LENGTH_TRUE), data


def seeds() -> list[Case]:
    opening = [
        ((0, RAW, 0, 0, 0, 0), PREFACE),
        item(0, SETTINGS, 0, 0),
        item(1, SETTINGS, 0, 0),
        item(0, SETTINGS, 1, 0),
    ]
    calls = []
    for stream in (1, 3, 5, 7):
        calls += [item(0, HEADERS, 4, stream, REQUEST), item(0, DATA, 1, stream, b"\0\0\0\0\1x")]
        calls += [item(1, HEADERS, 4, stream, RESPONSE + b"\xbf\xbe"), item(1, DATA, 9, stream, b"\2ab\0\0")]
    split = [item(0, HEADERS, 1, 9, REQUEST[:4]), item(0, CONTINUATION, 0, 9), item(0, CONTINUATION, 4, 9, REQUEST[4:])]
    odd = [
        item(1, PUSH_PROMISE, 4, 1, b"\0\0\0\2" + REQUEST), item(0, RST_STREAM, 0, 1, b"\0\0\0\x08"),
        item(0, HEADERS, 0x2D, 11, b"\3\0\0\0\0\xff" + REQUEST + b"\0\0\0"), item(0, SETTINGS, 0, 0, b"\0\1\0\0\x40\0"),
        item(1, HEADERS, 4, 11, b"\x3f\xe1\x7f\x88"),
    ]  # fmt: skip
    lost = [*calls[:6], ((0, GAP, 0, 0, 30, 0), b""), *calls[6:], ((1, GAP, 0, 0, 3, 0), b""), *calls]
    cases = []
    for joined in range(4):
        for items in (opening + calls, opening + split + odd + calls, opening + lost, calls * 4):
            cases.append(Case([joined, len(items)], list(items)))
    return cases


def pieces(case: Case) -> Iterator[tuple[int, bytes | int]]:
    """(side, bytes or the length of a gap) of a case."""
    for (side, how, kind, flags, stream, length), data in case.items:
        if how % 3 == GAP:
            yield side & 1, stream % 20000
        elif how % 3 == RAW:
            yield side & 1, data
        else:
            size = (length or len(data)) & 0xFFFFFF
            yield side & 1, size.to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + data


def told(case: Case, split: int) -> tuple[list[object], dict[str, int]]:
    """Return the exchanges of a connection that reads the case in pieces of `split` bytes; 0: as the items are."""
    joined = case.knob(0, 4)
    connection = Http2Driver(
        bool(joined & 1), bool(joined & 2), stream_limit=MAX_STREAMS, block_limit=MAX_HEAD, held_limit=MAX_HELD
    )
    for side, what in pieces(case):
        if isinstance(what, int):
            connection.gap(side, what)
        else:
            for at in range(0, len(what), split or len(what) or 1):
                connection.data(side, what[at : at + (split or len(what))])
        counts = connection.counts()
        assert counts["memory"] <= MEMORY, counts
        assert counts["held_bytes"] <= MAX_HELD + 4 * MAX_HEAD * 33 // 4, counts
        assert counts["open"] <= MAX_STREAMS, counts
    for side in (0, 1):
        connection.close(side)
    connection.end()
    counts = connection.counts()
    assert counts["open"] == counts["held_bytes"] == 0, counts
    made = connection.take()
    assert len(made) == counts["opened"], "an exchange that was begun is in no event, or in two"
    return [
        (each.stream, [section and section.items() for section in each.sections], each.half(0), each.half(1),
         each.reset, each.interim, each.marks)
        for each in made
    ], counts  # fmt: skip


def run(case: Case) -> int:
    whole = told(case, 0)
    for split in (1 + case.knob(1, 40),):
        again = told(case, split)
        assert again[0] == whole[0], "another split of the same bytes reads otherwise"
    speaker(b"".join(what for _, what in pieces(case) if isinstance(what, bytes)))
    return len(case.items)


# side, raw bytes, a frame or a gap, type, flags, stream id or length of the gap, length in the header (0: the true one)
TARGET = Target(
    "http2",
    struct.Struct("<BBBBII"),
    seeds,
    run,
    [
        PREFACE,
        REQUEST,
        RESPONSE,
        b"\x3f\xe1\x7f",
        b"\x20",
        b"\xbe",
        b"\x40\1a\1b",
        b"\xff\xff\xff\xff\x0f",
        b"\x7f\x80\x01",
    ],
)
