"""Layers of tunnels and links that dpkt lacks: a class is a header, a function decodes one and finds the next layer.

They match the tunnels of wire.tcp_locator, so a Packet shows the layers that the capture follows. The variable fields
behind a fixed header (options, attributes) are in `extra`. The layers register in the tables of layers.py.
"""

from __future__ import annotations

import struct
from functools import partial
from typing import Any

from appliance.packet import layers
from appliance.packet.layer_decoder import Header, LayerDecoder, LayerSpan, NextLayer, TruncatedHeader, UnknownLayer
from appliance.packet.layers import by_type, by_version, decode, ethernet, gre, ip6, llc, ppp
from appliance.wire.tcp_locator import DEFAULT_PORTS

__all__ = ["decode"]  # decode: with these layers
GRE_IN_UDP, VXLAN_GPE_PORT = 4754, 4790
TEREDO_PREFIX = bytes.fromhex("20010000")
MOST_EXTENSIONS = 8  # of GTP-U
MOST_WORDS = 16  # of radiotap's bits of presence


class VXLAN(Header):
    __hdr__ = (("flags", "B", 8), ("reserved", "3s", bytes(3)), ("vni_reserved", "I", 0))


class VXLANGPE(Header):
    __hdr__ = (("flags", "B", 12), ("reserved", "2s", bytes(2)), ("next", "B", 3), ("vni_reserved", "I", 0))


class Geneve(Header):
    __hdr__ = (("version_length", "B", 0), ("flags", "B", 0), ("type", "H", 0x6558), ("vni_reserved", "I", 0))


class GTPU(Header):
    __hdr__ = (("flags", "B", 0x30), ("type", "B", 255), ("len", "H", 0), ("teid", "I", 0))


class ERSPAN(Header):
    __hdr__ = (("version_vlan", "H", 0x1000), ("session", "H", 0), ("index", "I", 0))


class ERSPAN3(Header):
    __hdr__ = (
        ("version_vlan", "H", 0x2000),
        ("session", "H", 0),
        ("timestamp", "I", 0),
        ("sgt", "H", 0),
        ("kind", "H", 0),
    )


class CiscoHDLC(Header):
    __hdr__ = (("address", "B", 15), ("control", "B", 0), ("type", "H", 0x0800))


class RadioTap(Header):
    __byte_order__ = "<"
    __hdr__ = (("version", "B", 0), ("pad", "B", 0), ("len", "H", 8), ("present", "I", 0))


class PPI(Header):
    __byte_order__ = "<"
    __hdr__ = (("version", "B", 0), ("flags", "B", 0), ("len", "H", 8), ("link_type", "I", 105))


class Dot11(Header):
    __byte_order__ = "<"
    __hdr__ = (
        *(("control", "H", 8), ("duration", "H", 0), ("address1", "6s", bytes(6)), ("address2", "6s", bytes(6))),
        *(("address3", "6s", bytes(6)), ("sequence", "H", 0)),
    )


class NFLOG(Header):
    __hdr__ = (("family", "B", 2), ("version", "B", 0), ("resource", "H", 0))


def _grown(decoder: LayerDecoder, cls: Any, start: int, end: int, size: int) -> LayerSpan:
    """Add a layer whose header has `size` bytes in all. Raises TruncatedHeader."""
    part = decoder.head(cls, start, end)
    if size > cls.__hdr_len__:
        part.layer.extra = decoder.grow(part, size - cls.__hdr_len__)
    return part


def _bridged(part: LayerSpan) -> NextLayer:
    return NextLayer("Ethernet", ethernet, part.body, part.stop)


# -- over UDP ----------------------------------------------------------------------------------------------------------


def vxlan(decoder: LayerDecoder, start: int, end: int) -> NextLayer | None:
    part = decoder.head(VXLAN, start, end)
    return _bridged(part) if part.layer.flags & 0x08 else None


def vxlan_gpe(decoder: LayerDecoder, start: int, end: int) -> NextLayer | None:
    part = decoder.head(VXLANGPE, start, end)
    kind = part.layer.next if part.layer.flags & 0x04 else 3
    if part.layer.flags & 0x39 != 0x08 or kind not in (1, 2, 3):
        return None
    return _bridged(part) if kind == 3 else by_version(decoder, part.body, part.stop)


