"""One line for each packet, as in tcpdump: source, destination, and facts from its headers. Terminal-safe."""

from __future__ import annotations

import ipaddress
from typing import Any

import dpkt

from appliance.packet.dump import rfc3339, tcp_flags
from appliance.packet.packet import Packet
from appliance.text.terminal import safe

TEXT = 160  # maximum characters of a request line, a name, …
DNS_TYPES = {1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 65: "HTTPS"}
ICMP_TYPES = {0: "echo reply", 3: "unreachable", 5: "redirect", 8: "echo request", 11: "time exceeded"}
ICMP6_TYPES = {
    1: "unreachable",
    2: "packet too big",
    3: "time exceeded",
    128: "echo request",
    129: "echo reply",
    133: "router solicitation",
    134: "router advertisement",
    135: "neighbor solicitation",
    136: "neighbor advertisement",
}


def line(packet: Packet) -> str:
    """Time in UTC, interface if there is one, tags, source > destination, protocol and its facts; no line end."""
    metadata = packet.metadata
    words = [rfc3339(metadata.ts_ns).replace("T", " ").removesuffix("Z"), metadata.interface, _tags(packet)]
    words += [_ends(packet), _facts(packet), f"[{packet.error}]" if packet.error else ""]
    return safe(" ".join(word for word in words if word))


def _tags(packet: Packet) -> str:
    vlans = [str(tag.id) for tag in packet.layers if isinstance(tag, dpkt.ethernet.VLANtag8021Q)]
    labels = [str(label.val) for label in packet.layers if isinstance(label, dpkt.ethernet.MPLSlabel)]
    tags = [f"vlan {','.join(vlans)}"] * bool(vlans) + [f"mpls {','.join(labels)}"] * bool(labels)
    return " ".join(tags)


def _ends(packet: Packet) -> str:
    """Return 192.0.2.1:40000 > [2001:db8::1]:80, or hardware addresses without a network layer."""
    flows = packet.flow
    if flows is not None:
        (source, target), ports = flows.network, flows.transport
        if ports is None:
            return f"{source} > {target}"
        return f"{_socket(source, ports.src)} > {_socket(target, ports.dst)}"
    link = packet.link
    if isinstance(link, dpkt.ethernet.Ethernet):
        return f"{link.src.hex(':')} > {link.dst.hex(':')}"
    return ""


def _socket(address: Any, port: Any) -> str:
    return f"[{address}]:{port}" if ":" in str(address) else f"{address}:{port}"


def _facts(packet: Packet) -> str:
    """Return the facts of the innermost layers."""
    transport, application = packet.transport, packet.application
    if isinstance(transport, dpkt.tcp.TCP):
        facts = f"TCP {tcp_flags(transport.flags)} seq {transport.seq}"
        if transport.flags & dpkt.tcp.TH_ACK:
            facts += f" ack {transport.ack}"
        facts += f" win {transport.win} len {len(packet.payload)}"
        return f"{facts}: {_http(application)}" if isinstance(application, dpkt.http.Message) else facts
    if isinstance(transport, dpkt.udp.UDP):
        return f"UDP len {len(packet.payload)}" + (f": {_dns(application)}" if application is not None else "")
    for layer in packet.layers:
        if isinstance(layer, dpkt.arp.ARP):
            return _arp(layer)
        if isinstance(layer, (dpkt.icmp.ICMP, dpkt.icmp6.ICMP6)):
            return _icmp(layer)
        if isinstance(layer, dpkt.ip6.IP6FragmentHeader) and layer.frag_off:
            return f"IP6 fragment {layer.id} at {layer.frag_off * 8} len {len(packet.payload)}"
    network = packet.network
    if isinstance(network, dpkt.ip.IP) and network.offset:
        return f"IP fragment {network.id} at {network.offset * 8} len {len(packet.payload)}"
    name = type(packet.layers[-1]).__name__ if packet.layers else f"link type {packet.link_type}"
    return f"{name} len {len(packet.data)}"


def _http(message: Any) -> str:
    if isinstance(message, dpkt.http.Request):
        host = message.headers.get("host", "")
        return _cut(f"{message.method} {message.uri} HTTP/{message.version}" + (f" ({host})" if host else ""))
    return _cut(f"HTTP/{message.version} {message.status} {message.reason}")


def _dns(message: Any) -> str:
    what = [f"DNS {message.id}", "answer" if message.qr else "question"]
    what += [f"{DNS_TYPES.get(one.type, f'TYPE{one.type}')} {one.name or '.'}" for one in message.qd[:4]]
    if message.qr:
        what.append(f"code {message.rcode}" if message.rcode else f"{len(message.an)} records")
    return _cut(" ".join(what))


def _arp(layer: Any) -> str:
    sender, target = (str(ipaddress.IPv4Address(bytes(one))) for one in (layer.spa, layer.tpa))
    if layer.op == dpkt.arp.ARP_OP_REQUEST:
        return f"ARP who has {target} tell {sender}"
    if layer.op == dpkt.arp.ARP_OP_REPLY:
        return f"ARP {sender} is at {layer.sha.hex(':')}"
    return f"ARP operation {layer.op}"


def _icmp(layer: Any) -> str:
    name, types = ("ICMP", ICMP_TYPES) if isinstance(layer, dpkt.icmp.ICMP) else ("ICMP6", ICMP6_TYPES)
    facts = f"{name} {types.get(layer.type, f'type {layer.type}')}" + (f" code {layer.code}" if layer.code else "")
    if isinstance(layer.data, (dpkt.icmp.ICMP.Echo, dpkt.icmp6.ICMP6.Echo)):
        return f"{facts} id {layer.data.id} seq {layer.data.seq} len {len(layer.data.data)}"
    quoted = getattr(layer.data, "data", None)
    if isinstance(quoted, (dpkt.ip.IP, dpkt.ip6.IP6)):
        ends = [str(ipaddress.ip_address(bytes(end))) for end in (quoted.src, quoted.dst)]
        ports = [getattr(quoted.data, name, None) for name in ("sport", "dport")]
        shown = [end if port is None else _socket(end, port) for end, port in zip(ends, ports, strict=True)]
        facts += f" about {' > '.join(shown)}"
    return facts


def _cut(text: str) -> str:
    return text if len(text) <= TEXT else f"{text[:TEXT]}…"
