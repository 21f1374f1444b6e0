"""Connections of which only a part was captured, the later one or one side."""

from __future__ import annotations

import pytest
from builders import (
    MILLISECOND,
    SECOND,
    START_NS,
    Conversation,
    differences,
    get,
    outcome_of,
    post,
    summaries,
    talk,
)
from impair import interleave
from tcp_scenes import after, of_side, tick

LOW_SERVER = {"client": "198.51.100.20", "server": "192.0.2.10"}
SIDES = pytest.mark.parametrize("where", [{}, LOW_SERVER], ids=["client is low", "server is low"])
MADE = [get(0, body=b"x" * 4000), post(1, size=4000), get(2, framing="chunked", body=b"y" * 4000), get(3)]
SENT = {f"/{number}" for number in range(4)}


def told(event):
    """(target, reason) of an event."""
    return event.get("url", {}).get("original"), event["http"].get("response", {}).get("reason")


# -- only the later part was captured ----------------------------------------------------------------------------------


@SIDES
@pytest.mark.parametrize("pipelined", [False, True], ids=["one by one", "pipelined"])
def test_wherever_a_capture_begins_nothing_is_invented(where, pipelined):
    said = Conversation(**where).handshake()
    frames = (said.pipeline(MADE) if pipelined else talk(*MADE, close="", **where)).frames
    for first in range(3, len(frames)):
        outcome = outcome_of(frames[first:])
        for event in outcome.events:
            target, reason = told(event)
            assert target in {*SENT, None}
            assert reason in {"R0", "R1", "R2", "R3", None}
            if event["appliance"]["pairing"] in ("verified", "ordered"):
                assert target[1:] == reason[1:], first
            assert event["appliance"]["midstream"]
        assert differences(outcome) == {}


@SIDES
def test_a_pick_up_reads_every_message_that_begins_behind_it(where):
    said = talk(*MADE, close="", **where)
    begins = [place for place, (_, frame) in enumerate(said.frames) if b" HTTP/1.1\r\n" in frame]
    for number, first in enumerate(begins):
        outcome = outcome_of(said.frames[first:])
        assert {told(event)[0] for event in outcome.events} >= {f"/{later}" for later in range(number, 4)}
        assert {told(event)[1] for event in outcome.events} >= {f"R{later}" for later in range(number, 4)}


@SIDES
def test_frames_of_a_pick_up_that_come_in_any_order_within_the_settle_time_are_all_read(where):
    said = Conversation(**where).established().exchange(MADE[0], request_sizes=20).exchange(MADE[3])
    backwards = [(ts_ns, frame) for (ts_ns, _), (_, frame) in zip(said.frames, reversed(said.frames), strict=True)]
    outcome = outcome_of(backwards + tick(said.now + 3 * SECOND))
    assert [one[:2] for one in summaries(outcome.events)] == [("/0", 200), ("/3", 200)]
    assert (outcome.counts["gaps"], outcome.counts["payload.out_of_window"]) == (0, 0)


@SIDES
def test_a_pick_up_is_counted_for_each_direction(where):
    counts = outcome_of(Conversation(**where).established().exchange(get(0)).frames).counts
    assert counts["midstream_streams"] == 2


def test_a_forged_segment_far_below_a_pick_up_makes_no_gap():
    said = Conversation().established().client_sends(get(0).request, 20)
    said.raw(said.client, -500_000_000, b"x").server_sends(get(0).response)
    counts = outcome_of(after(said, 3 * SECOND)).counts
    assert (counts["gaps"], counts["acked_unseen_bytes"]) == (0, 0)


def test_bytes_that_were_on_their_way_when_the_capture_began_are_not_lost():
    """Seen near the server: the acknowledgements of what was sent before the capture began are still to come."""
    said = Conversation().handshake().client_sends(get(0).request).server_sends(get(0, body=b"x" * 20000).response)
    data = of_side(said, said.server)[8:]
    late = [(ts_ns + 20 * MILLISECOND, frame) for ts_ns, frame in of_side(said, said.client)[3:]]
    outcome = outcome_of(interleave([data, late]) + tick(said.now + 3 * SECOND))
    assert outcome.counts["acked_unseen_bytes"] == 0


