"""Segments that no honest stack sends, and frames that only let time pass: for the tests of the TCP engine."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Any

from builders import START_NS, Conversation, Frame
from conversation import Endpoint
from wire import ACK, MASK, SYN, Wire, fold, ones


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
    """Return the frames that one side has sent."""
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


def _stamps(value: int, echo: int) -> bytes:
    """The time stamp option as nearly every host sends it, two NOPs before it. RFC 7323 appendix A."""
    return b"\x01\x01\x08\x0a" + struct.pack(">II", value & MASK, echo & MASK)


class Stamped(Conversation):
    """A Conversation with time stamps in all its frames, in milliseconds; also in those of put() and raw()."""

    def __init__(self, *args: Any, first: int = 1 << 30, **where: Any) -> None:
        super().__init__(*args, **where)
        self._begun, self._first = self.now, first
        for side in (self.client, self.server):
            side.wire = _StampedWire(side.wire, self)  # type: ignore[assignment]

    def stamp(self) -> int:
        """The sender's clock now."""
        return self._first + (self.now - self._begun) // 1_000_000


class _StampedWire:
    """A Wire that adds the options; the window can be read and set as with a Wire."""

    def __init__(self, wire: Wire, said: Stamped) -> None:
        self._wire, self._said, self.behind = wire, said, 0

    def frame(self, *segment: Any, options: bytes = b"") -> bytes:
        stamp = self._said.stamp()
        return self._wire.frame(*segment, options=_stamps(stamp - self.behind, stamp) + options)


def again(said: Conversation, change: Callable[[bytearray], None]) -> Conversation:
    """The last frame, changed."""
    ts_ns, frame = said.frames.pop()
    data = bytearray(frame)
    change(data)
    said.frames.append((ts_ns, bytes(data)))
    return said


def with_ttl(said: Conversation, ttl: int) -> Conversation:
    """The last frame, over IPv4, with another time to live and the header's checksum that belongs to it."""

    def change(frame: bytearray) -> None:
        frame[22] = ttl
        frame[24:26] = bytes(2)
        frame[24:26] = fold(ones(bytes(frame[14:34]))).to_bytes(2, "big")

    return again(said, change)


def wrong_sum(said: Conversation) -> Conversation:
    """The last frame, over IPv4, with a wrong TCP checksum."""

    def change(frame: bytearray) -> None:
        frame[51] ^= 0x5A

    return again(said, change)


def aged(said: Conversation, side: Endpoint, by: int) -> Conversation:
    """The last frame with a time stamp that is so much older, and the checksum that belongs to it (RFC 1624)."""

    def change(frame: bytearray) -> None:
        assert frame[54:58] == b"\x01\x01\x08\x0a"
        stamp = (int.from_bytes(frame[58:62], "big") - by) & MASK
        check = ~int.from_bytes(frame[50:52], "big") & 0xFFFF
        check += ones((~int.from_bytes(frame[58:62], "big") & MASK).to_bytes(4, "big")) + ones(stamp.to_bytes(4, "big"))
        frame[58:62] = stamp.to_bytes(4, "big")
        frame[50:52] = fold(check).to_bytes(2, "big")

    return again(said, change)
