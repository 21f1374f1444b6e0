"""Frames of every kind that Packet decodes, built by scapy, which shares no code with it."""

from __future__ import annotations

import struct

from sample_frames import LAYER, LINKS, SEGMENT, V4, V6
from scapy.contrib.mpls import MPLS
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, TCPerror
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NS, IPv6ExtHdrFragment
from scapy.layers.ipsec import AH
from scapy.layers.l2 import ARP, GRE, LLC, SNAP, STP, Dot1Q, Dot3, Ether
from scapy.layers.ppp import PPP, PPPoE
from scapy.packet import Raw

from appliance.packet.packet import ETHERNET, Metadata, Packet

START_NS = 1_795_341_600_123_456_789
REQUEST = b"POST /a?b HTTP/1.1\r\nHost: a.example\r\nX: 1\r\nX: 2\r\nContent-Length: 9\r\n\r\npartial"
RESPONSE = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
QUESTION = DNS(id=7, qd=DNSQR(qname="a.example", qtype="AAAA"))
ANSWER = DNS(
    id=7,
    qr=1,
    qd=DNSQR(qname="a.example"),
    an=[DNSRR(rrname="a.example", rdata="192.0.2.7"), DNSRR(rrname="a.example", type=65, rdata=b"x")],
)
PADDING = bytes(range(18))
POINT_TO_POINT = (9, 50, 51, 104)  # links that the Packet API leaves as bytes

_MORE = {
    "arp": LAYER / ARP(psrc="192.0.2.1", pdst="192.0.2.2") / Raw(PADDING),
    "padding": LAYER / IP(bytes(V4 / TCP())) / Raw(PADDING),
    "vlan and padding": LAYER / Dot1Q(vlan=9) / IP(bytes(V4 / UDP())) / Raw(PADDING),
    "request": LAYER / V4 / TCP(dport=8080, flags="PA") / Raw(REQUEST),
    "response": LAYER / V6 / TCP(sport=80, flags="PA") / Raw(RESPONSE),
    "question": LAYER / V4 / UDP(sport=40000, dport=53) / QUESTION,
    "answer": LAYER / V6 / UDP(sport=53, dport=40000) / ANSWER,
    "datagram": LAYER / V4 / UDP(sport=1, dport=2) / Raw(b"hello"),
    "echo": LAYER / V4 / ICMP(id=1, seq=2) / Raw(b"ping"),
    "unreachable": LAYER / V4 / ICMP(type=3, code=3) / Raw(bytes(IPerror(src="192.0.2.9") / TCPerror(dport=9))[:28]),
    "echo 6": LAYER / V6 / ICMPv6EchoRequest(id=1, seq=2, data=b"ping"),
    "neighbour": LAYER / V6 / ICMPv6ND_NS(tgt="2001:db8::9"),
    "first fragment": LAYER / IP(flags="MF", proto=17) / Raw(struct.pack(">HHHH", 53, 53, 4000, 0) + bytes(16)),
    "later fragment": LAYER / IP(frag=5, proto=17) / Raw(bytes(24)),
    "later fragment 6": LAYER / V6 / IPv6ExtHdrFragment(offset=3, nh=6) / Raw(bytes(24)),
    "mpls": LAYER / MPLS(label=16, s=0) / MPLS(label=17, s=1) / V4 / SEGMENT,
    "vlan and mpls": LAYER / Dot1Q(vlan=5) / MPLS(label=17, s=1) / V6 / SEGMENT,
    "pseudowire": LAYER / MPLS(label=17, s=1) / Raw(bytes(4) + bytes(LAYER / V4 / SEGMENT)),
    "pppoe": LAYER / PPPoE(sessionid=7) / PPP(proto=0x21) / V4 / SEGMENT,
    "pppoe discovery": Ether(src=LAYER.src, dst=LAYER.dst, type=0x8863) / PPPoE(code=9) / Raw(b"tags"),
    "gre": LAYER / V4 / GRE(key_present=1, key=5, seqnum_present=1, sequence_number=1) / V6 / SEGMENT,
    "gre ethernet": LAYER / V4 / GRE(proto=0x6558) / LAYER / V4 / SEGMENT,
    "ip in ip": LAYER / V4 / V6 / V4 / SEGMENT,
    "ah": LAYER / V4 / AH(nh=6, payloadlen=4, icv=b"0123456789ab") / SEGMENT,
    "ah 6": LAYER / V6 / AH(nh=6, payloadlen=4, icv=b"0123456789ab") / SEGMENT,
    "stp": Dot3(src="02:00:00:00:00:01", dst="01:80:c2:00:00:00") / LLC(dsap=0x42, ssap=0x42) / STP() / Raw(bytes(8)),
    "snap": Dot3(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / LLC() / SNAP(code=0x800) / V4 / SEGMENT,
    "unknown type": Ether(src=LAYER.src, dst=LAYER.dst, type=0x88B5) / Raw(b"experiment"),
    "unknown protocol": LAYER / IP(proto=253) / Raw(b"experiment"),
    "igmp": LAYER / IP(proto=2) / Raw(bytes.fromhex("1600f9ff e0000006")),
}
FRAMES: dict[str, tuple[int, bytes]] = {
    name: (sample.link_type, sample.frame) for name, sample in LINKS.items() if sample.link_type not in POINT_TO_POINT
} | {name: (ETHERNET, bytes(packet)) for name, packet in _MORE.items()}


def packet(name: str) -> Packet:
    """One of them, as captured whole."""
    link_type, data = FRAMES[name]
    return of(data, link_type=link_type)


def of(data: bytes, *, wirelen: int = 0, link_type: int = ETHERNET, interface: str = "eth0") -> Packet:
    """A packet of these bytes."""
    return Packet(data, Metadata(START_NS, len(data), wirelen or len(data), interface), link_type)


def names(decoded: Packet) -> list[str]:
    """The names of its layers."""
    return [type(layer).__name__ for layer in decoded.layers]
