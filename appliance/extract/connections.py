"""The connections of events, and whether a frame belongs to one.

Frames are located as the capture locates them, tunnels included. A fragment names no ports, so every fragment between
the two addresses counts as one of the connection. Of a QUIC connection, a frame is one that may open it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any, NamedTuple

from appliance.wire.tcp_locator import find

FRAGMENT = "fragment"
TRANSPORTS = {"found": "tcp", "datagram": "udp"}  # by verdict
MOST_SEARCHED = 16  # pairs of addresses that are searched in the bytes of a frame before it is decoded
SYN, ACK = 0x02, 0x10

Endpoint = tuple[bytes, bytes]  # address and port, as on the wire
Key = tuple[str, Endpoint, Endpoint]  # transport, lower and upper end


class Opening(NamedTuple):
    """A SYN, or an answer to one (SYN-ACK)."""

    sequence: bytes  # of the SYN
    is_answer: bool


@dataclass(slots=True)
class Wanted:
    """One connection: its key, the events that are wanted, and the frames that it has in the captures.

    first and last: numbers of frames over all captures; the frames of the ports from first on and before last are its.
    """

    key: Key
    vlans: tuple[int, int] | None  # the outermost and the innermost; None without a tag
    start_ns: int
    end_ns: int
    events: list[dict[str, Any]] = field(default_factory=list)
    begun: dict[int, list[dict[str, Any]]] = field(default_factory=dict)  # those events by the time of their start
    first: int | None = None
    last: int | None = None
    syn: bytes = b""  # sequence number of the SYN from which `first` follows
    answer: tuple[int, bytes] | None = None  # number of a SYN-ACK, and sequence number of the SYN that it answers
    written: int = 0

    def pass_opening(self, number: int, ts_ns: int, opening: Opening) -> None:
        """Take a SYN on these ports, which begins another connection, or an answer, behind which its SYN may come."""
        if self.last is not None or (self.first is not None and opening.sequence == self.syn):
            return
        if opening.is_answer:
            if self.answer is None or self.answer[1] != opening.sequence:
                self.answer = number, opening.sequence
        elif ts_ns <= self.start_ns:
            late = self.answer is not None and self.answer[1] == opening.sequence
            self.first = self.answer[0] if late and self.answer is not None else number
            self.syn = opening.sequence
        elif ts_ns > self.end_ns:
            self.last = number

    def add(self, event: dict[str, Any], start_ns: int) -> None:
        """Add an event that starts at this time."""
        self.events.append(event)
        self.begun.setdefault(start_ns, []).append(event)

    def has(self, number: int) -> bool:
        """Return whether a frame on these ports is one of the connection."""
        return (self.first is None or number >= self.first) and (self.last is None or number < self.last)


class Connections:
    """The wanted connections. Several events of one connection are one."""

    def __init__(self, events: Iterable[dict[str, Any]]) -> None:
        """Take the connections of events. Raises KeyError or ValueError for one without endpoints."""
        self.all: list[Wanted] = []
        self._named: dict[str, Wanted] = {}
        for event in events:
            self._add(event)
        self._by_key: dict[Key, list[Wanted]] = {}
        for wanted in self.all:
            self._by_key.setdefault(wanted.key, []).append(wanted)
        self._by_hosts: dict[tuple[bytes, bytes], list[Wanted]] = {}
        for (_, low, high), some in self._by_key.items():
            self._by_hosts.setdefault((low[0], high[0]), []).extend(some)
        self._hosts = sorted(self._by_hosts)

    def _add(self, event: dict[str, Any]) -> None:
        ends = [
            (ip_address(event[side]["ip"]).packed, event[side]["port"].to_bytes(2))
            for side in ("source", "destination")
        ]
        low, high = sorted(ends)
        own = event["appliance"].get("connection")
        start, end = nanoseconds(event["event"]["start"]), nanoseconds(event["event"]["end"])
        known = self._named.get(own) if own else None
        if known is not None:
            known.add(event, start)
            known.start_ns, known.end_ns = min(known.start_ns, start), max(known.end_ns, end)
            return
        self.all.append(Wanted((event["network"]["transport"], low, high), _vlans(event), start, end))
        self.all[-1].add(event, start)
        if own:
            self._named[own] = self.all[-1]

    def of(self, link_type: int, frame: bytes, wirelen: int) -> tuple[list[Wanted], Opening | None]:
        """Return the connections that a frame may belong to, and what it says of their beginning."""
        hosts = self._hosts
        if len(hosts) <= MOST_SEARCHED:
            hosts = [pair for pair in hosts if pair[0] in frame and pair[1] in frame]
            if not hosts:
                return [], None
        verdict, net, at, _, vlans = find(link_type, frame, wirelen, quic=True, udp=True)
        if verdict == FRAGMENT:
            near = [pair for pair in hosts if pair[0] in frame and pair[1] in frame]
            return [wanted for pair in near for wanted in self._by_hosts[pair]], None
        transport = TRANSPORTS.get(verdict)
        if transport is None or net is None or at is None:
            return [], None
        source, destination = (frame[net + 12 : net + 16], frame[net + 16 : net + 20])
        if frame[net] >> 4 == 6:
            source, destination = (frame[net + 8 : net + 24], frame[net + 24 : net + 40])
        low, high = sorted([(source, frame[at : at + 2]), (destination, frame[at + 2 : at + 4])])
        tags = (vlans[0], vlans[-1]) if vlans else None
        found = [one for one in self._by_key.get((transport, low, high), ()) if one.vlans == tags]
        return found, _opening(frame, at) if found and transport == "tcp" else None


def _opening(frame: bytes, at: int) -> Opening | None:
    """Return what the TCP header at this place says of the beginning of its connection."""
    flags = frame[at + 13] & (SYN | ACK)
    if flags == SYN:
        return Opening(frame[at + 4 : at + 8], False)
    if flags == SYN | ACK:
        return Opening((int.from_bytes(frame[at + 8 : at + 12]) - 1 & 0xFFFFFFFF).to_bytes(4), True)
    return None


def nanoseconds(text: str) -> int:
    """Return the nanoseconds since the epoch of a time as events write it. Raises ValueError."""
    second, _, rest = text.removesuffix("Z").partition(".")
    whole = int(datetime.fromisoformat(second).replace(tzinfo=UTC).timestamp())
    return whole * 1_000_000_000 + int(rest.ljust(9, "0") or 0)


def _vlans(event: dict[str, Any]) -> tuple[int, int] | None:
    network = event.get("network", {})
    outer = network.get("vlan", {}).get("id")
    if outer is None:
        return None
    return int(outer), int(network.get("inner", {}).get("vlan", {}).get("id", outer))