# -- only one side was captured ----------------------------------------------------------------------------------------


@SIDES
@pytest.mark.parametrize("begin", ["handshake", "established"])
@pytest.mark.parametrize("side", ["client", "server"])
def test_one_side_alone_gives_all_its_messages(where, begin, side):
    said = getattr(Conversation(**where), begin)()
    for made in MADE:
        said.exchange(made)
    said.close()
    outcome = outcome_of(of_side(said, getattr(said, side)) + tick(said.now + 2 * SECOND))
    if side == "client":
        assert [told(event) for event in outcome.events] == [(f"/{number}", None) for number in range(4)]
        assert {one[2] for one in summaries(outcome.events)} == {"request_only"}
    else:
        assert [told(event) for event in outcome.events] == [(None, f"R{number}") for number in range(4)]
        assert {one[2] for one in summaries(outcome.events)} == {"response_only"}
    assert {event["source"]["ip"] for event in outcome.events} == {where.get("client", "192.0.2.10")}
    assert outcome.counts["gaps"] == 0
    assert differences(outcome) == {}


@pytest.mark.parametrize("begin", ["handshake", "established"])
@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize(
    "pause",
    [
        60 * MILLISECOND,
        MILLISECOND,
    ],
)
def test_one_side_alone_is_counted_as_such(pause, begin, side):
    said = getattr(Conversation(), begin)()
    for made in MADE:
        said.exchange(made).idle(pause)
    outcome = outcome_of(of_side(said.close(), getattr(said, side)) + tick(said.now + 2 * SECOND))
    assert outcome.counts["flows_one_sided"] == 1


@pytest.mark.parametrize("side", ["client", "server"])
def test_one_side_holds_nothing_once_the_other_is_known_to_be_missing(side):
    said = Conversation().handshake()
    for _ in range(300):
        said.exchange(post(0, size=5000, body=b"x" * 5000)).idle(MILLISECOND)
    mine = of_side(said, getattr(said, side))
    assert sum(len(frame) for _, frame in mine) > 1 << 20
    outcome = outcome_of(mine)
    assert outcome.running["pending_bytes"] == 0
    assert outcome.counts["gaps"] == 0


def test_a_hole_in_one_side_is_a_gap_after_the_gap_timeout():
    """Nobody will ever acknowledge it."""
    said = Conversation().handshake().exchange(get(0, body=b"x" * 6000)).exchange(get(1))
    mine = of_side(said, said.server)
    lost = next(place for place, (_, frame) in enumerate(mine) if frame.endswith(b"x" * 1460))
    outcome = outcome_of(mine[:lost] + mine[lost + 1 :] + tick(said.now + 3 * SECOND))
    assert (outcome.running["gaps"], outcome.running["gap_bytes"]) == (1, 1460)
    assert outcome.running["pending_bytes"] == 0


def test_a_connection_with_both_sides_is_not_one_sided():
    frames = interleave([talk(get(0)), talk(get(1), client_port=2, close="")])
    assert outcome_of(frames).counts["flows_one_sided"] == 0


def test_an_attempt_that_nobody_answers_is_not_one_sided():
    """It is an attempt: the count is of asymmetric routing."""
    assert outcome_of(tick(START_NS)).counts["flows_one_sided"] == 0


@SIDES
@pytest.mark.parametrize("late", [SECOND, 10 * SECOND])
def test_a_side_that_appears_later_is_paired_from_then_on(where, late):
    said = Conversation(**where).handshake().exchange(get(0)).idle(late).exchange(get(1)).exchange(get(2)).close()
    cut = said.frames[0][0] + late
    theirs = of_side(said, said.server)
    frames = [frame for frame in said.frames if frame[0] >= cut or frame not in theirs]
    outcome = outcome_of(frames)
    assert [told(event)[0] for event in outcome.events if told(event)[0]] == ["/0", "/1", "/2"]
    assert ("/2", 200, "uncertain") in summaries(outcome.events)
    assert differences(outcome) == {}
