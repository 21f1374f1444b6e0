"""Law 5: both directions of a flow and its fragments reach the same worker, and fragments change no event."""

from __future__ import annotations

from builders import batches_of, differences, events_of, outcome_of, timeless, whole
from hypothesis import given
from hypothesis import strategies as st
from impair import duplicate, reorder
from ip_fragments import fragmented
from tcp_strategies import frames_of, talks

from appliance.ipc.frame_batch import frames as frames_in
from appliance.wire.tcp_locator import find

seeds = st.integers(0, 2**32)
sizes = st.one_of(st.integers(8, 400), st.lists(st.integers(8, 200), min_size=1, max_size=6))


def some_fragmented(frames, size, chosen, often):
    """Some of the frames cut, their fragments in any order, each with an id of its own."""
    out = []
    for ident, frame in enumerate(frames):
        parts = fragmented(frame, size, ident & 0xFFFF) if chosen.random() < often else [frame]
        chosen.shuffle(parts)
        out += parts
    return out


def flow_of(frame):
    """The two ends of a frame of these talks, or of a datagram put together: the same for both directions."""
    _, net, tcp, _, _ = find(1 if frame[0] == 2 else 101, frame)  # 2: of a hardware address
    size, at = (4, 12) if frame[net] >> 4 == 4 else (16, 8)
    source = frame[net + at : net + at + size], frame[tcp : tcp + 2]
    return frozenset((source, (frame[net + at + size : net + at + 2 * size], frame[tcp + 2 : tcp + 4])))


@given(talks(most=6), sizes, st.floats(0, 1), st.randoms(use_true_random=False), st.integers(1, 4))
def test_law_5_fragmenting_any_frames_gives_the_same_events(drawn, size, often, chosen, workers):
    frames = frames_of(drawn)
    outcome = outcome_of(some_fragmented(frames, size, chosen, often), workers)
    assert whole(outcome.events) == whole(events_of(frames))
    assert differences(outcome) == {}


@given(talks(most=6, exchanges_most=2), sizes)
def test_law_5_both_directions_reach_one_worker_when_the_server_s_is_fragmented(drawn, size):
    frames = frames_of(drawn)
    mixed = []
    for ident, frame in enumerate(frames):
        from_server = frame[1][6:12] > frame[1][:6]
        mixed += fragmented(frame, size, ident & 0xFFFF) if from_server else [frame]
    links, _ = batches_of(mixed, 4)
    homes = [{flow_of(frame) for message in link for _, _, frame in frames_in(message)} for link in links]
    assert sum(map(len, homes)) == len(set().union(*homes)) == len(drawn)


@given(talks(longest=1500), sizes, st.integers(1, 10), st.floats(0, 1), seeds, st.randoms(use_true_random=False))
def test_law_5_reordered_and_duplicated_fragments_give_the_same_events(drawn, size, window, twice, seed, chosen):
    frames = frames_of(drawn)
    mixed = duplicate(reorder(some_fragmented(frames, size, chosen, 1), window, seed), twice, seed)
    outcome = outcome_of(mixed, 2)
    assert timeless(outcome.events) == timeless(events_of(frames))
    assert outcome.capture["fragments.timeout"] == outcome.capture["fragment_conflicts"] == 0
