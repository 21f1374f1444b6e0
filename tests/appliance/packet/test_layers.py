"""Layers that are broken: everything before them stands, the error says what and where, nothing ever raises."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packet_frames import FRAMES, LAYER, REQUEST, V4, V6, names, of, packet
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import Dot1Q
from scapy.packet import Raw

from appliance.packet.application_layers import DNS_BYTES
from appliance.packet.layer_decoder import LEAF_BYTES, MAX_LAYERS, QUOTE_LAYERS, DecodeError

WHOLE = [name for name in FRAMES if not name.startswith("unknown")]


@pytest.mark.parametrize("name", WHOLE)
def test_a_good_frame_has_no_error(name):
    assert packet(name).error is None


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("unknown type", "Ethernet at byte 0: type 0x88b5 is not decoded"),
        ("unknown protocol", "IP at byte 14: protocol 253 is not decoded"),
    ],
)
def test_what_is_not_known_is_named_and_its_bytes_are_payload(name, error):
    made = packet(name)
    assert str(made.error) == error
    assert made.payload == b"experiment"


def test_a_link_type_that_is_not_known_leaves_the_data():
    made = of(b"anything", link_type=147)
    assert (made.layers, made.payload) == ([], b"anything")
    assert made.error == DecodeError("frame", 0, "link type 147 is not decoded")


def test_a_frame_cut_by_the_capture_says_so_and_keeps_what_is_whole():
    whole = packet("request").data
    made = of(whole[:60], wirelen=len(whole))
    assert names(made) == ["Ethernet", "IP", "TCP"]
    assert made.error == DecodeError("IP", 14, f"truncated: the capture kept 60 of {len(whole)} bytes")
    assert made.payload == whole[54:60]


def test_a_frame_cut_within_a_header_says_so_too():
    made = of(packet("request").data[:40], wirelen=131)
    assert names(made) == ["Ethernet", "IP"]
    assert made.error.reason == "truncated: the capture kept 40 of 131 bytes"


def test_a_cut_that_no_length_field_shows_is_an_error_as_well():
    made = of(packet("unknown type").data[:-1] + b"", wirelen=24)
    cut = of(packet("arp").data[:42], wirelen=60)
    assert made.error is not None
    assert cut.error == DecodeError("ARP", 42, "truncated: the capture kept 42 of 60 bytes")


def test_a_packet_shorter_than_it_says_is_cut_short_though_the_capture_is_whole():
    made = of(packet("request").data[:60])
    assert made.error == DecodeError("IP", 14, "cut short: 117 bytes needed, 46 are there")
    assert made.transport.dport == 8080


BROKEN = {
    "no type": (b"\x02" * 13, [], "Ethernet at byte 0: cut short: 14 bytes needed, 13 are there"),
    "half a tag": (bytes(LAYER / Dot1Q(vlan=7, type=0x800))[:16], ["Ethernet"], "Ethernet at byte 0: cut short"),
    "half an address": (bytes(LAYER / V4)[:30], ["Ethernet"], "IP at byte 14: cut short: 20 bytes needed, 16"),
    "version": (bytes(LAYER / IP(version=5)), ["Ethernet"], "IP at byte 14: its version is 5"),
    "header length": (bytes(LAYER / IP(ihl=4)), ["Ethernet", "IP"], "IP at byte 14: its header length is 16"),
    "options beyond the end": (bytes(LAYER / IP(ihl=15)), ["Ethernet", "IP"], "IP at byte 14: cut short: 60 bytes"),
    "length below the header": (
        bytes(LAYER / IP(len=19) / TCP()),
        ["Ethernet", "IP", "TCP"],
        "IP at byte 14: its length field is less than its header",
    ),
    "data offset": (
        bytes(LAYER / V4 / TCP(dataofs=4)),
        ["Ethernet", "IP", "TCP"],
        "TCP at byte 34: its header length is 16",
    ),
    "options of TCP beyond the end": (
        bytes(LAYER / V4 / TCP(dataofs=15)),
        ["Ethernet", "IP", "TCP"],
        "TCP at byte 34: cut short: 60 bytes needed, 20 are there",
    ),
    "length of UDP": (
        bytes(LAYER / V4 / UDP(sport=1, dport=2, len=99) / Raw(b"x")),
        ["Ethernet", "IP", "UDP"],
        "UDP at byte 34: cut short: 99 bytes needed, 9 are there",
    ),
    "no DNS": (bytes(LAYER / V4 / UDP(dport=53) / Raw(b"x")), ["Ethernet", "IP", "UDP"], "DNS at byte 42: cut short"),
    "header of HTTP": (
        bytes(LAYER / V4 / TCP() / Raw(b"GET / HTTP/1.1\r\nno colon here\r\n\r\n")),
        ["Ethernet", "IP", "TCP"],
        "HTTP at byte 54: invalid header",
    ),
    "extension header": (
        bytes(LAYER / V6)[:20] + b"\0" + bytes(LAYER / V6)[21:] + bytes((6, 200)) + bytes(6),
        ["Ethernet", "IP6"],
        "IP6 at byte 14: cut short: 1608 bytes needed, 8 are there",
    ),
    "empty MPLS": (
        bytes(LAYER)[:12] + b"\x88\x47\0\x01\x01\x40",
        ["Ethernet", "MPLSlabel"],
        "Ethernet at byte 0: cut short: 1 bytes needed, 0 are there",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_layer_is_named_with_its_place(name):
    data, layers, error = BROKEN[name]
    made = of(data)
    assert names(made) == layers
    assert str(made.error).startswith(error)


def test_the_rest_of_a_broken_packet_is_bytes():
    made = of(BROKEN["no DNS"][0])
    assert (made.payload, made.transport.data, made.application) == (b"x", b"x", None)


def test_dpkts_messages_never_carry_bytes_of_the_frame():
    made = of(BROKEN["header of HTTP"][0])
    assert "colon" not in str(made.error)


def test_nesting_ends_at_a_limit():
    inner = b""
    for _ in range(100):
        inner = bytes(IP(src="192.0.2.1", dst="192.0.2.2", proto=4, len=20 + len(inner))) + inner
    made = of(bytes(LAYER)[:12] + b"\x08\x00" + inner)
    assert len(made.layers) == MAX_LAYERS
    assert made.error.reason == f"more than {MAX_LAYERS} layers are not decoded"
    assert made.serialize(False, False) == made.data


def test_tags_and_labels_without_end_end_at_the_limit():
    for kind, unit in ((b"\x81\0", b"\0\x01\x81\0"), (b"\x88\x47", b"\0\x01\0\x40")):
        made = of(bytes(12) + kind + unit * 1000)
        assert len(made.layers) == MAX_LAYERS
        assert made.serialize() == made.data


def depth(layer):
    levels = 0
    while hasattr(layer, "data"):
        layer, levels = layer.data, levels + 1
    return levels


def test_what_a_quoted_error_quotes_stays_bytes():
    inner = b""
    for _ in range(60):
        error = struct.pack(">BBHI", 3, 0, 0, 0) + inner
        inner = bytes(IP(src="192.0.2.1", dst="192.0.2.2", proto=1, len=20 + len(error))) + error
    made = of(bytes(LAYER)[:12] + b"\x08\x00" + inner)
    assert names(made) == ["Ethernet", "IP", "ICMP", "Unreach"]
    assert depth(made.layers[0]) == 7  # IP, ICMP and Unreach once more
    all_of(made)


def test_a_quoted_tunnel_is_decoded_to_a_limit():
    inner = b""
    for _ in range(60):
        inner = bytes(IP(src="192.0.2.1", dst="192.0.2.2", proto=4, len=20 + len(inner))) + inner
    made = of(bytes(LAYER / V4 / ICMP(type=3) / Raw(inner)))
    assert depth(made.layers[-1]) == 1 + QUOTE_LAYERS
    all_of(made)


@pytest.mark.parametrize(
    ("below", "name", "limit"), [(UDP(dport=53), "DNS", DNS_BYTES), (IP(proto=132), "SCTP", LEAF_BYTES)]
)
def test_what_dpkt_would_take_too_long_for_is_not_decoded(below, name, limit):
    made = of(bytes(LAYER / (V4 / below if name == "DNS" else below) / Raw(b"\0\1" * limit)))
    assert (made.error.layer, made.error.reason) == (name, f"more than {limit} bytes of it are not decoded")
    assert len(made.payload) == 2 * limit


def test_a_packet_that_the_card_was_to_cut_has_no_length_and_no_error():
    made = of(bytes(LAYER / IP(src="192.0.2.1", dst="192.0.2.2", len=0) / TCP(dport=80) / Raw(REQUEST)))
    assert made.error is None
    assert made.application.method == "POST"


def test_the_udp_length_of_a_first_fragment_is_no_error():
    assert packet("first fragment").error is None
    assert packet("first fragment").transport.ulen == 4000


# -- laws --------------------------------------------------------------------------------------------------------------


def all_of(made):
    """Everything that a packet offers, used once."""
    _ = made.layers, made.link, made.network, made.transport, made.application, made.flow, made.payload, str(made.error)
    text = [str(made), made.dump(), repr(made)]
    json.dumps(made.as_dict())
    for flags in ((False, False), (True, False), (False, True), (True, True)):
        out = made.serialize(*flags)
        if not any(flags):
            assert out == made.data
    for one in text:
        assert all(character.isprintable() or character == "\n" for character in one)


@given(st.binary(max_size=200), st.sampled_from([0, 1, 12, 101, 108, 113, 228, 276, 999]))
def test_random_bytes_raise_nowhere(data, link_type):
    all_of(of(data, link_type=link_type))


@given(st.sampled_from(sorted(FRAMES)), st.data())
def test_truncated_frames_raise_nowhere(name, data):
    link_type, frame = FRAMES[name]
    cut = data.draw(st.integers(0, len(frame)))
    made = of(frame[:cut], wirelen=len(frame), link_type=link_type)
    all_of(made)
    assert (made.error is not None) or cut == len(frame)
    all_of(of(frame[:cut], link_type=link_type))


@given(st.sampled_from(sorted(FRAMES)), st.data())
def test_frames_with_flipped_bits_raise_nowhere(name, data):
    link_type, frame = FRAMES[name]
    flipped = bytearray(frame)
    for place in data.draw(st.lists(st.integers(0, len(frame) * 8 - 1), min_size=1, max_size=8)):
        flipped[place // 8] ^= 1 << place % 8
    all_of(of(bytes(flipped), link_type=link_type))


@given(st.sampled_from(sorted(FRAMES)), st.integers(0, 80), st.binary(max_size=60))
def test_frames_with_another_end_raise_nowhere(name, keep, end):
    link_type, frame = FRAMES[name]
    all_of(of(frame[:keep] + end, link_type=link_type))
