"""Sequences of messages: pipelines, answers without bodies, interim and early ones, tunnels, HTTP/0.9, one side."""

from __future__ import annotations

import pytest
from body_summaries import OK
from builders import (
    MILLISECOND,
    Conversation,
    differences,
    events_of,
    get,
    outcome_of,
    payload_of,
    request,
    response,
    spoken,
    summaries,
)

CUTS = pytest.mark.parametrize("cut", [None, 1, 7], ids=["whole", "by byte", "by seven"])


def turns(*said: bytes, cut=None, close="server"):
    """Client and server in turns, the client first."""
    made = Conversation().handshake()
    for place, text in enumerate(said):
        (made.server_sends if place % 2 else made.client_sends)(text, cut).idle(MILLISECOND)
    return made.close(close) if close else made


def told(frames):
    """(target, status, request body, response body) of every event."""
    return [
        (
            event.get("url", {}).get("original"),
            event["http"].get("response", {}).get("status_code"),
            event["http"].get("request", {}).get("body", {}).get("bytes"),
            event["http"].get("response", {}).get("body", {}).get("bytes"),
        )
        for event in events_of(frames)
    ]


# -- pipelines and answers without a body ----------------------------------------------------------------------------

NO_BODY = response(b"200 OK", b"Content-Length: 99")


@CUTS
def test_each_answer_of_a_pipeline_is_framed_by_its_own_request(cut):
    asked = [request(b"/%d" % n, method=method) for n, method in enumerate((b"HEAD", b"GET", b"HEAD", b"POST", b"GET"))]
    answers = [
        NO_BODY,
        response(b"200 OK", b"Content-Length: 2", body=b"ok"),
        response(b"404 No", b"Transfer-Encoding: chunked"),
        response(b"204 No"),
        response(b"304 No", b"Content-Length: 7"),
    ]
    expected = [("/0", 200, 0, 0), ("/1", 200, 0, 2), ("/2", 404, 0, 0), ("/3", 204, 0, 0), ("/4", 304, 0, 0)]
    assert told(turns(b"".join(asked), b"".join(answers), cut=cut).frames) == expected


@CUTS
@pytest.mark.parametrize("status", [b"204 No", b"205 Reset", b"304 Not"])
def test_only_204_and_304_have_no_body(status, cut):
    # RFC 9110 section 15.3.6: 205 has a framed, empty body; it is read as it is framed.
    body = b"" if status[:3] != b"205" else b"x"
    said = turns(request(), response(status, b"Content-Length: 1", body=body) + b"", request(b"/1"), OK, cut=cut)
    assert told(said.frames) == [("/", int(status[:3]), 0, len(body)), ("/1", 200, 0, 0)]


def test_a_body_that_head_should_not_have_belongs_to_no_message():
    said = turns(request(method=b"HEAD"), response(b"200 OK", b"Content-Length: 5", body=b"hello"), request(b"/1"), OK)
    outcome = outcome_of(said.frames)
    assert [summary[:2] for summary in summaries(outcome.events)] == [("/", 200), ("/1", 200)]
    assert outcome.events[1]["appliance"]["anomalies"] == ["extra_bytes"]
    assert outcome.counts["skipped_bytes"] == 5


# -- interim and early answers ---------------------------------------------------------------------------------------


@CUTS
def test_interim_answers_are_listed_and_are_not_the_answer(cut):
    interim = b"".join(response(status) for status in (b"100 Go", b"102 Still", b"103 Hints", b"103 Hints", b"199 x"))
    frames = turns(request(), interim + OK, request(b"/1"), OK, cut=cut).frames
    assert told(frames) == [("/", 200, 0, 0), ("/1", 200, 0, 0)]
    assert [event["appliance"].get("informational") for event in events_of(frames)] == [[100, 102, 103, 103, 199], None]


@CUTS
def test_the_body_after_100_continue_belongs_to_its_request(cut):
    head = request(b"/", b"Expect: 100-continue", b"Content-Length: 5", method=b"POST")
    frames = turns(head, response(b"100 Continue"), b"hello", OK, request(b"/1"), OK, cut=cut).frames
    assert told(frames) == [("/", 200, 5, 0), ("/1", 200, 0, 0)]
    assert "anomalies" not in events_of(frames)[0]["appliance"]


@CUTS
def test_a_refused_expectation_leaves_a_request_without_its_body(cut):
    # RFC 9110 section 10.1.1: the client may close, or send the body all the same.
    head = request(b"/", b"Expect: 100-continue", b"Content-Length: 5", method=b"POST")
    refused = response(b"417 No", b"Content-Length: 0")
    assert told(turns(head, refused, close="client", cut=cut).frames) == [("/", 417, 0, 0)]
    frames = turns(head, refused, b"hello" + request(b"/1"), OK, cut=cut).frames
    assert told(frames) == [("/", 417, 5, 0), ("/1", 200, 0, 0)]
    assert events_of(frames)[0]["appliance"]["anomalies"] == ["early_response"]


