"""Clients that send a request while a response is outstanding, and the lost frames that hide it.

From there on each response looks like the answer to the request behind its own. No number of TCP tells such a client
from one that takes turns, so no such pair may claim to be certain.
"""

from __future__ import annotations

import pytest
from builders import MILLISECOND, Conversation, Event, Frame, carrying, events_of, exchange, get, post, without
from early_clients import wrong


def ahead(said: Conversation, first: int, count: int = 5) -> Conversation:
    """With each response of its slow server, a client sends the next request but one."""
    for number in range(first, first + count):
        said.idle(50 * MILLISECOND).server_sends(get(number).response).client_sends(get(number + 2).request)
    return said


def pairs(events: list[Event]) -> list[tuple[str | None, str | None, str]]:
    """(target, reason, pairing) of each event."""
    return [
        (
            event["url"]["original"] if "request" in event["http"] else None,
            event["http"]["response"]["reason"] if "response" in event["http"] else None,
            event["appliance"]["pairing"],
        )
        for event in events
    ]


def check(frames: list[Frame]) -> None:
    """Some pairs are wrong, or the scene proves nothing; none of them is certain."""
    events = events_of(frames)
    found = pairs(events)
    assert any(None not in pair and pair[0][1:] != pair[1][1:] for pair in found), found
    assert not wrong(events), found


def test_a_capture_that_begins_with_a_response_outstanding():
    said = Conversation().established().client_sends(get(0).request).client_sends(get(1).request)
    begin = len(said.frames)
    check(ahead(said, 0).frames[begin:])


def test_two_lost_requests_sent_together():
    said = Conversation().handshake().exchange(get(0)).exchange(get(1))
    said.client_sends(get(2).request + get(3).request)
    ahead(said, 2)
    check(without(said.frames, *carrying(said.frames, b"GET /2 ")))


def test_two_lost_requests_and_the_response_to_the_first():
    said = Conversation().handshake().exchange(get(0)).exchange(get(1))
    said.client_sends(get(2).request + get(3).request)
    ahead(said, 2)
    check(without(said.frames, *carrying(said.frames, b"GET /2 ", b" R2\r\n")))


def test_a_request_sent_behind_an_informational_response_that_is_lost():
    said = Conversation().handshake().exchange(get(0)).exchange(get(1)).client_sends(get(2).request)
    said.idle(MILLISECOND).server_sends(exchange(hints=(103,)).interim).client_sends(get(3).request)
    ahead(said, 2)
    check(without(said.frames, *carrying(said.frames, b" 103 ")))


def test_an_informational_response_behind_two_lost_requests():
    """The informational response is the first one behind the loss; the final one comes in order."""
    said = Conversation().handshake().exchange(get(0)).exchange(get(1))
    said.client_sends(get(2).request + get(3).request).idle(50 * MILLISECOND)
    said.server_sends(get(2).response).client_sends(get(4).request).idle(50 * MILLISECOND)
    said.server_sends(exchange(hints=(103,)).interim).server_sends(get(3).response).client_sends(get(5).request)
    check(without(ahead(said, 4).frames, *carrying(said.frames, b"GET /2 ")))


def test_an_upload_whose_end_and_the_request_behind_it_are_lost():
    said = Conversation().handshake().exchange(get(0)).exchange(get(1))
    said.client_sends(post(2, 3000, upload_framing="chunked").request + get(3).request)
    ahead(said, 2)
    check(without(said.frames, *carrying(said.frames, b"GET /3 ")))


def test_a_first_request_that_comes_late_behind_a_first_response_that_is_lost():
    """The server's bytes begin with its second response, for all that is known when they are read."""
    said = Conversation().handshake().exchange(get(0)).exchange(get(1))
    (first,), (second,), (answer,) = (carrying(said.frames, text) for text in (b"GET /0 ", b"GET /1 ", b" R1\r\n"))
    frames = [said.frames[place] for place in (0, second, answer)]
    events = events_of([*frames, (said.now + 200 * MILLISECOND, said.frames[first][1])])
    assert not wrong(events), pairs(events)


@pytest.mark.parametrize("think_ms", [0, 20, 400])
def test_a_client_with_one_response_outstanding_stays_uncertain_however_long(think_ms):
    said = Conversation().handshake().exchange(get(0)).client_sends(get(1).request + get(2).request)
    for number in range(1, 40):
        said.idle(450 * MILLISECOND).server_sends(get(number).response)
        said.idle(think_ms * MILLISECOND).client_sends(get(number + 2).request)
    check(without(said.frames, *carrying(said.frames, b"GET /1 ")))
