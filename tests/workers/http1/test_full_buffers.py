"""Order survives buffers that are full: of connections picked up in the middle, behind holes, of a TAP's late half."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from builders import (
    MILLISECOND,
    SECOND,
    Conversation,
    Frame,
    config,
    differences,
    exchange,
    get,
    outcome_of,
    post,
    summary,
)
from crowd import Crowd
from impair import drop, interleave
from loss import Score, score

LARGE = 1_200_000
BIG = {
    "download": get(0, body=b"x" * LARGE),
    "upload": post(0, LARGE),
    "both": post(0, LARGE, body=b"x" * LARGE),
    "chunked": get(0, body=b"x" * LARGE, framing="chunked"),
    "chunked upload": post(0, LARGE, upload_framing="chunked"),
}
FULL: Sequence[dict[str, int]] = (
    {"max_pending_bytes": 4096},
    {"max_pending_segments": 4},
    {"max_pending_bytes": 8192, "max_total_pending_bytes": 8192},
)


def all_pairs(said: Conversation, **limits: int) -> list[str]:
    """Return the pairing of each transaction; every one has its own response, and the ledger closes."""
    outcome = outcome_of(said.frames, config=config(tcp=limits))
    assert not differences(outcome)
    assert [summary(event)[:2] for event in outcome.events] == [(one.target, one.status) for one in said.expected]
    reasons = [event["http"]["response"]["reason"] for event in outcome.events]
    assert reasons == ["R" + one.target[1:] for one in said.expected]
    return [event["appliance"]["pairing"] for event in outcome.events]


def small(said: Conversation, count: int = 12) -> Conversation:
    """Small exchanges, one every 300 ms."""
    for number in range(11, 11 + count):
        said.idle(300 * MILLISECOND).exchange(get(number))
    return said


def behind(frames: Sequence[Frame], client: bool, ns: int) -> list[Frame]:
    """One half of a TAP comes late by so much, with the stamps that it had."""
    late = [((frame[34] << 8 | frame[35]) != 80) == client for _, frame in frames]
    order = sorted(range(len(frames)), key=lambda place: frames[place][0] + (ns if late[place] else 0))
    return [frames[place] for place in order]


def found(crowd: Crowd, frames: Sequence[Frame], limits: dict[str, int]) -> Score:
    """Return the score of a crowd's transactions."""
    outcome = outcome_of(frames, config=config(tcp=limits))
    assert not differences(outcome)
    return score(crowd.truths, frames, outcome.events)


@pytest.fixture(scope="module")
def crowd() -> Crowd:
    return Crowd(1, 250)


@pytest.mark.parametrize("kind", BIG)
def test_a_large_message_pairs_where_a_connection_is_picked_up(kind):
    said = small(Conversation().established().exchange(BIG[kind]))
    assert all_pairs(said) == ["uncertain"] * 6 + ["verified"] * 7


def test_an_answer_in_the_millisecond_of_its_request_pairs_where_a_connection_is_picked_up():
    said = small(Conversation().established().exchange(BIG["download"], wait_ns=0))
    assert all_pairs(said)[6:] == ["verified"] * 7


def test_a_large_answer_pairs_behind_a_silence_that_ended_its_connection():
    said = Conversation().handshake().exchange(get(99)).idle(301 * SECOND).exchange(BIG["download"])
    small(said)
    assert all_pairs(said) == ["verified"] + ["uncertain"] * 6 + ["verified"] * 7


@pytest.mark.parametrize("limits", FULL)
def test_large_answers_pair_whatever_buffer_is_full(limits):
    assert all_pairs(small(Conversation().established().exchange(BIG["both"])), **limits)[6:] == ["verified"] * 7


def test_connections_answered_at_the_same_time_pair_with_one_full_buffer_for_all():
    made = get(0, body=b"x" * 60_000)
    talks = [small(Conversation(client_port=40000 + place).established().exchange(made)) for place in range(20)]
    limits = {"max_pending_bytes": 65536, "max_total_pending_bytes": 100_000}
    outcome = outcome_of(interleave(talks), config=config(tcp=limits))
    assert not differences(outcome)
    expected = [(one.target, one.status) for said in talks for one in said.expected]
    assert [summary(event)[:2] for event in outcome.events] == expected


@pytest.mark.parametrize("limits", FULL)
def test_frames_lost_beside_a_full_buffer_cost_what_they_cost_without(crowd, limits):
    frames = drop(crowd.frames, 0.01, 1)
    result, without_limits = found(crowd, frames, limits), found(crowd, frames, {})
    assert (result.wrong, result.right) == (0, without_limits.right)


@pytest.mark.parametrize("limits", FULL)
@pytest.mark.parametrize("late_ms", [5, 50, 1500])
def test_requests_that_come_behind_their_responses_are_given_to_no_others(crowd, limits, late_ms):
    frames = behind(crowd.frames, True, late_ms * MILLISECOND)
    assert found(crowd, frames, limits).wrong == 0


@pytest.mark.parametrize("limits", FULL)
def test_requests_a_little_late_are_paired_although_buffers_were_full(crowd, limits):
    result = found(crowd, behind(crowd.frames, True, 5 * MILLISECOND), limits)
    assert result.share > 0.998, result.failures


@pytest.mark.parametrize("limits", FULL)
def test_requests_late_and_lost_are_given_to_no_others(crowd, limits):
    assert found(crowd, behind(drop(crowd.frames, 0.01, 1), True, 50 * MILLISECOND), limits).wrong == 0


def ahead(asked: bytes, *answers: bytes) -> Conversation:
    """The responses of 100 kB each come before the frame with the requests that they answer."""
    said = Conversation().handshake().client_sends(asked)
    request = said.frames.pop()
    for answer in answers:
        said.server_sends(answer)
    said.frames.append(request)
    return said.idle(MILLISECOND)


def answers(*made: bytes) -> list[tuple[str | None, int | None, str]]:
    """Return the events of pipelined requests of these methods whose frame comes behind all their responses."""
    all_made = [exchange(method.decode(), f"/{number}", body=b"x" * 100_000) for number, method in enumerate(made)]
    said = ahead(b"".join(one.request for one in all_made), *(one.response for one in all_made))
    small(said, 2).close()
    outcome = outcome_of(said.frames, config=config(tcp={"max_pending_bytes": 4096}))
    assert not differences(outcome)
    return sorted(map(summary, outcome.events), key=str)


def test_a_request_joins_the_response_that_was_read_before_it():
    assert answers(b"GET") == [("/0", 200, "verified"), ("/11", 200, "verified"), ("/12", 200, "verified")]


def test_requests_that_were_sent_together_join_the_responses_that_were_read_before_them():
    assert [pair[:2] for pair in answers(b"GET", b"GET", b"GET")] == [(f"/{n}", 200) for n in (0, 1, 11, 12, 2)]


def test_a_head_request_behind_its_response_joins_it():
    assert ("/0", 200, "verified") in answers(b"HEAD")


def test_a_response_whose_request_does_not_come_is_reported_when_it_had_its_time():
    said = ahead(get(0).request, get(0, body=b"x" * 100_000).response)
    said.frames.pop()
    other = Conversation(client_port=40001, start_ns=said.now + 1100 * MILLISECOND).handshake()
    outcome = outcome_of(
        [*said.frames, *small(other, 2).frames], config=config(tcp={"max_pending_bytes": 4096, "idle_timeout_s": 9000})
    )
    running = outcome.running
    assert running["pairing.response_only"] == 1, running