def geneve(decoder: LayerDecoder, start: int, end: int) -> NextLayer | None:
    decoder.need(8, start, end)
    part = _grown(decoder, Geneve, start, end, 8 + (decoder.data[start] & 0x3F) * 4)
    if part.layer.version_length >> 6 or part.layer.flags & 0x80:
        return None
    return by_type(decoder, part, part.layer.type)


def gtp_u(decoder: LayerDecoder, start: int, end: int) -> NextLayer | None:
    part = decoder.head(GTPU, start, end)
    layer = part.layer
    if layer.flags >> 4 != 3 or layer.type != 0xFF:
        return None
    if layer.flags & 0x07:
        layer.extra = decoder.grow(part, 4)
        following = layer.extra[3] if layer.flags & 0x04 else 0
        for _ in range(MOST_EXTENSIONS):
            if not following:
                break
            decoder.need(1, part.head, part.end)
            size = decoder.data[part.head] * 4
            if not size:
                raise UnknownLayer("an extension header of 0 bytes")
            more = decoder.grow(part, size)
            layer.extra += more
            following = more[-1]
        if following:
            raise UnknownLayer(f"more than {MOST_EXTENSIONS} extension headers are not decoded")
    return by_version(decoder, part.body, part.stop)


def teredo(decoder: LayerDecoder, part: LayerSpan) -> NextLayer | None:
    """Decode an IPv6 packet in a datagram; authentication and origin indication before it belong to no layer."""
    at, data = part.body, decoder.data
    decoder.need(4, at, part.stop)
    if data[at : at + 2] == b"\0\1":
        at += 13 + data[at + 2] + data[at + 3]
    if data[at : at + 2] == b"\0\0":
        at += 8
    if at >= part.stop:
        raise TruncatedHeader(at + 1 - part.start, part.start, part.stop)
    if data[at] >> 4 != 6:
        return None
    part.gap = at - part.body
    part.body = at
    return NextLayer("IP6", ip6, at, part.stop)


def is_teredo(decoder: LayerDecoder, part: LayerSpan) -> bool:
    """Return whether a datagram at any port is Teredo by its content, as in appliance.wire.tcp_locator."""
    at = part.body
    if part.stop - at < 40 or decoder.data[at] >> 4 != 6:
        return False
    size = int.from_bytes(decoder.data[at + 4 : at + 6], "big")
    ends = decoder.data[at + 8 : at + 12], decoder.data[at + 24 : at + 28]
    return size + 48 == part.layer.ulen and TEREDO_PREFIX in ends


def in_datagram(decoder: LayerDecoder, part: LayerSpan) -> NextLayer | None:
    """Return the layer in a UDP datagram, if it is a tunnel."""
    source, destination = part.layer.sport, part.layer.dport
    for kind, step, both in (("vxlan", vxlan, False), ("geneve", geneve, False), ("gtp_u", gtp_u, True)):
        ports = DEFAULT_PORTS[kind]
        if destination in ports or (both and source in ports):
            return NextLayer(step.__name__, step, part.body, part.stop)
    if destination == VXLAN_GPE_PORT:
        return NextLayer("VXLANGPE", vxlan_gpe, part.body, part.stop)
    if destination == GRE_IN_UDP:
        return NextLayer("GRE", gre, part.body, part.stop)
    if not {source, destination}.isdisjoint(DEFAULT_PORTS["teredo"]) or is_teredo(decoder, part):
        return teredo(decoder, part)
    return None


# -- in GRE ------------------------------------------------------------------------------------------------------------


def erspan(decoder: LayerDecoder, start: int, end: int) -> NextLayer | None:
    """Decode ERSPAN type II; type I has no header of its own, and its GRE header no sequence number."""
    if not decoder.parts[-1].layer.flags & 0x1000:
        return NextLayer("Ethernet", ethernet, start, end)
    part = decoder.head(ERSPAN, start, end)
    return _bridged(part) if part.layer.version_vlan >> 12 == 1 else None


def erspan_3(decoder: LayerDecoder, start: int, end: int) -> NextLayer | None:
    decoder.need(12, start, end)
    part = _grown(decoder, ERSPAN3, start, end, 20 if decoder.data[start + 11] & 1 else 12)
    kind = part.layer.kind >> 10 & 0x1F
    if part.layer.version_vlan >> 12 != 2 or kind not in (0, 2):
        return None
    return by_version(decoder, part.body, part.stop) if kind == 2 else _bridged(part)


# -- links -------------------------------------------------------------------------------------------------------------


def cisco_hdlc(decoder: LayerDecoder, start: int, end: int) -> NextLayer | None:
    part = decoder.head(CiscoHDLC, start, end)
    return by_type(decoder, part, part.layer.type)


