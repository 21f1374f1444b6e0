"""Layers of a frame, in dpkt's own objects, one header at a time.

dpkt's constructors decode all inner layers at once: they hide errors, lose the whole frame to an exception deep inside,
and recurse without a limit. So this module unpacks each header alone, checks its length fields against the bytes
present, and finds the next layer in dpkt's tables. A faulty layer ends the decoding with a DecodeError of its name,
position and reason; the layers before it stay.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import dpkt

from appliance.packet.application_layers import dns_layer, http_layer
from appliance.packet.layer_decoder import (
    INNER,
    LEAF,
    LayerDecoder,
    LayerSpan,
    NextLayer,
    Step,
    TruncatedHeader,
    UnknownLayer,
    leaf,
)

Ethernet = dpkt.ethernet.Ethernet
IP, IP6, TCP, UDP = dpkt.ip.IP, dpkt.ip6.IP6, dpkt.tcp.TCP, dpkt.udp.UDP
VLAN, MPLS = dpkt.ethernet.VLANtag8021Q, dpkt.ethernet.MPLSlabel


def decode(data: bytes, link_type: int, wirelen: int = 0) -> LayerDecoder:
    """Decode the layers of a frame of a link type (a DLT_ or LINKTYPE_ number). Never raises."""
    decoder = LayerDecoder(data, max(wirelen, len(data)))
    first = LINKS.get(link_type)
    if first is None:
        decoder.fail("frame", 0, f"link type {link_type} is not decoded")
        return decoder
    return decoder.run(NextLayer(first[0], first[1], 0, len(data)))


# -- what follows ------------------------------------------------------------------------------------------------------


def by_type(decoder: LayerDecoder, part: LayerSpan, kind: int) -> NextLayer | None:
    """Return the layer of an Ethernet type, behind VLAN tags and MPLS labels. Raises TruncatedHeader, UnknownLayer."""
    layer = part.layer
    while kind in VLAN_TYPES:
        tag = decoder.inner(part, VLAN).layer
        layer.vlan_tags = [*getattr(layer, "vlan_tags", ()), tag]
        kind = tag.type
    if kind in MPLS_TYPES:
        return by_label(decoder, part)
    if 0 < kind <= 1500 and isinstance(layer, (Ethernet, dpkt.sll.SLL, dpkt.sll2.SLL2)):
        return by_length(decoder, part, kind)
    step = TYPES.get(kind)
    if step is None:
        raise UnknownLayer(f"type 0x{kind:04x} is not decoded")
    return NextLayer(*step, part.body, part.stop)


def by_label(decoder: LayerDecoder, part: LayerSpan) -> NextLayer | None:
    """Return the layer behind an MPLS stack. Labels do not name it, so its first bytes decide (RFC 4928)."""
    part.layer.mpls_labels = []
    bottom = 0
    while not bottom:
        label = decoder.inner(part, MPLS).layer
        part.layer.mpls_labels.append(label)
        bottom = label.s
    decoder.need(1, part.body, part.stop)
    version = decoder.data[part.body] >> 4
    at = part.body
    if version in (4, 6) and not _followed(decoder.data, at + 12):
        return by_version(decoder, part.body, part.stop)
    if decoder.data[at : at + 2] == b"\0\0" and (
        _followed(decoder.data, at + 16) or not _followed(decoder.data, at + 12)
    ):
        part.body += 4  # a control word (RFC 4448)
        part.gap = 4
    return NextLayer("Ethernet", ethernet, part.body, part.stop)


def _followed(data: bytes, at: int) -> bool:
    """Return whether the bytes are an Ethernet type that can precede a flow, or a length and SNAP; as in
    tcp_locator.
    """
    kind = int.from_bytes(data[at : at + 2], "big")
    return kind in FLOW_TYPES or (kind <= 1500 and data[at + 2 : at + 5] == b"\xaa\xaa\x03")


def by_length(decoder: LayerDecoder, part: LayerSpan, length: int) -> NextLayer | None:
    """Return the layer behind an IEEE 802.3 header, whose type field is a length."""
    if isinstance(part.layer, Ethernet):
        decoder.claim(part, part.body + length)
    if decoder.data[part.body : part.body + 2] == b"\xff\xff":  # Novell's raw 802.3
        return NextLayer("IPX", partial(leaf, dpkt.ipx.IPX), part.body, part.stop)
    return NextLayer("LLC", llc, part.body, part.stop)


def by_version(decoder: LayerDecoder, start: int, end: int) -> NextLayer | None:
    """Return IPv4 or IPv6, according to the first four bits."""
    decoder.need(1, start, end)
    if decoder.data[start] >> 4 == 6:
        return NextLayer("IP6", ip6, start, end)
    return NextLayer("IP", ip4, start, end)


def by_protocol(part: LayerSpan, protocol: int) -> NextLayer | None:
    """Return the layer of an IP protocol number. Raises UnknownLayer."""
    if protocol == 59:  # no next header (RFC 8200)
        return None
    step = PROTOCOLS.get(protocol)
    if step is None:
        raise UnknownLayer(f"protocol {protocol} is not decoded")
    return NextLayer(*step, part.body, part.stop)


# -- link layers -------------------------------------------------------------------------------------------------------


def ethernet(decoder: LayerDecoder, start: int, end: int) -> NextLayer | None:
    part = decoder.head(Ethernet, start, end)
    return by_type(decoder, part, part.layer.type)


def llc(decoder: LayerDecoder, start: int, end: int) -> NextLayer | None:
    part = decoder.head(dpkt.llc.LLC, start, end)
    layer = part.layer
    if layer.is_snap:
        layer.oui, layer.type = struct.unpack(">IH", b"\0" + decoder.grow(part, 5))
        return by_type(decoder, part, layer.type)
    step = SAPS.get(layer.dsap)
    if step is None:
        raise UnknownLayer(f"SAP 0x{layer.dsap:02x} is not decoded")
    return NextLayer(*step, part.body, part.stop)


def cooked(cls: Any, decoder: LayerDecoder, start: int, end: int) -> NextLayer | None:
    """Decode Linux cooked capture, version 1 or 2."""
    part = decoder.head(cls, start, end)
    if part.layer.ethtype == 4:  # LINUX_SLL_P_802_2: no length, LLC at once
        return NextLayer("LLC", llc, part.body, part.stop)
    return by_type(decoder, part, part.layer.ethtype)


def loopback(decoder: LayerDecoder, start: int, end: int) -> NextLayer | None:
    layer = (part := decoder.head(dpkt.loopback.Loopback, start, end)).layer
    if layer.family > 0xFFFF:  # written by a machine of the other byte order
        layer.family = int.from_bytes(layer.family.to_bytes(4, "little"), "big")
    if layer.family == 2:
        return NextLayer("IP", ip4, part.body, part.stop)
    if layer.family in (10, 24, 28, 30):  # AF_INET6 of Linux, BSD, FreeBSD and Darwin
        return NextLayer("IP6", ip6, part.body, part.stop)
    raise UnknownLayer(f"address family {layer.family} is not decoded")


def raw(decoder: LayerDecoder, start: int, end: int) -> NextLayer | None:
    return by_version(decoder, start, end)


def pppoe(decoder: LayerDecoder, start: int, end: int) -> NextLayer | None:
    part = decoder.head(dpkt.pppoe.PPPoE, start, end)
    decoder.claim(part, part.head + part.layer.len)
    return NextLayer("PPP", ppp, part.body, part.stop) if part.layer.code == 0 else None


def ppp(decoder: LayerDecoder, start: int, end: int) -> NextLayer | None:
    """Decode PPP with or without address and control field; its protocol has one or two bytes."""
    decoder.need(1, start, end)
    part = decoder.head(dpkt.ppp.PPP if decoder.data[start] == 0xFF else dpkt.pppoe.PPP, start, end)
    layer = part.layer
    if layer.p & 1 == 0:
        layer.p = layer.p << 8 | decoder.grow(part, 1)[0]
    if layer.p == 0x21:
        return NextLayer("IP", ip4, part.body, part.stop)
    if layer.p == 0x57:
        return NextLayer("IP6", ip6, part.body, part.stop)
    if layer.p in (0x281, 0x283):
        return by_label(decoder, part)
    if layer.p & 0x8000:  # control protocols: link, authentication, addresses
        return None
    raise UnknownLayer(f"PPP protocol 0x{layer.p:04x} is not decoded")


def arp(decoder: LayerDecoder, start: int, end: int) -> None:
    part = decoder.head(dpkt.arp.ARP, start, end)
    part.stop = part.head  # the rest is padding


# -- network layers ----------------------------------------------------------------------------------------------------


def ip4(decoder: LayerDecoder, start: int, end: int) -> NextLayer | None:
    decoder.need(1, start, end)
    if decoder.data[start] >> 4 != 4:
        raise UnknownLayer(f"its version is {decoder.data[start] >> 4}")
    part = decoder.head(IP, start, end)
    layer = part.layer
    options = layer.hl * 4 - 20
    if options < 0:
        part.stop = part.end
        raise UnknownLayer(f"its header length is {layer.hl * 4}")
    layer.opts = decoder.grow(part, options)
    if layer.len:  # 0 if the card segments the packet later (TSO)
        decoder.claim(part, start + layer.len)
    if layer.offset:
        return None
    decoder.fragment |= bool(layer.mf)
    return by_protocol(part, layer.p)


def ip6(decoder: LayerDecoder, start: int, end: int) -> NextLayer | None:
    decoder.need(1, start, end)
    if decoder.data[start] >> 4 != 6:
        raise UnknownLayer(f"its version is {decoder.data[start] >> 4}")
    part = decoder.head(IP6, start, end)
    layer = part.layer
    layer.extension_hdrs, layer.all_extension_headers = {}, []
    if layer.plen:  # 0 in a jumbogram, or if the card segments the packet later
        decoder.claim(part, part.head + layer.plen)
    following = layer.nxt
    while following in EXTENSIONS:
        cls = EXTENSIONS[following]
        decoder.allow()
        decoder.need(8, part.body, part.stop)
        units = decoder.data[part.body + 1]
        size = 8 if following == 44 else (units + 2) * 4 if following == 51 else (units + 1) * 8
        decoder.need(size, part.body, part.stop)
        extension = cls(decoder.data[part.body : part.body + size])
        decoder.add(extension, part.body, part.body + size, part.stop, INNER)
        layer.extension_hdrs[following] = extension
        layer.all_extension_headers.append(extension)
        part.body += size
        following = layer.p = extension.nxt
        if isinstance(extension, dpkt.ip6.IP6FragmentHeader):
            if extension.frag_off:
                return None
            decoder.fragment |= bool(extension.m_flag)
    layer.p = following
    return by_protocol(part, following)


def gre(decoder: LayerDecoder, start: int, end: int) -> NextLayer | None:
    part = decoder.head(dpkt.gre.GRE, start, end)
    layer = part.layer
    if layer.flags & dpkt.gre.GRE_RP:
        raise UnknownLayer("source routes are not decoded")
    names, formats = layer.opt_fields_fmts()
    form = "!" + "".join(formats)
    for name, value in zip(names, struct.unpack(form, decoder.grow(part, struct.calcsize(form))), strict=True):
        setattr(layer, name, value)
    if layer.v == 1 and (layer.len == 0 or part.body == part.stop):  # a bare acknowledgement
        return None
    return by_type(decoder, part, layer.p)


def ah(decoder: LayerDecoder, start: int, end: int) -> NextLayer | None:
    part = decoder.head(dpkt.ah.AH, start, end)
    part.layer.auth = decoder.grow(part, max(0, part.layer.len * 4 - 4))
    return by_protocol(part, part.layer.nxt)


def icmp(cls: Any, quoted: NextLayer, decoder: LayerDecoder, start: int, end: int) -> None:
    """Decode ICMP for either IP. The packet that an error quotes is inside its layer, and is no layer of this frame."""
    part = decoder.head(cls, start, end)
    child = cls._typesw.get(part.layer.type)
    if child is None:
        return
    room = part.body, part.stop
    message = decoder.head(child, *room)
    if not issubclass(child, cls.Echo):
        message.kind, message.head = LEAF, message.stop
        message.layer.data = decoder.data[message.body : message.stop]
        if not decoder.quoted:  # there are no errors about errors (RFC 1122 section 3.2.2)
            quote = LayerDecoder(decoder.data, quoted=True).run(quoted._replace(start=message.body, end=message.stop))
            message.layer.data = quote.parts[0].layer if quote.parts else message.layer.data


# -- transport layers ----------------------------------------------------------------------------------


def tcp(decoder: LayerDecoder, start: int, end: int) -> NextLayer | None:
    part = decoder.head(TCP, start, end)
    options = part.layer.off * 4 - 20
    if options < 0:
        raise UnknownLayer(f"its header length is {part.layer.off * 4}")
    part.layer.opts = decoder.grow(part, min(options, end - part.head))
    if part.head - start < part.layer.off * 4:
        raise TruncatedHeader(part.layer.off * 4, start, end)
    return None if decoder.fragment else http_layer(decoder, part)


def udp(decoder: LayerDecoder, start: int, end: int) -> NextLayer | None:
    part = decoder.head(UDP, start, end)
    if part.layer.ulen:  # 0 above 65535 bytes, or before segmentation
        decoder.claim(part, start + part.layer.ulen)
    if decoder.fragment or part.body == part.stop:
        return None
    if 53 not in (part.layer.sport, part.layer.dport):
        return DATAGRAMS[0](decoder, part) if DATAGRAMS else None
    return dns_layer(part)


class IP6OtherHeader(dpkt.ip6.IP6ExtensionHeader):  # type: ignore[misc]
    """An extension header that dpkt lacks: next header, its length in units of 8 bytes, the rest."""

    __hdr__ = (("nxt", "B", 0), ("len", "B", 0))


# Functions that find a tunnel in UDP: tunnel_layers adds it.
DATAGRAMS: list[Callable[[LayerDecoder, LayerSpan], NextLayer | None]] = []
VLAN_TYPES = (0x8100, 0x88A8, 0x9100, 0x9200)
MPLS_TYPES = (0x8847, 0x8848)
FLOW_TYPES = (0x0800, 0x86DD, 0x8864, 0x8847, 0x8100, 0x88A8, 0x9100)
TYPES: dict[int, Step] = {
    kind: (cls.__name__, partial(leaf, cls)) for kind, cls in Ethernet._typesw.items()
} | {
    0x0800: ("IP", ip4),
    0x86DD: ("IP6", ip6),
    0x0806: ("ARP", arp),
    0x6558: ("Ethernet", ethernet),  # transparent Ethernet bridging
    0x880B: ("PPP", ppp),
    0x8863: ("PPPoE", pppoe),
    0x8864: ("PPPoE", pppoe),
}  # fmt: skip
SAPS: dict[int, Step] = {
    0x06: ("IP", ip4),
    0x10: ("IPX", partial(leaf, dpkt.ipx.IPX)),
    0xE0: ("IPX", partial(leaf, dpkt.ipx.IPX)),
    0x42: ("STP", partial(leaf, dpkt.stp.STP)),
}
PROTOCOLS: dict[int, Step] = {
    # dpkt takes 0 for IP and 118 for spanning tree: 0 is a header of IPv6, and 118 another protocol.
    number: (cls.__name__, partial(leaf, cls)) for number, cls in IP._protosw.items() if number not in (0, 118)
} | {
    1: ("ICMP", partial(icmp, dpkt.icmp.ICMP, NextLayer("IP", ip4, 0, 0))),
    4: ("IP", ip4),
    6: ("TCP", tcp),
    17: ("UDP", udp),
    41: ("IP6", ip6),
    47: ("GRE", gre),
    51: ("AH", ah),
    58: ("ICMP6", partial(icmp, dpkt.icmp6.ICMP6, NextLayer("IP6", ip6, 0, 0))),
}  # fmt: skip
EXTENSIONS: dict[int, Any] = {number: cls for number, cls in dpkt.ip6.EXT_HDRS_CLS.items() if number != 50}  # not ESP
EXTENSIONS |= dict.fromkeys((135, 139, 140), IP6OtherHeader)  # Mobility, HIP, Shim6 (RFC 7045)
LINKS: dict[int, Step] = {
    1: ("Ethernet", ethernet),
    0: ("Loopback", loopback),
    108: ("Loopback", loopback),
    113: ("SLL", partial(cooked, dpkt.sll.SLL)),
    276: ("SLL2", partial(cooked, dpkt.sll2.SLL2)),
    **dict.fromkeys((12, 14, 101, 228, 229), ("IP", raw)),
}
