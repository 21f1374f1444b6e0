"""The loss benchmark of HTTP/2: its traffic is what it says, and its scorer sees every kind of failure."""

from __future__ import annotations

import copy

import pytest
from loss import Event, events_of
from loss_http2 import Talk, score


@pytest.fixture(scope="module", params=[False, True], ids=["http2", "grpc"])
def talk(request: pytest.FixtureRequest) -> Talk:
    return Talk(3, 8, calls=request.param)


@pytest.fixture(scope="module")
def events(talk: Talk) -> list[Event]:
    return events_of(talk.frames)


def test_all_is_right_when_nothing_is_damaged(talk: Talk, events: list[Event]) -> None:
    found = score(talk.truths, talk.frames, events)
    assert found.failures == []
    assert found.transactions == found.eligible == found.right == len(events) > 100
    assert found.fields == found.fields_right


def test_every_transaction_has_the_frames_of_its_header_blocks(talk: Talk) -> None:
    captured = {id(data) for _, data in talk.frames}
    assert all(len(truth.heads) >= 2 for truth in talk.truths.values())
    assert all(id(frame) in captured for truth in talk.truths.values() for frame in truth.heads)


def test_one_whose_header_block_was_lost_is_not_asked_for(talk: Talk, events: list[Event]) -> None:
    first = next(iter(talk.truths.values())).heads[0]
    found = score(talk.truths, [frame for frame in talk.frames if frame[1] is not first], events)
    assert found.eligible < found.transactions


def test_a_field_that_is_not_given_is_missing_and_one_of_another_value_is_wrong(
    talk: Talk, events: list[Event]
) -> None:
    first, second, *_ = damaged = copy.deepcopy(events)
    del first["http"]["request"]["method"]
    second["http"]["response"]["status_code"] = 599
    found = score(talk.truths, talk.frames, damaged)
    assert (found.right, found.wrong) == (found.eligible - 2, 1)
    assert found.fields_right == found.fields - 2


def test_an_event_of_no_stream_and_one_said_again_are_wrong(talk: Talk, events: list[Event]) -> None:
    stranger = copy.deepcopy(events[0])
    stranger["source"]["port"] = 9
    found = score(talk.truths, talk.frames, [*events, stranger, events[0]])
    assert (found.right, found.wrong) == (found.eligible, 2)