def serial_line(decoder: LayerDecoder, start: int, end: int) -> NextLayer | None:
    """Decode PPP in HDLC framing, or Cisco HDLC, according to the first byte."""
    decoder.need(1, start, end)
    return cisco_hdlc(decoder, start, end) if decoder.data[start] in (0x0F, 0x8F) else ppp(decoder, start, end)


def radiotap(decoder: LayerDecoder, start: int, end: int) -> NextLayer | None:
    decoder.need(8, start, end)
    size = int.from_bytes(decoder.data[start + 2 : start + 4], "little")
    if decoder.data[start] or size < 8:
        raise UnknownLayer(f"version {decoder.data[start]}, {size} bytes")
    part = _grown(decoder, RadioTap, start, end, size)
    return NextLayer("Dot11", partial(dot11, _is_padded(part.layer)), part.body, part.stop)


def _is_padded(layer: RadioTap) -> bool:
    """Return whether the card put padding between the 802.11 header and its payload."""
    at, word = 0, layer.present
    for _ in range(MOST_WORDS):
        if not word >> 31:
            break
        word = int.from_bytes(layer.extra[at : at + 4], "little")
        at += 4
    if layer.present & 1:  # the time of arrival, aligned to 8 in the whole header; `extra` begins at its byte 8
        at = ((at + 7) & ~7) + 8
    return bool(layer.present & 2) and at < len(layer.extra) and bool(layer.extra[at] & 0x20)


def ppi(decoder: LayerDecoder, start: int, end: int) -> NextLayer | None:
    decoder.need(8, start, end)
    size = int.from_bytes(decoder.data[start + 2 : start + 4], "little")
    if decoder.data[start] or size < 8:
        raise UnknownLayer(f"version {decoder.data[start]}, {size} bytes")
    part = _grown(decoder, PPI, start, end, size)
    if part.layer.link_type == 1:
        return _bridged(part)
    if part.layer.link_type != 105:
        raise UnknownLayer(f"link type {part.layer.link_type} is not decoded")
    return NextLayer("Dot11", partial(dot11, False), part.body, part.stop)


def dot11(padded: bool, decoder: LayerDecoder, start: int, end: int) -> NextLayer | None:
    """Decode a data frame; of several MSDUs in one frame, the first."""
    part = decoder.head(Dot11, start, end)
    control = part.layer.control
    if control & 0x0003 or control >> 2 & 3 != 2 or control & 0x0040:
        return None
    if control & 0x4400 or part.layer.sequence & 0x000F:
        raise UnknownLayer("encrypted frames and fragments are not decoded")
    size = 30 if control & 0x0300 == 0x0300 else 24
    aggregate = False
    if control & 0x0080:
        decoder.need(size + 2, start, end)
        aggregate = bool(decoder.data[start + size] & 0x80)
        size += 6 if control & 0x8000 else 2
    size = (size + 3) & ~3 if padded else size
    part.layer.extra = decoder.grow(part, size - 24 + (14 if aggregate else 0))
    return NextLayer("LLC", llc, part.body, part.stop)


def nflog(decoder: LayerDecoder, start: int, end: int) -> NextLayer | None:
    """Decode the message of a netfilter log: attributes in the byte order of its host, one of which is the packet."""
    part = decoder.head(NFLOG, start, end)
    at = part.head
    while at + 4 <= end:
        order = "<" if decoder.data[at + 3] == 0 else ">"
        size, kind = struct.unpack_from(f"{order}HH", decoder.data, at)
        if kind & 0x7FFF == 9:
            part.layer.extra = decoder.grow(part, at + 4 - part.head)
            return by_version(decoder, part.body, part.stop)
        if size < 4:
            raise UnknownLayer("an attribute of less than 4 bytes")
        at += (size + 3) & ~3
    return None


layers.TYPES.update({0x88BE: ("ERSPAN", erspan), 0x22EB: ("ERSPAN3", erspan_3)})
layers.LINKS.update(
    {
        9: ("PPP", ppp),
        50: ("PPP", serial_line),
        51: ("PPPoE", layers.pppoe),
        104: ("CiscoHDLC", cisco_hdlc),
        105: ("Dot11", partial(dot11, False)),
        127: ("RadioTap", radiotap),
        192: ("PPI", ppi),
        239: ("NFLOG", nflog),
    }
)
layers.DATAGRAMS.append(in_datagram)
