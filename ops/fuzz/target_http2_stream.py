"""HTTP/2 over TCP: its application with detection, joins in the middle and losses. A split alone changes no event."""

from __future__ import annotations

import struct

from builders import MILLISECOND, config, timeless
from cases import Case, Item
from drive import through
from target_http import AS_IT_IS, CUT, FORGED, LATER, LOST, TWICE, frames_of, lost
from target_http2 import PREFACE, REQUEST, RESPONSE
from targets import Target

CONFIGS = (
    config(),
    config(http={"headers": ["all"], "max_streams": 2, "max_head_bytes": 1024}, bodies={"hashes": ["sha256"]}),
    config(
        http={
            "max_total_head_bytes": 4096,
            "max_streams_bytes": 2048,
            "max_total_waiting_bytes": 8192,
            "max_total_table_bytes": 4096,
            "max_join_bytes": 64,
        }
    ),
)
UPGRADE = (
    b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAEAAEAA\r\n\r\n"
)
SWITCHED = b"HTTP/1.1 101 \r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
HEADERS, DATA, SETTINGS, PING, CONTINUATION, PUSH_PROMISE, RST_STREAM = 1, 0, 4, 6, 9, 5, 3


def frame(kind: int, flags: int, stream: int, data: bytes = b"") -> bytes:
    return len(data).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + data


def calls(count: int) -> list[tuple[int, bytes]]:
    """Some gRPC calls, a turn each."""
    out = []
    for stream in range(1, 2 * count, 2):
        out.append((0, frame(HEADERS, 4, stream, REQUEST) + frame(DATA, 1, stream, b"\0\0\0\0\1x")))
        out.append(
            (
                1,
                frame(HEADERS, 4, stream, RESPONSE)
                + frame(DATA, 0, stream, bytes(300))
                + frame(HEADERS, 5, stream, b"\x88"),
            )
        )
    return out


def seeds() -> list[Case]:
    opening = [(0, PREFACE + frame(SETTINGS, 0, 0)), (1, frame(SETTINGS, 0, 0) + frame(SETTINGS, 1, 0))]
    split = [
        (0, frame(HEADERS, 1, 9, REQUEST[:4]) + frame(CONTINUATION, 0, 9) + frame(CONTINUATION, 4, 9, REQUEST[4:]))
    ]
    odd = [
        (1, frame(PUSH_PROMISE, 4, 1, b"\0\0\0\2" + REQUEST)),
        (0, frame(RST_STREAM, 0, 1, b"\0\0\0\x08") + frame(PING, 0, 0, bytes(8))),
        (0, frame(HEADERS, 0x2D, 11, b"\3\0\0\0\0\xff" + REQUEST + b"\0\0\0")),
    ]
    upgraded = [(0, UPGRADE), (1, SWITCHED), *opening, *calls(3)]
    refused = [*opening[:1], (1, b"HTTP/1.1 400 \r\n\r\n")]
    scenes = [opening + calls(4), calls(8), opening + split + odd + calls(3), upgraded, refused]
    cases = []
    for place, scene in enumerate(scenes):
        for number, split_size in enumerate((0, 1, 7, 100)):
            for begun in (0, 1):
                items: list[Item] = [((side, AS_IT_IS, split_size, 0, 1000), said) for side, said in scene]
                cases.append(Case([number % 3, begun, number % 2, place, place, place, 1], items))
        for fate in (LOST, TWICE, CUT, LATER, FORGED):
            damaged: list[Item] = [((side, fate if n == 3 else AS_IT_IS, 40, 0, 1000), said)
                                   for n, (side, said) in enumerate(scene)]  # fmt: skip
            cases.append(Case([fate % 3, place % 2, 1, place, place, fate, 0], damaged))
    return cases


# The first bytes of a server that sends no SETTINGS are judged by what their piece shows of them, too.
SEARCHES = ("http2_losses", "http2_joined", "skipped_bytes", "not_http_bytes.other", "not_http_streams.http2")


def run(case: Case) -> int:
    settings = CONFIGS[case.knob(0, len(CONFIGS))]
    frames = frames_of(case)
    outcome = through(frames, settings, exact=case.knob(2, 2) == 1, later_ns=case.knob(5, 3) * 500 * MILLISECOND)
    if case.knob(6, 2) == 0 or case.knob(0, 3) == 2 or any(numbers[1] != AS_IT_IS for numbers, _ in case.items):
        return len(frames)
    whole = through(frames_of(case, split=False), settings)
    searched = any(each.counts[name] for each in (outcome, whole) for name in SEARCHES)
    # A connection is joined, and a side that has lost its place resumes, at the start of a piece.
    if case.knob(1, 3) == 1 and not searched and not lost(outcome) and not lost(whole):
        assert timeless(outcome.events) == timeless(whole.events), "law 1: another split, other events"
    return 2 * len(frames)


# direction, what happens to it, bytes in a segment (0: all), added to the acknowledgement, µs since the one before
TARGET = Target(
    "http2_stream",
    struct.Struct("<BBBhI"),
    seeds,
    run,
    [
        PREFACE,
        REQUEST,
        RESPONSE,
        b"\x3f\xe1\x7f",
        b"\xbe",
        b"\xff\xff\xff\xff\x0f",
        b"\0\0\0\4\0\0\0\0\0",
        UPGRADE,
        SWITCHED,
    ],
)
