"""Bytes that come again after they were delivered: equal ones are duplicates, others a conflict."""

from __future__ import annotations

import pytest
from builders import SECOND, Conversation, differences, get, outcome_of, request, response, summaries
from tcp_scenes import anomalies, moved

ASK = request(b"/0", b"X-Token: abcdef")
OTHER = request(b"/0", b"X-Token: uvwxyz")
ANSWER = response(b"200 OK", b"Content-Length: 0")


def repeated(copy, when="before the answer", offset=0):
    """A request, a later copy of it, its answer."""
    conversation = Conversation().handshake().client_sends(ASK)
    conversation.acknowledge(conversation.server)
    if when == "after the answer":
        conversation.server_sends(ANSWER)
    conversation.raw(conversation.client, offset, copy)
    if when == "before the answer":
        conversation.server_sends(ANSWER)
    return outcome_of(conversation.exchange(get(1)).close().frames)


def test_an_equal_copy_is_a_duplicate():
    outcome = repeated(ASK)
    assert (outcome.counts["payload.duplicate"], outcome.counts["payload.conflicting"]) == (len(ASK), 0)
    assert [anomalies(event) for event in outcome.events] == [[], []]
    assert differences(outcome) == {}


def test_another_copy_is_a_conflict_and_marks_the_event_that_has_not_left():
    outcome = repeated(OTHER)
    assert (outcome.counts["payload.duplicate"], outcome.counts["payload.conflicting"]) == (0, len(ASK))
    assert [anomalies(event) for event in outcome.events] == [["overlap_conflict"], []]
    assert differences(outcome) == {}


def test_another_copy_after_the_event_has_left_is_counted_and_marks_no_other_one():
    outcome = repeated(OTHER, "after the answer")
    assert outcome.counts["payload.conflicting"] == len(ASK)
    assert [anomalies(event) for event in outcome.events] == [[], []]


def test_the_delivered_bytes_stay():
    event = repeated(request(b"/9", b"X-Token: abcdef")).events[0]
    assert event["url"]["original"] == "/0"


def test_a_copy_of_a_part_is_compared_in_its_place():
    assert repeated(ASK[5:20], offset=5).counts["payload.duplicate"] == 15
    assert repeated(ASK[5:20], offset=6).counts["payload.conflicting"] == 15


def test_a_copy_that_goes_on_behind_what_was_delivered_gives_its_new_bytes():
    more = request(b"/more")
    said = Conversation().handshake().client_sends(ASK)
    said.raw(said.client, 10, ASK[10:] + more)
    moved(said.client, len(ASK + more))
    outcome = outcome_of(said.server_sends(ANSWER * 2).close().frames)
    assert [one[0] for one in summaries(outcome.events)] == ["/0", "/more"]
    assert outcome.counts["payload.duplicate"] == len(ASK) - 10
    assert differences(outcome) == {}


def test_pieces_are_compared_each_with_its_own_bytes():
    said = Conversation().handshake().client_sends(ASK, 7)
    said.raw(said.client, 0, ASK[:14] + b"?" + ASK[15:]).server_sends(ANSWER)
    counts = outcome_of(said.frames).counts
    assert counts["payload.conflicting"] == 7  # the piece that holds the byte
    assert counts["payload.duplicate"] == len(ASK) - 7


@pytest.mark.parametrize("side", ["request", "response"])
def test_a_conflict_in_a_body_marks_its_event(side):
    body = b"b" * 5000
    ask = request(b"/", b"Content-Length: 5000", method=b"POST") + body if side == "request" else ASK
    answer = response(b"200 OK", b"Content-Length: 5000", body=body)
    said = Conversation().handshake().client_sends(ask)
    if side == "request":
        said.raw(said.client, 2000, b"c" * 100).server_sends(answer)
    else:
        said.server_sends(answer[:4000]).raw(said.server, 2000, b"c" * 100).server_sends(answer[4000:])
    outcome = outcome_of(said.frames)
    assert anomalies(outcome.only) == ["overlap_conflict"]
    assert outcome.counts["payload.conflicting"] == 100


@pytest.mark.parametrize("place", [0, 1, 2])
def test_of_pipelined_requests_the_one_that_came_twice_is_marked(place):
    asks = [request(b"/%d" % number, b"X: abc") for number in range(3)]
    said = Conversation().handshake().client_sends(b"".join(asks), [len(ask) for ask in asks])
    said.raw(said.client, sum(map(len, asks[:place])), asks[place].replace(b"abc", b"xyz"))
    outcome = outcome_of(said.server_sends(ANSWER * 3).frames)
    assert [anomalies(event) for event in outcome.events] == [
        ["overlap_conflict"] if number == place else [] for number in range(3)
    ]


FIRST, SECOND_ASK, CHANGED = request(b"/0"), request(b"/1", b"X: abc"), request(b"/1", b"X: xyz")


def test_a_conflict_marks_the_message_it_is_in_not_the_one_its_segment_begins_with():
    said = Conversation().handshake().client_sends(FIRST + SECOND_ASK)
    said.raw(said.client, 0, FIRST + CHANGED)
    events = outcome_of(said.server_sends(ANSWER * 2).frames).events
    assert "overlap_conflict" in anomalies(events[1])


def test_a_held_conflict_marks_the_message_it_is_in():
    said = Conversation().handshake()
    said.raw(said.client, 5, (FIRST + SECOND_ASK)[5:]).raw(said.client, 5, (FIRST + CHANGED)[5:])
    said.raw(said.client, 0, FIRST[:5])
    moved(said.client, len(FIRST + SECOND_ASK))
    events = outcome_of(said.server_sends(ANSWER * 2).frames).events
    assert "overlap_conflict" in anomalies(events[1])


def test_a_held_conflict_behind_the_end_of_a_body_marks_the_next_message():
    post = request(b"/0", b"Content-Length: 10", method=b"POST")
    said = Conversation().handshake().client_sends(post + b"u" * 5)
    said.raw(said.client, len(post) + 6, b"u" * 4 + SECOND_ASK).raw(said.client, len(post) + 6, b"u" * 4 + CHANGED)
    said.raw(said.client, len(post) + 5, b"u")
    moved(said.client, len(post) + 10 + len(SECOND_ASK))
    events = outcome_of(said.server_sends(ANSWER * 2).frames).events
    assert "overlap_conflict" in anomalies(events[1])


def test_a_keep_alive_without_data_changes_nothing():
    said = Conversation().handshake().client_sends(ASK)
    said.acknowledge(said.server).idle(SECOND).raw(said.client, len(ASK) - 1).server_sends(ANSWER)
    outcome = outcome_of(said.frames)
    assert (anomalies(outcome.only), outcome.counts["payload.duplicate"]) == ([], 0)


def test_the_garbage_octet_of_a_keep_alive_is_no_conflict():
    """RFC 9293 section 3.8.4; some systems send it. The byte it stands on was acknowledged: nobody can change it."""
    said = Conversation().handshake().client_sends(ASK)
    said.acknowledge(said.server).idle(SECOND).raw(said.client, len(ASK) - 1, b"\0").server_sends(ANSWER)
    assert anomalies(outcome_of(said.frames).only) == []