@CUTS
def test_an_early_answer_belongs_to_the_request_that_still_comes(cut):
    head = request(b"/", b"Transfer-Encoding: chunked", method=b"PUT")
    frames = turns(
        head + b"3\r\nabc\r\n", response(b"413 No", b"Content-Length: 0"), b"2\r\nde\r\n0\r\n\r\n", cut=cut
    ).frames
    assert told(frames) == [("/", 413, 5, 0)]
    assert events_of(frames)[0]["appliance"]["request"]["complete"]


# -- tunnels ---------------------------------------------------------------------------------------------------------

CONNECT = request(b"b.example:443", method=b"CONNECT")
INNER = request(b"/inner") + b"\x16\x03\x01" + OK


@CUTS
@pytest.mark.parametrize("close", ["server", "client"])
def test_http_inside_a_connect_tunnel_is_read(cut, close):
    said = turns(CONNECT, response(b"200 OK"), request(b"/inner"), OK, request(b"/more"), OK, cut=cut, close=close)
    outcome = outcome_of(said.frames)
    assert summaries(outcome.events) == [
        ("b.example:443", 200, "verified"),
        ("/inner", 200, "verified"),
        ("/more", 200, "verified"),
    ]
    assert outcome.events[0]["appliance"]["tunnel"] == {"protocol": "connect"}
    assert outcome.counts["tunnel_bytes"] == 0
    assert not any("anomalies" in event["appliance"] for event in outcome.events)
    assert differences(outcome) == {}


@CUTS
def test_what_a_client_sends_ahead_through_its_tunnel_waits_for_the_answer(cut):
    # It asks, and sends at once what is for the far end; until the proxy has answered, these bytes look like a request.
    outcome = outcome_of(
        turns(CONNECT + b"\x16\x03\x01\x02\x00", response(b"200 OK") + b"\x16\x03\x03", cut=cut).frames
    )
    assert summaries(outcome.events) == [("b.example:443", 200, "verified")]


@pytest.mark.parametrize("status", [b"200 OK", b"201 x", b"299 x"])
def test_any_2xx_opens_the_tunnel_of_a_connect(status):
    assert outcome_of(turns(CONNECT, response(status), INNER).frames).counts["tunnels"] == 1


@CUTS
@pytest.mark.parametrize("status", [b"407 Who", b"502 No", b"302 There"])
def test_another_answer_to_connect_opens_none(status, cut):
    frames = turns(
        CONNECT, response(status, b"Content-Length: 2", body=b"no"), CONNECT, response(b"200 OK"), cut=cut
    ).frames
    assert told(frames) == [("b.example:443", int(status[:3]), 0, 2), ("b.example:443", 200, 0, 0)]


@CUTS
@pytest.mark.parametrize(
    ("asked", "answered", "name"),
    [
        ([b"Upgrade: chat"], [b"Upgrade: chat"], "chat"),
        ([b"Upgrade: Chat"], [b"Upgrade: CHAT"], "chat"),
        ([b"Upgrade: a/1, b"], [], "a/1"),
        ([], [b"Upgrade: TLS/1.3, HTTP/1.1"], "tls/1.3"),
        ([], [], "unknown"),
    ],
)
def test_an_upgrade_names_its_protocol(asked, answered, name, cut):
    ask = request(b"/", b"Connection: upgrade", *asked)
    outcome = outcome_of(turns(ask, response(b"101 Switching", *answered) + b"\x81\0", INNER, OK, cut=cut).frames)
    assert summaries(outcome.events) == [("/", 101, "verified")]
    assert outcome.only["appliance"]["tunnel"] == {"protocol": name}
    assert outcome.counts["tunnel_bytes"] == 2 + len(INNER) + len(OK)


@CUTS
def test_http1_behind_an_upgrade_to_h2c_is_read(cut):
    ask = request(b"/", b"Connection: upgrade", b"Upgrade: h2c, websocket")
    frames = turns(ask, response(b"101 Switching", b"upgrade:h2c") + b"\x81\0", INNER, OK, cut=cut).frames
    outcome = outcome_of(frames)
    assert summaries(outcome.events) == [("/", 101, "verified"), ("/inner", 200, "ordered")]
    assert outcome.events[0]["appliance"]["tunnel"] == {"protocol": "h2c"}


