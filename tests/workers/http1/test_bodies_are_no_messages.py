"""Bodies that hold whole messages, and connections that lose frames inside them: no message is made of a body."""

from __future__ import annotations

import pytest
from builders import MILLISECOND, Conversation, events_of, outcome_of, payload_of, without
from hypothesis import given
from hypothesis import strategies as st

# What a body may hold: requests and responses with a start line that is good, in every place that a search may like.
IN_REQUEST = b"GET /in HTTP/1.1\r\nHost: in.example\r\n\r\n"
IN_RESPONSE = b"HTTP/1.1 200 in\r\nContent-Length: 3\r\n\r\nabc"
BAIT = {
    "requests": IN_REQUEST * 40,
    "responses": IN_RESPONSE * 40,
    "both, behind empty lines": b"\r\n\r\n".join([IN_REQUEST + IN_RESPONSE] * 20),
    "text around them": b"".join(b"text\r\n\r\n" + IN_REQUEST + b"text" + IN_RESPONSE for _ in range(15)),
}
PIECE = 160


def message(start: bytes, body: bytes, framing: str) -> bytes:
    """A message with this body."""
    if framing == "length":
        return start + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    if framing == "chunked":
        pieces = [body[at : at + 700] for at in range(0, len(body), 700)]
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        return start + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    return start + b"\r\n\r\n" + body


def conversation(bait: bytes, framing: str, pipelined: bool = False, offset: int = 0) -> Conversation:
    """Three exchanges; what the second one sends both ways is bait, cut so that pieces begin where the bait does."""
    requests = [
        b"GET /0 HTTP/1.1\r\nHost: a.example\r\n\r\n",
        message(b"POST /1 HTTP/1.1\r\nHost: a.example", bait, "length" if framing == "close" else framing),
        b"GET /2 HTTP/1.1\r\nHost: a.example\r\n\r\n",
    ]
    plain = b"HTTP/1.1 200 out\r\nContent-Length: 2\r\n\r\nok"
    answers = [plain, message(b"HTTP/1.1 200 out", bait, framing), plain]
    if framing == "close":
        requests, answers = requests[:2], answers[:2]
    said = Conversation().handshake()
    sizes = [PIECE + offset, *[PIECE] * 200]
    if pipelined:
        return (
            said.client_sends(b"".join(requests), sizes)
            .idle(MILLISECOND)
            .server_sends(b"".join(answers), sizes)
            .close("server")
        )
    for asked, answered in zip(requests, answers, strict=True):
        said.client_sends(asked, sizes).idle(MILLISECOND).server_sends(answered, sizes).idle(MILLISECOND)
    return said.close("server")


def invented(events) -> list[str]:
    """Return the targets and reasons that are reported and were never sent in a head."""
    found = []
    for event in events:
        if event.get("url", {}).get("original", "/0") not in ("/0", "/1", "/2"):
            found.append(event["url"]["original"])
        if event["http"].get("response", {}).get("reason", "out") != "out":
            found.append(event["http"]["response"]["reason"])
    return found


def data_places(frames):
    return [place for place, (_, frame) in enumerate(frames) if payload_of(frame)]


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("name", BAIT)
def test_without_a_loss_all_is_as_it_was_said(name, framing):
    events = events_of(conversation(BAIT[name], framing).frames)
    assert invented(events) == []
    assert len(events) == (2 if framing == "close" else 3)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("name", BAIT)
@pytest.mark.parametrize("lost", [1, 2], ids=["one frame", "two frames"])
def test_no_loss_of_neighbouring_frames_makes_a_message_of_a_body(name, framing, lost):
    frames = conversation(BAIT[name], framing).frames
    places = data_places(frames)
    losses = [places[at : at + lost] for at in range(len(places) - lost + 1)]
    assert {loss[0]: found for loss in losses if (found := invented(events_of(without(frames, *loss))))} == {}


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("name", BAIT)
def test_where_a_client_does_not_wait_for_answers_what_is_found_after_a_loss_says_so(name, framing):
    # Acknowledgements then prove nothing: a start line at the start of a piece, or behind an empty line, must do.
    frames = conversation(BAIT[name], framing, pipelined=True).frames
    for place in data_places(frames):
        events = events_of(without(frames, place))
        marked = [event for event in events if "resynchronised" in event["appliance"].get("anomalies", ())]
        assert not invented(events) or marked


@given(st.sampled_from(sorted(BAIT)), st.sampled_from(("length", "chunked", "close")), st.integers(0, 159), st.data())
def test_no_loss_at_all_makes_a_message_of_a_body(name, framing, offset, data):
    frames = conversation(BAIT[name], framing, False, offset).frames
    places = data_places(frames)
    lost = data.draw(st.sets(st.sampled_from(places), min_size=1, max_size=8))
    assert invented(events_of(without(frames, *lost))) == []


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("name", BAIT)
def test_a_capture_that_begins_inside_a_body_makes_none_of_it(name, framing):
    frames = conversation(BAIT[name], framing).frames
    places = data_places(frames)
    for first in places:
        events = events_of(frames[first:])
        if invented(events):  # nothing tells these first bytes from a message; the event says midstream
            sides = {
                frame[6:12]: payload_of(frame) for _, frame in reversed([frames[at] for at in places if at >= first])
            }
            assert any(said.startswith((IN_REQUEST[:9], IN_RESPONSE[:9])) for said in sides.values())
            assert all(event["appliance"]["midstream"] for event in events)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_behind_a_loss_in_a_body_the_next_exchange_is_found(framing):
    frames = conversation(BAIT["requests"], framing).frames
    places = data_places(frames)
    for place in places[2:-2]:
        outcome = outcome_of(without(frames, place))
        targets = [event.get("url", {}).get("original") for event in outcome.events]
        assert "/2" in targets or place == places[-2]
