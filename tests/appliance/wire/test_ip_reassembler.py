"""Defragmentation: whole datagrams out of fragments in any order, and what becomes of fragments that cannot be.

What overlapping fragments give is in test_fragment_overlaps.py; keys, limits and time in test_fragment_limits.py."""

from __future__ import annotations

import random
import struct

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ip_fragments import TCP, TEXT, UDP, datagram, outcomes, piece, pieces_of, pushed, reassembler
from scapy.layers.inet import IP, IPOption_RR, fragment
from scapy.layers.inet import TCP as ScapyTCP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    fragment6,
)
from scapy.packet import Raw

BOTH = pytest.mark.parametrize("family", [4, 6])

# -- any fragmentation, any order --------------------------------------------------------------------------------------


@given(
    st.sampled_from((4, 6)),
    st.binary(min_size=9, max_size=3000),
    st.lists(st.integers(1, 700), min_size=1, max_size=8),
    st.randoms(use_true_random=False),
    st.integers(0, 3),
)
def test_any_fragmentation_in_any_order_gives_back_the_datagram(family, payload, sizes, chosen, copies):
    fragments = pieces_of(family, payload, sizes)
    if len(fragments) == 1:
        return
    fragments += chosen.choices(fragments, k=copies)
    chosen.shuffle(fragments)
    out, made = pushed(fragments)
    assert out == [(datagram(family, payload), False)]
    assert outcomes(made) == {"merged": len(fragments)}


@BOTH
def test_the_longest_datagram_there_can_be_is_put_together(family):
    payload = TEXT[: 65535 - (20 if family == 4 else 0)]
    fragments = pieces_of(family, payload, 1480)
    random.Random(1).shuffle(fragments)
    out, made = pushed(fragments)
    assert out == [(datagram(family, payload), False)]
    assert made.bytes_held < 2 * 65536


@BOTH
def test_tiny_fragments_that_split_the_tcp_header_are_put_together(family):
    out, _ = pushed(pieces_of(family, TEXT[:64], 8))
    assert out == [(datagram(family, TEXT[:64]), False)]


@pytest.mark.parametrize("size", [8, 64, 576, 1400])
def test_scapy_and_dpkt_agree_on_an_ipv4_datagram(size):
    whole = IP(src="192.0.2.1", dst="198.51.100.2", id=99, ttl=9, tos=4) / ScapyTCP(sport=1, dport=2) / Raw(TEXT[:3000])
    (out,), _ = pushed(bytes(one) for one in fragment(whole, size))
    read = dpkt.ip.IP(out[0])
    assert (read.mf, read.offset, read.len, read.ttl, read.tos, read.id) == (0, 0, 3040, 9, 4, 99)
    assert bytes(read.data) == bytes(whole)[20:]
    assert dpkt.in_cksum(out[0][:20]) == 0


def test_the_options_of_the_first_ipv4_fragment_stay_and_are_in_the_checksum():
    whole = IP(src="192.0.2.1", dst="198.51.100.2", options=[IPOption_RR()], id=3) / ScapyTCP() / Raw(TEXT[:500])
    (out,), _ = pushed(reversed([bytes(one) for one in fragment(whole, 200)]))
    head = (out[0][0] & 15) * 4
    assert (head, out[0][:2], out[0][20:head]) == (bytes(whole)[0] % 16 * 4, bytes(whole)[:2], bytes(whole)[20:head])
    assert dpkt.in_cksum(out[0][:head]) == 0
    assert out[0][head:] == bytes(whole)[head:]


ROUTING = IPv6ExtHdrRouting(addresses=["2001:db8::9"])
CUT = IPv6ExtHdrFragment(id=5)
HEADERS = {
    "none": (CUT, []),
    "hop by hop": (IPv6ExtHdrHopByHop() / CUT, ["IP6HopOptsHeader"]),
    "routing": (ROUTING / CUT, ["IP6RoutingHeader"]),
    "two": (IPv6ExtHdrHopByHop() / ROUTING / CUT, ["IP6HopOptsHeader", "IP6RoutingHeader"]),
    "behind": (CUT / IPv6ExtHdrDestOpt(), ["IP6DstOptsHeader"]),
}


@pytest.mark.parametrize("name", HEADERS)
def test_scapy_and_dpkt_agree_on_an_ipv6_datagram(name):
    address = {"src": "2001:db8::1", "dst": "2001:db8::2", "hlim": 7, "fl": 12345}
    headers, others = HEADERS[name]
    packet = IPv6(**address) / headers / ScapyTCP(sport=1, dport=2) / Raw(TEXT[:3000])
    fragments = [bytes(one) for one in fragment6(packet, 400)]
    assert len(fragments) > 5
    (out,), _ = pushed(fragments)
    with_header = bytes(packet)
    at = with_header.index(bytes(CUT)[2:], 40) - 2
    assert out[0][at:] == with_header[at + 8 :]
    read = dpkt.ip6.IP6(out[0])
    assert (read.plen, read.hlim, read.flow) == (len(out[0]) - 40, 7, 12345)
    assert [type(header).__name__ for header in read.all_extension_headers] == others
    assert bytes(read.data)[:4] == struct.pack(">HH", 1, 2)


