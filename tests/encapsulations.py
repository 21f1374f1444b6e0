"""Ways to put a frame or an IP packet into something else, made by scapy, and by hand where scapy does not know how.

A way is a function (payload, kind, away) -> (bytes, kind). `kind` says what the bytes are: FRAME (Ethernet), 4 or 6 (an
IP packet). `away` is the direction: addresses, ports, labels and keys of an outer header differ per direction, as they
do on real networks, so that nothing but the inner flow can bring the two directions together.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from scapy.contrib.erspan import ERSPAN_I, ERSPAN_II, ERSPAN_III, ERSPAN_PlatformSpecific
from scapy.contrib.geneve import GENEVE, GeneveOptions
from scapy.contrib.gtp import GTP_U_Header
from scapy.contrib.mpls import MPLS, EoMCW
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop
from scapy.layers.l2 import GRE, GRE_PPTP, LLC, SNAP, Dot1AD, Dot1Q, Dot3, Ether
from scapy.layers.ppp import PPP, PPPoE
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

FRAME = 0
Made = tuple[bytes, int]
Wrap = Callable[[bytes, int, bool], Made]

_ETHERTYPE = {4: 0x0800, 6: 0x86DD, FRAME: 0x6558}
_PROTOCOL = {4: 4, 6: 41}
_MACS = ("02:00:00:00:00:0a", "02:00:00:00:00:0b")


def _ends(pair: tuple[str, str], away: bool) -> dict[str, str]:
    return dict(zip(("src", "dst"), pair if away else pair[::-1], strict=True))


def ether(away: bool, **fields: object) -> Packet:
    return Ether(**_ends(_MACS, away), **fields)


def ipv4(away: bool, **fields: object) -> Packet:
    return IP(**_ends(("203.0.113.1", "203.0.113.2"), away), **fields)


def ipv6(away: bool, **fields: object) -> Packet:
    return IPv6(**_ends(("2001:db8:f::1", "2001:db8:f::2"), away), **fields)


def udp(away: bool, port: int) -> Packet:
    """To the port of a tunnel, from a port that a hash of the inner flow has chosen."""
    return ipv4(away) / UDP(sport=49152 if away else 61000, dport=port)


def framed(payload: bytes, kind: int, away: bool) -> bytes:
    """The payload as an Ethernet frame."""
    return payload if kind == FRAME else bytes(ether(away, type=_ETHERTYPE[kind]) / Raw(payload))


@dataclass(frozen=True)
class Way:
    """One encapsulation: what it can carry, how many tunnels it is, how it is made."""

    takes: tuple[int, ...]
    tunnels: int
    wrap: Wrap


WAYS: dict[str, Way] = {}


def way(name: str, takes: Iterable[int], tunnels: int = 1) -> Callable[[Wrap], Wrap]:
    def keep(wrap: Wrap) -> Wrap:
        WAYS[name] = Way(tuple(takes), tunnels, wrap)
        return wrap

    return keep


IP_ONLY, ANY = (4, 6), (FRAME, 4, 6)


def _in_frame(
    name: str, header: Callable[[int, bool], Packet], tunnels: int = 0, takes: Iterable[int] = IP_ONLY
) -> None:
    def wrap(payload: bytes, kind: int, away: bool) -> Made:
        return bytes(header(kind, away) / Raw(payload)), FRAME

    way(name, takes, tunnels)(wrap)


def _in_ip(name: str, header: Callable[[int, bool], Packet], takes: Iterable[int] = IP_ONLY) -> None:
    def wrap(payload: bytes, kind: int, away: bool) -> Made:
        made = bytes(header(kind, away) / Raw(payload))
        return made, made[0] >> 4

    way(name, takes)(wrap)


def _snap(kind: int, away: bool) -> Packet:
    return Dot3(**_ends(_MACS, away)) / LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / SNAP(code=_ETHERTYPE[kind])


def _label(away: bool, bottom: int = 1) -> Packet:
    return MPLS(label=1000 if away else 2000, s=bottom, ttl=64)


def _ppp(kind: int) -> Packet:
    return PPP(proto={4: 0x0021, 6: 0x0057}[kind])


def _session(away: bool) -> Packet:
    return ether(away, type=0x8864) / PPPoE(sessionid=7)


_in_frame("vlan", lambda kind, away: ether(away) / Dot1Q(vlan=7, type=_ETHERTYPE[kind]))
_in_frame("qinq", lambda kind, away: ether(away) / Dot1AD(vlan=8) / Dot1Q(vlan=7, type=_ETHERTYPE[kind]))
_in_frame("snap", _snap)
_in_frame("mpls", lambda kind, away: ether(away, type=0x8847) / _label(away))
_in_frame(
    "mpls, three labels", lambda kind, away: ether(away, type=0x8847) / _label(away, 0) / _label(away, 0) / _label(away)
)
_in_frame("vlan and mpls", lambda kind, away: ether(away) / Dot1Q(vlan=7, type=0x8847) / _label(away))
_in_frame("pseudo-wire", lambda kind, away: ether(away, type=0x8847) / _label(away) / EoMCW(seq=5), 1, (FRAME,))
_in_frame("pseudo-wire without control word", lambda kind, away: ether(away, type=0x8847) / _label(away), 1, (FRAME,))
_in_frame("pppoe", lambda kind, away: _session(away) / _ppp(kind))
_in_frame("pppoe with address and control", lambda kind, away: _session(away) / Raw(b"\xff\x03") / _ppp(kind))
_in_frame("pppoe, short protocol", lambda kind, away: _session(away) / Raw({4: b"\x21", 6: b"\x57"}[kind]))
_in_frame("pppoe and mpls", lambda kind, away: _session(away) / PPP(proto=0x0281) / _label(away))

_in_ip("ipv4", lambda kind, away: ipv4(away, proto=_PROTOCOL[kind]))
_in_ip("ipv4 with options", lambda kind, away: ipv4(away, proto=_PROTOCOL[kind], options=b"\x01" * 8))
_in_ip("ipv6", lambda kind, away: ipv6(away, nh=_PROTOCOL[kind]))
_in_ip(
    "ipv6 with extensions", lambda kind, away: ipv6(away) / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt(nh=_PROTOCOL[kind])
)
_in_ip("gre", lambda kind, away: ipv4(away) / GRE(proto=_ETHERTYPE[kind]), ANY)
_in_ip("gre over ipv6", lambda kind, away: ipv6(away) / GRE(proto=_ETHERTYPE[kind]), ANY)
_in_ip(
    "gre with every option",
    lambda kind, away: (
        ipv4(away)
        / GRE(
            proto=_ETHERTYPE[kind], chksum_present=1, key_present=1, key=5 + away, seqnum_present=1, sequence_number=9
        )
    ),
    ANY,
)
_in_ip("gre and mpls", lambda kind, away: ipv4(away) / GRE(proto=0x8847) / _label(away))
_in_ip("nvgre", lambda kind, away: ipv4(away) / GRE(proto=0x6558, key_present=1, key=0x123456FF), (FRAME,))
_in_ip(
    "pptp",
    lambda kind, away: (
        ipv4(away) / GRE_PPTP(payload_len=99, call_id=1 + away, seqnum_present=1, sequence_number=3) / _ppp(kind)
    ),
)
_in_ip(
    "pptp that acknowledges",
    lambda kind, away: (
        ipv4(away)
        / GRE_PPTP(payload_len=9, call_id=1, seqnum_present=1, sequence_number=3, acknum_present=1, ack_number=2)
        / Raw(b"\xff\x03")
        / _ppp(kind)
    ),
)
_in_ip("erspan 1", lambda kind, away: ipv4(away) / GRE(proto=0x88BE) / ERSPAN_I(), (FRAME,))
_in_ip(
    "erspan 2",
    lambda kind, away: (
        ipv4(away) / GRE(proto=0x88BE, seqnum_present=1, sequence_number=1) / ERSPAN_II(vlan=7, session_id=9, t=1)
    ),
    (FRAME,),
)
_in_ip(
    "erspan 3",
    lambda kind, away: (
        ipv4(away) / GRE(proto=0x22EB, seqnum_present=1, sequence_number=1) / ERSPAN_III(hw=63, gra=3, d=away)
    ),
    (FRAME,),
)
_in_ip(
    "erspan 3 with subheader",
    lambda kind, away: (
        ipv4(away)
        / GRE(proto=0x22EB, seqnum_present=1, sequence_number=1)
        / ERSPAN_III(o=1)
        / ERSPAN_PlatformSpecific(platf_id=3)
    ),
    (FRAME,),
)
_in_ip(
    "erspan 3 of an IP packet",
    lambda kind, away: ipv4(away) / GRE(proto=0x22EB, seqnum_present=1, sequence_number=1) / ERSPAN_III(ft=2),
)
_in_ip("gre in udp", lambda kind, away: udp(away, 4754) / GRE(proto=_ETHERTYPE[kind]), ANY)
_in_ip("vxlan", lambda kind, away: udp(away, 4789) / VXLAN(vni=5), (FRAME,))
_in_ip("vxlan of old Linux", lambda kind, away: udp(away, 8472) / VXLAN(vni=5), (FRAME,))
_in_ip("vxlan with group policy", lambda kind, away: udp(away, 4789) / VXLAN(flags=0x88, gpid=3, vni=5), (FRAME,))
_in_ip("vxlan over ipv6", lambda kind, away: ipv6(away) / UDP(sport=50000 + away, dport=4789) / VXLAN(vni=5), (FRAME,))
_in_ip(
    "vxlan-gpe",
    lambda kind, away: udp(away, 4790) / VXLAN(flags=0x0C, NextProtocol={4: 1, 6: 2, FRAME: 3}[kind], vni=5),
    ANY,
)
_in_ip("vxlan-gpe without a type", lambda kind, away: udp(away, 4790) / VXLAN(flags=0x08, vni=5), (FRAME,))
_in_ip("geneve", lambda kind, away: udp(away, 6081) / GENEVE(proto=_ETHERTYPE[kind], vni=5), ANY)
_in_ip(
    "geneve with critical options",
    lambda kind, away: (
        udp(away, 6081)
        / GENEVE(proto=_ETHERTYPE[kind], critical=1, options=[GeneveOptions(classid=0x0108, type=0x81, data=b"x" * 8)])
    ),
    ANY,
)


def _gtp(away: bool, flags: int, rest: bytes, payload: bytes) -> bytes:
    head = struct.pack(">BBHI", flags, 0xFF, len(rest) + len(payload), 0x1000 + away)
    return bytes(ipv4(away) / UDP(sport=2152, dport=2152) / Raw(head + rest + payload))


@way("gtp", IP_ONLY)
def _(payload: bytes, kind: int, away: bool) -> Made:
    header = GTP_U_Header(gtp_type=255, teid=0x1000 + away, length=len(payload))
    return bytes(ipv4(away) / UDP(sport=2152, dport=2152) / header / Raw(payload)), 4


@way("gtp with a sequence number", IP_ONLY)
def _(payload: bytes, kind: int, away: bool) -> Made:
    return _gtp(away, 0x32, b"\x00\x07\x00\x85", payload), 4  # no E flag: the next type says nothing


@way("gtp with extension headers", IP_ONLY)
def _(payload: bytes, kind: int, away: bool) -> Made:
    return _gtp(away, 0x37, b"\0\x07\0\x85" + b"\x01\x10\x09\xc0" + b"\x02\0\0\0\0\0\0\0", payload), 4


def _teredo(payload: bytes, away: bool, before: bytes) -> Made:
    ports = {"sport": 51234, "dport": 3544}
    made = ipv4(away) / UDP(**(ports if away else dict(zip(ports, (3544, 51234), strict=True)))) / Raw(before + payload)
    return bytes(made), 4


@way("teredo", (6,))
def _(payload: bytes, kind: int, away: bool) -> Made:
    return _teredo(payload, away, b"")


@way("teredo with an origin", (6,))
def _(payload: bytes, kind: int, away: bool) -> Made:
    return _teredo(payload, away, b"\0\0" + b"\x12\x34" + b"\x11\x22\x33\x44")


@way("teredo with authentication and origin", (6,))
def _(payload: bytes, kind: int, away: bool) -> Made:
    authentication = b"\0\x01" + b"\x03\x05" + b"cid" + b"value" + b"nonce-08" + b"\0"
    return _teredo(payload, away, authentication + b"\0\0" + b"\x12\x34" + b"\x11\x22\x33\x44")


def wrapped(names: Iterable[str], packet: bytes, away: bool = True) -> bytes:
    """An Ethernet frame with an IP packet in it, inside the ways that are named from the outside in."""
    made, kind = packet, packet[0] >> 4
    for name in reversed(list(names)):
        if kind not in WAYS[name].takes:
            assert FRAME in WAYS[name].takes, f"{name} cannot carry IPv{kind}"
            made, kind = framed(made, kind, away), FRAME
        made, kind = WAYS[name].wrap(made, kind, away)
    return framed(made, kind, away)


def carries(name: str, kind: int) -> bool:
    """Return whether a way can carry such a payload, as it is or in an Ethernet frame."""
    return kind in WAYS[name].takes or (kind != FRAME and FRAME in WAYS[name].takes)


def tunnels(names: Iterable[str]) -> int:
    """Return the number of tunnels on the way to the inside."""
    return sum(WAYS[name].tunnels for name in names)
