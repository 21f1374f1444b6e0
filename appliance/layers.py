"""Layers of a frame, in dpkt's own objects, one header at a time.

dpkt's constructors decode everything inside at once: they stay silent about what did not decode, lose the whole frame
to an exception deep in it, and recurse as deep as the sender likes. So each header is unpacked alone here, its length
fields are held against the bytes that are there, and what follows is looked up in dpkt's tables. Whatever a layer does
wrong ends the walk with a DecodeError that says which layer, where and why; the layers before it stand.
"""

from __future__ import annotations

import io
import re
import struct
from functools import partial
from typing import Any

import dpkt

from appliance.walk import INNER, LEAF, Next, Part, Short, Step, Unknown, Walk

LEAF_BYTES = 4096  # what dpkt decodes to its end, and by steps that copy the rest: work that grows with the square
DNS_BYTES = 2048  # dpkt follows a name's pointers anew for each record: the same, and slower

Ethernet = dpkt.ethernet.Ethernet
IP, IP6, TCP, UDP = dpkt.ip.IP, dpkt.ip6.IP6, dpkt.tcp.TCP, dpkt.udp.UDP
VLAN, MPLS = dpkt.ethernet.VLANtag8021Q, dpkt.ethernet.MPLSlabel


def decode(data: bytes, link_type: int, wirelen: int = 0) -> Walk:
    """The layers of a frame of a link type (a DLT_ or LINKTYPE_ number). Never raises."""
    walk = Walk(data, max(wirelen, len(data)))
    first = LINKS.get(link_type)
    if first is None:
        walk.fail("frame", 0, f"link type {link_type} is not decoded")
        return walk
    return walk.run(Next(first[0], first[1], 0, len(data)))


# -- what follows ------------------------------------------------------------------------------------------------------


def by_type(walk: Walk, part: Part, kind: int) -> Next | None:
    """What an Ethernet type says, behind VLAN tags and MPLS labels. Raises Short, Unknown."""
    layer = part.layer
    while kind in VLAN_TYPES:
        tag = walk.inner(part, VLAN).layer
        layer.vlan_tags = [*getattr(layer, "vlan_tags", ()), tag]
        kind = tag.type
    if kind in MPLS_TYPES:
        return by_label(walk, part)
    if 0 < kind <= 1500 and isinstance(layer, (Ethernet, dpkt.sll.SLL, dpkt.sll2.SLL2)):
        return by_length(walk, part, kind)
    step = TYPES.get(kind)
    if step is None:
        raise Unknown(f"type 0x{kind:04x} is not decoded")
    return Next(*step, part.body, part.stop)


def by_label(walk: Walk, part: Part) -> Next | None:
    """What an MPLS stack carries: labels do not say, its first bytes do (RFC 4928)."""
    part.layer.mpls_labels = []
    bottom = 0
    while not bottom:
        label = walk.inner(part, MPLS).layer
        part.layer.mpls_labels.append(label)
        bottom = label.s
    walk.need(1, part.body, part.stop)
    version = walk.data[part.body] >> 4
    if version in (4, 6):
        return by_version(walk, part.body, part.stop)
    if version == 0 and part.stop - part.body >= 4:  # a control word (RFC 4448); a destination of 0x:… is one too
        part.body += 4
        part.gap = 4
    return Next("Ethernet", ethernet, part.body, part.stop)


def by_length(walk: Walk, part: Part, length: int) -> Next | None:
    """IEEE 802.3, where the type is the length of what follows."""
    if isinstance(part.layer, Ethernet):
        walk.claim(part, part.body + length)
    if walk.data[part.body : part.body + 2] == b"\xff\xff":  # Novell's raw 802.3
        return Next("IPX", partial(leaf, dpkt.ipx.IPX), part.body, part.stop)
    return Next("LLC", llc, part.body, part.stop)


def by_version(walk: Walk, start: int, end: int) -> Next | None:
    """IPv4 or IPv6, as the first four bits say."""
    walk.need(1, start, end)
    if walk.data[start] >> 4 == 6:
        return Next("IP6", ip6, start, end)
    return Next("IP", ip4, start, end)


