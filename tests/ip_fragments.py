"""Fragments of IP datagrams, by hand: any offset, any length, any lie."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import chain, repeat
from typing import Any

from builders import KEY, Frame
from wire import address, fold, ip_packet, ones

from appliance.config.section_capture import Capture
from appliance.wire.ip_reassembler import Defragmenter

ENDS = {4: ("192.0.2.1", "198.51.100.2"), 6: ("2001:db8::1", "2001:db8::2")}
TCP, UDP, FRAGMENT = 6, 17, 44
TEXT = bytes(range(256)) * 300


def reassembler(**limits: int) -> Defragmenter:
    """A reassembler with the limits of the options, but for some."""
    options = Capture()
    usual = {"max_datagrams": options.max_fragmented_datagrams, "max_bytes": options.max_fragment_bytes}
    usual["timeout_ns"] = round(options.fragment_timeout_s * 1e9)
    return Defragmenter(KEY, **{**usual, **limits})


def piece(
    family: int,
    start: int,
    payload: bytes,
    more: bool,
    *,
    ident: int = 7,
    proto: int = TCP,
    ends: tuple[str, str] | None = None,
    options: bytes = b"",
) -> bytes:
    """A fragment from its IP header on: payload from byte `start`, a multiple of 8; options are IPv4 options."""
    source, target = map(address, ends or ENDS[family])
    if family == 6:
        head = struct.pack(">BBHI", proto, 0, start + more, ident)
        return ip_packet(source, target, FRAGMENT, head + payload)
    whole = bytearray(ip_packet(source, target, proto, options + payload, ident=ident))
    whole[0] += len(options) // 4
    whole[6:8] = (start // 8 + 0x2000 * more).to_bytes(2, "big")
    size = 20 + len(options)
    whole[10:12] = bytes(2)
    whole[10:12] = fold(ones(whole[:size])).to_bytes(2, "big")
    return bytes(whole)


def datagram(family: int, payload: bytes, *, proto: int = TCP, ends: tuple[str, str] | None = None) -> bytes:
    """Return the whole datagram of such fragments."""
    source, target = map(address, ends or ENDS[family])
    whole = bytearray(ip_packet(source, target, proto, payload, ident=7))
    if family == 4:
        whole[6:8] = whole[10:12] = bytes(2)
        whole[10:12] = fold(ones(whole[:20])).to_bytes(2, "big")
    return bytes(whole)


def payload_of_whole(packet: bytes) -> bytes:
    """Return the bytes behind the IP header, no extension headers considered."""
    return packet[(packet[0] & 15) * 4 if packet[0] >> 4 == 4 else 40 :]


def cuts(length: int, sizes: int | Sequence[int]) -> list[tuple[int, int]]:
    """(start, end) of consecutive parts; each size is rounded up to a multiple of 8, the last one repeats."""
    sizes = [sizes] if isinstance(sizes, int) else list(sizes)
    out, start = [], 0
    for size in chain(sizes, repeat(sizes[-1])):
        end = min(length, start + max(8, -(-size // 8) * 8))
        out.append((start, end))
        if end >= length:
            return out
        start = end
    raise AssertionError("sizes repeat for ever")


def fragmented(frame: Frame, sizes: int | Sequence[int], ident: int = 7) -> list[Frame]:
    """The fragments of an Ethernet frame made by the builders, tagged or not, in order, at the same time; or the frame
    itself when it is too short to be cut."""
    ts_ns, data = frame
    at = 12
    while data[at : at + 2] in (b"\x81\x00", b"\x88\xa8"):
        at += 4
    net = at + 2
    v6 = data[net] >> 4 == 6
    head, payload = (data[:net], data[net + 40 :]) if v6 else (data[:net], data[net + 20 :])
    parts = cuts(len(payload), sizes)
    if len(parts) == 1:
        return [frame]
    out = []
    for start, end in parts:
        ip = bytearray(data[net : net + (40 if v6 else 20)])
        body = payload[start:end]
        if v6:
            body = struct.pack(">BBHI", ip[6], 0, start + (end < len(payload)), ident) + body
            ip[6] = FRAGMENT
            ip[4:6] = len(body).to_bytes(2, "big")
        else:
            ip[2:4] = (20 + len(body)).to_bytes(2, "big")
            ip[4:6] = ident.to_bytes(2, "big")
            ip[6:8] = (start // 8 + 0x2000 * (end < len(payload))).to_bytes(2, "big")
            ip[10:12] = bytes(2)
            ip[10:12] = fold(ones(ip)).to_bytes(2, "big")
        out.append((ts_ns, head + bytes(ip) + body))
    return out


def all_fragmented(frames: Iterable[Frame], sizes: int | Sequence[int]) -> list[Frame]:
    """Every frame cut, each with an id of its own."""
    return [part for ident, frame in enumerate(frames) for part in fragmented(frame, sizes, ident & 0xFFFF)]


# -- what a Defragmenter makes of them --------------------------------------------------------------------------------


def outcomes(made: Defragmenter) -> dict[str, int]:
    """Return the number of fragments by outcome so far, "held" too; without outcomes that never happened."""
    counts = made.counts()
    counts.pop("fragment_conflicts")
    return {name.removeprefix("fragments."): count for name, count in counts.items() if count}


def pieces_of(family: int, payload: bytes, sizes: int | Sequence[int], **how: Any) -> list[bytes]:
    """All fragments of a datagram."""
    parts = cuts(len(payload), sizes)
    return [piece(family, start, payload[start:end], end < len(payload), **how) for start, end in parts]


def pushed(
    fragments: Iterable[bytes], made: Defragmenter | None = None, ts_ns: int = 1
) -> tuple[list[tuple[bytes, bool]], Defragmenter]:
    """(the datagrams that came out with whether they are ambiguous, the Defragmenter)."""
    made = made or reassembler()
    return [whole for one in fragments if (whole := made.push(one, ts_ns))], made
