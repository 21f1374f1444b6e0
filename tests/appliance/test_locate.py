"""locate: every frame gets one verdict, and where dpkt and scapy find TCP, it finds the same place."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from models.decode import ETHERNET, LOOP, NULL, RAW, SLL, SLL2, place
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_Timestamp
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, CookedLinux, CookedLinuxV2, Dot1AD, Dot1Q, Ether, Loopback
from scapy.packet import Raw

from appliance.locate import VERDICTS, find

LAYER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
V4 = IP(src="192.0.2.1", dst="198.51.100.2")
V6 = IPv6(src="2001:db8::1", dst="2001:db8::2")
SEGMENT = TCP(sport=40000, dport=80, flags="PA") / Raw(b"GET / HTTP/1.1\r\n\r\n")
OPTIONS = TCP(sport=40000, dport=80, options=[("MSS", 1460), ("Timestamp", (1, 2))]) / Raw(b"x")

SAMPLES = {
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
    "three tags": (ETHERNET, LAYER / Dot1AD(vlan=3) / Dot1AD(vlan=2) / Dot1Q(vlan=1) / V4 / SEGMENT),
    "cooked": (SLL, CookedLinux() / V4 / SEGMENT),
    "cooked ipv6": (SLL, CookedLinux() / V6 / SEGMENT),
    "cooked 2": (SLL2, CookedLinuxV2() / V4 / SEGMENT),
    "cooked 2 ipv6": (SLL2, CookedLinuxV2() / V6 / SEGMENT),
    "raw": (RAW, V4 / SEGMENT),
    "raw ipv6": (RAW, V6 / SEGMENT),
    "raw 12": (12, V4 / SEGMENT),
    "raw 228": (228, V4 / SEGMENT),
    "raw 229": (229, V6 / SEGMENT),
    "null": (NULL, Loopback(type=2) / V4 / SEGMENT),
    "null ipv6": (NULL, Loopback(type=30) / V6 / SEGMENT),
    "loop": (LOOP, Raw(b"\0\0\0\x02") / V4 / SEGMENT),
}
BUILT = {name: (link_type, bytes(packet)) for name, (link_type, packet) in SAMPLES.items()}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_segment_stands_where_scapy_has_put_it(name):
    link_type, frame = BUILT[name]
    segment = SAMPLES[name][1][TCP]
    verdict, net, tcp, tcp_length, _ = find(link_type, frame)
    assert verdict == "found"
    assert (tcp, tcp_length) == (len(frame) - len(segment), len(segment))
    assert frame[net] >> 4 == (6 if "ipv6" in name or name == "raw 229" else 4)


@pytest.mark.parametrize("name", SAMPLES)
def test_the_segment_stands_where_dpkt_finds_it(name):
    link_type, frame = BUILT[name]
    model = place({12: RAW, 228: RAW, 229: RAW}.get(link_type, link_type), frame)
    assert model is not None
    assert find(link_type, frame) == ("found", *model)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_truncation_of_a_frame_has_a_verdict(name):
    link_type, frame = BUILT[name]
    _, _, tcp, tcp_length, vlans = find(link_type, frame)
    for length in range(len(frame)):
        found = find(link_type, frame[:length], len(frame))
        if length < tcp + 20:
            assert found == ("truncated", None, None, None, [])
        else:
            assert (found[0], found[2:]) == ("found", (tcp, tcp_length, vlans))


@pytest.mark.parametrize(
    ("name", "vlans"), [("ipv4", []), ("vlan", [7]), ("vlan 0", [0]), ("qinq", [200, 31]), ("three tags", [3, 2, 1])]
)
def test_vlan_ids_are_told_from_the_outside_in(name, vlans):
    assert find(*BUILT[name])[4] == vlans


def broken(packet, at, value):
    frame = bytearray(bytes(packet))
    frame[at : at + len(value)] = value
    return bytes(frame)


def chain(headers):
    """A segment behind so many extension headers."""
    packet = LAYER / V6
    for _ in range(headers):
        packet /= IPv6ExtHdrDestOpt()
    return packet / SEGMENT


PLAIN = LAYER / V4 / SEGMENT
PLAIN6 = LAYER / V6 / SEGMENT
REJECTED = {
    "arp": ("not_ip", ETHERNET, bytes(LAYER / ARP())),
    "802.3 length instead of a type": ("not_ip", ETHERNET, broken(PLAIN, 12, b"\x00\x40")),
    "udp": ("not_tcp", ETHERNET, bytes(LAYER / V4 / UDP())),
    "icmp": ("not_tcp", ETHERNET, bytes(LAYER / V4 / ICMP())),
    "udp over ipv6": ("not_tcp", ETHERNET, bytes(LAYER / V6 / UDP())),
    "no next header": ("not_tcp", ETHERNET, broken(PLAIN6, 20, b"\x3b")),
    "four tags": ("too_many_tags", ETHERNET, bytes(LAYER / Dot1Q() / Dot1Q() / Dot1Q() / Dot1Q() / V4 / SEGMENT)),
    "first fragment": ("fragment", ETHERNET, bytes(LAYER / IP(flags="MF") / SEGMENT)),
    "later fragment": ("fragment", ETHERNET, bytes(LAYER / IP(frag=3) / SEGMENT)),
    "ipv6 fragment": ("fragment", ETHERNET, bytes(LAYER / V6 / IPv6ExtHdrFragment(offset=9) / SEGMENT)),
    "ipv6 first fragment": ("fragment", ETHERNET, bytes(LAYER / V6 / IPv6ExtHdrFragment(m=1) / SEGMENT)),
    "ip version 5": ("bad_ip_header", ETHERNET, broken(PLAIN, 14, b"\x55")),
    "ip header of 16 bytes": ("bad_ip_header", ETHERNET, broken(PLAIN, 14, b"\x44")),
    "total length below the header's": ("bad_ip_header", ETHERNET, broken(PLAIN, 16, b"\x00\x13")),
    "ipv6 version 4": ("bad_ip_header", ETHERNET, broken(PLAIN6, 14, b"\x40")),
    "extension beyond the packet": (
        "bad_ip_header",
        ETHERNET,
        broken(LAYER / V6 / IPv6ExtHdrHopByHop() / SEGMENT, 55, b"\xff"),
    ),
    "datagram too short for tcp": ("bad_tcp_header", ETHERNET, broken(PLAIN, 16, struct.pack(">H", 39))),
    "nine extension headers": ("too_many_headers", ETHERNET, bytes(chain(9))),
    "raw that is neither": ("not_ip", RAW, b"\x55" + bytes(40)),
    "unknown link": ("unknown_link", 105, bytes(PLAIN)),
    "nothing": ("truncated", ETHERNET, b""),
}


@pytest.mark.parametrize("name", REJECTED)
def test_what_is_no_segment_is_rejected_with_its_reason(name):
    verdict, link_type, frame = REJECTED[name]
    assert find(link_type, frame) == (verdict, None, None, None, [])


def test_eight_extension_headers_are_followed():
    frame = bytes(chain(8))
    assert find(ETHERNET, frame)[:3] == ("found", 14, 54 + 8 * 8)


def test_an_ip_length_of_zero_means_that_the_card_cuts_the_segment():
    frame = broken(PLAIN, 16, b"\0\0")
    assert find(ETHERNET, frame)[:1] == ("found",)
    assert find(ETHERNET, frame)[3] == len(frame) - 34


def test_padding_behind_the_packet_is_not_payload():
    assert find(ETHERNET, bytes(LAYER / V4 / TCP()) + bytes(6))[3] == 20


@given(st.binary(max_size=120), st.sampled_from((0, 1, 12, 14, 101, 108, 113, 228, 229, 276, 300)), st.integers(0, 200))
def test_random_bytes_get_one_verdict(frame, link_type, wirelen):
    found, net, tcp, tcp_length, _ = find(link_type, frame, wirelen)
    assert found in (*VERDICTS, "found")
    if found == "found":
        assert net + 20 <= tcp <= len(frame) - 20
        assert tcp_length >= 20


@given(st.sampled_from(sorted(BUILT)), st.lists(st.tuples(st.integers(0, 99), st.integers(0, 255)), max_size=4))
def test_damaged_frames_point_into_themselves(name, damage):
    link_type, frame = BUILT[name]
    frame = bytearray(frame)
    for at, value in damage:
        frame[at % len(frame)] = value
    found, net, tcp, tcp_length, _ = find(link_type, bytes(frame))
    if found == "found":
        assert net + (40 if frame[net] >> 4 == 6 else 20) <= tcp <= len(frame) - 20
        assert tcp_length >= 20
