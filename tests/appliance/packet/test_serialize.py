"""serialize(): untouched frames to their very bytes; changed ones to what scapy would have built."""

from __future__ import annotations

import socket

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packet_frames import ANSWER, FRAMES, LAYER, PADDING, REQUEST, SEGMENT, V4, V6, of, packet
from sample import sample
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrRouting
from scapy.layers.l2 import Dot1Q
from scapy.packet import Raw

UNSUMMED = {"ah", "ah 6"}  # scapy does not sum up TCP behind an authentication header


@pytest.mark.parametrize("name", FRAMES)
def test_an_untouched_frame_is_its_very_bytes(name):
    assert packet(name).serialize(fix_lengths=False, compute_checksums=False) == packet(name).data


@pytest.mark.parametrize("name", [name for name in FRAMES if name not in UNSUMMED])
def test_lengths_and_checksums_that_were_right_stay(name):
    assert packet(name).serialize() == packet(name).data


def test_the_whole_sample_comes_back():
    for _, frame in sample(7)[0]:
        made = of(frame)
        assert made.layers
        assert made.serialize() == frame


def test_what_was_never_decoded_comes_back():
    assert of(b"anything", link_type=147).serialize() == b"anything"


def test_serialize_leaves_the_layers_alone():
    made = packet("request")
    made.network.len = 1
    made.network.sum = made.transport.sum = 0
    made.serialize()
    assert (made.network.len, made.network.sum, made.transport.sum) == (1, 0, 0)


def test_a_changed_payload_gets_lengths_and_checksums():
    made = packet("datagram")
    made.transport.data = b"something longer"
    assert made.serialize() == bytes(LAYER / V4 / UDP(sport=1, dport=2) / Raw(b"something longer"))


def test_changed_addresses_reach_every_checksum():
    made = packet("ipv6")
    made.network.src = socket.inet_pton(socket.AF_INET6, "2001:db8::77")
    assert made.serialize() == bytes(LAYER / IPv6(src="2001:db8::77", dst=V6.dst) / SEGMENT)


def test_options_make_the_headers_longer():
    made = packet("no payload")
    made.network.opts = b"\x94\x04\0\0"
    made.transport.opts = b"\x02\x04\x05\xb4\x01"
    out = of(made.serialize())
    assert (out.network.hl, out.network.opts) == (6, b"\x94\x04\0\0")
    assert (out.transport.off, out.transport.opts) == (7, b"\x02\x04\x05\xb4\x01\0\0\0")
    assert out.error is None
    assert out.network.len == len(out.data) - 14


def test_too_many_options_are_refused():
    made = packet("no payload")
    made.transport.opts = bytes(44)
    with pytest.raises(ValueError, match="TCP: 44 bytes of options, 40 are possible"):
        made.serialize()


def test_without_the_flags_fields_are_written_as_they_stand():
    made = packet("datagram")
    made.network.len, made.network.sum = 7, 0x1234
    made.transport.ulen, made.transport.sum = 9, 0x5678
    out = made.serialize(fix_lengths=False, compute_checksums=False)
    assert out[16:18] == b"\0\x07"
    assert out[24:26] == b"\x12\x34"
    assert out[38:42] == b"\0\x09\x56\x78"
    lengths = made.serialize(fix_lengths=True, compute_checksums=False)
    assert lengths[16:18] == b"\0\x21"
    assert lengths[40:42] == b"\x56\x78"
    sums = made.serialize(fix_lengths=False, compute_checksums=True)
    assert sums[38:40] == b"\0\x09"
    assert sums[40:42] != b"\x56\x78"


@pytest.mark.parametrize("name", ["vlan", "qinq", "three tags", "vlan and mpls", "vlan and padding"])
def test_a_tag_is_changed_and_nothing_else(name):
    made = packet(name)
    before = made.layer("vlan").id
    made.layer("vlan").id = 4000
    out = made.serialize()
    assert of(out).layer("vlan").id == 4000 != before
    assert (out[:14], out[16:]) == (made.data[:14], made.data[16:])


def test_a_tag_is_put_in_and_taken_out():
    made = packet("ipv4")
    made.link.type = 0x8100
    made.link.vlan_tags = [dpkt.ethernet.VLANtag8021Q(id=7, type=0x800)]
    assert made.serialize() == bytes(LAYER / Dot1Q(vlan=7) / V4 / SEGMENT)
    made = packet("vlan")
    made.link.vlan_tags, made.link.type = [], 0x800
    assert made.serialize() == packet("ipv4").data


def test_padding_stays_while_lengths_do_and_goes_when_they_change():
    made = packet("vlan and padding")
    made.transport.sport = 9999
    assert made.serialize().endswith(PADDING)
    made.transport.data = b"longer"
    assert made.serialize() == bytes(LAYER / Dot1Q(vlan=9) / V4 / UDP(sport=9999) / Raw(b"longer"))
    assert made.serialize(fix_lengths=False).endswith(b"longer" + PADDING)


