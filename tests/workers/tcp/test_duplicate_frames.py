"""Frames that were captured twice, as a mirror of both directions, `any` or the loopback give them."""

from __future__ import annotations

import random

import pytest
from builders import MILLISECOND, SECOND, Conversation, differences, get, outcome_of, payload_of, post, timeless
from hypothesis import given
from hypothesis import strategies as st
from wire import ACK, fold, ones

SIX = {"client": "2001:db8::10", "server": "2001:db8::20"}
FAMILIES = pytest.mark.parametrize("where", [{}, SIX], ids=["IPv4", "IPv6"])


def scene(where):
    """Two transactions of a connection that stays open."""
    said = Conversation(**where).handshake()
    for made in (post(0, size=4000, body=b"x" * 4000), get(1, body=b"y" * 2000)):
        said.exchange(made).idle(MILLISECOND)
    return said.frames


def telling(frames, where):
    """Return the number of frames whose copy is recognizable: all of IPv4; of IPv6 not the pure acknowledgements."""
    return sum(not where or bool(payload_of(frame)) or frame[54 + 13] & 3 != 0 for _, frame in frames)


def twice(frames, behind):
    """Every frame once more, behind so many others."""
    places = [(place, frame) for place, frame in enumerate(frames)]
    places += [(place + behind + 0.5, frame) for place, frame in enumerate(frames)]
    places.sort(key=lambda item: item[0])
    times = sorted([ts_ns for ts_ns, _ in frames] * 2)
    return [(ts_ns, frame) for ts_ns, (_, (_, frame)) in zip(times, places, strict=True)]


@FAMILIES
@pytest.mark.parametrize("behind", [0, 1, 2, 3])
def test_every_frame_twice_gives_every_event_once(where, behind):
    frames = scene(where)
    outcome = outcome_of(twice(frames, behind))
    assert timeless(outcome.events) == timeless(outcome_of(frames).events)
    assert outcome.counts["duplicate_frames"] == telling(frames, where)
    assert outcome.counts["payload.duplicate"] == sum(len(payload_of(frame)) for _, frame in frames)
    assert outcome.counts["payload.conflicting"] == outcome.counts["gaps"] == 0
    assert differences(outcome) == {}


@FAMILIES
def test_every_frame_three_times_is_two_copies_each(where):
    frames = scene(where)
    outcome = outcome_of([frame for frame in frames for _ in range(3)])
    assert outcome.counts["duplicate_frames"] == 2 * telling(frames, where)
    assert len(outcome.events) == 2


@FAMILIES
@given(seed=st.integers(0, 2**32))
def test_copies_here_and_there_are_each_counted(where, seed):
    chosen = random.Random(seed)
    frames, copied, out = scene(where), [], []
    for frame in frames:
        out.append(frame)
        if chosen.random() < 0.3:
            copied.append(frame)
            out.append(frame)
    assert outcome_of(out).counts["duplicate_frames"] == telling(copied, where)


@FAMILIES
def test_an_honest_capture_has_no_copies(where):
    assert outcome_of(scene(where)).counts["duplicate_frames"] == 0


@pytest.mark.parametrize("size", [1, 1000])
def test_a_retransmission_has_another_number_and_is_none(size):
    said = Conversation().handshake().client_sends(b"x" * size)
    said.idle(200 * MILLISECOND).raw(said.client, 0, b"x" * size)
    counts = outcome_of(said.frames).counts
    assert (counts["duplicate_frames"], counts["payload.duplicate"]) == (0, size)


@FAMILIES
@pytest.mark.parametrize("count", [1, 3, 20])
def test_duplicate_acknowledgements_are_no_copies(where, count):
    """Of IPv4 each has its own number; of IPv6 nobody can tell."""
    said = Conversation(**where).handshake().client_sends(get(0).request)
    for _ in range(count):
        said.raw(said.server, 0)
    assert outcome_of(said.frames).counts["duplicate_frames"] == 0


def unnumbered(frame):
    """The IPv4 frame with identification 0, as RFC 6864 section 4.1 allows for what may not be fragmented."""
    head = frame[14:18] + b"\0\0" + frame[20:24] + b"\0\0" + frame[26:34]
    return frame[:14] + head[:10] + fold(ones(head)).to_bytes(2, "big") + head[12:] + frame[34:]


@pytest.mark.parametrize("count", [2, 3, 20])
def test_duplicate_acknowledgements_without_a_number_are_no_copies(count):
    said = Conversation().handshake().client_sends(get(0).request)
    for _ in range(count):
        said.raw(said.server, 0)
    frames = [(ts_ns, unnumbered(frame)) for ts_ns, frame in said.frames]
    assert len({frame for _, frame in frames[-count:]}) == 1
    counts = outcome_of(frames).counts
    assert (counts["duplicate_frames"], counts["checksums.bad"]) == (0, 0)


def test_copies_of_data_without_a_number_are_copies():
    frames = [(ts_ns, unnumbered(frame)) for ts_ns, frame in scene({})]
    told = sum(bool(payload_of(frame)) or frame[34 + 13] & 3 != 0 for _, frame in frames)
    assert outcome_of([frame for frame in frames for _ in range(2)]).counts["duplicate_frames"] == told


@FAMILIES
def test_the_same_segment_of_two_sides_is_no_copy(where):
    said = Conversation(client_isn=5, server_isn=5, client_port=80, **where).handshake()
    said.raw(said.client, 0, b"x", ACK).raw(said.server, 0, b"x", ACK)
    assert outcome_of(said.frames).counts["duplicate_frames"] == 0


def test_a_frame_that_went_through_a_router_on_its_way_is_still_a_copy():
    """Before and after it: another time to live and other MAC addresses, the same datagram."""
    frames = scene({})
    again = []
    for _, frame in frames:
        head = frame[14:22] + bytes([frame[22] - 1]) + frame[23:24] + b"\0\0" + frame[26:34]
        after = frame[6:12] + frame[:6] + frame[12:14] + head[:10] + fold(ones(head)).to_bytes(2, "big") + head[12:]
        again.append(after + frame[34:])
    both = [(ts_ns, one) for (ts_ns, frame), other in zip(frames, again, strict=True) for one in (frame, other)]
    outcome = outcome_of(both)
    assert outcome.counts["duplicate_frames"] == len(frames)
    assert (len(outcome.events), outcome.counts["checksums.bad"]) == (2, 0)


def test_copies_of_the_last_frames_of_a_connection_are_counted_too():
    frames = Conversation().handshake().exchange(get(0)).close().frames
    assert outcome_of(twice(frames, 0)).counts["duplicate_frames"] == len(frames)


def test_a_copy_of_a_closed_connection_opens_none():
    frames = Conversation().handshake().exchange(get(0)).exchange(get(1)).close().frames
    late = [(ts_ns + SECOND, frame) for ts_ns, frame in frames]
    outcome = outcome_of(frames + late)
    assert (len(outcome.events), outcome.counts["flows_opened"]) == (2, 1)
    assert differences(outcome) == {}
