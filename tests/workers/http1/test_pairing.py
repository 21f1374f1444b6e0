"""The pairing of responses with requests when frames were not captured: every one, every two of some connections.

Each request's URI and its response's reason carry the same number, so a pair that is wrong cannot hide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import pytest
from builders import (
    MILLISECOND,
    Conversation,
    Event,
    Exchange,
    Frame,
    carrying,
    config,
    events_of,
    exchange,
    get,
    outcome_of,
    payload_of,
    post,
    summaries,
    talk,
    without,
)

FAKE = b"GET /99 HTTP/1.1\r\nHost: a.example\r\n\r\nHTTP/1.1 200 R98\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Scene:
    """A connection's frames, and of each exchange the frames that carry its heads."""

    frames: list[Frame]
    together: int  # so many exchanges at the beginning overlap
    clear: bool  # every head can be told from text in a body, by what is left of the rest
    heads: list[list[int]] = field(default_factory=list)

    def sure_from(self, lost: int) -> int:
        """The exchange that begins two exchanges after this frame."""
        begun = sum(min(heads) <= lost for heads in self.heads)
        return max(begun, self.together) + 1


def scene(name: str) -> Scene:
    """A scene, and what its frames carry, found by the numbers in the heads."""
    said = SCENES[name]()
    out = Scene(said.frames, 4 if name.startswith("pipelined") else 0, name not in UNCLEAR)
    payloads = [payload_of(frame) for _, frame in said.frames]
    for number in range(len(said.expected)):
        texts = (b" /%d HTTP/1.1\r\nHost: shop.example" % number, b" R%d\r\n" % number)
        out.heads.append([place for place, payload in enumerate(payloads) if any(text in payload for text in texts)])
    return out


def numbers_of(events: Sequence[Event]) -> list[tuple[int | None, int | None]]:
    """(request, response) of each event, by their numbers."""
    out = []
    for event in events:
        target = event["url"]["original"] if "request" in event["http"] else None
        reason = event["http"]["response"]["reason"] if "response" in event["http"] else None
        out.append((None if target is None else int(target[1:]), None if reason is None else int(reason[1:])))
    return out


def check(made: Scene, lost: tuple[int, ...]) -> None:
    """Nothing wrong, nothing invented, nothing left out that was captured, and all right again two exchanges later."""
    events = events_of(without(made.frames, *lost))
    numbers = numbers_of(events)
    story = f"without {lost}: {summaries(events)}"
    asked = [request for request, _ in numbers if request is not None]
    answered = [response for _, response in numbers if response is not None]
    assert all(None in pair or pair[0] == pair[1] for pair in numbers), story
    for found in (asked, answered):
        assert len(found) == len(set(found)), story
        assert set(found) <= set(range(len(made.heads))), story
    whole = [number for number, heads in enumerate(made.heads) if not set(heads) & set(lost)]
    if made.clear:
        assert set(whole) <= set(asked), story
        assert set(whole) <= set(answered), story
    sure = range(max(map(made.sure_from, lost)), len(made.heads))
    assert {(number, number) for number in sure} <= set(numbers), story


def pipelined(*made: Exchange, then: int = 2) -> Conversation:
    """Requests in frames of their own, all sent before the first answer; then some one after the other."""
    said = Conversation().handshake()
    for one in made:
        said.client_sends(one.request)
    said.idle(MILLISECOND)
    for one in made:
        said.server_sends(one.response)
        said.expect(one)
    for number in range(len(made), len(made) + then):
        said.exchange(get(number))
    return said.close()


def in_one_write(*made: Exchange, then: int = 2) -> Conversation:
    """All requests in one write, all responses in one write; then some one after the other."""
    said = Conversation().handshake().pipeline(made)
    for number in range(len(made), len(made) + then):
        said.exchange(get(number))
    return said.close()


def sliding(depth: int, count: int) -> Conversation:
    """A client that always keeps some requests outstanding, and sends the next with every answer."""
    said = Conversation().handshake()
    made = [get(number, body=b"x" * (number % 3 * 700)) for number in range(count)]
    for one in made[:depth]:
        said.client_sends(one.request)
    for number, one in enumerate(made):
        said.idle(MILLISECOND).server_sends(one.response).expect(one)
        if number + depth < count:
            said.client_sends(made[number + depth].request)
    return said.close()


