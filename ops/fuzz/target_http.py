"""HTTP that is damaged, in hostile splits, losses and order. A split alone changes no event, and neither does which
port the client has."""

from __future__ import annotations

import gzip
import struct

from builders import MILLISECOND, START_NS, Outcome, get, post, timeless
from cases import Case, Item
from drive import CONFIGS, Wired, through
from exchange import Exchange, exchange
from packets import handshake, segment
from targets import Target
from wire import ACK, FIN, RST

(AS_IT_IS, LOST, TWICE, LATER, CUT, OTHERWISE, BEFORE, FORGED, NO_ACK, ENDS, RESETS, AGAIN) = range(12)
LONGEST = 60_000
GZIP = [("Content-Encoding", "gzip")]

WORDS = [
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\n\n", b" ", b"\t", b":", b",", b"0\r\n\r\n", b"\0", b"\xff", b"\xc2\x85",
    b"\xe2\x80\xa8", b"\\x41", b"\xf0\x9f\x98\x80", b"GET ", b"HEAD ", b"POST / HTTP/1.1\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n\r\n", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 101 \r\n\r\n", b"HTTP/1.1 204 \r\n\r\n", b"HTTP/1.1 304 \r\n",
    b"HTTP/1.1 999 \r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"Content-Length: ", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n", b"Connection: close\r\n",
    b"Connection: upgrade\r\nUpgrade: websocket\r\n", b"Host: a.example\r\n", b"Expect: 100-continue\r\n",
    b"User-Agent: x\r\n", b"Referer: http://b/\r\n", b"Content-Type: text/html\r\n", b"Cookie: a=b\r\n",
    b"http://user@[::1]:99999/p?q#f", b"18446744073709551615", b"9999999999999999999", b"-1", b"+1", b"1_0", b"0x10",
    b"Content-Encoding: gzip, br\r\n", b"Content-Encoding: zstd, deflate\r\n", b"HTTP/1.1 206 OK\r\n", b"?q=1&b=2",
    b"\x1f\x8b\x08\0\0\0\0\0\0\x03", b"\x78\x9c", b"\x28\xb5\x2f\xfd\x00\x88", b"\x50\x2a\x4d\x18", b"PK\3\4",
    b"ffffffffffffffff\r\n", b"7fffffffffffffff\r\n", b"1;x=y\r\n", b"\r\n folded", b"A" * 300,
]  # fmt: skip


