"""Segments that no honest stack sends, and frames that only let time pass: for the tests of the TCP engine."""

from __future__ import annotations

import random

from builders import START_NS, Conversation, Frame
from conversation import Endpoint
from wire import ACK, MASK, SYN, Wire


def put(
    said: Conversation,
    side: Endpoint,
    seq: int,
    flags: int = ACK,
    payload: bytes = b"",
    *,
    ack: int | None = None,
    options: bytes = b"",
) -> Conversation:
    """A segment with any number, at the current time, outside the bookkeeping; it acknowledges all unless told."""
    peer = said.server if side is said.client else said.client
    number = (peer.next if ack is None else ack) & MASK if flags & ACK else 0
    said.frames.append((said.now, side.wire.frame(seq & MASK, number, flags, payload, options=options)))
    return said.idle(12_000)


def moved(side: Endpoint, size: int) -> None:
    """The side has sent so many bytes of its stream, whoever wrote the frames."""
    side.next = side.at(size)


def tick(ts_ns: int, port: int = 9) -> list[Frame]:
    """A frame of somebody else that moves the clock."""
    return [(ts_ns, Wire("192.0.2.99", "198.51.100.99", (port, 80)).frame(1, 0, SYN))]


def after(said: Conversation, ns: int) -> list[Frame]:
    """The frames, and the clock so much later."""
    return said.frames + tick(said.now + ns)


def of_side(said: Conversation, side: Endpoint) -> list[Frame]:
    """What one side has sent."""
    mine = b"\x02\x00\x00\x00\x00\x01" if side is said.client else b"\x02\x00\x00\x00\x00\x02"
    return [(ts_ns, frame) for ts_ns, frame in said.frames if frame[6:12] == mine]


def anomalies(event: dict) -> list[str]:
    """The names of an event's anomalies."""
    return event["appliance"].get("anomalies", [])


def flood(count, flags, *, spacing_ns=10_000, payload=b"", seed=9):
    """Segments of as many addresses and ports as there are segments."""
    chosen = random.Random(seed)
    out = []
    for number in range(count):
        source = f"10.{chosen.randrange(256)}.{chosen.randrange(256)}.{chosen.randrange(1, 255)}"
        wire = Wire(source, "198.51.100.20", (chosen.randrange(1024, 65536), 80))
        frame = wire.frame(chosen.randrange(1 << 32), chosen.randrange(1 << 32) if flags & ACK else 0, flags, payload)
        out.append((START_NS + number * spacing_ns, frame))
    return out