SCENES: dict[str, Callable[[], Conversation]] = {
    "keep-alive": lambda: talk(*(get(number) for number in range(4))),
    "keep-alive, chunked": lambda: talk(*(get(number, framing="chunked", body=b"x" * 4000) for number in range(4))),
    "keep-alive, until close": lambda: talk(*map(get, range(3)), get(3, framing="close", body=FAKE), close="server"),
    "posts": lambda: talk(*(post(number, 3000, framing="chunked", chunk=700) for number in range(4))),
    "chunked posts": lambda: talk(*(post(number, 3000, upload_framing="chunked", chunk=900) for number in range(4))),
    "100-continue": lambda: talk(*(post(number, 2000, expect_continue=True) for number in range(4))),
    "looks like HTTP": lambda: talk(
        *(post(number, 10, framing="chunked", body=FAKE * 60, chunk=1400) for number in range(4))
    ),
    "looks like HTTP, uploaded": lambda: talk(
        *(
            exchange("POST", f"/{number}", reason=f"R{number}", upload=FAKE * 60, upload_framing="chunked", chunk=1400)
            for number in range(3)
        )
    ),
    "no bodies": lambda: talk(
        get(0, status=304), exchange("HEAD", "/1", reason="R1", body=b"x" * 10), get(2, status=204), get(3)
    ),
    "pipelined": lambda: pipelined(*map(get, range(4))),
    "pipelined, chunked": lambda: pipelined(*(get(number, framing="chunked", body=b"x" * 2000) for number in range(4))),
    "pipelined in one write": lambda: in_one_write(*(get(number, body=b"x" * 900) for number in range(4))),
}


# Pipelined responses behind one whose end was lost: their heads might as well be text in its body.
UNCLEAR = {"pipelined, chunked", "pipelined in one write"}


@pytest.mark.parametrize("name", SCENES)
def test_no_lost_frame_makes_a_wrong_pair(name):
    made = scene(name)
    for place in range(len(made.frames)):
        check(made, (place,))


@pytest.mark.parametrize("name", SCENES)
def test_no_two_lost_frames_make_a_wrong_pair(name):
    made = scene(name)
    for places in combinations(range(len(made.frames)), 2):
        check(made, places)


@pytest.mark.parametrize("depth", [2, 3])
def test_a_client_that_never_waits_for_all_answers_gets_no_wrong_pair(depth):
    frames = sliding(depth, 7).frames
    first = set(carrying(frames, *(b"GET /%d " % number for number in range(depth))))
    for places in combinations(range(len(frames)), 2):
        if first <= set(places):
            continue  # without its first requests, nothing tells it from one that takes turns
        numbers = numbers_of(events_of(without(frames, *places)))
        assert all(None in pair or pair[0] == pair[1] for pair in numbers), f"without {places}: {numbers}"


def test_the_end_of_a_connection_tells_its_last_answers():
    frames = sliding(3, 7).frames
    lost = carrying(frames, b" R3\r\n")
    assert numbers_of(events_of(without(frames, *lost))) == [
        *((number, number) for number in range(3)),
        (3, None),
        *((number, number) for number in range(4, 7)),
    ]


def test_answers_to_requests_that_were_too_many_are_given_to_no_others():
    said = (
        Conversation()
        .handshake()
        .pipeline([get(number, request_headers=[("X-A", "a" * 3000)]) for number in range(5)])
        .close()
    )
    numbers = numbers_of(events_of(said.frames, config=config(http={"max_total_waiting_bytes": 9000})))
    assert set(numbers) == {(0, None), (1, None), (2, None), (None, 0), (None, 1), (None, 2), (3, 3), (4, 4)}


def test_many_pipelined_requests_are_paired():
    made = [get(number) for number in range(500)]
    said = Conversation().handshake().client_sends(b"".join(one.request for one in made)).idle(MILLISECOND)
    said.server_sends(b"".join(one.response for one in made)).close()
    assert numbers_of(events_of(said.frames)) == [(number, number) for number in range(500)]


def test_a_response_to_a_head_that_was_lost_has_no_body():
    frames = talk(get(0), exchange("HEAD", "/1", reason="R1", body=b"x" * 5000), get(2)).frames
    assert numbers_of(events_of(without(frames, *carrying(frames, b"HEAD /1 ")))) == [(0, 0), (None, 1), (2, 2)]


def test_a_lost_end_of_a_request_head_leaves_the_pairs_behind_it_alone():
    said = Conversation().handshake().client_sends(get(0).request, [30, 1000]).idle(MILLISECOND)
    said.server_sends(get(0).response).exchange(get(1)).exchange(get(2)).close()
    frames = without(said.frames, carrying(said.frames, b"GET /0 ")[0] + 1)
    assert numbers_of(events_of(frames)) == [(0, 0), (1, 1), (2, 2)]


def test_a_text_like_a_response_behind_a_lost_head_is_not_reported():
    fake = b"HTTP/1.1 200 R99\r\nContent-Length: 5\r\n\r\nhello and more"
    said = pipelined(get(0), get(1, body=b"x" * 100 + fake + b"x" * 3000), get(2))
    frames = said.frames
    head, body = said.expected[1], carrying(frames, b" R99")
    assert head.status == 200
    assert all(99 not in pair for pair in numbers_of(events_of(without(frames, body[0] - 1))))


def test_a_retransmission_that_covers_a_part_says_nothing_of_the_rest():
    """A longer copy of an answer overtakes it; only the byte by which it is longer had to wait for the next request."""
    said, first, second = Conversation().handshake(), get(0), get(1)
    said.client_sends(first.request)
    answer = len(said.frames)
    said.server_sends(first.response).acknowledge(said.client).client_sends(second.request)
    said.raw(said.server, 0, first.response + second.response[:1])
    *frames, longer = said.frames
    original, frames[answer] = frames[answer], longer
    said.frames = [*frames, original]
    said.server_sends(second.response)
    assert numbers_of(events_of(said.frames)) == [(0, 0), (1, 1)]


