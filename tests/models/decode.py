"""Where the TCP segment of a frame stands, as dpkt's layers tell: the second opinion about locate."""

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


def _network(link_type: int, frame: bytes) -> tuple[int, object, list[int]]:
    """Offset of the network layer, the layer itself, VLAN ids."""
    if link_type == ETHERNET:
        tags = []
        while frame[12:14] in _TAGS:  # dpkt itself knows at most two
            tags.append(int.from_bytes(frame[14:16], "big") & 0xFFF)
            frame = frame[:12] + frame[16:]
        return 14 + 4 * len(tags), dpkt.ethernet.Ethernet(frame).data, tags
    if link_type == SLL:
        return 16, dpkt.sll.SLL(frame).data, []
    if link_type == SLL2:
        return 20, dpkt.sll2.SLL2(frame).data, []
    at = 4 if link_type in (NULL, LOOP) else 0
    return at, (dpkt.ip.IP if frame[at] >> 4 == 4 else dpkt.ip6.IP6)(frame[at:]), []


def place(link_type: int, frame: bytes) -> Place | None:
    """The place of the segment, None if dpkt finds no TCP in the frame."""
    net, packet, vlans = _network(link_type, frame)
    if isinstance(packet, dpkt.ip.IP) and isinstance(packet.data, dpkt.tcp.TCP):
        size = packet.hl * 4
        return Place(net, net + size, packet.len - size, vlans)
    if isinstance(packet, dpkt.ip6.IP6) and isinstance(packet.data, dpkt.tcp.TCP):
        size = sum(header.length for header in packet.all_extension_headers)
        return Place(net, net + 40 + size, packet.plen - size, vlans)
    return None
