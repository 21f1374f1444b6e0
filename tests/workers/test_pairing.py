"""Which response answers which request, whatever was not captured: every frame and every two frames of some connections.

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
    events_of,
    exchange,
    get,
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
    heads: list[list[int]] = field(default_factory=list)

    def sure_from(self, lost: int) -> int:
        """The exchange that begins two exchanges after this frame."""
        begun = sum(min(heads) <= lost for heads in self.heads)
        return max(begun, self.together) + 1


def scene(name: str) -> Scene:
    """A scene, and what its frames carry, found by the numbers in the heads."""
    said = SCENES[name]()
    out = Scene(said.frames, 4 if name.startswith("pipelined") else 0)
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