def strict(said: Conversation, count: int = 8) -> Conversation:
    """Exchanges from number 10 on, one every 300 ms: no request is sent while a response is outstanding."""
    for number in range(10, 10 + count):
        said.idle(300 * MILLISECOND).exchange(get(number))
    return said


def test_strict_turns_heal_the_pairs_of_a_client_that_pipelined_before_a_loss():
    said = strict(Conversation().handshake().pipeline([get(0), get(1)]).exchange(get(2)).exchange(get(3)))
    lost = carrying(said.frames, b" R3\r\n")
    pairs = [(number, number) for number in range(10, 18)]
    assert numbers_of(events_of(without(said.frames, *lost))) == [(0, 0), (1, 1), (2, 2), (3, None), *pairs]


def test_strict_turns_are_believed_before_the_connection_ends():
    said = strict(Conversation().handshake().pipeline([get(0), get(1)]).exchange(get(2)).exchange(get(3)), 12)
    lost = carrying(said.frames, b" R3\r\n")
    outcome = outcome_of(without(said.frames, *lost))
    assert outcome.running["pairing.uncertain"] >= 4, outcome.running
    assert outcome.running["pairing.verified"] >= 6, outcome.running


def test_bytes_behind_a_request_are_not_held_against_strict_turns():
    said = Conversation().handshake().client_sends(get(0).request + b"x" * 100).idle(MILLISECOND)
    said = strict(said.server_sends(get(0).response).exchange(get(3)))
    lost = carrying(said.frames, b" R3\r\n")
    pairs = [(number, number) for number in range(10, 18)]
    assert numbers_of(events_of(without(said.frames, *lost))) == [(0, 0), (3, None), *pairs]


def test_strict_turns_tell_what_a_client_had_pipelined_where_it_was_picked_up():
    said = strict(Conversation().established().pipeline([get(0), get(1), get(2)]))
    assert numbers_of(events_of(said.frames)) == [(number, number) for number in (0, 1, 2, *range(10, 18))]


@pytest.mark.parametrize("seen", [1, 2, 3])
def test_a_connection_picked_up_between_pipelined_requests_gets_no_wrong_pair(seen):
    said = Conversation().handshake()
    for number in range(4):
        said.client_sends(get(number).request)
    said.idle(MILLISECOND).server_sends(b"".join(get(number).response for number in range(4)))
    strict(said)
    frames = said.frames[carrying(said.frames, b"GET /%d " % (4 - seen))[0] :]
    numbers = numbers_of(events_of(frames))
    assert all(None in pair or pair[0] == pair[1] for pair in numbers), numbers
    assert (3, 3) in numbers
    assert numbers[-4:] == [(number, number) for number in range(14, 18)]


def test_a_pair_that_is_a_guess_leaves_in_time_when_its_client_says_nothing_more():
    said = Conversation().established().exchange(get(0))
    other = Conversation(client_port=40001, start_ns=said.now + 1100 * MILLISECOND).handshake()
    outcome = outcome_of([*said.frames, *strict(other, 2).frames])
    assert outcome.running["pairing.uncertain"] == 1, outcome.running


def test_a_request_answered_with_no_http_takes_no_other_response():
    said = Conversation().handshake().client_sends(get(0).request).idle(MILLISECOND).server_sends(b"\0no answer at all")
    strict(said)
    assert numbers_of(events_of(said.frames)) == [(0, None), *((number, number) for number in range(10, 18))]


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_pair_that_is_a_guess_outlives_the_loss_of_the_end_of_its_response(framing):
    """The first request is lost, the last frame of the second response, and the third response."""
    frames = talk(get(0), get(1, body=b"x" * 3000, framing=framing), *map(get, range(2, 5))).frames
    end = max(place for place in range(carrying(frames, b"GET /2 ")[0]) if payload_of(frames[place][1]))
    left = without(frames, *carrying(frames, b"GET /0 ", b" R2\r\n"), end)
    assert numbers_of(events_of(left)) == [(None, 0), (1, 1), (2, None), (3, 3), (4, 4)]


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("lost", [False, True])
def test_a_request_sent_within_a_response_separates_a_pair_that_is_a_guess(framing, lost):
    """Two requests are lost in one frame. The second response begins where the third request left off."""
    said = Conversation().handshake().client_sends(get(0).request + get(1).request).server_sends(get(0).response)
    said.client_sends(get(2).request)
    second = get(1, body=b"x" * 3000, framing=framing).response
    place = len(said.server_sends(second[:500]).frames)
    said.server_sends(second[500:1000]).client_sends(get(3).request)
    late = said.frames.pop(place)
    said.frames += [] if lost else [late]
    said.server_sends(second[1000:])
    said.server_sends(get(2).response).server_sends(get(3).response).exchange(get(4)).close()
    numbers = numbers_of(events_of(without(said.frames, *carrying(said.frames, b"GET /0 "))))
    assert {(2, 1), (3, 2), (4, 3)}.isdisjoint(numbers), numbers
