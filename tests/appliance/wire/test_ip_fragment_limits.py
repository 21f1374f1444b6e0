"""Fragments in numbers: whose they are, how many are held, for how long, and that each one has one outcome."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ip_fragments import KEY, TEXT, UDP, datagram, outcomes, payload_of_whole, piece, pieces_of, pushed, reassembler

from appliance.stats.names import FRAGMENT_OUTCOMES
from appliance.wire.ip_reassembler import Defragmenter

SECOND = 1_000_000_000
BOTH = pytest.mark.parametrize("family", [4, 6])

# -- whose fragment is it? ---------------------------------------------------------------------------------------------

OTHER = {
    "protocol": {"proto": UDP},
    "id": {"ident": 8},
    "source": {"ends": ("192.0.2.9", "198.51.100.2")},
    "target": {"ends": ("192.0.2.1", "198.51.100.9")},
    "direction": {"ends": ("198.51.100.2", "192.0.2.1")},
}


@pytest.mark.parametrize("name", OTHER)
def test_n_3_fragments_that_differ_in_one_part_of_the_key_never_join(name):
    _, made = pushed([piece(4, 0, TEXT[:8], True), piece(4, 8, b"end", False, **OTHER[name])])
    assert (outcomes(made), made.datagrams_held) == ({"held": 2}, 2)


@pytest.mark.parametrize("ident", [7, 0x10007, 7 << 24])
def test_n_3_all_32_bits_of_an_ipv6_id_count(ident):
    out, _ = pushed([piece(6, 0, TEXT[:8], True), piece(6, 8, b"end", False, ident=ident)])
    assert bool(out) == (ident == 7)


def test_n_3_fragments_of_two_vlans_never_join():
    made = reassembler()
    assert made.push(piece(4, 0, TEXT[:8], True), 1, 0x8007) is None
    assert made.push(piece(4, 8, b"end", False), 1, 0x8008) is None
    assert made.push(piece(4, 8, b"end", False), 1) is None
    assert made.push(piece(4, 8, b"end", False), 1, 0x8007) == (datagram(4, TEXT[:8] + b"end"), False)


def test_n_3_an_ipv4_and_an_ipv6_address_of_the_same_bits_never_join():
    made = reassembler()
    made.push(piece(4, 0, TEXT[:8], True, ends=("192.0.2.1", "198.51.100.2"), proto=0), 1)
    assert made.push(piece(6, 8, b"end", False, ends=("::c000:201", "::c633:6402")), 1) is None


# -- limits ------------------------------------------------------------------------------------------------------------


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def flood(count: int, chosen: random.Random):
    """First, middle and last fragments of datagrams of which nothing else will ever come."""
    for number in range(count):
        family = chosen.choice((4, 6))
        start = 8 * chosen.choice((0, 1, 100, 8000))
        ends = (f"10.0.{number >> 8 & 255}.{number & 255}", "192.0.2.1") if family == 4 else None
        data = TEXT[: chosen.choice((8, 504, 1480))]
        yield piece(family, start, data, start != 64000, ident=number & 0xFFFF if family == 4 else number, ends=ends)


@pytest.mark.slow
def test_n_3_a_flood_of_fragments_that_never_complete_holds_the_limits():
    made = reassembler(max_datagrams=1000, max_bytes=1 << 20)
    most, given_ = [0, 0], 0
    for number, one in enumerate(flood(100_000, random.Random(3))):
        made.push(one, number)
        most = [max(most[0], made.datagrams_held), max(most[1], made.bytes_held)]
        given_ += 1
    assert most[0] == 1000
    assert 1 << 19 < most[1] <= 1 << 20
    counts = outcomes(made)
    assert sum(counts.values()) == given_
    assert set(counts) == {"held", "evicted"}


@pytest.mark.slow
@pytest.mark.skipif("libasan" in Path("/proc/self/maps").read_text(), reason="AddressSanitizer keeps freed memory")
def test_n_3_a_flood_of_fragments_leaves_the_memory_of_the_process_flat():
    made = reassembler(max_datagrams=1000, max_bytes=1 << 20)
    before = resident_bytes()
    for number, one in enumerate(flood(100_000, random.Random(4))):
        made.push(one, number)
    assert resident_bytes() - before < 8 << 20


def test_n_3_memory_follows_the_bytes_that_came_not_the_offsets_they_claim():
    made = reassembler()
    for number in range(10_000):
        made.push(piece(4, 64000, TEXT[:8], True, ident=number), 1)
    assert made.datagrams_held == 10_000
    assert made.bytes_held <= 10_000 * 128


def test_n_3_the_oldest_datagram_goes_first():
    made = reassembler(max_datagrams=3)
    for ident in range(4):
        made.push(piece(4, 0, TEXT[:8], True, ident=ident), ident)
    assert outcomes(made) == {"held": 3, "evicted": 1}
    assert made.push(piece(4, 8, b"end", False, ident=1), 9) is not None
    assert made.push(piece(4, 8, b"end", False, ident=0), 9) is None


def test_what_is_complete_is_forgotten_before_anything_that_waits():
    made = reassembler(max_datagrams=2)
    made.push(piece(4, 0, TEXT[:8], True, ident=1), 1)
    for ident in (2, 3, 4):
        out, _ = pushed(pieces_of(4, TEXT[:64], 32, ident=ident), made)
        assert len(out) == 1
    assert made.push(piece(4, 8, b"end", False, ident=1), 1) is not None
    assert outcomes(made) == {"merged": 8}


def test_a_limit_of_bytes_evicts_even_the_datagram_that_grows_when_it_is_the_oldest():
    made = reassembler(max_datagrams=100, max_bytes=1 << 17)
    for start in (0, 16384, 32768):
        for ident in (1, 2):
            made.push(piece(4, start, TEXT[:16384], True, ident=ident), 1)
    made.push(piece(4, 49152, TEXT[:16000], True, ident=1), 1)
    counts = outcomes(made)
    assert counts["evicted"] > 0
    assert (sum(counts.values()), made.bytes_held <= 1 << 17) == (7, True)


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"max_datagrams": 0}, "max_datagrams"),
        ({"max_datagrams": 1 << 30}, "max_datagrams"),
        ({"max_bytes": 1000}, "max_bytes"),
        ({"timeout_ns": 0}, "timeout_ns"),
    ],
)
def test_unusable_limits_are_refused(how, text):
    with pytest.raises(ValueError, match=text):
        reassembler(**how)


# -- time --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("late", "found"), [(30 * SECOND - 1, True), (30 * SECOND, False)])
@BOTH
def test_the_rest_of_a_datagram_is_waited_for_by_the_time_of_the_frames(family, late, found):
    made = reassembler()
    made.push(piece(family, 0, TEXT[:8], True), 5)
    made.push(
        piece(family, 8, TEXT[:8], True), 5 + 10 * SECOND
    )  # the clock of a datagram starts with its first fragment
    assert (made.push(piece(family, 16, b"end", False), 5 + late) is not None) == found
    assert outcomes(made) == ({"merged": 3} if found else {"timeout": 2, "held": 1})


def test_time_never_goes_back():
    made = reassembler(timeout_ns=100)
    made.push(piece(4, 0, TEXT[:8], True, ident=1), 1000)
    made.push(piece(4, 0, TEXT[:8], True, ident=2), 1)  # came at 1000 too, for all we know
    made.push(piece(4, 0, TEXT[:8], True, ident=3), 1099)
    assert outcomes(made) == {"held": 3}
    made.push(piece(4, 0, TEXT[:8], True, ident=3), 1100)
    assert outcomes(made) == {"timeout": 2, "held": 2}


def test_any_fragment_lets_time_pass_even_one_that_is_no_good():
    made = reassembler()
    made.push(piece(4, 0, TEXT[:8], True), 1)
    made.push(piece(4, 8, b"", False), 60 * SECOND)
    assert (outcomes(made), made.datagrams_held, made.bytes_held) == ({"timeout": 1, "too_short": 1}, 0, 0)


def test_a_discarded_ipv6_datagram_is_remembered_until_it_would_have_timed_out():
    made = reassembler()
    overlap = [piece(6, 0, TEXT[:16], True), piece(6, 8, TEXT[:16], True)]
    good = pieces_of(6, TEXT[:40], 16)
    assert pushed(overlap, made)[0] == []
    assert pushed(good, made, 30 * SECOND)[0] == []
    assert outcomes(made) == {"overlapping": 5}
    assert made.bytes_held == 0
    assert pushed(good, made, 30 * SECOND + 1)[0] == [(datagram(6, TEXT[:40]), False)]


def test_copies_of_a_complete_datagram_do_not_begin_another_one():
    fragments = pieces_of(4, TEXT[:100], 48)
    made = reassembler()
    assert len(pushed([one for one in fragments for _ in range(2)], made)[0]) == 1
    assert outcomes(made) == {"merged": 6}


@BOTH
@pytest.mark.parametrize(("end", "more"), [(16, False), (104, True)])
def test_a_late_fragment_that_denies_where_the_datagram_ended_is_no_copy(family, end, more):
    made = reassembler()
    pushed(pieces_of(family, TEXT[:96], 48), made)
    made.push(piece(family, 8, TEXT[8:end], more), 1)
    assert outcomes(made) == {"merged": 2, "held": 1}


def test_an_id_that_is_used_again_makes_another_datagram():
    made = reassembler()
    for text in (TEXT[:100], TEXT[1:101], TEXT[2:102]):
        assert pushed(pieces_of(4, text, 48), made)[0] == [(datagram(4, text), False)]
    assert outcomes(made) == {"merged": 9}


def test_a_complete_datagram_is_forgotten_after_a_second():
    made = reassembler()
    fragments = pieces_of(4, TEXT[:100], 48)
    pushed(fragments, made, 1)
    assert len(pushed(fragments, made, 1 + SECOND)[0]) == 1


def test_at_the_end_what_is_held_has_timed_out():
    made = reassembler()
    made.push(piece(4, 0, TEXT[:8], True), 1)
    made.push(piece(6, 0, TEXT[:8], True), 1)
    pushed(pieces_of(4, TEXT[:64], 16, ident=9), made)
    made.end()
    assert outcomes(made) == {"timeout": 2, "merged": 4}
    assert (made.datagrams_held, made.bytes_held) == (0, 0)


# -- everything at once ------------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(
            st.sampled_from((4, 6)),
            st.integers(0, 3),
            st.integers(0, 12),
            st.integers(0, 40),
            st.booleans(),
            st.integers(0, 100),
        ),
        max_size=60,
    ),
    st.integers(1, 3),
)
def test_every_fragment_has_one_outcome_whatever_limit_is_reached(said, most):
    made = Defragmenter(KEY, most, 1 << 17, 150)
    now, given_ = 0, 0
    for family, ident, units, size, more, later in said:
        now += later
        if units or more:
            out = made.push(piece(family, 8 * units, TEXT[:size], more, ident=ident), now)
            given_ += 1
            assert out is None or len(payload_of_whole(out[0])) > 0
        counts = made.counts()
        assert sum(counts[f"fragments.{name}"] for name in FRAGMENT_OUTCOMES[:-1]) + counts["fragments.held"] == given_
        assert made.datagrams_held <= most
    made.end()
    assert made.counts()["fragments.held"] == made.bytes_held == 0


@given(st.lists(st.binary(max_size=120), max_size=30))
def test_random_bytes_do_no_harm(said):
    made, given_ = reassembler(), 0
    for version, data in enumerate(said):
        head = bytes([0x45 if version % 2 else 0x60]) + data
        try:
            made.push(head, 1)
            given_ += 1
        except ValueError:
            pass
    assert sum(outcomes(made).values()) == given_
