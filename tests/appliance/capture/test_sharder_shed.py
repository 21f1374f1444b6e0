"""Flows left out by an overloaded capture, through the whole data path: whole ones, counted, and reported in events."""

from __future__ import annotations

import itertools

import pytest
from builders import (
    KEY,
    Conversation,
    Outcome,
    batches_of,
    collect,
    config,
    differences,
    events_of,
    get,
    outcome_of,
    sharder_of,
    talk,
)
from hypothesis import given
from hypothesis import strategies as st
from impair import interleave

from appliance.ipc.frame_batch import frames as frames_of
from workers.pipeline import Pipeline


def flows(count: int, **how) -> list[Conversation]:
    return [talk(get(0), get(1), client_port=20000 + number, client_isn=number, **how) for number in range(count)]


def together(talks: list[Conversation]):
    return interleave(one.frames for one in talks)


def ports(events) -> set[int]:
    return {event["source"]["port"] for event in events}


@pytest.mark.parametrize("workers", [1, 3])
def test_a_flow_is_left_out_as_a_whole_or_not_at_all(workers):
    talks = flows(200)
    outcome = outcome_of(together(talks), workers, shed=128)
    kept = ports(outcome.events)
    assert 60 < len(kept) < 140
    assert len(outcome.events) == 2 * len(kept)
    assert all(event["appliance"]["response"]["complete"] for event in outcome.events)
    assert not any(event["appliance"]["midstream"] for event in outcome.events)
    left_out = [one for port, one in enumerate(talks, 20000) if port not in kept]
    assert outcome.capture["shed_flows"] == len(left_out)
    assert outcome.capture["shed_frames"] == sum(len(one.frames) for one in left_out)
    assert outcome.capture["shed_bytes"] == sum(len(frame) for one in left_out for _, frame in one.frames)


@pytest.mark.parametrize(("shed", "sampling"), [(1, 255 / 256), (64, 0.75), (128, 0.5), (255, 1 / 256)])
def test_an_event_says_what_share_of_new_connections_was_kept(shed, sampling):
    found = events_of(together(flows(400)), shed=shed)
    assert {event["appliance"]["sampling"] for event in found} == ({sampling} if found else set())


def test_counts_can_be_scaled_up():
    found = events_of(together(flows(600)), shed=128)
    scaled = sum(1 / event["appliance"]["sampling"] for event in found)
    assert 0.8 * 1200 < scaled < 1.2 * 1200


def test_an_event_says_nothing_of_sampling_where_all_are_kept():
    assert not any("sampling" in event["appliance"] for event in events_of(together(flows(20))))


def test_the_more_is_left_out_the_fewer_stay_and_all_of_them_stayed_before():
    frames = together(flows(300))
    kept = [ports(events_of(frames, shed=shed)) for shed in (0, 50, 100, 200, 255)]
    assert all(after < before for before, after in itertools.pairwise(kept))


@given(st.integers(0, 255), st.integers(1, 5), st.randoms(use_true_random=False))
def test_no_frame_is_unaccounted_for_whatever_is_left_out(shed, workers, rng):
    talks = flows(12)
    rng.shuffle(talks)
    frames = together(talks)
    outcome = outcome_of(frames, workers, shed=shed)
    assert differences(outcome) == {}
    assert len(outcome.events) == 2 * (12 - outcome.capture["shed_flows"])


# -- as the share changes --------------------------------------------------------------------------------------------


class Capture:
    """A sharder of one worker whose share can be changed between frames."""

    def __init__(self, **how) -> None:
        self.sharder = sharder_of(KEY, 1, 1 << 16, **how)

    def take(self, frames) -> None:
        for ts_ns, frame in frames:
            self.sharder.push(ts_ns, frame)

    def events(self):
        pipeline = Pipeline(config())
        for _, _, message in self.sharder.end():
            pipeline.feed(bytes(message))
        pipeline.finish()
        return collect(pipeline, Outcome()).events

    def kept(self) -> list[bytes]:
        return [frame for _, _, message in self.sharder.end() for _, _, frame in frames_of(message)]


def left_out_at_255(**how) -> Conversation:
    """A conversation that all but one in 256 captures would leave out, whatever its ports."""
    for port in range(20000, 20100):
        made = talk(get(0), client_port=port, **how)
        if batches_of(made.frames, shed=255)[1]["shed_flows"]:
            return made
    raise AssertionError


def bare(frames) -> list[bytes]:
    return [frame for _, frame in frames]


def test_a_connection_that_is_followed_stays_whole_when_the_share_grows():
    made = left_out_at_255()
    capture = Capture()
    capture.take(made.frames[:2])
    capture.sharder.shed(0, 255)
    capture.take(made.frames[2:])
    assert capture.kept() == bare(made.frames)


def test_a_connection_that_is_left_out_stays_so_while_the_share_shrinks():
    made = left_out_at_255()
    capture = Capture()
    capture.sharder.shed(0, 255)
    capture.take(made.frames[:4])
    capture.sharder.shed(0, 1)
    capture.take(made.frames[4:])
    assert capture.kept() == []


def test_what_goes_on_when_nothing_is_left_out_any_more_is_picked_up_in_the_middle():
    made = left_out_at_255()
    capture = Capture()
    capture.sharder.shed(0, 255)
    capture.take(made.frames[:4])
    capture.sharder.shed(0, 0)
    capture.take(made.frames[4:])
    assert capture.kept() == bare(made.frames[4:])


def test_a_connection_whose_beginning_was_not_seen_is_followed():
    made = left_out_at_255()
    capture = Capture()
    capture.sharder.shed(0, 255)
    capture.take(made.frames[1:])
    assert capture.kept() == bare(made.frames[1:])


def test_the_half_of_a_tap_without_syns_leaves_out_the_same_connections():
    made = left_out_at_255()
    capture = Capture(halves=True)
    capture.sharder.shed(0, 255)
    capture.take(made.frames[1:2] + made.frames[4:])
    assert capture.kept() == []


@pytest.mark.parametrize("close", ["client", "reset", ""])
def test_a_connection_that_follows_on_the_same_ports_has_a_share_of_its_own(close):
    first = talk(get(0), client_port=20001, close=close)
    second = talk(get(1), client_port=20001, client_isn=900_000_000, start_ns=first.frames[-1][0] + 10**9)
    for steps in (0, 1, 2):
        capture = Capture()
        capture.take(first.frames)
        capture.sharder.shed(0, steps)
        capture.take(second.frames)
        shares = [event["appliance"].get("sampling", 1) for event in capture.events()]
        assert shares == [1, 1 - steps / 256]


@pytest.mark.parametrize(("worker", "steps"), [(1, 0), (-1, 0), (0, -1), (0, 256)])
def test_unusable_shares_are_refused(worker, steps):
    with pytest.raises(ValueError, match="steps"):
        Capture().sharder.shed(worker, steps)
