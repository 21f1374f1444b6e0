"""One captured frame as an object of layers: what gopacket's Packet is, over dpkt's layers.

Nothing is decoded before somebody asks; then everything, once. No property of a Packet raises for what is in the frame:
bytes that do not decode are left as bytes, and `error` says what and where.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import dpkt

from appliance import dump, serial
from appliance.endpoints import Flow, address_text
from appliance.layers import decode
from appliance.walk import HEADER, INNER, DecodeError, Part, Walk

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
NAMES: dict[str, Any] = {  # beside the names of dpkt's classes
    "ipv4": dpkt.ip.IP,
    "ipv6": dpkt.ip6.IP6,
    "icmpv6": dpkt.icmp6.ICMP6,
    "vlan": dpkt.ethernet.VLANtag8021Q,
    "mpls": dpkt.ethernet.MPLSlabel,
    "http": dpkt.http.Message,
}


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the capture knows of a frame: nanoseconds since the epoch, bytes kept and on the wire, where it was seen."""

    ts_ns: int
    caplen: int
    wirelen: int
    interface: str = ""

    @property
    def truncated(self) -> bool:
        """Whether the capture kept less than there was."""
        return self.caplen < self.wirelen

    @property
    def time(self) -> float:
        """Seconds since the epoch; a float holds them to some 240 ns."""
        return self.ts_ns / 1e9

    @property
    def datetime(self) -> datetime:
        """The same in UTC, cut to microseconds."""
        return EPOCH + timedelta(microseconds=self.ts_ns // 1000)


class Flows(NamedTuple):
    """The network flow of a packet and, if a transport layer was decoded, its ports."""

    network: Flow[str]
    transport: Flow[int] | None

    def reverse(self) -> Flows:
        """The flows of the answers."""
        return Flows(self.network.reverse(), self.transport.reverse() if self.transport else None)


class Packet:
    """One frame. `data`, `metadata` and `link_type` (DLT_ or LINKTYPE_ number) are what was captured and never change;
    the layers are dpkt's objects and may be changed, for serialize()."""

    __slots__ = ("_layers", "_walk", "data", "link_type", "metadata")

    def __init__(self, data: bytes, metadata: Metadata, link_type: int = ETHERNET) -> None:
        self.data = data
        self.metadata = metadata
        self.link_type = link_type
        self._walk: Walk | None = None
        self._layers: list[Any] = []

    # -- layers --------------------------------------------------------------------------------------------------------

    @property
    def layers(self) -> list[Any]:
        """Every decoded layer, outermost first: dpkt's objects. VLAN tags, MPLS labels and IPv6 extension headers are
        layers here, and also in the lists where dpkt keeps them (vlan_tags, mpls_labels, all_extension_headers)."""
        self._decoded()
        return self._layers

    def layer(self, wanted: Any) -> Any:
        """The first layer of a dpkt class, or of a name: that of the class in any case ("tcp", "ip6", "vlantag8021q"),
        or ipv4, ipv6, icmpv6, vlan, mpls, http. None if there is none."""
        if isinstance(wanted, str):
            name = wanted.lower()
            if name not in NAMES:
                return next((layer for layer in self.layers if type(layer).__name__.lower() == name), None)
            wanted = NAMES[name]
        return next((layer for layer in self.layers if isinstance(layer, wanted)), None)

    @property
    def link(self) -> Any:
        """The first link layer (Ethernet, cooked, loopback, PPP), or None: raw IP has none."""
        return self.layer(LINK)

    @property
    def network(self) -> Any:
        """The first IPv4 or IPv6 header, or None."""
        return self.layer(NETWORK)

    @property
    def transport(self) -> Any:
        """The first TCP, UDP or SCTP header, or None."""
        return self.layer(TRANSPORT)

    @property
    def application(self) -> Any:
        """An HTTP head that is whole in this frame with what follows it as `body`, or a DNS message over UDP port 53;
        else None, and `payload` has the bytes."""
        return self.layer(APPLICATION)

    @property
    def payload(self) -> bytes:
        """What the innermost header carries, in bytes: the payload of TCP or UDP (whether an application layer was made
        of it or not), or what could not be decoded."""
        for part in reversed(self._decoded().parts):
            if part.kind == HEADER:
                return self.data[part.body : part.stop]
        return b"" if self._decoded().parts else self.data

    @property
    def error(self) -> DecodeError | None:
        """What was not decoded and why, or None if everything was."""
        return self._decoded().error

    @property
    def flow(self) -> Flows | None:
        """Addresses and ports; None without a network layer. In a tunnel they are those around the transport layer."""
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
        """The frame with what was changed in its layers, from the first of them along .data.

        What was not changed keeps its bytes, padding included, so that with both flags off an untouched packet gives
        `data`. fix_lengths: header and packet lengths (IPv4, IPv6, TCP, UDP, PPPoE, 802.3) are made to fit what is
        there; padding goes where a length changes. compute_checksums: those of IPv4, TCP, UDP, ICMP and ICMPv6, but
        not of what a fragment carries. The layers themselves are left as they are. Raises ValueError, which names the
        layer, for a value that does not fit its field.
        """
        walk = self._decoded()
        if not walk.parts:
            return self.data
        fresh = decode(self.data, self.link_type, self.metadata.wirelen)
        return serial.serialize(self.data, walk, fresh, fix_lengths, compute_checksums)

    def __str__(self) -> str:
        """Some lines for people: what was captured, each layer with its fields, and what did not decode. No character
        in them can command a terminal."""
        return dump.describe(self._title(), self._decoded(), self.payload)

    def dump(self) -> str:
        """The same with the bytes of the frame, and of each layer, in hexadecimal and ASCII."""
        return dump.dump(self._title(), self.data, self._decoded(), self.payload)

    def as_dict(self) -> dict[str, Any]:
        """Time, lengths, link type and layers for JSON: addresses as text, other bytes in hexadecimal."""
        walk, metadata = self._decoded(), self.metadata
        out: dict[str, Any] = {
            "time": dump.rfc3339(metadata.ts_ns),
            "ts_ns": metadata.ts_ns,
            "caplen": metadata.caplen,
            "wirelen": metadata.wirelen,
            "link_type": self.link_type,
            "layers": [
                {"layer": type(part.layer).__name__, "bytes": part.head - part.start, **dump.fields(part)}
                for part in walk.parts
            ],
        }
        if metadata.interface:
            out["interface"] = metadata.interface
        if self.payload and walk.rest:
            out["payload"] = self.payload.hex()
        if walk.error is not None:
            out["error"] = walk.error._asdict()
        return out

    def parts(self) -> list[Part]:
        """Where each layer lies in `data`, in the order of `layers`."""
        return self._decoded().parts

    def __repr__(self) -> str:
        names = "/".join(type(part.layer).__name__ for part in self._decoded().parts if part.kind != INNER)
        return f"<Packet {len(self.data)} bytes {names or 'not decoded'}>"

    def _title(self) -> str:
        metadata = self.metadata
        words = [f"{len(self.data)} bytes", f"wire length {metadata.wirelen}", dump.rfc3339(metadata.ts_ns)]
        return ", ".join(words + [metadata.interface] * bool(metadata.interface))

    def _decoded(self) -> Walk:
        if self._walk is None:
            self._walk = decode(self.data, self.link_type, self.metadata.wirelen)
            self._layers = [part.layer for part in self._walk.parts]
        return self._walk