def by_protocol(part: Part, protocol: int) -> Next | None:
    """What an IP protocol number says. Raises Unknown."""
    if protocol == 59:  # no next header (RFC 8200)
        return None
    step = PROTOCOLS.get(protocol)
    if step is None:
        raise Unknown(f"protocol {protocol} is not decoded")
    return Next(*step, part.body, part.stop)


def leaf(cls: Any, walk: Walk, start: int, end: int, limit: int = LEAF_BYTES) -> None:
    """A layer that dpkt decodes to its end. Raises Unknown for one that is too long, and whatever dpkt raises."""
    if end - start > limit:
        raise Unknown(f"more than {limit} bytes of it are not decoded")
    walk.add(cls(walk.data[start:end]), start, end, end, LEAF)


# -- link layers -------------------------------------------------------------------------------------------------------


def ethernet(walk: Walk, start: int, end: int) -> Next | None:
    part = walk.head(Ethernet, start, end)
    return by_type(walk, part, part.layer.type)


def llc(walk: Walk, start: int, end: int) -> Next | None:
    part = walk.head(dpkt.llc.LLC, start, end)
    layer = part.layer
    if layer.is_snap:
        layer.oui, layer.type = struct.unpack(">IH", b"\0" + walk.grow(part, 5))
        return by_type(walk, part, layer.type)
    step = SAPS.get(layer.dsap)
    if step is None:
        raise Unknown(f"SAP 0x{layer.dsap:02x} is not decoded")
    return Next(*step, part.body, part.stop)


def cooked(cls: Any, walk: Walk, start: int, end: int) -> Next | None:
    """Linux cooked capture, version 1 or 2."""
    part = walk.head(cls, start, end)
    if part.layer.ethtype == 4:  # LINUX_SLL_P_802_2: no length, LLC at once
        return Next("LLC", llc, part.body, part.stop)
    return by_type(walk, part, part.layer.ethtype)


def loopback(walk: Walk, start: int, end: int) -> Next | None:
    layer = (part := walk.head(dpkt.loopback.Loopback, start, end)).layer
    if layer.family > 0xFFFF:  # written by a machine of the other byte order
        layer.family = int.from_bytes(layer.family.to_bytes(4, "little"), "big")
    if layer.family == 2:
        return Next("IP", ip4, part.body, part.stop)
    if layer.family in (10, 24, 28, 30):  # AF_INET6 of Linux, BSD, FreeBSD and Darwin
        return Next("IP6", ip6, part.body, part.stop)
    raise Unknown(f"address family {layer.family} is not decoded")


def raw(walk: Walk, start: int, end: int) -> Next | None:
    return by_version(walk, start, end)


def pppoe(walk: Walk, start: int, end: int) -> Next | None:
    part = walk.head(dpkt.pppoe.PPPoE, start, end)
    walk.claim(part, part.head + part.layer.len)
    return Next("PPP", ppp, part.body, part.stop) if part.layer.code == 0 else None


def ppp(walk: Walk, start: int, end: int) -> Next | None:
    """PPP with or without address and control field; its protocol has one or two bytes."""
    walk.need(1, start, end)
    part = walk.head(dpkt.ppp.PPP if walk.data[start] == 0xFF else dpkt.pppoe.PPP, start, end)
    layer = part.layer
    if layer.p & 1 == 0:
        layer.p = layer.p << 8 | walk.grow(part, 1)[0]
    if layer.p == 0x21:
        return Next("IP", ip4, part.body, part.stop)
    if layer.p == 0x57:
        return Next("IP6", ip6, part.body, part.stop)
    if layer.p & 0x8000:  # control protocols: link, authentication, addresses
        return None
    raise Unknown(f"PPP protocol 0x{layer.p:04x} is not decoded")


def arp(walk: Walk, start: int, end: int) -> None:
    part = walk.head(dpkt.arp.ARP, start, end)
    part.stop = part.head  # the rest is padding


