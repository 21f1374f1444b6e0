"""TLS over TCP, from its first byte or behind another protocol: the application with its detector, in hostile segments.

A split alone changes no event.
"""

from __future__ import annotations

import struct

from builders import MILLISECOND, Outcome, config, timeless
from cases import Case, Item
from drive import through
from target_http import AS_IT_IS, CUT, FORGED, LOST, OTHERWISE, TWICE, frames_of, lost
from target_tls import WORDS
from targets import Target
from tls_bytes import APPLICATION_DATA, HANDSHAKE, USUAL, client_hello, full_1_2, full_1_3, record, records

CONFIGS = (
    config(tls={"ja3": True}),
    config(tls={"max_hello_bytes": 256, "max_certificate_bytes": 1024, "max_values": 2, "max_name_bytes": 4}),
    config(tls={"max_total_bytes": 65536}, tcp={"max_connections": 16, "max_pending_segments": 4}),
)
BEFORE: tuple[list[tuple[int, bytes]], ...] = (
    [],
    [(1, b"220 a\r\n"), (0, b"EHLO b\r\n"), (1, b"250 STARTTLS\r\n"), (0, b"STARTTLS\r\n"), (1, b"220 go\r\n")],
    [(0, b"\5\1\0"), (1, b"\5\0"), (0, b"\5\1\0\1\1\1\1\1\1\xbb"), (1, b"\5\0\0\1\0\0\0\0\0\0")],
    [(0, b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"), (1, b"HTTP/1.1 200 OK\r\n\r\n")],
    [(0, b"\0\0\0\x08\x04\xd2\x16\x2f"), (1, b"S")],
)


def seeds() -> list[Case]:
    scenes = [
        full_1_2(b"0" * 300),
        full_1_3(),
        [(0, records(HANDSHAKE, client_hello(USUAL), 1)), *full_1_2()[1:]],
        [(0, record(HANDSHAKE, client_hello(USUAL))), (1, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")],
        [(0, record(APPLICATION_DATA, bytes(50))), (1, record(APPLICATION_DATA, bytes(50))), *full_1_3()],
    ]
    cases = []
    for place, scene in enumerate(scenes):
        for number, before in enumerate(BEFORE):
            items: list[Item] = [((side, AS_IT_IS, (0, 1, 7, 100)[number % 4], 0, 1000), said) for side, said in scene]
            begun: list[Item] = [((side, AS_IT_IS, 0, 0, 1000), said) for side, said in before]
            cases.append(Case([place % 3, 1, number % 2, place, place, place, 1], begun + items))
        for fate in (LOST, TWICE, CUT, OTHERWISE, FORGED):
            damaged: list[Item] = [((side, fate if n == place % 3 else AS_IT_IS, 60, 0, 1000), said)
                                   for n, (side, said) in enumerate(scene)]  # fmt: skip
            cases.append(Case([place % 3, fate % 3, 1, place, place, fate, 0], damaged))
    return cases


def sane(outcome: Outcome) -> None:
    """JA4 and JA3 need a whole hello, and no connection has more handshakes than hellos."""
    found = [event for event in outcome.events if event["event"]["dataset"] == "appliance.tls"]
    for event in found:
        hello = event["appliance"]["tls"].get("client_hello", {})
        assert "ja4" not in event["appliance"]["tls"] or hello.get("complete"), event
    assert len({event["event"]["id"] for event in found}) == len(found)


def run(case: Case) -> int:
    settings = CONFIGS[case.knob(0, len(CONFIGS))]
    frames = frames_of(case)
    outcome = through(frames, settings, exact=case.knob(2, 2) == 1, later_ns=case.knob(5, 3) * 500 * MILLISECOND)
    sane(outcome)
    if case.knob(6, 2) == 0 or case.knob(0, 3) == 2 or any(numbers[1] != AS_IT_IS for numbers, _ in case.items):
        return len(frames)
    whole = through(frames_of(case, split=False), settings)
    # TLS behind another protocol, or behind a gap, begins at the start of a piece.
    if case.knob(1, 3) == 1 and begins_with_tls(case) and not lost(outcome) and not lost(whole):
        assert uncounted(outcome) == uncounted(whole), "law 1: another split, other events"
    return 2 * len(frames)


def uncounted(outcome: Outcome) -> list[str]:
    """Return the events without times and `bytes`: a handshake is known within a segment, of which all bytes count."""
    for event in outcome.events:
        event["appliance"].get("tls", {}).pop("bytes", None)
    return timeless(outcome.events)


def begins_with_tls(case: Case) -> bool:
    """Return whether both sides begin with a record of a handshake, so that nothing is searched for."""
    first = {numbers[0] % 2: data for numbers, data in reversed(case.items)}
    return len(first) == 2 and all(data.startswith(b"\x16\x03") for data in first.values())


# direction, what happens to it, bytes in a segment (0: all), added to the acknowledgement, µs since the one before
TARGET = Target("tls_stream", struct.Struct("<BBBhI"), seeds, run, WORDS)
