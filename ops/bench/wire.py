"""Frames: Ethernet, VLAN tags, IPv4, IPv6, TCP, UDP, ICMP, ARP, with right checksums and without a packet library.

A one's complement sum is a sum modulo 65535, and 2**16 is 1 modulo 65535: so fields of any even width are added as
they are, a payload is one big integer, and one `%` at the end folds everything.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
MASK = 0xFFFFFFFF
FULL_WINDOW = 64240  # bytes: 44 segments of 1460, what Linux announces

_TCP = 6
_UDP = 17
_CLIENT_MAC = bytes.fromhex("020000000001")  # locally administered: belongs to no vendor
_SERVER_MAC = bytes.fromhex("020000000002")


def ones(data: bytes) -> int:
    """Sum of `data` as big-endian 16-bit words, not folded, padded with a zero byte when its length is odd."""
    total = int.from_bytes(data, "big")
    return total << 8 if len(data) & 1 else total


def halved(data: bytes) -> int:
    """Same as ones() modulo 65535, but cheaper to finish: folded twice in wide halves before any division."""
    total = int.from_bytes(data, "big")
    size = len(data)
    if size & 1:
        total <<= 8
    if size > 128:
        half = (size * 4 + 15) & ~15
        total = (total >> half) + (total & ((1 << half) - 1))
        half = (size * 2 + 31) & ~15
        total = (total >> half) + (total & ((1 << half) - 1))
    return total


def fold(total: int) -> int:
    """The checksum field for a sum: its complement; a sum that folds to zero is impossible for real headers."""
    return 65535 - (total % 65535 or 65535)


def address(text: str) -> bytes:
    """4 or 16 network bytes of an address; ValueError when it is none."""
    return ipaddress.ip_address(text).packed


def link(ether_type: int, vlans: Sequence[int] = (), *, from_client: bool = True) -> bytes:
    """Ethernet header with VLAN tags, outermost first; with two or more the outer ones are service tags (0x88a8)."""
    macs = _SERVER_MAC + _CLIENT_MAC if from_client else _CLIENT_MAC + _SERVER_MAC
    tags = b"".join(
        struct.pack(">HH", 0x8100 if place == len(vlans) - 1 else 0x88A8, vlan) for place, vlan in enumerate(vlans)
    )
    return macs + tags + struct.pack(">H", ether_type)


def ip_packet(source: bytes, target: bytes, protocol: int, payload: bytes, *, ident: int = 0, ttl: int = 64) -> bytes:
    """An IPv4 or IPv6 packet (by the length of the addresses) around `payload`."""
    if len(source) == 16:
        return struct.pack(">IHBB", 0x60000000, len(payload), protocol, ttl) + source + target + payload
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), ident, 0x4000, ttl, protocol, 0) + source + target
    return head[:10] + struct.pack(">H", fold(ones(head))) + head[12:] + payload


def _on_link(source: bytes, packet: bytes, vlans: Sequence[int], from_client: bool) -> bytes:
    return link(0x86DD if len(source) == 16 else 0x0800, vlans, from_client=from_client) + packet


def udp(
    source: str, target: str, ports: tuple[int, int], payload: bytes, *, vlans: Sequence[int] = (), client: bool = True
) -> bytes:
    """One UDP datagram as a frame."""
    src, dst = address(source), address(target)
    size = 8 + len(payload)
    total = ones(src) + ones(dst) + _UDP + size + ports[0] + ports[1] + size + ones(payload)
    datagram = struct.pack(">HHHH", *ports, size, fold(total) or 65535) + payload
    return _on_link(src, ip_packet(src, dst, _UDP, datagram), vlans, client)


def icmp_echo(source: str, target: str, sequence: int, *, reply: bool = False) -> bytes:
    """An IPv4 echo request or reply as a frame."""
    src, dst = address(source), address(target)
    kind = 0 if reply else 0x0800
    body = bytes(range(48))
    message = struct.pack(">HHHH", kind, fold(kind + 0x1234 + sequence + ones(body)), 0x1234, sequence) + body
    return _on_link(src, ip_packet(src, dst, 1, message), (), not reply)


def arp_request(source: str, target: str) -> bytes:
    """Return an ARP request for `target`, sent by `source` to the broadcast address."""
    head = b"\xff" * 6 + _CLIENT_MAC + b"\x08\x06"
    return head + struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + _CLIENT_MAC + address(source) + bytes(6) + address(target)


class Wire:
    """One direction of a TCP connection: turns sequence numbers, flags and payload into frames.

    Everything that does not change from frame to frame is packed and summed once, here.
    """

    __slots__ = ("_ends", "_ident", "_ip_sum", "_ip_word", "_pack", "_prefix", "_tcp_sum", "_v6", "window")

    def __init__(
        self,
        source: str,
        target: str,
        ports: tuple[int, int],
        *,
        vlans: Sequence[int] = (),
        from_client: bool = True,
        ident: int = 1,
        ttl: int = 64,
        window: int = FULL_WINDOW,
    ) -> None:
        src, dst = address(source), address(target)
        if len(src) != len(dst):
            raise ValueError(f"{source} and {target} are of different IP versions")
        self._v6 = len(src) == 16
        self.window = window
        self._ident = ident
        self._ends = src + dst + struct.pack(">HH", *ports)
        self._tcp_sum = ones(self._ends) + _TCP + window
        if self._v6:
            self._prefix = link(0x86DD, vlans, from_client=from_client) + b"\x60\0\0\0"
            self._ip_word = bytes((_TCP, ttl))
            self._ip_sum = 0
            self._pack = struct.Struct(f">{len(self._prefix)}sH2s36sIIHHH2x").pack
        else:
            self._prefix = link(0x0800, vlans, from_client=from_client) + b"\x45\0"
            self._ip_word = bytes((0x40, 0, ttl, _TCP))  # don't fragment
            self._ip_sum = ones(self._prefix[-2:] + self._ip_word + src + dst)
            self._pack = struct.Struct(f">{len(self._prefix)}sHH4sH12sIIHHH2x").pack

    def frame(
        self, seq: int, ack: int, flags: int, payload: bytes = b"", total: int = -1, options: bytes = b""
    ) -> bytes:
        """One segment as a frame; `total` is the payload's sum when the caller has it; options are 4-byte multiples."""
        size = 20 + len(options) + len(payload)
        word = (len(options) << 10) + 0x5000 + flags
        if total < 0:
            total = halved(payload)
        total += self._tcp_sum + size + seq + ack + word
        if options:
            total += int.from_bytes(options, "big")
        check = 65535 - (total % 65535 or 65535)
        if self._v6:
            head = self._pack(self._prefix, size, self._ip_word, self._ends, seq, ack, word, self.window, check)
        else:
            size += 20
            ident = self._ident = (self._ident + 1) & 0xFFFF
            ip_check = 65535 - ((self._ip_sum + size + ident) % 65535 or 65535)
            head = self._pack(
                self._prefix, size, ident, self._ip_word, ip_check, self._ends, seq, ack, word, self.window, check
            )
        return head + options + payload if options else head + payload
