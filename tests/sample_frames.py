"""Sample frames that end with one TCP segment each: every link type, tag, IP header and way of wrapping."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from encapsulations import WAYS, carries, wrapped
from models.decode import ETHERNET, LOOP, NULL, RAW, SLL, SLL2
from scapy.layers.dot11 import Dot11, Dot11QoS, RadioTap
from scapy.layers.inet import IP, TCP, IPOption_NOP, IPOption_Timestamp
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import LLC, SNAP, CookedLinux, CookedLinuxV2, Dot1AD, Dot1Q, Dot3, Ether, Loopback
from scapy.packet import Packet, Raw

PPP, PPP_SERIAL, PPP_ETHER, C_HDLC = 9, 50, 51, 104
DOT11, RADIOTAP, PPI, NFLOG = 105, 127, 192, 239
MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}
LAYER = Ether(**MACS)
V4 = IP(src="192.0.2.1", dst="198.51.100.2")
V6 = IPv6(src="2001:db8::1", dst="2001:db8::2")
SEGMENT = TCP(sport=40000, dport=80, flags="PA") / Raw(b"GET / HTTP/1.1\r\n\r\n")
OPTIONS = TCP(sport=40000, dport=80, options=[("MSS", 1460), ("Timestamp", (1, 2))]) / Raw(b"x")
LINK = LLC(dsap=0xAA, ssap=0xAA, ctrl=3)
HOPS = {f"addr{number}": f"02:00:00:00:00:0{number}" for number in (1, 2, 3)}
AIR = Dot11(type=2, subtype=0, FCfield=2, **HOPS)
IN_AIR = LINK / SNAP(code=0x0800)
INSIDE = {4: bytes(V4 / SEGMENT), 6: bytes(V6 / SEGMENT)}

HOP_BY_HOP, ROUTING, FRAGMENT, AH, DESTINATION, MOBILITY, HIP, SHIM6 = 0, 43, 44, 51, 60, 135, 139, 140
EXTENSIONS = (HOP_BY_HOP, ROUTING, FRAGMENT, AH, DESTINATION, MOBILITY, HIP, SHIM6)


class Sample(NamedTuple):
    """A frame, where scapy (or the builder) has put its TCP header, the segment's length."""

    link_type: int
    frame: bytes
    tcp: int
    tcp_length: int


def extension(kind: int, following: int, units: int = 0) -> bytes:
    """One IPv6 extension header, longer than it must be by some units of 8 bytes (AH: of 4)."""
    if kind == FRAGMENT:
        return bytes((following, 0, 0, 0, 1, 2, 3, 4))  # atomic
    if kind == AH:
        return bytes((following, 1 + units)) + bytes(10 + 4 * units)
    return bytes((following, units)) + bytes(6 + 8 * units)


def chained(kinds: Sequence[int], last: int = 6, payload: bytes = bytes(SEGMENT), units: Sequence[int] = ()) -> bytes:
    """An IPv6 packet with these extension headers; the checksum is not right, nobody here looks."""
    sizes = [*units, *[0] * (len(kinds) - len(units))]
    named = [*kinds[1:], last]
    headers = b"".join(map(extension, kinds, named, sizes))
    first = kinds[0] if kinds else last
    head = struct.pack(">IHBB", 0x60000000, (len(headers) + len(payload)) & 0xFFFF, first, 64)
    return head + bytes(V6)[8:40] + headers + payload


def six(packet: bytes) -> bytes:
    """An IPv6 packet in an Ethernet frame."""
    return bytes(LAYER)[:12] + b"\x86\xdd" + packet


