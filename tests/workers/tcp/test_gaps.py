"""Loss upstream: holes that are never filled, what becomes of what waits behind them, and what they cost."""

from __future__ import annotations

import random

import pytest
from builders import (
    MILLISECOND,
    SECOND,
    START_NS,
    Conversation,
    config,
    differences,
    get,
    outcome_of,
    payload_of,
    post,
    request,
    summaries,
    without,
)
from hypothesis import given
from hypothesis import strategies as st
from impair import interleave
from tcp_scenes import after, moved, of_side, put, tick
from wire import ACK

SIZES = st.integers(1, 3000)


def behind_a_hole(size=1000, held=500, *, acknowledged=True, before=100):
    """An answer of which `size` bytes in the middle are missing and `held` ones come behind them."""
    made = get(0, body=b"x" * (before + size + held))
    said = Conversation().handshake().client_sends(made.request)
    start = len(made.response) - size - held
    said.acknowledge(said.server).raw(said.server, 0, made.response[:start])
    said.raw(said.server, start + size, made.response[start + size :])
    moved(said.server, len(made.response) if acknowledged else start)
    return said.acknowledge(said.client)


def counts_after(said, ns, **tcp):
    """The running counters so long after the last frame."""
    outcome = outcome_of(after(said, ns), config=config(tcp=tcp))
    assert differences(outcome) == {}
    return outcome.running


@pytest.mark.parametrize("size", [1, 2, 999, 65_536, 1_000_000])
def test_an_acknowledged_hole_is_a_gap_of_its_exact_length_after_the_gap_timeout(size):
    said = behind_a_hole(size)
    assert counts_after(said, 990 * MILLISECOND)["gaps"] == 0
    counts = counts_after(said, 1020 * MILLISECOND)
    assert (counts["gaps"], counts["gap_bytes"], counts["pending_bytes"]) == (1, size, 0)
    assert counts["acked_unseen_bytes"] == size


@pytest.mark.parametrize("timeout", [0.1, 3.0])
def test_the_gap_timeout_is_the_configured_one(timeout):
    said = behind_a_hole()
    ns = int(timeout * SECOND)
    assert counts_after(said, ns - 10 * MILLISECOND, gap_timeout_s=timeout)["gaps"] == 0
    assert counts_after(said, ns + 20 * MILLISECOND, gap_timeout_s=timeout)["gaps"] == 1


def test_a_hole_that_its_receiver_lacks_too_is_no_gap_after_the_gap_timeout():
    counts = counts_after(behind_a_hole(acknowledged=False), 9 * SECOND)
    assert (counts["gaps"], counts["pending_bytes"]) == (0, 500)


def test_what_its_receiver_never_acknowledges_is_left_out_after_ten_times_as_long():
    counts = counts_after(behind_a_hole(acknowledged=False), 10_100 * MILLISECOND)
    assert (counts["gaps"], counts["pending_bytes"], counts["payload.unacknowledged"]) == (0, 0, 500)


def test_the_stream_goes_on_where_it_stood_when_the_rest_was_left_out():
    said = behind_a_hole(acknowledged=False).idle(11 * SECOND)
    made = get(0, body=b"x" * 1600)
    start = len(made.response) - 1500
    said.raw(said.server, start, made.response[start:])
    moved(said.server, len(made.response))
    outcome = outcome_of(said.exchange(get(1)).close().frames)
    assert summaries(outcome.events) == [("/0", 200, "verified"), ("/1", 200, "verified")]
    assert outcome.events[0]["appliance"]["response"] == {"complete": True, "missing_bytes": 0}
    assert outcome.counts["payload.unacknowledged"] == 500


def test_a_hole_that_is_filled_late_but_in_time_is_none():
    said = behind_a_hole(acknowledged=False).idle(9 * SECOND)
    made = get(0, body=b"x" * 1600)
    start = len(made.response) - 1500
    said.raw(said.server, start, made.response[start : start + 1000])
    moved(said.server, len(made.response))
    outcome = outcome_of(said.acknowledge(said.client).frames)
    assert outcome.only["appliance"]["response"] == {"complete": True, "missing_bytes": 0}
    assert outcome.counts["gaps"] == 0


def test_a_forged_acknowledgement_of_what_has_not_come_yet_makes_no_gap():
    said = Conversation().handshake().client_sends(get(0).request)
    put(said, said.client, said.client.next, ACK, ack=said.server.at(50_000))
    said.idle(5 * SECOND).server_sends(get(0).response).exchange(get(1)).close()
    outcome = outcome_of(said.frames)
    assert summaries(outcome.events) == [("/0", 200, "verified"), ("/1", 200, "verified")]
    assert (outcome.counts["gaps"], outcome.counts["acked_unseen_bytes"]) == (0, 0)


