"""One TCP connection as a list of frames, with the transactions an observer of it must report."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from exchange import Exchange, Expected, pieces
from pcapfile import Frame
from wire import ACK, FIN, FULL_WINDOW, MASK, PSH, RST, SYN, Wire

START_NS = 1_790_000_000_000_000_000  # September 2026: fixed, so that a seed fixes every byte
_SPACING_NS = 12_000  # between frames sent back to back: 1500 bytes at 1 Gbit/s


class Endpoint:
    """One side: its wire, its initial and its next sequence number."""

    __slots__ = ("isn", "next", "unacked", "wire")

    def __init__(self, wire: Wire, isn: int) -> None:
        self.wire = wire
        self.isn = isn & MASK
        self.next = self.isn
        self.unacked = 0  # data segments received from the peer and not yet acknowledged

    def at(self, offset: int) -> int:
        """Sequence number of a byte of this side's stream; offset 0 is its first byte."""
        return (self.isn + 1 + offset) & MASK


class Conversation:
    """Builds the frames of one connection; every method returns self, so that a scene reads as a chain.

    `frames` are in order of time; `expected` grows with exchange() and pipeline(). Seen near the client: an
    answer arrives `rtt_ns` after what caused it.
    """

    def __init__(
        self,
        client: str = "192.0.2.10",
        server: str = "198.51.100.20",
        client_port: int = 40000,
        server_port: int = 80,
        *,
        client_isn: int = 1_000_000,
        server_isn: int = 2_000_000,
        mss: int = 1460,
        start_ns: int = START_NS,
        rtt_ns: int = 1_000_000,
        vlans: Sequence[int] = (),
        window: int = FULL_WINDOW,
    ) -> None:
        ports = (client_port, server_port)
        there = Wire(client, server, ports, vlans=vlans, window=window)
        back = Wire(server, client, ports[::-1], vlans=vlans, from_client=False, window=window)
        self.client = Endpoint(there, client_isn)
        self.server = Endpoint(back, server_isn)
        self.mss = mss
        self.now = start_ns
        self.rtt_ns = rtt_ns
        self.frames: list[Frame] = []
        self.expected: list[Expected] = []
        self._flow = (client, client_port, server, server_port, tuple(vlans))

    def _peer(self, side: Endpoint) -> Endpoint:
        return self.server if side is self.client else self.client

    def _emit(self, side: Endpoint, flags: int, payload: bytes = b"", options: bytes = b"") -> None:
        """One segment at the current time; moves the side's sequence number and the clock."""
        ack = self._peer(side).next if flags & ACK else 0
        self.frames.append((self.now, side.wire.frame(side.next, ack, flags, payload, options=options)))
        side.next = (side.next + len(payload) + bool(flags & SYN) + bool(flags & FIN)) & MASK
        side.unacked = 0
        self.now += _SPACING_NS

    def idle(self, duration_ns: int) -> Conversation:
        """Let time pass."""
        self.now += duration_ns
        return self

    def handshake(self) -> Conversation:
        """SYN, SYN-ACK, ACK, with the options a browser's system sends."""
        options = struct.pack(">BBH", 2, 4, self.mss) + b"\x01\x01\x04\x02\x01\x03\x03\x07"
        self._emit(self.client, SYN, options=options)
        self.now += self.rtt_ns
        self._emit(self.server, SYN | ACK, options=options)
        self._emit(self.client, ACK)
        return self

    def established(self) -> Conversation:
        """As after a handshake that nobody captured."""
        self.client.next, self.server.next = self.client.at(0), self.server.at(0)
        return self

    def _send(self, side: Endpoint, data: bytes, sizes: int | Iterable[int] | None) -> Conversation:
        peer = self._peer(side)
        left = len(data)
        for piece in pieces(data, self.mss if sizes is None else sizes):
            left -= len(piece)
            self._emit(side, ACK if left else PSH | ACK, piece)
            peer.unacked += 1
            if peer.unacked == 2:
                self._emit(peer, ACK)
        return self

    def client_sends(self, data: bytes, sizes: int | Iterable[int] | None = None) -> Conversation:
        """Data from the client, cut by `sizes` (default: by MSS); the peer acknowledges every second segment."""
        return self._send(self.client, data, sizes)

    def server_sends(self, data: bytes, sizes: int | Iterable[int] | None = None) -> Conversation:
        """Data from the server, cut by `sizes` (default: by MSS); the peer acknowledges every second segment."""
        return self._send(self.server, data, sizes)

    def acknowledge(self, side: Endpoint) -> Conversation:
        """A pure acknowledgement of everything received so far."""
        self._emit(side, ACK)
        return self

    def raw(self, side: Endpoint, offset: int, payload: bytes = b"", flags: int = ACK) -> Conversation:
        """Any segment at any place of the side's stream, outside the bookkeeping: a retransmission, a lie, a probe."""
        ack = self._peer(side).next if flags & ACK else 0
        self.frames.append((self.now, side.wire.frame(side.at(offset), ack, flags, payload)))
        self.now += _SPACING_NS
        return self

    def expect(self, made: Exchange) -> Conversation:
        """Note a transaction as ground truth without sending anything."""
        client, client_port, server, server_port, vlans = self._flow
        self.expected.append(
            Expected(
                client=client,
                client_port=client_port,
                server=server,
                server_port=server_port,
                vlans=vlans,
                index=len(self.expected),
                method=made.method,
                target=made.target,
                host=made.host,
                status=made.status,
                request_body=made.request_body,
                response_body=made.response_body,
                request_bytes=len(made.request) + len(made.held),
                response_bytes=len(made.response),
                informational=made.informational,
            )
        )
        return self

    def exchange(
        self,
        made: Exchange,
        *,
        wait_ns: int | None = None,
        request_sizes: int | Iterable[int] | None = None,
        response_sizes: int | Iterable[int] | None = None,
    ) -> Conversation:
        """A request and its response, with the pause of a 100-continue; `wait_ns`: the server's time (default rtt)."""
        self.client_sends(made.request, request_sizes)
        if made.interim:
            self.idle(self.rtt_ns).server_sends(made.interim)
        if made.held:
            self.idle(self.rtt_ns).client_sends(made.held, request_sizes)
        self.idle(self.rtt_ns if wait_ns is None else wait_ns).server_sends(made.response, response_sizes)
        return self.expect(made)

    def pipeline(self, made: Sequence[Exchange], *, wait_ns: int | None = None) -> Conversation:
        """All requests in one go, then all responses in one go."""
        self.client_sends(b"".join(one.request + one.held for one in made))
        self.idle(self.rtt_ns if wait_ns is None else wait_ns)
        self.server_sends(b"".join(one.interim + one.response for one in made))
        for one in made:
            self.expect(one)
        return self

    def close(self, by: str = "client") -> Conversation:
        """FIN, FIN, ACK, begun by "client" or "server"."""
        first, second = (self.client, self.server) if by == "client" else (self.server, self.client)
        self._emit(first, FIN | ACK)
        self.now += self.rtt_ns
        self._emit(second, FIN | ACK)
        self._emit(first, ACK)
        return self

    def reset(self, by: str = "client") -> Conversation:
        """RST from "client" or "server"."""
        self._emit(self.client if by == "client" else self.server, RST | ACK)
        return self
