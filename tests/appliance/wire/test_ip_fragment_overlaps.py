"""Fragments that overlap: every relation of two and of three, in every order, gives what a map of bytes gives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations, permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ip_fragments import datagram, piece, reassembler
from models.fragments import FragmentMap

from appliance.stats.names import FRAGMENT_OUTCOMES

Cut = tuple[int, int]  # start and end, in units of 8 bytes
Said = tuple[int, bytes, bool]  # start in bytes, payload, more to come

ALLEN = {
    "before": ((1, 2), (3, 4)),
    "meets": ((1, 2), (2, 3)),
    "overlaps": ((1, 3), (2, 4)),
    "starts": ((1, 2), (1, 3)),
    "during": ((2, 3), (1, 4)),
    "finishes": ((2, 3), (1, 3)),
    "equals": ((1, 2), (1, 2)),
}


def intervals(units: int) -> list[Cut]:
    """Every interval of whole units from 0 to `units`."""
    return list(combinations(range(units + 1), 2))


def holes(cuts: Iterable[Cut]) -> Iterator[Cut]:
    """Yield the holes between the intervals, from 0 to the highest end."""
    at = 0
    for start, end in sorted(cuts):
        if start > at:
            yield at, start
        at = max(at, end)


def text(number: int, cut: Cut) -> bytes:
    """The bytes of a fragment: those of the place when number is 0, else the fragment's own."""
    places = range(cut[0] * 8, cut[1] * 8)
    return bytes(places) if number == 0 else bytes(60 * number + place for place in places)


def agree(family: int, said: Iterable[Said]) -> FragmentMap:
    """Both take the same fragments; every answer and every count has to be the same. What is whole is no fragment."""
    model, real = FragmentMap(family), reassembler()
    given_ = 0
    for start, data, more in said:
        if start == 0 and not more:
            continue
        expected = model.offer(start, data, more)
        got = real.push(piece(family, start, data, more), 1)
        given_ += 1
        if expected is None:
            assert got is None, (start, data, more)
        else:
            assert got == (datagram(family, expected[0]), expected[1])
        counts = real.counts()
        assert {name: counts[f"fragments.{name}"] for name in FRAGMENT_OUTCOMES[:-1]} == {
            name: model.counts[name] for name in FRAGMENT_OUTCOMES[:-1]
        }
        assert (counts["fragments.held"], counts["fragment_conflicts"]) == (model.held, model.conflicts)
        assert sum(model.counts.values()) + model.held == given_
    return model


def with_flags(cuts: tuple[Cut, ...], flags: Iterable[bool], differ: bool) -> list[Said]:
    """Fragments of these places, and behind them what fills the holes."""
    said = [
        (cut[0] * 8, text(number if differ else 0, cut), more)
        for number, (cut, more) in enumerate(zip(cuts, flags, strict=True), 1)
    ]
    return said + [(hole[0] * 8, text(0, hole), True) for hole in holes(cuts)]


def natural(cuts: tuple[Cut, ...]) -> list[bool]:
    """More to come, but for those that reach farthest."""
    farthest = max(end for _, end in cuts)
    return [end != farthest for _, end in cuts]


# -- by name -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("differ", [False, True])
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("relation", ALLEN)
def test_n_1_ipv4_the_first_copy_of_a_byte_wins_in_every_relation_of_two(relation, swapped, differ):
    cuts = ALLEN[relation][::-1] if swapped else ALLEN[relation]
    model = agree(4, with_flags(cuts, natural(cuts), differ))
    apart = relation in ("before", "meets")
    assert model.complete
    assert (model.conflicts, model.ambiguous) == ((0, False) if apart or not differ else (1, True))


@pytest.mark.parametrize("differ", [False, True])
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("relation", ALLEN)
def test_n_1_ipv6_discards_a_datagram_with_any_overlap_but_an_exact_copy(relation, swapped, differ):
    cuts = ALLEN[relation][::-1] if swapped else ALLEN[relation]
    model = agree(6, with_flags(cuts, natural(cuts), differ))
    fine = relation in ("before", "meets") or (relation == "equals" and not differ)
    assert model.complete == fine
    assert model.discarded == ("" if fine else "overlapping")


# -- all of them -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [4, 6])
def test_n_1_every_relation_of_two_fragments_with_every_flag_and_any_bytes(family):
    for cuts in product(intervals(4), repeat=2):
        for flags in product((False, True), repeat=2):
            for differ in (False, True):
                agree(family, with_flags(cuts, flags, differ))


@pytest.mark.slow
@pytest.mark.parametrize("differ", [False, True])
@pytest.mark.parametrize("family", [4, 6])
def test_n_1_every_relation_of_three_fragments(family, differ):
    """Six units: room for six different ends, and so for every relation of three intervals."""
    for cuts in product(intervals(6), repeat=3):
        agree(family, with_flags(cuts, natural(cuts), differ))


@pytest.mark.parametrize("family", [4, 6])
def test_n_1_three_fragments_with_every_flag(family):
    for cuts in product(intervals(3), repeat=3):
        for flags in product((False, True), repeat=3):
            agree(family, with_flags(cuts, flags, True))


@pytest.mark.parametrize("family", [4, 6])
def test_the_order_of_fragments_that_do_not_overlap_does_not_matter(family):
    said = [(0, text(0, (0, 2)), True), (16, text(0, (2, 3)), True), (24, text(0, (3, 4)), True), (32, b"end", False)]
    for order in permutations(said):
        assert agree(family, order).complete


def test_one_fragment_may_fill_many_holes():
    said = [(16 * place, text(1, (0, 1)), True) for place in range(1, 400)]
    said += [(0, bytes(6400), True), (6400, b"end", False)]
    model = agree(4, said)
    assert model.complete
    assert model.conflicts == 1


def test_ipv6_a_first_fragment_that_says_it_carries_something_else_is_no_copy():
    made = reassembler()
    for proto in (6, 6, 17):
        made.push(piece(6, 0, bytes(8), True, proto=proto), 1)
    assert made.counts()["fragments.overlapping"] == 3


# -- and any others ----------------------------------------------------------------------------------------------------


@st.composite
def saids(draw):
    """A fragment that may say anything."""
    start = 8 * draw(st.integers(0, 7))
    size = draw(st.one_of(st.integers(1, 6).map(lambda units: 8 * units), st.integers(0, 40)))
    number = draw(st.integers(0, 2))
    return start, bytes(60 * number + place for place in range(start, start + size)), draw(st.booleans())


@given(st.sampled_from((4, 6)), st.lists(saids(), max_size=12))
def test_any_fragments_of_one_key_give_what_the_model_gives(family, said):
    agree(family, said)


@given(st.sampled_from((4, 6)), st.lists(saids(), min_size=1, max_size=4), st.data())
def test_copies_of_fragments_give_what_the_model_gives(family, said, data):
    copies = data.draw(st.lists(st.sampled_from(said), max_size=10))
    agree(family, said + copies)
