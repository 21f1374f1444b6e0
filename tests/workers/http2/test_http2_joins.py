"""HTTP/2 whose beginning was not captured, behind an upgrade, and in disguise."""

from __future__ import annotations

import base64

import pytest
from builders import MILLISECOND, Conversation, config, differences, outcome_of, request, response, summaries
from h2_talk import START, answer, ask, block, message
from h2_wire import (
    DATA,
    END_HEADERS,
    END_STREAM,
    PREFACE,
    WINDOW_UPDATE,
    frame,
    headers,
    settings,
)

CUTS = pytest.mark.parametrize("cut", [None, 1000, 20], ids=["whole", "by segment", "by twenty"])


def joined(*said: bytes, cut: int | None = None) -> Conversation:
    """A connection that was open before the capture; client and server in turns."""
    made = Conversation()
    made.established()
    for place, text in enumerate(said):
        if text:
            (made.server_sends if place % 2 else made.client_sends)(text, cut).idle(MILLISECOND)
    return made.close()


def one(stream: int) -> tuple[bytes, bytes]:
    """A call and its answer."""
    return message(stream, ask(b"/%d" % stream), b"some data"), message(stream, answer(), b"hello", [(b"x", b"y")])


@CUTS
def test_a_connection_is_joined_at_a_chain_of_frames(cut):
    said = [part for stream in (101, 103, 105) for part in one(stream)]
    outcome = outcome_of(joined(*said, cut=cut).frames)
    assert summaries(outcome.events) == [
        ("/101", 200, "verified"),
        ("/103", 200, "verified"),
        ("/105", 200, "verified"),
    ]
    assert all(event["appliance"]["midstream"] for event in outcome.events)
    assert {event["appliance"]["http2"]["headers"] for event in outcome.events} == {"joined"}
    assert outcome.events[0]["source"]["port"] > outcome.events[0]["destination"]["port"]
    assert outcome.counts["http2_joined"] == 1
    assert differences(outcome) == {}


def test_frames_that_tell_no_side_are_held_until_one_does():
    updates = frame(WINDOW_UPDATE, 0, 0, b"\0\0\1\0") + frame(WINDOW_UPDATE, 0, 101, b"\0\0\1\0")
    outcome = outcome_of(joined(updates, b"", updates, b"", *one(103)).frames)
    assert summaries(outcome.events) == [("/103", 200, "verified")]
    assert differences(outcome) == {}


def test_entries_from_before_are_unknown_and_calls_of_one_path_go_together():
    known = [(b":method", b"POST"), (b":scheme", b"http")]
    call = block(*known) + b"\xc1" + block((b":authority", b"a.example"))  # :path is entry 65 of the table
    said = [message(101, ask(b"/known")) + frame(WINDOW_UPDATE, 0, 0, b"\0\0\1\0") * 2, message(101, answer())]
    for stream in (103, 105):
        said += [headers(stream, call, END_HEADERS | END_STREAM), message(stream, answer())]
    events = outcome_of(joined(*said).frames).events
    assert [event["url"].get("original") for event in events] == ["/known", None, None]
    references = [event["appliance"]["http2"].get("path_ref") for event in events]
    assert references[0] is None
    assert references[1] == references[2] is not None
    assert events[1]["appliance"]["http2"]["unknown_headers"] == 1


@pytest.mark.parametrize(
    "said",
    [
        (b"\0\0\4\1\4\0\0\0\1" + b"junk" * 20, b"\0\0\4\1\4\0\0\0\1" + b"junk" * 20),
        (bytes(4000), bytes(4000)),
        (frame(DATA, 0, 1, bytes(100)) * 2 + b"\xff" * 100, b"x"),
    ],
    ids=["one frame", "zeros", "two frames"],
)
@CUTS
def test_what_only_begins_like_frames_is_read_as_before(said, cut):
    outcome = outcome_of(joined(*said, request(b"/late"), response(b"200 OK", b"Content-Length: 0"), cut=cut).frames)
    assert [summary[0] for summary in summaries(outcome.events)] == ["/late"]
    assert outcome.counts["http2_joined"] == 0
    assert differences(outcome) == {}


def test_a_connection_whose_preface_was_lost_is_joined():
    said = Conversation().handshake()
    said.client.next += len(START)
    said.client_sends(one(1)[0]).idle(MILLISECOND).server_sends(settings() + one(1)[1]).acknowledge(said.client)
    for stream in (3, 5):
        said.idle(3000 * MILLISECOND).client_sends(one(stream)[0]).idle(MILLISECOND).server_sends(one(stream)[1])
    outcome = outcome_of(said.close().frames)
    assert ("/5", 200, "verified") in summaries(outcome.events)
    assert differences(outcome) == {}


