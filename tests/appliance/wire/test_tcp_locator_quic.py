"""locate, QUIC: a datagram that may open a connection is found as a segment is; other UDP keeps its verdict."""

from __future__ import annotations

import pytest
from encapsulations import WAYS, carries, wrapped
from models.decode import ETHERNET
from quic_packets import (
    DRAFT_29,
    HANDSHAKE,
    RETRY,
    V1,
    V2,
    ZERO_RTT,
    crypto,
    initial,
    long_header,
    negotiation,
    other,
    retry,
)
from sample_frames import LAYER, V4, V6
from scapy.layers.inet import UDP
from scapy.layers.l2 import Dot1Q
from scapy.packet import Raw

from appliance.wire.tcp_locator import find

HELLO = initial(crypto(0, b"\1\0\0\4four"), b"8 bytes.")
OPENING = {
    "initial": HELLO,
    "initial of version 2": initial(b"\1", b"8 bytes.", version=V2),
    "initial of a draft": initial(b"\1", b"8 bytes.", version=DRAFT_29),
    "initial without the fixed bit": initial(b"\1", b"8 bytes.", fixed=False),
    "initial of a server": initial(b"\1", b"8 bytes.", server=True, target=b"", source=b"server"),
    "0-rtt": other(ZERO_RTT),
    "0-rtt of version 2": other(ZERO_RTT, version=V2),
    "retry": retry(b"", b"server"),
    "retry of version 2": retry(b"", b"server", version=V2),
}
OTHER = {
    "dns": b"\x12\x34\1\0\0\1\0\0\0\0\0\0\3www\7example\3com\0\0\1\0\1",
    "short header": b"\x40" + bytes(range(1, 60)),
    "handshake": other(HANDSHAKE),
    "handshake of version 2": other(HANDSHAKE, version=V2),
    "negotiation": negotiation(b"client's", b"server's", V1, V2),
    "a version that is not known": b"\xc0\x1a\x2a\x3a\x4a" + HELLO[5:],
    "a target id that is too long": long_header(RETRY, b"t" * 21, b"s") + bytes(40),
    "a source id that is too long": long_header(RETRY, b"t", b"s" * 21) + bytes(40),
    "a target id up to the end": HELLO[:5] + b"\x14" + bytes(20),
    "too short for a packet": HELLO[:11],
    "nothing": b"",
}


def frame(payload, ip=V4, ports=(50000, 443), link=LAYER, **fields):
    return bytes(link / ip / UDP(sport=ports[0], dport=ports[1], **fields) / Raw(payload))


@pytest.mark.parametrize("name", OPENING)
def test_what_may_open_a_connection_is_found(name):
    payload = OPENING[name]
    assert find(ETHERNET, frame(payload), quic=True) == ("datagram", 14, 34, 8 + len(payload), [])
    assert find(ETHERNET, frame(payload, V6), quic=True) == ("datagram", 14, 54, 8 + len(payload), [])


@pytest.mark.parametrize("name", OPENING)
def test_without_quic_it_is_not_tcp(name):
    assert find(ETHERNET, frame(OPENING[name]))[0] == "not_tcp"


@pytest.mark.parametrize("name", OTHER)
def test_other_udp_is_not_tcp(name):
    assert find(ETHERNET, frame(OTHER[name]), quic=True)[0] == "not_tcp"


def test_vlan_ids_stay_and_no_other_appears():
    tagged = frame(HELLO, link=LAYER / Dot1Q(vlan=5) / Dot1Q(vlan=0xFFF))
    assert find(ETHERNET, tagged, quic=True)[4] == [5, 0xFFF]


@pytest.mark.parametrize("port", [2152, 3544, 4754, 4789, 4790, 6081, 8472])
def test_a_client_may_have_the_port_of_a_tunnel_if_its_first_byte_opens_none(port):
    hello = b"\xc0" + HELLO[1:]
    for ports in ((port, 443), (443, port)):
        assert find(ETHERNET, frame(hello, ports=ports), quic=True)[0] == "datagram"


def test_a_packet_that_also_looks_like_a_tunnel_has_its_own_ip_header():
    """Its connection ids and token make an Ethernet frame of VXLAN with ICMP in it."""
    ethernet = bytes(6) + b"\0\0\x44\xb0" + bytes(2) + b"\x08\0"
    icmp = b"\x45\0\0\x1c" + bytes(4) + b"\x40\1" + bytes(18)
    payload = b"\xc8" + HELLO[1:5] + b"\x08" + bytes(2) + ethernet + icmp + bytes(1200)
    assert find(ETHERNET, frame(payload, ports=(50000, 4789)), quic=True) == ("datagram", 14, 34, 8 + len(payload), [])


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("name", [name for name in WAYS if carries(name, 4) and carries(name, 6)])
def test_it_is_found_in_every_tunnel(name, version):
    datagram = bytes((V4 if version == 4 else V6) / UDP(sport=50000, dport=443) / Raw(HELLO))
    verdict, net, udp, length, _ = find(ETHERNET, wrapped([name], datagram), quic=True)
    assert (verdict, length, udp - net) == ("datagram", 8 + len(HELLO), 20 if version == 4 else 40)


def test_the_length_is_that_of_its_header():
    assert find(ETHERNET, frame(HELLO) + b"trailer", quic=True)[3] == 8 + len(HELLO)
    assert find(ETHERNET, frame(HELLO, len=19), quic=True)[0] == "not_tcp"
    assert find(ETHERNET, frame(HELLO, len=40), quic=True)[3] == 40


def test_a_frame_that_was_cut_is_found_while_its_ids_are_there():
    made = frame(HELLO)
    verdicts = [find(ETHERNET, made[:size], len(made), quic=True)[0] for size in range(34, len(made))]
    first = verdicts.index("datagram")
    assert set(verdicts[first:]) == {"datagram"}
    assert 34 + first >= 34 + 20