_LINKS: dict[str, tuple[int, Packet]] = {
    "ipv4": (ETHERNET, LAYER / V4 / SEGMENT),
    "tcp options": (ETHERNET, LAYER / V4 / OPTIONS),
    "no payload": (ETHERNET, LAYER / V4 / TCP()),
    "ipv4 options": (ETHERNET, LAYER / IP(options=[IPOption_NOP(), IPOption_Timestamp()]) / SEGMENT),
    "don't fragment": (ETHERNET, LAYER / IP(flags="DF") / SEGMENT),
    "ipv6": (ETHERNET, LAYER / V6 / SEGMENT),
    "ipv6 hop by hop": (ETHERNET, LAYER / V6 / IPv6ExtHdrHopByHop() / SEGMENT),
    "ipv6 chain": (ETHERNET, LAYER / V6 / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / SEGMENT),
    "ipv6 routing": (ETHERNET, LAYER / V6 / IPv6ExtHdrRouting(addresses=["2001:db8::9"]) / SEGMENT),
    "ipv6 atomic fragment": (ETHERNET, LAYER / V6 / IPv6ExtHdrFragment(offset=0, m=0) / SEGMENT),
    "vlan": (ETHERNET, LAYER / Dot1Q(vlan=7) / V4 / SEGMENT),
    "vlan 0": (ETHERNET, LAYER / Dot1Q(vlan=0, prio=5) / V4 / SEGMENT),
    "vlan ipv6": (ETHERNET, LAYER / Dot1Q(vlan=4095) / V6 / SEGMENT),
    "qinq": (ETHERNET, LAYER / Dot1AD(vlan=200) / Dot1Q(vlan=31) / V4 / SEGMENT),
    "old qinq": (ETHERNET, Ether(**MACS, type=0x9100) / Dot1Q(vlan=200) / Dot1Q(vlan=31) / V4 / SEGMENT),
    "three tags": (ETHERNET, LAYER / Dot1AD(vlan=3) / Dot1AD(vlan=2) / Dot1Q(vlan=1) / V4 / SEGMENT),
    "priority between tags": (ETHERNET, LAYER / Dot1AD(vlan=3) / Dot1Q(vlan=0) / Dot1Q(vlan=1) / V4 / SEGMENT),
    "snap": (ETHERNET, Dot3(**MACS) / LINK / SNAP(code=0x0800) / V4 / SEGMENT),
    "snap ipv6": (ETHERNET, Dot3(**MACS) / LINK / SNAP(code=0x86DD) / V6 / SEGMENT),
    "snap of a bridge tunnel": (ETHERNET, Dot3(**MACS) / LINK / SNAP(OUI=0xF8, code=0x0800) / V4 / SEGMENT),
    "tagged snap": (ETHERNET, LAYER / Dot1Q(vlan=7, type=66) / LINK / SNAP(code=0x0800) / V4 / SEGMENT),
    "snap and a tag": (ETHERNET, Dot3(**MACS) / LINK / SNAP(code=0x8100) / Dot1Q(vlan=7) / V4 / SEGMENT),
    "llc ip": (ETHERNET, Dot3(**MACS) / LLC(dsap=6, ssap=6, ctrl=3) / V4 / SEGMENT),
    "cooked": (SLL, CookedLinux() / V4 / SEGMENT),
    "cooked ipv6": (SLL, CookedLinux() / V6 / SEGMENT),
    "cooked vlan": (SLL, CookedLinux(proto=0x8100) / Dot1Q(vlan=7) / V4 / SEGMENT),
    "cooked snap": (SLL, CookedLinux(proto=4) / LINK / SNAP(code=0x0800) / V4 / SEGMENT),
    "cooked 2": (SLL2, CookedLinuxV2() / V4 / SEGMENT),
    "cooked 2 ipv6": (SLL2, CookedLinuxV2() / V6 / SEGMENT),
    "cooked 2 snap": (SLL2, CookedLinuxV2(proto=4) / LINK / SNAP(code=0x0800) / V4 / SEGMENT),
    "cooked 2 vlan": (SLL2, CookedLinuxV2(proto=0x8100) / Dot1Q(vlan=7) / V4 / SEGMENT),
    "raw": (RAW, V4 / SEGMENT),
    "raw ipv6": (RAW, V6 / SEGMENT),
    "raw 12": (12, V4 / SEGMENT),
    "raw 14 ipv6": (14, V6 / SEGMENT),
    "raw 228": (228, V4 / SEGMENT),
    "raw 229 ipv6": (229, V6 / SEGMENT),
    "null": (NULL, Loopback(type=2) / V4 / SEGMENT),
    "null ipv6": (NULL, Loopback(type=30) / V6 / SEGMENT),
    "loop": (LOOP, Raw(b"\0\0\0\x02") / V4 / SEGMENT),
    "ppp": (PPP, Raw(b"\x00\x21") / V4 / SEGMENT),
    "ppp ipv6": (PPP, Raw(b"\xff\x03\x00\x57") / V6 / SEGMENT),
    "serial ppp": (PPP_SERIAL, Raw(b"\xff\x03\x00\x21") / V4 / SEGMENT),
    "serial cisco ipv6": (PPP_SERIAL, Raw(b"\x8f\x00\x86\xdd") / V6 / SEGMENT),
    "ppp-ether": (PPP_ETHER, Raw(b"\x11\x00\x00\x07\x00\x50\x00\x21") / V4 / SEGMENT),
    "c-hdlc": (C_HDLC, Raw(b"\x0f\x00\x08\x00") / V4 / SEGMENT),
    "802.11": (DOT11, AIR / IN_AIR / V4 / SEGMENT),
    "802.11 to the access point, with quality of service": (
        DOT11,
        Dot11(type=2, subtype=8, FCfield=1, **HOPS) / Dot11QoS() / IN_AIR / V4 / SEGMENT,
    ),
    "802.11 between access points, ipv6": (
        DOT11,
        Dot11(type=2, subtype=0, FCfield=3, addr4="02:00:00:00:00:04", **HOPS)
        / LINK
        / SNAP(code=0x86DD)
        / V6
        / SEGMENT,
    ),
    "radiotap": (RADIOTAP, RadioTap(present="Rate", Rate=2) / AIR / IN_AIR / V4 / SEGMENT),
    "radiotap with a check sequence": (
        RADIOTAP,
        Raw(bytes(RadioTap(present="Flags", Flags="FCS")) + bytes(AIR)) / IN_AIR / V4 / SEGMENT,
    ),
    "radiotap that pads": (
        RADIOTAP,
        Raw(
            struct.pack("<BBHIQB7x", 0, 0, 24, 0x3, 1, 0x20)
            + bytes(Dot11(type=2, subtype=8, FCfield=2, **HOPS) / Dot11QoS())
            + bytes(2)
        )
        / IN_AIR
        / V4
        / SEGMENT,
    ),
    "radiotap, an aggregate": (
        RADIOTAP,
        Raw(
            struct.pack("<BBHI", 0, 0, 8, 0)
            + bytes(Dot11(type=2, subtype=8, FCfield=2, **HOPS))
            + b"\x80\x00"
            + bytes(14)
        )
        / IN_AIR
        / V4
        / SEGMENT,
    ),
    "ppi": (PPI, Raw(struct.pack("<BBHI", 0, 0, 12, 105) + b"wxyz") / AIR / IN_AIR / V4 / SEGMENT),
    "ppi of ethernet": (PPI, Raw(struct.pack("<BBHI", 0, 0, 8, 1)) / LAYER / V4 / SEGMENT),
    "nflog": (
        NFLOG,
        Raw(b"\2\0\0\1" + struct.pack("<HHIHH5s3xHH", 8, 1, 7, 9, 10, b"name\0", 4 + len(V4 / SEGMENT), 9))
        / V4
        / SEGMENT,
    ),
    "nflog of the other byte order, ipv6": (
        NFLOG,
        Raw(b"\x0a\0\0\1" + struct.pack(">HHIHH", 8, 1, 7, 4 + len(V6 / SEGMENT), 9)) / V6 / SEGMENT,
    ),
}
LINKS = {
    name: Sample(link_type, bytes(packet), len(packet) - len(packet[TCP]), len(packet[TCP]))
    for name, (link_type, packet) in _LINKS.items()
}