def test_only_the_first_ipv6_fragment_says_what_the_datagram_carries():
    fragments = [piece(6, 0, TEXT[:16], True, proto=TCP), piece(6, 16, TEXT[16:20], False, proto=UDP)]
    assert pushed(fragments)[0] == pushed(reversed(fragments))[0] == [(datagram(6, TEXT[:20]), False)]


def test_what_is_no_fragment_is_refused():
    for whole in (b"", b"\x45", datagram(4, TEXT[:40]), datagram(6, TEXT[:40]), piece(6, 0, TEXT[:8], False)):
        with pytest.raises(ValueError, match="no fragment"):
            reassembler().push(whole, 1)


# -- lengths that cannot be --------------------------------------------------------------------------------------------


def test_n_2_teardrop_the_second_fragment_lies_inside_the_first():
    out, made = pushed([piece(4, 0, TEXT[:32], True), piece(4, 24, b"tear", False)])
    assert (out, outcomes(made)) == ([], {"inconsistent": 1, "held": 1})
    out, made = pushed([piece(6, 0, TEXT[:32], True), piece(6, 24, b"tear", False)])
    assert (out, outcomes(made)) == ([], {"inconsistent": 2})


@BOTH
def test_n_2_ping_of_death_a_fragment_that_reaches_past_65535(family):
    out, made = pushed([piece(family, 0, TEXT[:1480], True), piece(family, 65528, TEXT[:1000], False)])
    assert (out, outcomes(made)) == ([], {"too_long": 1, "held": 1})


@pytest.mark.parametrize(("longer", "fits"), [(0, True), (1, False)])
def test_n_2_the_first_byte_too_many_is_one_too_many(longer, fits):
    for family, most in ((4, 65515), (6, 65535)):
        start = most // 8 * 8
        made = reassembler()
        last = piece(family, start, TEXT[: most - start + longer], False)
        made.push(last, 1)
        assert outcomes(made) == ({"held": 1} if fits else {"too_long": 1})


def test_n_2_a_first_fragment_whose_header_makes_the_datagram_too_long_discards_it():
    tail = piece(4, 65504, TEXT[:11], False)  # 65515 bytes of payload: just right behind 20 bytes of header
    head = piece(4, 0, TEXT[:8], True, options=b"\1" * 4)
    for order in ((tail, head), (head, tail)):
        _, made = pushed(order)
        assert outcomes(made) == {"too_long": 2}


@BOTH
@pytest.mark.parametrize("start", [0, 8])
@pytest.mark.parametrize("size", [0, 1, 7, 9])
def test_n_2_a_fragment_before_the_last_has_a_multiple_of_8_bytes_and_some(family, start, size):
    _, made = pushed([piece(family, start, TEXT[:size], True)])
    assert (outcomes(made), made.datagrams_held) == ({"too_short": 1}, 0)


@BOTH
def test_n_2_a_last_fragment_without_payload_is_too_short(family):
    _, made = pushed([piece(family, 16, b"", False)])
    assert outcomes(made) == {"too_short": 1}


@pytest.mark.parametrize(("family", "at"), [(4, 2), (6, 4)])
def test_n_2_a_length_field_of_zero_is_too_short(family, at):
    one = bytearray(piece(family, 8, TEXT[:16], True))
    one[at : at + 2] = bytes(2)
    assert outcomes(pushed([bytes(one)])[1]) == {"too_short": 1}


@BOTH
def test_every_cut_of_a_fragment_is_counted_as_truncated(family):
    one = piece(family, 8, TEXT[:64], True)
    made = reassembler()
    least = 20 if family == 4 else 48
    for length in range(least, len(one)):
        made.push(one[:length], 1)
    assert (outcomes(made), made.datagrams_held) == ({"truncated": len(one) - least}, 0)


def test_too_many_fragments_of_one_datagram_discard_it_and_what_comes_after():
    fragments = [*pieces_of(4, TEXT[:8200], 8), piece(4, 0, TEXT[:8], True)]  # 1025, and one more
    out, made = pushed(fragments)
    assert (out, outcomes(made)) == ([], {"too_many": len(fragments)})
    assert made.bytes_held == 0


def test_as_many_fragments_as_are_allowed_make_a_datagram():
    out, _ = pushed(pieces_of(4, TEXT[:8192], 8))
    assert out == [(datagram(4, TEXT[:8192]), False)]
