"""A sample of traffic: frames that the filter misses, duplicates, and one-sided connections.

Frames in, counts out; the caller captures them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from appliance.packet.packet import Packet
from appliance.pcap.bpf import Filter

ETHERNET = 1  # DLT_EN10MB
TAGS = (b"\x81\x00", b"\x88\xa8", b"\x91\x00")
ADDRESSES = 12  # bytes of the two addresses in front of them
RECENT = 256  # frames that are searched for a duplicate
RECENT_NS = 50_000_000  # retransmissions come later: TCP waits for 200 ms
SHORT = 100  # bytes: shorter acknowledgements may be equal by chance
ENOUGH = 4  # frames of a connection, after which its other side should have sent one


class Traffic(NamedTuple):
    """The counts of one sample."""

    frames: int = 0
    taken: int = 0  # accepted by the filter
    tagged: int = 0  # frames in a VLAN
    blind: int = 0  # of these, frames that the filter refuses and would accept without their tag
    longest: int = 0  # bytes on the wire
    flows: int = 0  # TCP connections with several frames
    one_sided: int = 0
    duplicates: int = 0


def judge(packets: Iterable[Packet], wanted: Filter | None) -> Traffic:
    """Count frames. wanted: the filter as it will be set; None accepts everything."""
    frames = taken = tagged = blind = longest = duplicates = 0
    flows: dict[object, list[int]] = {}
    recent: deque[tuple[int, bytes]] = deque(maxlen=RECENT)
    for packet in packets:
        frame, metadata = bytes(packet.data), packet.metadata
        bare = untagged(frame) if packet.link_type == ETHERNET else frame
        frames += 1
        tagged += bare is not frame
        longest = max(longest, metadata.wirelen)
        if wanted is None or wanted.matches(frame, metadata.wirelen):
            taken += 1
        elif bare is not frame:
            blind += wanted.matches(bare, metadata.wirelen - len(frame) + len(bare))
        content = bare[ADDRESSES:] if packet.link_type == ETHERNET else frame
        while recent and metadata.ts_ns - recent[0][0] > RECENT_NS:
            recent.popleft()
        if len(bare) >= SHORT:
            duplicates += any(content == other for _, other in recent)
            recent.append((metadata.ts_ns, content))
        _follow(packet, flows)
    several = [sides for sides in flows.values() if sum(sides) >= ENOUGH]
    one_sided = sum(0 in sides for sides in several)
    return Traffic(frames, taken, tagged, blind, longest, len(several), one_sided, duplicates)


def untagged(frame: bytes) -> bytes:
    """Return an Ethernet frame without its VLAN tags; the same object if it has none."""
    start = ADDRESSES
    while frame[start : start + 2] in TAGS:
        start += 4
    return frame if start == ADDRESSES else frame[:ADDRESSES] + frame[start:]


def _follow(packet: Packet, flows: dict[object, list[int]]) -> None:
    about = packet.flow
    if packet.layer("tcp") is None or about is None:
        return
    back = about.reverse()
    side = int(back < about)
    flows.setdefault(back if side else about, [0, 0])[side] += 1