def _ending(link_type: int, frame: bytes) -> Sample:
    return Sample(link_type, frame, len(frame) - len(SEGMENT), len(SEGMENT))


NESTED = (
    ("vlan", "vxlan", "vlan"),
    ("qinq", "ipv4", "gre", "qinq"),
    ("vxlan", "gre", "ipv4"),
    ("mpls", "gre", "pppoe"),
    ("pseudo-wire", "vlan and mpls"),
    ("geneve", "vxlan"),
    ("gtp", "ipv6 with extensions", "gre with every option"),
    ("gre over ipv6", "pseudo-wire without control word", "snap"),
    ("erspan 2", "vxlan", "erspan 3 with subheader"),
    ("ipv6", "ipv4", "ipv6", "ipv4"),
    ("vxlan over ipv6", "qinq", "pptp", "nvgre"),
)
TUNNELLED = {
    f"{name} of ipv{version}": _ending(ETHERNET, wrapped([name], INSIDE[version]))
    for name in WAYS
    for version in (4, 6)
    if carries(name, version)
} | {
    f"{', then '.join(names)}, then ipv{version}": _ending(ETHERNET, wrapped(names, INSIDE[version]))
    for names in NESTED
    for version in (4, 6)
}
CHAINED = {f"ipv6 extension {kind}": _ending(ETHERNET, six(chained([kind], units=[3]))) for kind in EXTENSIONS} | {
    "ipv6 with all extensions": _ending(ETHERNET, six(chained(EXTENSIONS))),
}
SAMPLES = LINKS | CHAINED | TUNNELLED
