"""The set of flows that are left out: who gets in, how long they stay, and who has to go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.capture.shed_flows import ShedSet

FIN, SYN, RST, ACK = 1, 2, 4, 16
SECOND = 1_000_000_000
START = 1_790_000_000 * SECOND
A, B = 0x0123456789ABCDEF, 0xFEDCBA9876543210


def shed_set(max_flows=1024, timeout_s=60, answers=False):
    return ShedSet(max_flows, timeout_s * SECOND, answers)


def test_a_flow_that_begins_in_the_share_is_left_out_to_its_end():
    made = shed_set()
    flags = [SYN, SYN | ACK, ACK, ACK, FIN | ACK, FIN | ACK, ACK]
    assert all(made.push(A, START + n, flag, True) for n, flag in enumerate(flags))
    assert made.counts() == {"shed_flows": 1, "shed_evicted": 0}


@pytest.mark.parametrize("flags", [ACK, SYN | ACK, FIN | ACK, RST, 0, SYN | RST, SYN | FIN])
def test_a_flow_of_which_no_syn_was_seen_is_followed(flags):
    made = shed_set()
    assert not made.push(A, START, flags, True)
    assert made.counts()["shed_flows"] == 0


def test_what_was_left_out_stays_so_when_the_share_shrinks():
    made = shed_set()
    made.push(A, START, SYN, True)
    assert made.push(A, START + SECOND, ACK, False)


def test_a_new_syn_decides_anew():
    made = shed_set()
    made.push(A, START, SYN, True)
    assert not made.push(A, START + SECOND, SYN, False)
    assert not made.push(A, START + SECOND, ACK, True)


def test_a_repeated_syn_is_one_flow_and_one_behind_a_fin_another():
    made = shed_set()
    for flags in (SYN, SYN, ACK, FIN | ACK, SYN):
        made.push(A, START, flags, True)
    assert made.counts()["shed_flows"] == 2


def test_a_flow_that_is_quiet_for_too_long_is_forgotten():
    made = shed_set(timeout_s=60)
    made.push(A, START, SYN, True)
    made.push(B, START, SYN, True)
    assert made.push(A, START + 59 * SECOND, ACK, True)
    assert made.push(A, START + 118 * SECOND, ACK, True)
    assert not made.push(B, START + 118 * SECOND, ACK, True)


def test_a_flow_that_has_ended_is_remembered_for_its_late_frames_only():
    made = shed_set()
    made.push(A, START, SYN, True)
    made.push(A, START, FIN | ACK, True)
    assert made.push(A, START + 4 * SECOND, ACK, True)
    assert not made.push(A, START + 10 * SECOND, ACK, True)


def test_an_answer_begins_a_flow_on_the_half_of_a_tap_that_shows_no_syn():
    made = shed_set(answers=True)
    assert made.push(A, START, SYN | ACK, True)
    assert made.push(A, START, ACK, True)


def in_one_bucket(count):
    return [(number << 32) | 5 for number in range(1, count + 1)]


def test_a_flood_of_syns_costs_attempts_and_no_flow_that_goes_on():
    made = shed_set(max_flows=8)
    going, *flood = in_one_bucket(1000)
    made.push(going, START, SYN, True)
    made.push(going, START, ACK, True)
    for number, flow in enumerate(flood):
        assert made.push(flow, START + number * SECOND // 100, SYN, True)
    assert made.push(going, START + 10 * SECOND, ACK, True)
    assert made.counts() == {"shed_flows": 1000, "shed_evicted": 992}


def test_a_flow_that_has_ended_makes_room_for_a_new_one_at_no_loss():
    made = shed_set(max_flows=8)
    ended, *others = in_one_bucket(8)
    for flow in (ended, *others):
        made.push(flow, START, SYN, True)
    made.push(ended, START, RST, True)
    assert made.push(9 << 32, START + SECOND, SYN, True)
    assert made.counts()["shed_evicted"] == 0
    assert not made.push(ended, START + SECOND, ACK, True)
    assert all(made.push(flow, START + SECOND, ACK, True) for flow in others)


def test_a_clock_that_goes_back_forgets_nobody():
    made = shed_set()
    made.push(A, START, SYN, True)
    assert made.push(A, START - 500 * SECOND, ACK, True)


@pytest.mark.parametrize("max_flows", [0, (1 << 26) + 1])
def test_unusable_sizes_are_refused(max_flows):
    with pytest.raises(ValueError, match="max_flows"):
        ShedSet(max_flows, SECOND)


FRAMES = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 31), st.booleans()), max_size=80)


@given(FRAMES, st.booleans())
def test_members_are_who_has_sent_a_syn_in_the_share_and_none_outside_it_since(frames, answers):
    made = shed_set(timeout_s=3600, answers=answers)
    members: set[int] = set()
    for flow, flags, below in frames:
        if flags & (SYN | RST | FIN) == SYN and (answers or not flags & ACK):
            members = members | {flow} if below else members - {flow}
        assert made.push(flow << 33 | flow, START, flags, below) == (flow in members)


@given(st.integers(1, 64), st.lists(st.integers(0, 2**32 - 1).map(lambda high: high << 32 | high), max_size=200))
def test_there_are_never_more_members_than_there_may_be(max_flows, flows):
    made = shed_set(max_flows)
    for flow in flows:
        made.push(flow, START, SYN, True)
    room = 8
    while room < max_flows:
        room *= 2
    assert sum(made.push(flow, START, ACK, True) for flow in set(flows)) <= room