def test_layers_are_replaced():
    made = packet("request")
    made.network.data = dpkt.udp.UDP(sport=1, dport=2, data=b"hello")
    made.network.p = 17
    assert made.serialize() == packet("datagram").data


def test_a_changed_head_is_packed_with_every_value_of_a_header():
    made = packet("request")
    made.application.uri = "/other"
    out = of(made.serialize())
    assert out.error is None
    assert out.payload == (
        b"POST /other HTTP/1.1\r\nhost: a.example\r\nx: 1\r\nx: 2\r\ncontent-length: 9\r\n\r\npartial"
    )
    made = packet("response")
    made.application.status = "404"
    assert of(made.serialize()).payload.startswith(b"HTTP/1.1 404 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n")


def test_an_untouched_head_keeps_its_spelling():
    made = packet("request")
    made.network.ttl = 9
    assert made.serialize().endswith(REQUEST)


def test_a_changed_dns_message_is_packed():
    made = packet("question")
    made.application.id = 9
    made.application.qd[0].name = "b.example"
    out = of(made.serialize())
    assert (out.application.id, out.application.qd[0].name, out.error) == (9, "b.example", None)


def test_an_untouched_dns_message_keeps_its_bytes_when_another_layer_changes():
    made = packet("answer")
    made.transport.dport = 53001
    assert made.serialize().endswith(bytes(ANSWER))


def test_a_changed_echo_is_summed_up():
    made = packet("echo")
    made.layer("echo").seq = 77
    made.layer("echo").data = b"pong!"
    assert made.serialize() == bytes(LAYER / V4 / ICMP(id=1, seq=77) / Raw(b"pong!"))


def test_a_sum_of_zero_is_written_as_ones_in_udp():
    made = packet("datagram")
    made.transport.data = bytes(4)
    made.transport.data = bytes(2) + made.serialize()[40:42]  # what completes a sum of ones
    assert made.serialize()[40:42] == b"\xff\xff"


def test_a_routing_header_moves_the_destination_of_the_pseudo_header():
    route = IPv6ExtHdrRouting(addresses=["2001:db8::9"], segleft=1)
    made = of(bytes(LAYER / V6 / route / SEGMENT))
    assert made.serialize() == made.data
    made.transport.sport = 7
    assert made.serialize() == bytes(LAYER / V6 / route / TCP(sport=7, dport=80, flags="PA") / Raw(SEGMENT.load))


def test_a_fragments_checksum_and_length_are_left():
    made = packet("first fragment")
    made.network.ttl = 3
    out = made.serialize()
    assert out[34:] == made.data[34:]
    assert of(out).network.ttl == 3


def test_changed_packets_in_a_tunnel_are_fixed_on_every_level():
    made = packet("gre")
    made.transport.data = b"new"
    out = of(made.serialize())
    assert out.error is None
    assert out.network.len == len(out.data) - 14
    assert out.layer("ip6").plen == 23
    again = out.serialize()
    assert again == out.data


def test_an_802_3_length_is_fixed():
    made = packet("snap")
    made.transport.data = b"x"
    out = of(made.serialize())
    assert out.link.type == len(out.data) - 14
    assert out.error is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda made: setattr(made.network, "ttl", 300), "IP: a field has a value that cannot be written"),
        (lambda made: setattr(made.network, "src", "192.0.2.1"), "IP: a field has a value that cannot be written"),
        (lambda made: setattr(made.transport, "sport", None), "TCP: a field has a value that cannot be written"),
        (lambda made: setattr(made.transport, "data", 5), "the payload is a int, not bytes or a layer of dpkt"),
        (lambda made: setattr(made.transport, "data", bytes(70_000)), "IP: 70040 bytes do not fit its length field"),
        (lambda made: setattr(made.application, "headers", None), "Request: a field has a value"),
        (lambda made: setattr(made.network, "data", made.link), "more than 64 layers in each other"),
    ],
)
def test_an_impossible_value_is_refused_by_name(change, message):
    made = packet("request")
    change(made)
    with pytest.raises(ValueError, match=message):
        made.serialize()


@given(
    st.binary(max_size=300),
    st.integers(0, 65535),
    st.integers(0, 255),
    st.booleans(),
    st.sampled_from(["", "tcp", "udp"]),
)
def test_scapy_builds_the_same_frame_from_the_same_changes(payload, port, ttl, six, vlan):
    inner = UDP(sport=port, dport=9) if vlan == "udp" else TCP(sport=port, dport=9)
    around = (
        IPv6(src="2001:db8::1", dst="2001:db8::2", hlim=ttl) if six else IP(src="192.0.2.1", dst="192.0.2.2", ttl=ttl)
    )
    below = LAYER / Dot1Q(vlan=5) if vlan else LAYER
    made = of(bytes(below / around.__class__(src=around.src, dst=around.dst) / inner.__class__(sport=1, dport=9)))
    setattr(made.network, "hlim" if six else "ttl", ttl)
    made.transport.sport = port
    made.transport.data = payload
    assert made.serialize() == bytes(below / around / inner / Raw(payload))
