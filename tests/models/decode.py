"""The place of a frame's TCP segment, as dpkt's layers tell: the second opinion about locate.

dpkt knows VLAN tags, LLC/SNAP, MPLS, PPPoE, GRE, IP in IP; it does not look into UDP nor into ERSPAN. Offsets are
counted from the end of the frame, because dpkt's layers know what they have and not where: frames must end with their
segment.
"""

from __future__ import annotations

from typing import NamedTuple

import dpkt

_TAGS = (b"\x81\x00", b"\x88\xa8", b"\x91\x00")
NULL, ETHERNET, RAW, LOOP, SLL, SLL2 = 0, 1, 101, 108, 113, 276


class Place(NamedTuple):
    """Offsets of the IP and TCP headers, bytes from the TCP header on as IP says, VLAN ids from outside in."""

    net: int
    tcp: int
    tcp_length: int
    vlans: list[int]


def _first(link_type: int, frame: bytes) -> tuple[object, list[int]]:
    """The outermost layer that dpkt reads, VLAN ids."""
    if link_type == ETHERNET:
        tags = []
        while frame[12:14] in _TAGS:  # dpkt itself knows at most two
            tags.append(int.from_bytes(frame[14:16], "big") & 0xFFF)
            frame = frame[:12] + frame[16:]
        return dpkt.ethernet.Ethernet(frame), tags
    if link_type == SLL:
        return dpkt.sll.SLL(frame), []
    if link_type == SLL2:
        return dpkt.sll2.SLL2(frame), []
    at = 4 if link_type in (NULL, LOOP) else 0
    return (dpkt.ip.IP if frame[at] >> 4 == 4 else dpkt.ip6.IP6)(frame[at:]), []


def place(link_type: int, frame: bytes) -> Place | None:
    """The place of the innermost segment, None if dpkt finds no TCP in the frame."""
    layer, vlans = _first(link_type, frame)
    inside = False
    while isinstance(layer, dpkt.Packet):
        if inside and isinstance(layer, dpkt.ethernet.Ethernet):
            vlans = [tag.id for tag in getattr(layer, "vlan_tags", [])]
        if isinstance(layer, (dpkt.ip.IP, dpkt.ip6.IP6)):
            if isinstance(layer.data, dpkt.tcp.TCP):
                return _place(layer, len(frame), [vlan for vlan in vlans if vlan])
            vlans = []
        inside = True
        layer = layer.data
    return None


def _place(ip: dpkt.ip.IP | dpkt.ip6.IP6, size: int, vlans: list[int]) -> Place:
    if isinstance(ip, dpkt.ip.IP):
        header, length = ip.hl * 4, ip.len
    else:
        header = 40 + sum(each.length for each in ip.all_extension_headers)
        length = 40 + ip.plen
    return Place(size - length, size - length + header, length - header, vlans)