# -- network layers ----------------------------------------------------------------------------------------------------


def ip4(walk: Walk, start: int, end: int) -> Next | None:
    walk.need(1, start, end)
    if walk.data[start] >> 4 != 4:
        raise Unknown(f"its version is {walk.data[start] >> 4}")
    part = walk.head(IP, start, end)
    layer = part.layer
    options = layer.hl * 4 - 20
    if options < 0:
        part.stop = part.end
        raise Unknown(f"its header length is {layer.hl * 4}")
    layer.opts = walk.grow(part, options)
    if layer.len:  # 0 when the card was to cut it into segments
        walk.claim(part, start + layer.len)
    if layer.offset:
        return None
    walk.fragment |= bool(layer.mf)
    return by_protocol(part, layer.p)


def ip6(walk: Walk, start: int, end: int) -> Next | None:
    walk.need(1, start, end)
    if walk.data[start] >> 4 != 6:
        raise Unknown(f"its version is {walk.data[start] >> 4}")
    part = walk.head(IP6, start, end)
    layer = part.layer
    layer.extension_hdrs, layer.all_extension_headers = {}, []
    if layer.plen:  # 0 in a jumbogram, or when the card was to cut it into segments
        walk.claim(part, part.head + layer.plen)
    following = layer.nxt
    while following in EXTENSIONS:
        cls = EXTENSIONS[following]
        walk.allow()
        walk.need(8, part.body, part.stop)
        units = walk.data[part.body + 1]
        size = 8 if following == 44 else (units + 2) * 4 if following == 51 else (units + 1) * 8
        walk.need(size, part.body, part.stop)
        extension = cls(walk.data[part.body : part.body + size])
        walk.add(extension, part.body, part.body + size, part.stop, INNER)
        layer.extension_hdrs[following] = extension
        layer.all_extension_headers.append(extension)
        part.body += size
        following = layer.p = extension.nxt
        if isinstance(extension, dpkt.ip6.IP6FragmentHeader):
            if extension.frag_off:
                return None
            walk.fragment |= bool(extension.m_flag)
    layer.p = following
    return by_protocol(part, following)


def gre(walk: Walk, start: int, end: int) -> Next | None:
    part = walk.head(dpkt.gre.GRE, start, end)
    layer = part.layer
    if layer.flags & dpkt.gre.GRE_RP:
        raise Unknown("source routes are not decoded")
    names, formats = layer.opt_fields_fmts()
    form = "!" + "".join(formats)
    for name, value in zip(names, struct.unpack(form, walk.grow(part, struct.calcsize(form))), strict=True):
        setattr(layer, name, value)
    if layer.v == 1:
        walk.claim(part, part.head + layer.len)
        if part.body == part.stop:  # a mere acknowledgement
            return None
    return by_type(walk, part, layer.p)


def ah(walk: Walk, start: int, end: int) -> Next | None:
    part = walk.head(dpkt.ah.AH, start, end)
    part.layer.auth = walk.grow(part, max(0, part.layer.len * 4 - 4))
    return by_protocol(part, part.layer.nxt)


def icmp(cls: Any, quoted: Next, walk: Walk, start: int, end: int) -> None:
    """ICMP for either IP. What an error quotes is decoded, inside its layer: it is no layer of this frame."""
    part = walk.head(cls, start, end)
    child = cls._typesw.get(part.layer.type)
    if child is None:
        return
    room = part.body, part.stop
    message = walk.head(child, *room)
    if not issubclass(child, cls.Echo):
        message.kind, message.head = LEAF, message.stop
        message.layer.data = walk.data[message.body : message.stop]
        if not walk.quoted:  # an error about an error is none (RFC 1122 section 3.2.2)
            quote = Walk(walk.data, quoted=True).run(quoted._replace(start=message.body, end=message.stop))
            message.layer.data = quote.parts[0].layer if quote.parts else message.layer.data


# -- transport and application layers ----------------------------------------------------------------------------------


