"""Frames to begin with: every encapsulation that locate knows, and segments with numbers that need not make sense."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from quic_packets import V2, ZERO_RTT, ack, crypto, initial, other, retry
from tls_bytes import USUAL, client_hello, server_hello_1_3, supported_versions
from wire import ACK, PSH, SYN, address, fold, ip_packet, link, ones

HERE4, THERE4 = address("192.0.2.1"), address("198.51.100.2")
HERE6, THERE6 = address("2001:db8::1"), address("2001:db8::2")
ETHERNET = 1
VLANS: tuple[tuple[int, ...], ...] = ((), (), (7,), (200, 31))
MASK = 0xFFFFFFFF
UNSUMMED = 0x40


def segment(
    flow: int,
    back: bool,
    seq: int,
    ack: int,
    flags: int,
    words: int,
    lie: int,
    payload: bytes,
    *,
    ethernet: bool = True,
) -> bytes:
    """A frame of one of 16 flows, IPv4 and IPv6, tagged and not.

    words: of the TCP header, in the low four bits; UNSUMMED with it leaves the checksum 0. lie: added to the IP length.
    """
    ports = (40_000 + (flow & 1), 80)
    tcp = struct.pack(
        ">HHIIBBHHH", *(ports[::-1] if back else ports), seq & MASK, ack & MASK, words << 4 & 0xFF, flags, 64240, 0, 0
    )
    source, target = (HERE6, THERE6) if flow & 2 else (HERE4, THERE4)
    if back:
        source, target = target, source
    if not words & UNSUMMED:
        size = len(tcp) + len(payload[:65000])
        total = ones(source) + ones(target) + 6 + size + ones(tcp) + ones(payload[:65000])
        tcp = tcp[:16] + struct.pack(">H", fold(total)) + tcp[18:]
    packet = bytearray(ip_packet(source, target, 6, tcp + payload[:65000]))
    at = 4 if flow & 2 else 2
    struct.pack_into(">H", packet, at, struct.unpack_from(">H", packet, at)[0] + lie & 0xFFFF)
    if not ethernet:
        return bytes(packet)
    return link(0x86DD if flow & 2 else 0x0800, VLANS[flow >> 2 & 3], from_client=not back) + packet


def datagram(ports: tuple[int, int], payload: bytes, *, back: bool = False) -> bytes:
    """An IPv4 packet with UDP in it."""
    source, target = (THERE4, HERE4) if back else (HERE4, THERE4)
    return ip_packet(source, target, 17, struct.pack(">HHHH", *ports, 8 + len(payload), 0) + payload)


def fragments(packet: bytes, sizes: Sequence[int], ident: int = 77) -> Iterator[bytes]:
    """An IP packet in fragments, cut at multiples of 8 bytes; the last size is repeated."""
    old = packet[0] >> 4 == 4
    head, body = (packet[:20], packet[20:]) if old else (packet[:40], packet[40:])
    at = place = 0
    while at < len(body):
        size = max(8, sizes[min(place, len(sizes) - 1)] & ~7)
        piece = body[at : at + size]
        more = at + size < len(body)
        if old:
            yield head[:2] + struct.pack(">HHH", 20 + len(piece), ident, at // 8 | more << 13) + head[8:] + piece
        else:
            extension = struct.pack(">BBHI", head[6], 0, at | more, ident)
            yield head[:4] + struct.pack(">HB", 8 + len(piece), 44) + head[7:] + extension + piece
        at += size
        place += 1


def quic() -> list[bytes]:
    """IPv4 packets of a QUIC handshake: hello in two packets, Retry, 0-RTT, answer, and a hello of version 2."""
    hello = client_hello([*USUAL, supported_versions(0x0304)])
    first, second = initial(crypto(0, hello[:60]), b"client's"), initial(crypto(60, hello[60:]), b"client's", number=1)
    answer = initial(ack() + crypto(0, server_hello_1_3()), b"client's", server=True, target=b"", source=b"server's")
    return [
        *(datagram((50_001, 443), each) for each in (second, first, other(ZERO_RTT, target=b"client's"))),
        datagram((443, 50_001), retry(b"", b"server's"), back=True),
        datagram((443, 50_001), answer, back=True),
        datagram((50_002, 443), initial(crypto(0, hello), b"client's", version=V2)),
    ]


def samples() -> list[tuple[int, bytes]]:
    """(link type, frame) of everything that locate follows, and of some that it does not."""
    v4 = segment(0, False, 1, 1, ACK | PSH, 5, 0, b"GET / HTTP/1.1\r\n\r\n", ethernet=False)
    v6 = segment(2, False, 1, 1, ACK | PSH, 5, 0, b"GET / HTTP/1.1\r\n\r\n", ethernet=False)
    tcp = v6[40:]
    frame, frame6, tagged = link(0x0800) + v4, link(0x86DD) + v6, link(0x0800, (200, 31)) + v4
    label, last = b"\x00\x01\x00\x40", b"\x00\x01\x01\x40"

    def v6_with(protocol: int, chain: bytes) -> bytes:
        return link(0x86DD) + ip_packet(HERE6, THERE6, protocol, chain + tcp)

    def gre(header: str, inner: bytes) -> bytes:
        return link(0x0800) + ip_packet(HERE4, THERE4, 47, bytes.fromhex(header) + inner)

    def udp(port: int, header: str, inner: bytes, source: int = 50_000) -> bytes:
        return link(0x0800) + datagram((source, port), bytes.fromhex(header) + inner)

    options = bytes([0x48]) + v4[1:2] + struct.pack(">H", len(v4) + 12) + v4[4:20] + b"\1" * 12 + v4[20:]
    ethernet = [
        frame, frame6, tagged, link(0x86DD, (7,)) + v6, link(0x88A8, (3, 2, 1))[:-2] + b"\x08\x00" + v4,
        link(0x0800) + options, link(0x0800) + v4[:2] + b"\0\0" + v4[4:], frame + bytes(6),
        v6_with(0, bytes((6, 0)) + bytes(6)), v6_with(0, bytes((60, 0)) + bytes(6) + bytes((6, 1)) + bytes(14)),
        v6_with(43, bytes((6, 2)) + bytes(22)), v6_with(44, struct.pack(">BBHI", 6, 0, 0, 9)),
        v6_with(51, bytes((6, 4)) + bytes(22)), v6_with(135, bytes((6, 0)) + bytes(6)),
        link(0x0800) + ip_packet(HERE4, THERE4, 4, v4), link(0x0800) + ip_packet(HERE4, THERE4, 41, v6),
        link(0x86DD) + ip_packet(HERE6, THERE6, 4, v4), link(0x86DD) + ip_packet(HERE6, THERE6, 41, v6),
        link(0x8847) + last + v4, link(0x8848) + label + last + v6, link(0x8847) + last + bytes(4) + frame,
        link(0x8864) + b"\x11\0\0\1" + struct.pack(">HH", len(v4) + 2, 0x21) + v4,
        link(0x8864) + b"\x11\0\0\1" + struct.pack(">HH", len(v6) + 2, 0x57) + v6,
        link(300) + b"\xaa\xaa\x03\0\0\0\x08\0" + v4, link(300) + b"\x06\x06\x03" + v4,
        gre("00000800", v4), gre("b00086dd" + "00" * 12, v6), gre("2000655800000100", frame),
        gre("00008847", last + v4),
        gre("00008100", b"\0\x07\x08\0" + v4), gre("3081880b00400001000000010000000a", b"\xff\x03\0\x21" + v4),
        gre("000088be", tagged), gre("100088be00000001" + "00" * 8, frame), gre("100022eb00000001" + "00" * 12, frame),
        gre("100022eb00000001" + "00" * 11 + "01" + "00" * 8, frame6), gre("4000080000000000", v4),
        udp(4789, "0800000000000100", frame), udp(8472, "0800000000000100", tagged),
        udp(4790, "0c00000100000100", v4), udp(4790, "0c00000200000100", v6), udp(4790, "0c00000300000100", frame),
        udp(6081, "0000655800000100", frame), udp(6081, "0200080000000100" + "00" * 8, v4),
        udp(2152, "30ff000000000001", v4), udp(2152, "36ff000000000001" + "00000085" + "01000000", v6),
        udp(9, "30ff000000000001", v4, source=2152), udp(3544, "", v6), udp(3544, "0000" + "11" * 6, v6),
        udp(3544, "0001" + "0000" + "22" * 9 + "0000" + "11" * 6, v6), udp(53, "00", b""),
        *(link(0x0800) + packet for packet in quic()), udp(4789, "0800000000000100", link(0x0800) + quic()[1]),
        link(0x0806) + bytes(28), link(0x0800) + ip_packet(HERE4, THERE4, 1, bytes(32)),
    ]  # fmt: skip
    hello = link(0x0800) + quic()[-1]
    ethernet += [hello[:14] + piece for piece in fragments(hello[14:], [200])]
    large = segment(0, False, 1, 1, ACK, 5, 0, b"x" * 3000, ethernet=False)
    large6 = segment(2, False, 1, 1, ACK, 5, 0, b"y" * 3000, ethernet=False)
    ethernet += [link(0x0800) + piece for piece in fragments(large, [1480])]
    ethernet += [link(0x86DD) + piece for piece in fragments(large6, [1448, 24])]
    inner = frame
    for _ in range(5):
        inner = udp(4789, "0800000000000100", inner)
    ethernet.append(inner)
    cooked = b"\0\0\0\1\0\6" + bytes(8)
    others = [
        (113, cooked + b"\x08\0" + v4), (113, cooked + b"\x86\xdd" + v6), (113, cooked + b"\x81\0\0\x07\x08\0" + v4),
        (276, b"\x08\0" + bytes(18) + v4), (276, b"\x86\xdd" + bytes(18) + v6),
        (0, b"\2\0\0\0" + v4), (0, b"\x1e\0\0\0" + v6), (108, b"\0\0\0\2" + v4), (12, v4), (14, v6), (101, v4),
        (228, v4), (229, v6), (9, b"\xff\x03\0\x21" + v4), (9, b"\x21" + v4), (50, b"\xff\x03\0\x57" + v6),
        (9, b"\x02\x81" + last + v4), (51, b"\x11\0\0\1\0\0\0\x21" + v4), (104, b"\x0f\0\x08\0" + v4), (105, v4),
    ]  # fmt: skip
    return [(ETHERNET, each) for each in ethernet] + others


def handshake(flow: int, client_isn: int, server_isn: int) -> list[bytes]:
    """SYN, SYN-ACK, ACK of a flow."""
    return [
        segment(flow, False, client_isn, 0, SYN, 5, 0, b""),
        segment(flow, True, server_isn, client_isn + 1, SYN | ACK, 5, 0, b""),
        segment(flow, False, client_isn + 1, server_isn + 1, ACK, 5, 0, b""),
    ]


WORDS = [
    *(struct.pack(">H", kind) for kind in (
        0x0800, 0x86DD, 0x8100, 0x88A8, 0x9100, 0x8847, 0x8848, 0x8864, 0x880B, 0x6558, 0x88BE, 0x22EB, 2152, 3544,
        4789, 4790, 6081, 8472, 0x0021, 0x0057, 0x0281, 0x2000, 0x4000, 0x1FFF, 0x3FFF, 1500,
    )),
    *(bytes((protocol,)) for protocol in (0, 4, 6, 17, 41, 43, 44, 47, 51, 59, 60, 135, 0x45, 0x4F, 0x60)),
    b"\xc0\0\0\0\1\x08", b"\xd0\x6b\x33\x43\xcf", b"\xff\0\0\x1d",
    b"\x45\0", b"\x60\0\0\0", b"\xaa\xaa\x03\0\0\0", b"\xff\x03", b"\x11\0", b"\x08\0\0\0", b"\x30\xff", b"\0\1",
    bytes(8),
]  # fmt: skip
