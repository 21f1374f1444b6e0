"""locate, links and IP: every frame gets one verdict, and where dpkt and scapy find TCP, it finds the same place."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from models.decode import ETHERNET, RAW, SLL, SLL2, place
from sample_frames import (
    EXTENSIONS,
    INSIDE,
    LAYER,
    LINK,
    LINKS,
    MACS,
    PPP,
    PPP_ETHER,
    PPP_SERIAL,
    SEGMENT,
    V4,
    V6,
    chained,
    six,
)
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.layers.l2 import ARP, LLC, SNAP, CookedLinux, CookedLinuxV2, Dot1Q, Dot3

from appliance.wire.tcp_locator import VERDICTS, find


@pytest.mark.parametrize("name", LINKS)
def test_the_segment_stands_where_scapy_has_put_it(name):
    link_type, frame, *where = LINKS[name]
    verdict, net, *found, _ = find(link_type, frame)
    assert (verdict, found) == ("found", where)
    assert frame[net] >> 4 == (6 if "ipv6" in name else 4)


UNKNOWN_TO_DPKT = {
    *("ppp", "ppp ipv6", "serial ppp", "serial cisco ipv6", "ppp-ether", "c-hdlc"),  # as a whole capture
    *("cooked snap", "cooked 2 snap", "cooked vlan", "cooked 2 vlan"),  # behind a cooked header
    "tagged snap",  # a length behind a tag
    "snap and a tag",
    "llc ip",
    *(name for name, sample in LINKS.items() if sample.link_type in (105, 127, 192, 239)),  # as a whole capture
}


@pytest.mark.parametrize("name", sorted(LINKS.keys() - UNKNOWN_TO_DPKT))
def test_the_segment_stands_where_dpkt_finds_it(name):
    link_type, frame, *_ = LINKS[name]
    model = place({12: RAW, 14: RAW, 228: RAW, 229: RAW}.get(link_type, link_type), frame)
    assert model is not None
    assert find(link_type, frame) == ("found", *model)


@pytest.mark.parametrize(
    ("name", "vlans"),
    [
        ("ipv4", []),
        ("vlan", [7]),
        ("qinq", [200, 31]),
        ("old qinq", [200, 31]),
        ("three tags", [3, 2, 1]),
        ("tagged snap", [7]),
        ("snap and a tag", [7]),
        ("cooked vlan", [7]),
        ("cooked 2 vlan", [7]),
    ],
)
def test_vlan_ids_are_told_from_the_outside_in(name, vlans):
    assert find(*LINKS[name][:2])[4] == vlans
    assert find(*LINKS[name][:2], vlans=False)[4] == []


@pytest.mark.parametrize(("name", "vlans"), [("vlan 0", []), ("priority between tags", [3, 1])])
def test_a_priority_tag_is_no_vlan(name, vlans):
    assert find(*LINKS[name][:2])[4] == vlans


def broken(packet, at, value):
    frame = bytearray(bytes(packet))
    frame[at : at + len(value)] = value
    return bytes(frame)


def snap(code, oui=0):
    return Dot3(**MACS) / LINK / SNAP(OUI=oui, code=code)


PLAIN = LAYER / V4 / SEGMENT
PLAIN6 = LAYER / V6 / SEGMENT
TAGS = Dot1Q(vlan=1) / Dot1Q(vlan=2) / Dot1Q(vlan=3)
LOOPING = bytes(LINK / SNAP(code=0x8100)) + b"\0\x07\0\x40"  # LLC, SNAP, a tag, and a length again
REJECTED = {
    "arp": ("not_ip", ETHERNET, bytes(LAYER / ARP())),
    "lldp": ("not_ip", ETHERNET, broken(PLAIN, 12, b"\x88\xcc")),
    "neither a length nor a type": ("not_ip", ETHERNET, broken(PLAIN, 12, b"\x05\xdd")),
    "802.3 with something else": ("not_ip", ETHERNET, broken(PLAIN, 12, b"\x00\x40")),
    "spanning tree": ("not_ip", ETHERNET, bytes(Dot3(**MACS) / LLC(dsap=0x42, ssap=0x42, ctrl=3)) + bytes(35)),
    "snap of a vendor": ("not_ip", ETHERNET, bytes(snap(0x0800, 0x00000C) / V4 / SEGMENT)),
    "snap with a length": ("not_ip", ETHERNET, bytes(snap(64) / V4 / SEGMENT)),
    "llc that is no information": ("not_ip", ETHERNET, bytes(Dot3(**MACS) / LLC(dsap=6, ssap=6, ctrl=0xAF) / V4)),
    "pppoe discovery": ("not_ip", ETHERNET, broken(PLAIN, 12, b"\x88\x63")),
    "cooked 802.3 without llc": ("not_ip", SLL, bytes(CookedLinux(proto=1) / LINK / SNAP(code=0x0800) / V4 / SEGMENT)),
    "cooked can": ("not_ip", SLL2, bytes(CookedLinuxV2(proto=0xC) / LINK / SNAP(code=0x0800) / V4 / SEGMENT)),
    "cooked netlink": ("not_ip", SLL, bytes(CookedLinux(lladdrtype=824, proto=0x0800) / V4 / SEGMENT)),
    "cooked 2 netlink": ("not_ip", SLL2, bytes(CookedLinuxV2(lladdrtype=824, proto=0x0800) / V4 / SEGMENT)),
    "ppp configuration": ("not_ip", PPP, b"\xff\x03\xc0\x21" + bytes(40)),
    "serial cisco keep-alive": ("not_ip", PPP_SERIAL, b"\x8f\x00\x80\x35" + bytes(40)),
    "pppoe that is no session": ("not_ip", PPP_ETHER, b"\x11\x09" + bytes(40)),
    "udp": ("not_tcp", ETHERNET, bytes(LAYER / V4 / UDP())),
    "icmp": ("not_tcp", ETHERNET, bytes(LAYER / V4 / ICMP())),
    "esp": ("not_tcp", ETHERNET, broken(PLAIN, 23, b"\x32")),
    "udp over ipv6": ("not_tcp", ETHERNET, bytes(LAYER / V6 / UDP())),
    "esp over ipv6": ("not_tcp", ETHERNET, broken(PLAIN6, 20, b"\x32")),
    "no next header": ("not_tcp", ETHERNET, broken(PLAIN6, 20, b"\x3b")),
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
    "raw that is neither": ("not_ip", RAW, b"\x55" + bytes(40)),
    "unknown link": ("unknown_link", 147, bytes(PLAIN)),
    "nothing": ("truncated", ETHERNET, b""),
}


@pytest.mark.parametrize("name", REJECTED)
def test_what_is_no_segment_is_rejected_with_its_reason(name):
    verdict, link_type, frame = REJECTED[name]
    assert find(link_type, frame) == (verdict, None, None, None, [])


# -- VLAN tags ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", [b"\x81\0", b"\x88\xa8", b"\x91\0"])
def test_n5_four_tags_of_any_kind_are_a_counted_reject(tag):
    frame = bytes(LAYER)[:12] + 4 * (tag + b"\0\x07") + b"\x08\0" + INSIDE[4]
    assert find(ETHERNET, frame)[0] == "too_many_tags"


def test_n5_a_priority_tag_counts_as_a_tag():
    assert find(ETHERNET, bytes(LAYER / TAGS / Dot1Q(vlan=0) / V4 / SEGMENT))[0] == "too_many_tags"


def test_n5_tags_on_both_sides_of_a_snap_header_are_counted_together():
    """SNAP may name a tag and a tag a length, behind which LLC stands again: no frame may lead in circles."""
    once = bytes(Dot3(**MACS)) + LOOPING + bytes(LINK / SNAP(code=0x0800) / V4 / SEGMENT)
    assert (find(ETHERNET, once)[0], find(ETHERNET, once)[4]) == ("found", [7])
    assert find(ETHERNET, bytes(Dot3(**MACS)) + LOOPING * 20_000)[0] == "too_many_tags"


def test_n5_an_outer_tag_that_the_interface_stripped_into_a_cooked_header_gives_the_same_result():
    in_band = find(ETHERNET, bytes(LAYER / Dot1Q(vlan=7) / V4 / SEGMENT))
    put_back = find(SLL, bytes(CookedLinux(proto=0x8100) / Dot1Q(vlan=7) / V4 / SEGMENT))
    assert (put_back[0], put_back[3:]) == (in_band[0], in_band[3:]) == ("found", (len(SEGMENT), [7]))


# -- IPv6 extension headers --------------------------------------------------------------------------------------------


def test_n6_eight_extension_headers_are_followed_and_nine_are_not():
    assert find(ETHERNET, six(chained([60] * 8)))[:3] == ("found", 14, 54 + 8 * 8)
    assert find(ETHERNET, six(chained([60] * 9)))[0] == "too_many_headers"


@given(
    st.lists(st.sampled_from(EXTENSIONS), max_size=12),
    st.lists(st.integers(0, 253), max_size=12),
    st.sampled_from((6, 17, 50, 59, 255)),
)
def test_n6_a_chain_of_any_order_is_followed_to_its_end_or_its_limit(kinds, units, last):
    frame = six(chained(kinds, last, units=units[: len(kinds)]))
    verdict, _, tcp, tcp_length, _ = find(ETHERNET, frame)
    if len(kinds) > 8:
        assert verdict == "too_many_headers"
    elif last != 6:
        assert verdict == "not_tcp"
    else:
        assert (verdict, tcp, tcp_length) == ("found", len(frame) - len(SEGMENT), len(SEGMENT))


@pytest.mark.parametrize("following", [2, 61, 99, 254])
def test_n6_an_unknown_next_header_ends_the_chain(following):
    assert find(ETHERNET, six(chained([0, 60], following)))[0] == "not_tcp"


def test_n6_a_routing_header_of_type_0_is_passed_over():
    frame = six(chained([43], units=[2]))
    assert find(ETHERNET, frame)[:3] == ("found", 14, 14 + 40 + 24)


def test_n6_a_hop_by_hop_header_full_of_padding_is_one_header():
    frame = six(chained([0], units=[255]))
    assert find(ETHERNET, frame)[:3] == ("found", 14, 14 + 40 + 2048)


@given(st.lists(st.tuples(st.sampled_from(EXTENSIONS), st.integers(0, 254)), max_size=10), st.integers(0, 3000))
def test_n6_no_header_is_read_beyond_the_packet(headers, length):
    """The payload length is a lie: a chain longer than it says is bad, never followed."""
    kinds = [kind for kind, _ in headers]
    packet = chained(kinds, units=[size for _, size in headers])
    frame = six(packet[:4] + struct.pack(">H", length) + packet[6:])
    found, _, tcp, tcp_length, _ = find(ETHERNET, frame)
    if found == "found" and length:
        assert (tcp - 54) + tcp_length == length


# -- lengths ---------------------------------------------------------------------------------------------------------


def test_an_ip_length_of_zero_means_that_the_card_cuts_the_segment():
    frame = broken(PLAIN, 16, b"\0\0")
    assert find(ETHERNET, frame)[:1] == ("found",)
    assert find(ETHERNET, frame)[3] == len(frame) - 34


def test_padding_behind_the_packet_is_not_payload():
    *_, tcp_length, _ = find(ETHERNET, bytes(LAYER / V4 / SEGMENT) + bytes(6))
    assert tcp_length == len(SEGMENT)


def test_a_packet_that_says_more_than_the_frame_has_was_cut_on_its_way():
    assert find(ETHERNET, broken(PLAIN, 16, b"\x05\xdc"))[0::3] == ("found", 1480)


# -- any bytes -------------------------------------------------------------------------------------------------------


@given(
    st.binary(max_size=120),
    st.sampled_from((0, 1, 9, 12, 14, 50, 51, 101, 104, 108, 113, 228, 229, 276, 300)),
    st.one_of(st.integers(0, 200), st.integers(0, 2**32 - 1)),
)
def test_random_bytes_get_one_verdict(frame, link_type, wirelen):
    found, net, tcp, tcp_length, _ = find(link_type, frame, wirelen)
    assert found in (*VERDICTS, "found")
    if found == "found":
        assert net + 20 <= tcp <= len(frame) - 20
        assert 20 <= tcp_length < 2**31