def tcp(walk: Walk, start: int, end: int) -> Next | None:
    part = walk.head(TCP, start, end)
    options = part.layer.off * 4 - 20
    if options < 0:
        raise Unknown(f"its header length is {part.layer.off * 4}")
    part.layer.opts = walk.grow(part, min(options, end - part.head))
    if part.head - start < part.layer.off * 4:
        raise Short(part.layer.off * 4, start, end)
    if walk.fragment or not HTTP.match(walk.data, part.body, part.stop):
        return None
    if not HEAD_END.search(walk.data, part.body, part.stop):  # it goes on in the next segment
        return None
    return Next("HTTP", http, part.body, part.stop)


def udp(walk: Walk, start: int, end: int) -> Next | None:
    part = walk.head(UDP, start, end)
    if part.layer.ulen:  # 0 when it is longer than 65535 bytes, or was yet to be cut
        walk.claim(part, start + part.layer.ulen)
    if 53 not in (part.layer.sport, part.layer.dport) or walk.fragment or part.body == part.stop:
        return None
    return Next("DNS", partial(leaf, DNS, limit=DNS_BYTES), part.body, part.stop)


def http(walk: Walk, start: int, end: int) -> None:
    """The head by dpkt; the body as it is: what follows the head in this frame, its framing included."""
    message = walk.data[start:end]
    found = HEAD_END.search(message)
    assert found is not None
    line, _, headers = message[: found.end()].partition(b"\n")
    if line.startswith(b"HTTP/"):
        layer = dpkt.http.Response(line + b"\n")
    else:
        method, _, rest = line.partition(b" ")
        layer = dpkt.http.Request(b"GET " + rest + b"\n")  # dpkt knows a few methods only; PATCH is not among them
        layer.method = method.decode("ascii")
    layer.headers = dpkt.http.parse_headers(io.BytesIO(headers))
    layer.body = message[found.end() :]
    walk.add(layer, start, end, end, LEAF)


class DNS(dpkt.dns.DNS):  # type: ignore[misc]
    """dpkt's, except that a record of a type it does not know stays: its bytes are in `rdata`."""

    class RR(dpkt.dns.DNS.RR):  # type: ignore[misc]
        def unpack_rdata(self, buf: bytes, off: int) -> None:
            try:
                super().unpack_rdata(buf, off)
            except Exception:  # whatever is wrong with it, its length said where the next record is
                pass


HTTP = re.compile(rb"HTTP/\d\.\d \d{3}[ \r\n]|[A-Z][A-Z_-]{1,23} [^ \r\n]+ HTTP/\d\.\d\r?\n")
HEAD_END = re.compile(rb"\r?\n\r?\n")

VLAN_TYPES = (0x8100, 0x88A8, 0x9100, 0x9200)
MPLS_TYPES = (0x8847, 0x8848)
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
    # dpkt takes 0 for IP and 118 for spanning tree: the first is a header of IPv6, the second something else
    number: (cls.__name__, partial(leaf, cls)) for number, cls in IP._protosw.items() if number not in (0, 118)
} | {
    1: ("ICMP", partial(icmp, dpkt.icmp.ICMP, Next("IP", ip4, 0, 0))),
    4: ("IP", ip4),
    6: ("TCP", tcp),
    17: ("UDP", udp),
    41: ("IP6", ip6),
    47: ("GRE", gre),
    51: ("AH", ah),
    58: ("ICMP6", partial(icmp, dpkt.icmp6.ICMP6, Next("IP6", ip6, 0, 0))),
}  # fmt: skip
EXTENSIONS = {number: cls for number, cls in dpkt.ip6.EXT_HDRS_CLS.items() if number != 50}  # nobody sees behind ESP
LINKS: dict[int, Step] = {
    1: ("Ethernet", ethernet),
    0: ("Loopback", loopback),
    108: ("Loopback", loopback),
    113: ("SLL", partial(cooked, dpkt.sll.SLL)),
    276: ("SLL2", partial(cooked, dpkt.sll2.SLL2)),
    **dict.fromkeys((12, 14, 101, 228, 229), ("IP", raw)),
}