UPGRADE = (
    b"Connection: Upgrade, HTTP2-Settings",
    b"Upgrade: h2c",
    b"HTTP2-Settings: " + base64.urlsafe_b64encode(b"\0\1\0\0\x20\0").rstrip(b"="),
)
SWITCHED = response(b"101 Switching Protocols", b"Connection: Upgrade", b"Upgrade: h2c")


@pytest.mark.parametrize("cut", [None, 1, 3], ids=["whole", "by byte", "by three"])
def test_an_upgrade_makes_its_request_stream_1(cut):
    said = Conversation().handshake().client_sends(request(b"/up", *UPGRADE, b"X-A: 1"), cut).idle(MILLISECOND)
    said.server_sends(SWITCHED + settings(), cut).idle(MILLISECOND).client_sends(START, cut).idle(MILLISECOND)
    said.server_sends(message(1, answer(b"201"), b"hello"), cut).client_sends(message(3, ask(b"/3")), cut)
    outcome = outcome_of(said.idle(MILLISECOND).server_sends(message(3, answer(b"404")), cut).close().frames)
    assert summaries(outcome.events) == [("/up", 101, "verified"), ("/up", 201, "verified"), ("/3", 404, "verified")]
    first, second, third = outcome.events
    assert first["appliance"]["tunnel"] == {"protocol": "h2c"}
    assert second["appliance"]["http2"] == {"stream_id": 1, "headers": "exact", "upgraded": True}
    assert second["url"]["domain"] == "a.example"
    assert second["http"]["version"] == third["http"]["version"] == "2"
    assert [event["appliance"]["transaction"] for event in outcome.events] == [0, 1, 2]
    assert len({event["event"]["id"] for event in outcome.events}) == 3
    assert differences(outcome) == {}


def test_an_upgrade_that_a_server_refuses_stays_http_1():
    said = Conversation().handshake().client_sends(request(b"/up", *UPGRADE)).idle(MILLISECOND)
    said.server_sends(response(b"200 OK", b"Content-Length: 0")).idle(MILLISECOND).client_sends(request(b"/1"))
    outcome = outcome_of(said.server_sends(response(b"200 OK", b"Content-Length: 0")).close().frames)
    assert summaries(outcome.events) == [("/up", 200, "verified"), ("/1", 200, "verified")]


@pytest.mark.parametrize("cut", [None, 1, 3], ids=["whole", "by byte", "by three"])
def test_http2_inside_a_connect_tunnel_has_events(cut):
    said = Conversation().handshake().client_sends(request(b"a.example:80", method=b"CONNECT"), cut).idle(MILLISECOND)
    said.server_sends(response(b"200 OK"), cut).idle(MILLISECOND).client_sends(PREFACE + settings() + one(1)[0], cut)
    outcome = outcome_of(said.idle(MILLISECOND).server_sends(settings() + one(1)[1], cut).close().frames)
    assert [event["http"]["version"] for event in outcome.events] == ["1.1", "2"]
    assert outcome.events[1]["url"]["path"] == "/1"
    assert differences(outcome) == {}


UNCERTAIN = (
    b"\0\x40\0\0\0\0\0\0\1" + b"a" * 12000
)  # the start of a long DATA frame: no side is known, and no chain is broken


def test_the_memory_of_a_join_counts_its_pieces():
    frames = Conversation().established().client_sends(UNCERTAIN, [9] + [1] * 12000).frames
    assert outcome_of(frames).running["head_bytes"] > 100 * 12000  # a piece of one byte takes more than a hundred


def test_the_bytes_of_a_join_are_limited_and_then_read_as_before():
    outcome = outcome_of(joined(UNCERTAIN).frames, config=config(http={"max_join_bytes": 4096}))
    assert outcome.counts["http2_joins_given_up"] == 1
    assert outcome.counts["head_bytes"] == outcome.counts["http2_joined"] == 0
    assert differences(outcome) == {}


@pytest.mark.parametrize("cut", range(9, 40))  # a piece shorter than a frame header begins no join
def test_a_side_that_becomes_known_before_a_gap_is_read(cut):
    said = Conversation().established()
    said.client_sends(b"".join(one(stream)[0] for stream in (101, 103, 105)), cut).idle(MILLISECOND)
    said.client.next += 5000  # lost
    said.server_sends(b"".join(one(stream)[1] for stream in (101, 103, 105))).idle(MILLISECOND)
    outcome = outcome_of(said.close().frames)
    assert [summary[0] for summary in summaries(outcome.events)] == ["/101", "/103", "/105"]
    assert outcome.counts["http2_joined"] == 1