@CUTS
def test_an_upgrade_that_is_not_taken_changes_nothing(cut):
    ask = request(b"/", b"Connection: upgrade", b"Upgrade: h2c")
    frames = turns(ask, OK, request(b"/1"), OK, cut=cut).frames
    assert told(frames) == [("/", 200, 0, 0), ("/1", 200, 0, 0)]
    assert all("tunnel" not in event["appliance"] for event in events_of(frames))


# -- HTTP/0.9 --------------------------------------------------------------------------------------------------------


@CUTS
@pytest.mark.parametrize(
    "line", [b"GET /old\r\n", b"GET /old\n", b"GET /old \r\n", b"GET http://a.example/old\r\n", b"HEAD /old\r\n"]
)
@pytest.mark.parametrize(
    "body", [b"<html>old</html>", b"\r\n<html>", b"HTTP is old", b"HTT", b"HTTP/1.1 is new\r\n\r\nold", b""]
)
def test_http_0_9_is_a_line_and_a_body_until_the_end(line, body, cut):
    outcome = outcome_of(turns(line, body, cut=cut).frames)
    event = outcome.only
    assert event["http"]["version"] == "0.9"
    assert event["url"]["original"] in ("/old", "http://a.example/old")
    assert "missing_version" in event["appliance"]["anomalies"]
    answer = event["http"].get("response", {})
    assert "status_code" not in answer
    assert answer.get("body", {}).get("bytes", 0) == len(body)
    assert differences(outcome) == {}


@CUTS
def test_a_forgotten_version_with_fields_is_read_with_them(cut):
    ask = b"POST /old\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello"
    frames = turns(ask, OK, cut=cut).frames
    assert told(frames) == [("/old", 200, 5, 0)]
    assert events_of(frames)[0]["url"]["domain"] == "a.example"


@CUTS
def test_an_answer_with_a_head_to_a_request_without_version_is_read_with_it(cut):
    frames = turns(b"GET /old\r\n", response(b"400 Bad", b"Content-Length: 2", body=b"no"), cut=cut).frames
    assert told(frames) == [("/old", 400, 0, 2)]


# -- orders ----------------------------------------------------------------------------------------------------------


@CUTS
def test_a_response_before_any_request_answers_none(cut):
    said = Conversation().handshake().server_sends(response(b"408 Late", b"Content-Length: 0"), cut).idle(MILLISECOND)
    said.client_sends(request(), cut).server_sends(OK, cut).close()
    found = summaries(events_of(said.frames))
    assert found[0] == (None, 408, "response_only")
    assert [summary[:2] for summary in found[1:]] == [("/", 200)]


@CUTS
def test_a_second_answer_to_one_request_answers_none(cut):
    frames = turns(request(), OK + response(b"408 Late", b"Content-Length: 0"), cut=cut).frames
    assert [summary[:2] for summary in summaries(events_of(frames))] == [("/", 200), (None, 408)]


@pytest.mark.parametrize(("kept", "count"), [("client", 3), ("server", 3)])
def test_one_side_alone_is_told_as_far_as_it_goes(kept, count):
    said = Conversation().handshake().pipeline([get(number) for number in range(count)]).close()
    mine = said.frames[0 if kept == "client" else 1][1][6:12]
    events = events_of([(ts, frame) for ts, frame in said.frames if frame[6:12] == mine])
    assert [event["appliance"]["pairing"] for event in events] == [
        "request_only" if kept == "client" else "response_only"
    ] * count


@CUTS
def test_a_body_until_close_takes_all_that_comes(cut):
    # RFC 9112 section 6.3, 8.: what looks like the next response is body.
    frames = turns(request() * 2, response(b"200 OK", body=b"abc" + OK), cut=cut).frames
    assert told(frames) == [("/", 200, 0, 3 + len(OK)), ("/", None, 0, None)]


def test_requests_after_connection_close_are_still_told():
    # RFC 9112 section 9.6: nobody will answer them; a sensor says that they were sent.
    ask = request(b"/0", b"Connection: close") + request(b"/1")
    found = summaries(events_of(spoken(ask, response(b"200 OK", b"Connection: close", body=b"x")).frames))
    assert [summary[:2] for summary in found] == [("/0", 200), ("/1", None)]


def test_every_byte_belongs_somewhere():
    said = turns(request() + b"\0junk\r\n", OK + b"\0junk\r\n", request(b"/1"), OK)
    outcome = outcome_of(said.frames)
    size = sum(len(payload_of(frame)) for _, frame in said.frames)
    messages = sum(
        event["http"].get(side, {}).get("bytes", 0) for event in outcome.events for side in ("request", "response")
    )
    assert messages + outcome.counts["skipped_bytes"] == size
