"""A capture file to its TLS and QUIC handshakes, by the library's own reassembly, and their facts in the flat form.

`python tests/corpus/handshakes.py FILE` prints one JSON object for each handshake: a command for a scorer.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from appliance.packet.packet import Packet
from appliance.pcap import opening as pcap
from workers.assembly import Assembler, Flow, Piece, StreamPool
from workers.quic.connection import QuicConnection
from workers.quic.context import QuicContext
from workers.quic.table import QuicTable
from workers.tls.certificate import Certificates
from workers.tls.context import TlsContext
from workers.tls.handshake import Handshake
from workers.tls.record import hello_may_begin

Endpoint = tuple[str, int]
SURE = 7  # bytes that tell a hello


class Conversation:
    """One TCP connection: what it is before TLS begins, and then its handshake."""

    def __init__(self, context: TlsContext) -> None:
        self.context = context
        self.sides: list[tuple[Endpoint, Endpoint]] = []
        self.handshake: Handshake | None = None
        self.open = 0
        self.before = [b"", b""]  # of each side: what may begin a hello

    def piece(self, side: int, piece: Piece) -> None:
        data = piece.data
        if self.handshake is None:
            data = self.before[side] + data
            self.before[side] = b""
            if not hello_may_begin(data):
                return
            if len(data) < SURE:
                self.before[side] = data
                return
            self.handshake = Handshake(self.context)
        elif piece.skip > 0:
            self.handshake.lose(side, piece.skip, piece.ts_ns)
        self.handshake.feed(side, data, piece.ts_ns)

    def end(self) -> dict[str, Any] | None:
        """The facts, with the addresses of client and server."""
        if self.handshake is None or not self.handshake.finish():
            return None
        client = self.handshake.client
        source, target = self.sides[client] if client < len(self.sides) else self.sides[0][::-1]
        return {"source": source, "destination": target, **self.handshake.facts()}


class Half:
    def __init__(self, conversation: Conversation, side: int) -> None:
        self.conversation = conversation
        self.side = side

    def reassembled(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            self.conversation.piece(self.side, piece)

    def complete(self) -> None:
        self.conversation.open -= 1


class Halves:
    """A factory of streams that puts the two directions of a connection together."""

    def __init__(self, context: TlsContext) -> None:
        self.context = context
        self.waiting: dict[tuple[Endpoint, Endpoint], Conversation] = {}
        self.all: list[Conversation] = []

    def new(self, net: Flow[str], transport: Flow[int]) -> Half:
        source, target = (str(net.src), transport.src), (str(net.dst), transport.dst)
        conversation = self.waiting.get((target, source))
        if conversation is None or len(conversation.sides) == 2 or not conversation.open:
            conversation = Conversation(self.context)
            self.all.append(conversation)
        self.waiting[source, target] = conversation
        conversation.sides.append((source, target))
        conversation.open += 1
        return Half(conversation, len(conversation.sides) - 1)


def handshakes_of(path: Path, **limits: Any) -> list[dict[str, Any]]:
    """The handshakes in a capture file. Raises PcapError if libpcap does not open it."""
    context = TlsContext(certificates=Certificates(), **limits)
    halves = Halves(context)
    assembler = Assembler(StreamPool(halves))
    with pcap.open_offline(path) as handle:
        try:
            for packet in handle.packets():
                assembler.assemble(packet)
        except pcap.TruncatedCapture:
            pass
    assembler.flush_all()
    return [facts for facts in (each.end() for each in halves.all) if facts is not None]


def datagrams_of(path: Path) -> Iterator[tuple[Endpoint, Endpoint, bytes, int]]:
    """(source, destination, payload, time stamp) of the UDP datagrams in a capture file."""
    with pcap.open_offline(path) as handle:
        try:
            for packet in handle.packets():
                yield from _datagram(packet)
        except pcap.TruncatedCapture:
            pass


def _datagram(packet: Packet) -> Iterator[tuple[Endpoint, Endpoint, bytes, int]]:
    layer, flows = packet.transport, packet.flow
    if layer is None or type(layer).__name__ != "UDP" or flows is None or flows.transport is None:
        return
    source, target = ((str(address), port) for address, port in zip(flows.network, flows.transport, strict=True))
    yield source, target, packet.payload, packet.metadata.ts_ns


def quic_handshakes_of(path: Path, **limits: Any) -> list[dict[str, Any]]:
    """The QUIC handshakes in a capture file. Raises PcapError if libpcap does not open it."""
    table = QuicTable(QuicContext(TlsContext(**limits)))
    found: list[QuicConnection] = []
    for source, target, data, ts_ns in datagrams_of(path):
        ends = sorted((source, target))
        if table.feed(tuple(ends), ends.index(source), data, ts_ns) == "known":
            found.append(table.connection)
    events = []
    for each in [*found, *table.finish()]:
        client, server = each.key if each.client == 0 else each.key[::-1]
        events.append({"source": client, "destination": server, **each.facts()})
    return events


def flat(event: dict[str, Any], kind: str = "tls") -> dict[str, Any]:
    """The facts of a handshake that a scorer compares."""
    tls, extra = event["tls"], event["appliance"]["tls"]
    server = tls.get("server", {})
    row = {
        "kind": kind,
        "src": event["source"][0],
        "sport": event["source"][1],
        "dst": event["destination"][0],
        "dport": event["destination"][1],
        "quic_version": event["appliance"].get("quic", {}).get("version"),
        "server_name": tls.get("client", {}).get("server_name"),
        "alpn": extra.get("alpn_offered"),
        "alpn_selected": tls.get("next_protocol"),
        "version": tls.get("version"),
        "cipher": tls.get("cipher"),
        "ja4": extra.get("ja4"),
        "ja3": tls.get("client", {}).get("ja3"),
        "certificate_sha256": server.get("hash", {}).get("sha256"),
        "subject": server.get("subject"),
        "issuer": server.get("issuer"),
        "resumed": tls.get("resumed"),
        "established": tls.get("established"),
    }
    return {name: value for name, value in row.items() if value is not None}


if __name__ == "__main__":
    for handshake in handshakes_of(Path(sys.argv[1]), ja3=True):
        print(json.dumps(flat(handshake)))
    for handshake in quic_handshakes_of(Path(sys.argv[1]), ja3=True):
        print(json.dumps(flat(handshake, "quic")))