def responses(count: int) -> bytes:
    """Some small responses in one go."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc" * count


def pieces(made: list[Exchange], split: int = 0) -> list[Item]:
    """Return the messages of client and server in some exchanges, one message an item."""
    out = []
    for one in made:
        for back, said in ((0, one.request), (1, one.interim), (0, one.held), (1, one.response)):
            if said:
                out.append(((back, AS_IT_IS, split, 0, 1000), said))
    return out


def seeds() -> list[Case]:
    rich = [
        ("User-Agent", "probe/1"),
        ("Referer", "http://a.example/"),
        ("Cookie", "a=b"),
        ("X-A", "1, 2"),
        ("x-a", "\xe9"),
    ]
    scenes = [
        [get(1), get(2, request_headers=rich), exchange("HEAD", "/h", body=b"x" * 9)],
        [post(1, 300, expect_continue=True), post(2, 99, upload_framing="chunked", chunk=30)],
        [get(1, body=b"z" * 500, framing="chunked", chunk=7, trailers=[("X-Sum", "1")]), get(2, status=304)],
        [get(3, hints=(103, 103))],
        [get(1), get(2, framing="close", response_headers=[("Content-Type", "text/html; charset=utf-8")])],
        [exchange("CONNECT", "a.example:443", framing="close", body=b"\x16\x03\x01\0")],
        [exchange("GET", "/ws", status=101, request_headers=[("Upgrade", "websocket")], framing="close")],
        [exchange("OPTIONS", "*", version="1.0"), exchange("BREW", "http://u@a.example:8080/p?q=1#f", host="")],
        [get(1, body=gzip.compress(b"z" * 9000, mtime=0), response_headers=GZIP, framing="chunked", chunk=9)],
        [get(2, body=gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0), response_headers=GZIP * 2)],
        [get(n) for n in range(6)],
    ]  # fmt: skip
    cases = []
    for place, scene in enumerate(scenes):
        for split in (0, 1, 7, 100):
            knobs = [
                place % len(CONFIGS),
                1 if place % 3 else 0,
                split % 2,
                place,
                place,
                place,
                (split == 7) + 2 * (split == 1),
            ]
            cases.append(Case(knobs, pieces(scene, split)))
        for fate in range(12):
            damaged = pieces(scene, 40)
            at = fate % len(damaged)
            damaged[at] = ((damaged[at][0][0], fate, *damaged[at][0][2:]), damaged[at][1])
            cases.append(Case([fate % 4, 1, 1, 0, place, fate, 0], damaged))
    turned = sorted(pieces(scenes[-1]), key=lambda item: item[0][0])
    cases.append(Case([0, 1, 1, 0, 0, 0, 1], turned))
    return cases


def frames_of(case: Case, split: bool = True, turn: bool = False) -> list[Wired]:
    """The frames of one connection in which both sides say their items, each in pieces of its `split` bytes.

    turn: the side that opened the connection answers, and the other one asks."""
    client, server = ((1_000_000, 2_000_000), (0xFFFFFFFF, 0xFFFFFF00), (0x7FFFFF00, 0))[case.knob(3, 3)]
    flow = case.knob(4, 16)
    now = START_NS
    out: list[Wired] = []
    held: list[bytes] = []

    def send(frame: bytes, keep: int = 1 << 18) -> None:
        out.append((now, frame[:keep], len(frame)))

    if case.knob(1, 3):
        for frame in handshake(flow, client, server)[: 1 if case.knob(1, 3) == 2 else 3]:
            send(frame)
    at = [client + 1, server + 1]
    for (back, fate, size, ack, idle), data in case.items:
        back = (back ^ turn) & 1
        now += idle * 1000
        step = max(size, len(data) // 400) if size and split else LONGEST
        for start in range(0, len(data), step):
            piece = data[start : start + step]
            flags = 0 if fate == NO_ACK else ACK
            known = at[1 - back] + (ack if fate == FORGED else 0)
            frame = segment(flow, bool(back), at[back], known, flags, 5, 0, piece)
            if fate == LATER:
                held.append(frame)
            elif fate == BEFORE:
                send(segment(flow, bool(back), at[back] + len(piece), known, flags, 5, 0, piece))
                send(frame)
            elif fate != LOST:
                send(frame, len(frame) - len(piece) // 2 if fate == CUT else 1 << 18)
            if fate == TWICE:
                send(frame)
            if fate == OTHERWISE:
                send(segment(flow, bool(back), at[back], known, flags, 5, 0, piece[::-1]))
            at[back] += len(piece)
        if fate != LATER:
            for frame in held:
                send(frame)
            held = []
        if fate in (ENDS, RESETS):
            send(segment(flow, bool(back), at[back], at[1 - back], ACK | (FIN if fate == ENDS else RST), 5, 0, b""))
            at[back] += fate == ENDS
        if fate == AGAIN:
            at = [at[0] + 100_000, at[1] + 100_000]
            for frame in handshake(flow, at[0] - 1, at[1] - 1):
                send(frame)
    for frame in held:
        send(frame)
    for back in ((), (0, 1), (1, 0), (0,))[case.knob(5, 4)]:
        send(segment(flow, bool(back), at[back], at[1 - back], FIN | ACK, 5, 0, b""))
        at[back] += 1
    return out


def run(case: Case) -> int:
    config = CONFIGS[case.knob(0, len(CONFIGS))]
    frames = frames_of(case)
    outcome = through(frames, config, exact=case.knob(2, 2) == 1, later_ns=case.knob(5, 3) * 500 * MILLISECOND)
    if (
        case.knob(6, 3) == 0
        or case.knob(0, len(CONFIGS)) != 0
        or any(numbers[1] != AS_IT_IS for numbers, _ in case.items)
    ):
        return len(frames)
    if case.knob(6, 3) == 2:
        turned = through(frames_of(case, turn=True), config, later_ns=case.knob(5, 3) * 500 * MILLISECOND)
        if case.knob(1, 3) == 1 and case.knob(5, 4) in (0, 3):
            assert nowhere(outcome) == nowhere(turned), "another port, other events"
        return 2 * len(frames)
    whole = through(frames_of(case, split=False), config)
    # After a gap, and after many bytes that are no HTTP, the start of a segment counts for something.
    if not lost(outcome) and not lost(whole):
        assert timeless(outcome.events) == timeless(whole.events), "law 1: another split, other events"
    return 2 * len(frames)


def nowhere(outcome: Outcome) -> list[str]:
    """Its events without their addresses."""
    for event in outcome.events:
        del event["source"], event["destination"]
    return timeless(outcome.events)


def lost(outcome: Outcome) -> bool:
    return bool(outcome.counts["gaps"] or outcome.counts["not_http_bytes"] > 60_000)


# direction, what happens to it, bytes in a segment (0: all), added to the acknowledgement, µs since the one before
TARGET = Target("http", struct.Struct("<BBBhI"), seeds, run, WORDS)
