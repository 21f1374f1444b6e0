"""The line for each packet: who, to whom, what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packet_frames import FRAMES, LAYER, V4, of, packet
from scapy.layers.inet import TCP
from scapy.layers.l2 import ARP
from scapy.packet import Raw

from appliance.packet.one_line import line

TIME = "2026-11-22 10:00:00.123456789 eth0 "


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tcp options", "192.0.2.1:40000 > 198.51.100.2:80 TCP SYN seq 0 win 8192 len 1"),
        (
            "request",
            "192.0.2.1:20 > 198.51.100.2:8080 TCP PSH|ACK seq 0 ack 0 win 8192 len 77: POST /a?b HTTP/1.1 (a.example)",
        ),
        ("response", "[2001:db8::1]:80 > [2001:db8::2]:80 TCP PSH|ACK seq 0 ack 0 win 8192 len 55: HTTP/1.1 200 OK"),
        ("datagram", "192.0.2.1:1 > 198.51.100.2:2 UDP len 5"),
        ("question", "192.0.2.1:40000 > 198.51.100.2:53 UDP len 27: DNS 7 question AAAA a.example"),
        ("answer", "[2001:db8::1]:53 > [2001:db8::2]:40000 UDP len 74: DNS 7 answer A a.example 2 records"),
        ("echo", "192.0.2.1 > 198.51.100.2 ICMP echo request id 1 seq 2 len 4"),
        ("echo 6", "2001:db8::1 > 2001:db8::2 ICMP6 echo request id 1 seq 2 len 4"),
        ("neighbour", "2001:db8::1 > 2001:db8::2 ICMP6 neighbor solicitation"),
        ("unreachable", "192.0.2.1 > 198.51.100.2 ICMP unreachable code 3 about 192.0.2.9 > 127.0.0.1"),
        ("arp", "02:00:00:00:00:01 > 02:00:00:00:00:02 ARP who has 192.0.2.2 tell 192.0.2.1"),
        ("later fragment", "127.0.0.1 > 127.0.0.1 IP fragment 1 at 40 len 24"),
        ("later fragment 6", "2001:db8::1 > 2001:db8::2 IP6 fragment 0 at 24 len 24"),
        (
            "vlan and mpls",
            "vlan 5 mpls 17 [2001:db8::1]:40000 > [2001:db8::2]:80 "
            "TCP PSH|ACK seq 0 ack 0 win 8192 len 18: GET / HTTP/1.1",
        ),
        (
            "qinq",
            "vlan 200,31 192.0.2.1:40000 > 198.51.100.2:80 TCP PSH|ACK seq 0 ack 0 win 8192 len 18: GET / HTTP/1.1",
        ),
        ("igmp", "127.0.0.1 > 127.0.0.1 IGMP len 42"),
        (
            "unknown type",
            "02:00:00:00:00:01 > 02:00:00:00:00:02 Ethernet len 24 [Ethernet at byte 0: type 0x88b5 is not decoded]",
        ),
    ],
)
def test_a_packet_in_a_line(name, text):
    assert line(packet(name)) == TIME + text


def test_an_arp_reply_tells_the_hardware_address():
    made = of(bytes(LAYER / ARP(op=2, psrc="192.0.2.1", hwsrc="02:00:00:00:00:01")))
    assert line(made).endswith("ARP 192.0.2.1 is at 02:00:00:00:00:01")


def test_a_file_has_no_interface_in_its_lines():
    made = of(packet("datagram").data, interface="")
    assert line(made).startswith("2026-11-22 10:00:00.123456789 192.0.2.1:1 > ")


def test_a_line_is_one_line_without_control_characters():
    made = of(bytes(LAYER / V4 / TCP(dport=80) / Raw(b"GET /\x1b[2J HTTP/1.1\r\nHost: a\x0b\x9b\r\n\r\n")))
    assert made.application is not None
    assert line(made).isprintable()
    assert "GET /\\x1b[2J" in line(made)


@given(st.sampled_from(sorted(FRAMES)), st.integers(0, 80), st.binary(max_size=60))
def test_any_frame_has_a_line(name, keep, end):
    link_type, frame = FRAMES[name]
    assert line(of(frame[:keep] + end, link_type=link_type)).isprintable()
