"""One captured frame as an object of layers: gopacket's Packet, over dpkt's layers.

The first access decodes everything, once. No property of a Packet raises because of the frame: undecodable bytes stay
bytes, and `error` has their position and the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import dpkt

from appliance.packet import dump
from appliance.packet import serialize as serial
from appliance.packet.endpoints import Flow, address_text
from appliance.packet.layer_decoder import HEADER, INNER, DecodeError, LayerDecoder, LayerSpan
from appliance.packet.tunnel_layers import decode

__all__ = ["ETHERNET", "DecodeError", "Flow", "Flows", "Metadata", "Packet"]

ETHERNET = 1  # LINKTYPE_ETHERNET
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

LINK = (
    dpkt.ethernet.Ethernet,
    dpkt.sll.SLL,
    dpkt.sll2.SLL2,
    dpkt.loopback.Loopback,
    dpkt.ppp.PPP,
)
NETWORK = (dpkt.ip.IP, dpkt.ip6.IP6)
TRANSPORT = (dpkt.tcp.TCP, dpkt.udp.UDP, dpkt.sctp.SCTP)
APPLICATION = (dpkt.http.Message, dpkt.dns.DNS)
NAMES: dict[str, Any] = {  # in addition to the names of dpkt's classes
    "ipv4": dpkt.ip.IP,
    "ipv6": dpkt.ip6.IP6,
    "icmpv6": dpkt.icmp6.ICMP6,
    "vlan": dpkt.ethernet.VLANtag8021Q,
    "mpls": dpkt.ethernet.MPLSlabel,
    "http": dpkt.http.Message,
}


@dataclass(frozen=True, slots=True)
class Metadata:
    """Facts of the capture: nanoseconds since the epoch, bytes captured and on the wire, the interface."""

    ts_ns: int
    caplen: int
    wirelen: int
    interface: str = ""

    @property
    def truncated(self) -> bool:
        """Return whether the frame on the wire was longer."""
        return self.caplen < self.wirelen

    @property
    def time(self) -> float:
        """Return the seconds since the epoch; a float is exact to some 240 ns."""
        return self.ts_ns / 1e9

    @property
    def datetime(self) -> datetime:
        """Return the time in UTC, truncated to microseconds."""
        return EPOCH + timedelta(microseconds=self.ts_ns // 1000)


class Flows(NamedTuple):
    """The network flow of a packet and, if a transport layer was decoded, its ports."""

    network: Flow[str]
    transport: Flow[int] | None

    def reverse(self) -> Flows:
        """Return the flows of the opposite direction."""
        return Flows(self.network.reverse(), self.transport.reverse() if self.transport else None)


class Packet:
    """One frame.

    `data`, `metadata` and `link_type` (DLT_ or LINKTYPE_ number) are the captured values and never change. The layers
    are dpkt's objects and may be changed, for serialize(). Without metadata a frame is whole, at time 0.
    """

    __slots__ = ("_decoder", "_layers", "data", "link_type", "metadata")

    def __init__(self, data: bytes, metadata: Metadata | None = None, link_type: int = ETHERNET) -> None:
        self.data = data
        self.metadata = metadata if metadata is not None else Metadata(0, len(data), len(data))
        self.link_type = link_type
        self._decoder: LayerDecoder | None = None
        self._layers: list[Any] = []

    # -- layers --------------------------------------------------------------------------------------------------------

    @property
    def layers(self) -> list[Any]:
        """Return every decoded layer, outermost first: dpkt's objects.

        VLAN tags, MPLS labels and IPv6 extension headers are layers here, and also in the lists where dpkt keeps them
        (vlan_tags, mpls_labels, all_extension_headers).
        """
        self._decoded()
        return self._layers

    def layer(self, wanted: Any) -> Any:
        """Return the first layer of a dpkt class or of a name, or None.

        A name is that of the class in any case ("tcp", "ip6", "vlantag8021q"), or ipv4, ipv6, icmpv6, vlan, mpls, http.
        """
        if isinstance(wanted, str):
            name = wanted.lower()
            if name not in NAMES:
                return next((layer for layer in self.layers if type(layer).__name__.lower() == name), None)
            wanted = NAMES[name]
        return next((layer for layer in self.layers if isinstance(layer, wanted)), None)

    @property
    def link(self) -> Any:
        """Return the first link layer (Ethernet, cooked, loopback, PPP), or None: raw IP has none."""
        return self.layer(LINK)

    @property
    def network(self) -> Any:
        """Return the first IPv4 or IPv6 header, or None."""
        return self.layer(NETWORK)

    @property
    def transport(self) -> Any:
        """Return the first TCP, UDP or SCTP header, or None."""
        return self.layer(TRANSPORT)

    @property
    def application(self) -> Any:
        """Return the application layer, or None; the bytes are then in `payload`.

        It is an HTTP head that is whole in this frame, with the rest as `body`, or a DNS message over UDP port 53.
        """
        return self.layer(APPLICATION)

    @property
    def payload(self) -> bytes:
        """Return the payload of the innermost header: that of TCP or UDP, with or without an application layer, or the
        undecoded bytes.
        """
        for part in reversed(self._decoded().parts):
            if part.kind == HEADER:
                return self.data[part.body : part.stop]
        return b"" if self._decoded().parts else self.data

    @property
    def error(self) -> DecodeError | None:
        """Return the first layer that was not decoded and the reason, or None."""
        return self._decoded().error

    @property
    def flow(self) -> Flows | None:
        """Return addresses and ports; None without a network layer. In a tunnel they are those around the transport
        layer.
        """
        network = transport = None
        for layer in self.layers:
            if isinstance(layer, NETWORK):
                network = layer
            elif isinstance(layer, TRANSPORT):
                transport = layer
                break
        if network is None:
            return None
        if transport is None:
            network = self.network
        ends = Flow(address_text(bytes(network.src)), address_text(bytes(network.dst)))
        return Flows(ends, Flow(transport.sport, transport.dport) if transport is not None else None)

    # -- in and out ----------------------------------------------------------------------------------------------------

    def serialize(self, fix_lengths: bool = True, compute_checksums: bool = True) -> bytes:
        """Return the frame with the changes made in its layers, from the first of them along .data.

        Unchanged headers keep their bytes, padding included, so with both flags off an untouched packet gives `data`.
        fix_lengths: update header and packet lengths (IPv4, IPv6, TCP, UDP, PPPoE, 802.3); a changed length removes the
        padding. compute_checksums: update those of IPv4, TCP, UDP, ICMP and ICMPv6, but not of the payload of a
        fragment. The layers themselves do not change. Raises ValueError, which names the layer, for a value that does
        not fit its field.
        """
        decoder = self._decoded()
        if not decoder.parts:
            return self.data
        fresh = decode(self.data, self.link_type, self.metadata.wirelen)
        return serial.serialize(self.data, decoder, fresh, fix_lengths, compute_checksums)

    def __str__(self) -> str:
        """Return lines for people: metadata, each layer with its fields, and the error. Terminal-safe."""
        return dump.describe(self._title(), self._decoded(), self.payload)

    def dump(self) -> str:
        """Return the same with the bytes of the frame, and of each layer, in hexadecimal and ASCII."""
        return dump.dump(self._title(), self.data, self._decoded(), self.payload)

    def as_dict(self) -> dict[str, Any]:
        """Time, lengths, link type and layers for JSON: addresses as text, other bytes in hexadecimal."""
        decoder, metadata = self._decoded(), self.metadata
        out: dict[str, Any] = {
            "time": dump.rfc3339(metadata.ts_ns),
            "ts_ns": metadata.ts_ns,
            "caplen": metadata.caplen,
            "wirelen": metadata.wirelen,
            "link_type": self.link_type,
            "layers": [
                {"layer": type(part.layer).__name__, "bytes": part.head - part.start, **dump.fields(part)}
                for part in decoder.parts
            ],
        }
        if metadata.interface:
            out["interface"] = metadata.interface
        if self.payload and decoder.rest:
            out["payload"] = self.payload.hex()
        if decoder.error is not None:
            out["error"] = decoder.error._asdict()
        return out

    def parts(self) -> list[LayerSpan]:
        """Return the position of each layer in `data`, in the order of `layers`."""
        return self._decoded().parts

    def __repr__(self) -> str:
        names = "/".join(type(part.layer).__name__ for part in self._decoded().parts if part.kind != INNER)
        return f"<Packet {len(self.data)} bytes {names or 'not decoded'}>"

    def _title(self) -> str:
        metadata = self.metadata
        words = [f"{len(self.data)} bytes", f"wire length {metadata.wirelen}", dump.rfc3339(metadata.ts_ns)]
        return ", ".join(words + [metadata.interface] * bool(metadata.interface))

    def _decoded(self) -> LayerDecoder:
        if self._decoder is None:
            self._decoder = decode(self.data, self.link_type, self.metadata.wirelen)
            self._layers = [part.layer for part in self._decoder.parts]
        return self._decoder
