"""WebSocket behind an upgrade: damaged frames, lengths and masks, compressed messages, losses. A split alone changes no
event."""

from __future__ import annotations

import struct
import zlib

from builders import MILLISECOND, Outcome, config, timeless
from cases import Case, Item
from drive import through
from target_http import AS_IT_IS, CUT, LOST, TWICE, frames_of, lost
from targets import Target

UPGRADE = b"GET /ws?a=b HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
CONFIGS = (
    config(),
    config(websocket={"decode": True}, events={"interval_s": 1}),
    config(
        websocket={"decode": True, "max_url_bytes": 8},
        bodies={"max_decoded_bytes": 4096, "decode_reserve_ms": 1 << 30, "max_memory_bytes": 1 << 20},
    ),
)
PEERS = ("client", "server")

WORDS = [
    b"\x81\x00", b"\x82\x7e\x00\x80", b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00", b"\x82\xff" + b"\xff" * 8,
    b"\x82\x7f\x7f" + b"\xff" * 7, b"\x88\x00", b"\x88\x02\x03\xe8", b"\x88\x82\0\0\0\0\x03\xe8", b"\x89\x80\0\0\0\0",
    b"\x8a\x00", b"\xc1\x02\x03\x00", b"\xc2\x82\0\0\0\0\x03\0", b"\x01\x01a", b"\x00\x01b", b"\x80\x01c",
    b"\0\0\xff\xff", b"\x03\0" * 40, b"\xf3\x48\xcd\xc9\xc9\x07\0\0", b"\x0f\x05hello", b"\x89\x7e\x00\x7e",
]  # fmt: skip


def frame(first: int, payload: bytes, masked: bool) -> bytes:
    """A frame with the shortest form of its length; the mask is that of a client."""
    size = len(payload)
    marked = 0x80 if masked else 0
    length = bytes([marked | size]) if size < 126 else bytes([marked | 126]) + size.to_bytes(2, "big")
    if masked:
        payload = b"\x11\x22\x33\x44" + bytes(byte ^ (17, 34, 51, 68)[place % 4] for place, byte in enumerate(payload))
    return bytes([first]) + length + payload


def seeds() -> list[Case]:
    packer = zlib.compressobj(wbits=-15)
    packed = [(packer.compress(b"hello " * n) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4] for n in (1, 40, 4000)]
    scenes = []
    for masked in (True, False):
        plain = [frame(0x81, b"hello", masked), frame(0x82, bytes(300), masked), frame(0x89, b"p", masked)]
        parts = [frame(0x01, b"ab", masked), frame(0x8A, b"", masked), frame(0x80, b"c", masked)]
        ends = [frame(0x88, b"\x03\xe8", masked)]
        scenes += [plain + parts + ends, [frame(0xC2, one, masked) for one in packed] + ends]
    cases = []
    for place, scene in enumerate(scenes):
        for split in (0, 1, 7, 100):
            items: list[Item] = [((place >= 2, AS_IT_IS, split, 0, 1000), part) for part in scene]
            cases.append(Case([place % 3, 1, split % 2, place, place, place % 4, split == 7], items))
        for fate in (LOST, CUT, TWICE):
            items = [((place >= 2, fate if n == 1 else AS_IT_IS, 40, 0, 1000), part) for n, part in enumerate(scene)]
            cases.append(Case([place % 3, 1, 1, 0, place, fate, 0], items))
    return cases


def sane(outcome: Outcome) -> None:
    """Events say no more than the counters, and no side has more payload than bytes."""
    counts, found = outcome.counts, [event for event in outcome.events if "websocket" in event["appliance"]]
    last = [event["appliance"]["websocket"] for event in found if event["appliance"]["websocket"]["final"]]
    assert len(last) == counts["websockets.started"] == counts["websockets.ended"]
    payload = sum(each[peer]["bytes"] for each in last for peer in PEERS)
    missing = sum(each[peer]["missing_bytes"] for each in last for peer in PEERS)
    assert payload <= counts["websocket_bytes"] + missing, (last, counts)
    assert sum(each[peer]["messages"] for each in last for peer in PEERS) == counts["websocket_messages"], last
    assert len({event["event"]["id"] for event in found}) == len(found)


def run(case: Case) -> int:
    settings = CONFIGS[case.knob(0, len(CONFIGS))]
    switched = SWITCHED + (DEFLATE if case.knob(0, 6) < 3 else b"") + b"\r\n"
    begun: list[Item] = [((0, AS_IT_IS, 0, 0, 1000), UPGRADE), ((1, AS_IT_IS, 0, 0, 1000), switched)]
    case = Case(case.knobs, begun + case.items)
    frames = frames_of(case)
    outcome = through(frames, settings, exact=case.knob(2, 2) == 1, later_ns=case.knob(5, 3) * 500 * MILLISECOND)
    sane(outcome)
    if case.knob(6, 2) == 0 or any(numbers[1] != AS_IT_IS for numbers, _ in case.items):
        return len(frames)
    whole = through(frames_of(case, split=False), settings)
    sane(whole)
    interim = any(not event["appliance"].get("websocket", {}).get("final", True) for event in outcome.events)
    if not lost(outcome) and not lost(whole) and not interim:
        assert timeless(outcome.events) == timeless(whole.events), "law 1: another split, other events"
    return 2 * len(frames)


# direction, what happens to it, bytes in a segment (0: all), added to the acknowledgement, µs since the one before
TARGET = Target("websocket", struct.Struct("<BBBhI"), seeds, run, WORDS)