@given(st.lists(st.tuples(SIZES, SIZES), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_several_holes_are_gaps_of_their_exact_lengths(parts, chosen):
    said = Conversation().handshake().client_sends(request(b"/"))
    offset, pieces = 0, []
    for hole, size in parts:
        pieces.append((offset + hole, size))
        offset += hole + size
    chosen.shuffle(pieces)
    for place, size in pieces:
        said.raw(said.server, place, b"x" * size)
    moved(said.server, offset)
    counts = counts_after(said.acknowledge(said.client), 1100 * MILLISECOND)
    assert counts["gap_bytes"] == counts["acked_unseen_bytes"] == sum(hole for hole, _ in parts)
    assert counts["gaps"] == len(parts)
    assert counts["pending_bytes"] == 0


# -- bounds ----------------------------------------------------------------------------------------------------------


def greedy(port, pieces, start_ns=START_NS, size=1000):
    """A connection that sends pieces behind a hole of one byte."""
    said = Conversation(client_port=port, start_ns=start_ns).handshake()
    for number in range(pieces):
        said.raw(said.client, 1 + number * size, b"x" * size)
    return said


@pytest.mark.parametrize("limit", [4096, 65_536, 1 << 20])
def test_a_stream_never_holds_more_than_its_bytes(limit):
    said = greedy(1, limit // 1000 + 2)
    under = outcome_of(said.frames[: 3 + limit // 1000], config=config(tcp={"max_pending_bytes": limit})).running
    assert (under["pending_bytes"], under["gaps"]) == (limit // 1000 * 1000, 0)
    over = outcome_of(said.frames, config=config(tcp={"max_pending_bytes": limit})).running
    assert (over["pending_bytes"], over["gaps"], over["gap_bytes"]) == (0, 1, 1)


def test_all_streams_together_never_hold_more_than_their_bytes():
    frames = interleave([greedy(port, 9) for port in range(1, 40)])
    for length in range(100, len(frames), 37):
        counts = outcome_of(frames[:length], config=config(tcp={"max_total_pending_bytes": 20_000})).running
        assert counts["pending_bytes"] <= 20_000


def relieved(starts):
    """Connections that hold 1000 bytes each since these times; the last one is too much: the ports that gave up."""
    said = [greedy(port, 1, START_NS + ms * MILLISECOND) for port, ms in enumerate(starts, 1)]
    ticks = [tick(START_NS + ms * MILLISECOND, 1000 + ms) for ms in range(0, max(starts), 7)]
    frames = interleave([*said, *ticks])
    limits = config(tcp={"max_total_pending_bytes": 1000 * (len(starts) - 1)})
    gone = []
    assert outcome_of(frames, config=limits).running["gaps"] == 1
    for port, one in enumerate(said, 1):
        late = [(frames[-1][0], one.client.wire.frame(one.client.at(0), one.server.next, ACK, b"y"))]
        if outcome_of(frames + late, config=limits).running["payload.late"]:
            gone.append(port)
    return gone


def test_too_much_in_all_relieves_the_longest_waiting_first():
    assert relieved([0, 1, 2, 3, 4]) == [1]


@pytest.mark.parametrize("starts", [[0, 15, 24, 36], [10, 15, 24], [0, 5, 12, 18, 23, 31]])
def test_too_much_in_all_relieves_the_longest_waiting_first_however_often_it_was_looked_at(starts):
    assert relieved(starts) == [1]


@pytest.mark.parametrize("limit", [1, 8, 500])
def test_a_stream_never_holds_more_segments_than_it_may(limit):
    outcome = outcome_of(greedy(1, limit + 1, size=1).frames, config=config(tcp={"max_pending_segments": limit}))
    assert (outcome.running["gaps"], outcome.running["pending_bytes"]) == (1, 0)
    assert differences(outcome) == {}


# -- loss upstream ---------------------------------------------------------------------------------------------------


def lossy(seed, share):
    """A bidirectional capture of which some data frames are missing: the frames that are left, and the lost bytes.

    Of each direction the last data frame stays, so that every hole is before captured data.
    """
    chosen = random.Random(seed)
    frames, missing, sent = [], 0, 0
    for number in range(6):
        said = Conversation(client_port=3000 + number, start_ns=START_NS + number * 777_000).handshake()
        for turn in range(6):
            said.exchange(post(turn, size=chosen.randrange(1, 9000), body=b"x" * chosen.randrange(1, 9000)))
        data = [place for place, (_, frame) in enumerate(said.frames) if payload_of(frame)]
        last = {said.frames[place][1][6:12]: place for place in data}
        lost = [place for place in data if chosen.random() < share and place not in last.values()]
        sent += sum(len(payload_of(said.frames[place][1])) for place in data)
        missing += sum(len(payload_of(said.frames[place][1])) for place in lost)
        said.acknowledge(said.client).acknowledge(said.server)
        frames.append(without(said.frames, *lost))
    return interleave(frames), missing, sent


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.2, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_acknowledged_bytes_that_were_never_seen_are_the_lost_ones(share, seed):
    frames, missing, sent = lossy(seed, share)
    outcome = outcome_of(frames + tick(frames[-1][0] + 5 * SECOND))
    assert outcome.counts["acked_unseen_bytes"] == outcome.counts["gap_bytes"] == missing
    assert outcome.counts["payload.delivered"] == sent - missing
    assert differences(outcome) == {}


def test_loss_between_the_sender_and_the_capture_is_none_of_it():
    """The capture has the retransmission: no byte is unseen."""
    said = Conversation().handshake().exchange(get(0, body=b"x" * 20_000))
    frames = said.frames
    lost = [place for place, (_, frame) in enumerate(frames) if payload_of(frame).startswith(b"x" * 1000)][3]
    again = [(frames[-1][0] + 200 * MILLISECOND, frames[lost][1])]
    counts = outcome_of(without(frames, lost) + again).counts
    assert (counts["acked_unseen_bytes"], counts["gaps"]) == (0, 0)


def test_of_a_capture_of_one_side_nothing_is_known_to_be_acknowledged():
    said = Conversation().handshake().exchange(get(0, body=b"x" * 20_000))
    counts = outcome_of(of_side(said, said.server) + tick(said.now + 3 * SECOND)).counts
    assert counts["acked_unseen_bytes"] == 0
