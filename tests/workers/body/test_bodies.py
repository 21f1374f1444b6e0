"""Bodies in events: from frames to what is said of their content, and what is never shown."""

import base64
import gzip
import hashlib
import json

import pytest
from builders import (
    MILLISECOND,
    Conversation,
    carrying,
    config,
    exchange,
    outcome_of,
    request,
    response,
    spoken,
    talk,
    timeless,
    without,
)
from content_encoders import ENCODERS, zeros
from exchange import chunked
from hypothesis import given
from hypothesis import strategies as st

from workers.events.schema import decode

PAGE = b"<!DOCTYPE html><title>A page</title>" + b"<p>and what it says</p>" * 200
SHA256 = hashlib.sha256(PAGE).hexdigest()
EVERYTHING = {"hashes": ["sha256", "md5"], "mime_type": True, "excerpt_bytes": 40}


def seen(frames, bodies=EVERYTHING, **http):
    """Return the outcome of some frames when everything about bodies is asked for."""
    outcome = outcome_of(frames, config=config(bodies=bodies, http=http))
    for line in outcome.lines:
        decode(line)
    return outcome


def page(coding="gzip", **how):
    """The page, encoded."""
    headers = [("Content-Encoding", coding), ("Content-Type", "text/html; charset=utf-8")]
    return exchange("GET", "/page", body=ENCODERS[coding](PAGE), response_headers=headers, **how)


@pytest.mark.parametrize("coding", ENCODERS)
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_page_is_told_by_what_it_contains(coding, framing):
    event = seen(talk(page(coding, framing=framing, chunk=100), close="server").frames).only
    assert event["http"]["response"]["mime_type"] == "text/html"
    assert event["http"]["response"]["body"] == {"bytes": len(ENCODERS[coding](PAGE)), "content": PAGE[:40].decode()}
    assert event["appliance"]["response"]["body"] == {
        "sha256": SHA256,
        "md5": hashlib.md5(PAGE).hexdigest(),
        "decoded_bytes": len(PAGE),
        "codings": [coding],
    }
    assert "anomalies" not in event["appliance"]


def test_both_sides_of_a_transaction_are_told():
    head = [("Content-Type", "application/octet-stream")]
    event = seen(
        talk(exchange("POST", upload=b'{"a": 1}', request_headers=head, body=b"\x89PNG\r\n\x1a\n")).frames,
        {**EVERYTHING, "excerpt_types": ["*"]},
    ).only
    assert event["http"]["request"]["mime_type"] == "application/json"
    assert event["http"]["request"]["body"]["content"] == '{"a": 1}'
    assert event["http"]["response"]["mime_type"] == "image/png"
    assert event["appliance"]["response"]["body"]["content_base64"] == base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
    assert "codings" not in event["appliance"]["request"]["body"]


def test_by_default_nothing_is_said_of_bodies():
    outcome = outcome_of(talk(page()).frames)
    event = outcome.only
    assert event["http"]["response"]["mime_type"] == "text/html"
    assert event["http"]["response"]["body"].keys() == {"bytes"}
    assert "body" not in event["appliance"]["response"]
    assert not any(value for name, value in outcome.counts.items() if name.startswith("bodies."))


@pytest.mark.parametrize(
    "made", [exchange("HEAD", body=PAGE), exchange(status=304), exchange(status=204), exchange(body=b"")]
)
def test_a_message_without_a_body_says_nothing_of_one(made):
    outcome = seen(talk(made).frames)
    assert "body" not in outcome.only["appliance"]["response"]
    assert "mime_type" not in outcome.only["http"]["response"]
    assert sum(value for name, value in outcome.counts.items() if name.startswith("bodies.")) == 0


def test_a_type_from_content_replaces_the_one_declared_and_is_absent_if_unknown():
    event = seen(talk(exchange(body=bytes(range(20)), response_headers=[("Content-Type", "text/html")])).frames).only
    assert "mime_type" not in event["http"]["response"]


def test_the_body_of_http_0_9_is_told():
    for cut in (1, 3, 100):
        conversation = Conversation().handshake().client_sends(b"GET /\r\n").idle(MILLISECOND)
        for at in range(0, len(PAGE), cut) if cut > 1 else [0]:
            conversation.server_sends(PAGE[at : at + cut] if cut > 1 else PAGE)
        event = seen(conversation.close("server").frames).only
        assert event["appliance"]["response"]["body"]["sha256"] == SHA256


def test_a_gap_inside_a_body_leaves_no_digest():
    frames = talk(exchange(body=PAGE + b"MISSING" + b"x" * 3000)).frames
    lost = carrying(frames, b"MISSING")
    assert len(lost) == 1
    outcome = seen(without(frames, *lost))
    event = outcome.only
    assert event["appliance"]["response"]["missing_bytes"]
    assert "body" not in event["appliance"]["response"]
    assert event["http"]["response"]["mime_type"] == "text/html"
    assert outcome.counts["bodies.incomplete"] == 1


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_no_single_lost_frame_makes_a_wrong_digest(framing):
    frames = talk(page("zstd", framing=framing), exchange("GET", "/plain", body=PAGE, framing=framing)).frames
    for place in range(len(frames)):
        for event in seen(without(frames, place)).events:
            told = event["appliance"].get("response", {}).get("body", {})
            if "response" in event["appliance"] and not event["appliance"]["response"]["missing_bytes"]:
                assert told.get("sha256", SHA256) == SHA256
            else:
                assert "sha256" not in told


def test_a_body_that_is_cut_off_has_no_digest():
    cut = response(b"200 OK", b"Content-Length: 100", body=b"only so much")
    event = seen(spoken(request(), cut).frames).only
    assert "body" not in event["appliance"]["response"]


def test_a_body_that_is_not_what_is_announced():
    outcome = seen(talk(exchange(body=PAGE, response_headers=[("Content-Encoding", "gzip")])).frames)
    assert outcome.only["appliance"]["anomalies"] == ["body_coding_failed"]
    assert outcome.only["appliance"]["response"]["body"] == {"decoded_bytes": 0, "codings": ["gzip"]}
    assert outcome.counts["bodies.failed"] == outcome.counts["anomalies.body_coding_failed"] == 1


def test_a_coding_that_nobody_knows():
    outcome = seen(talk(exchange(body=PAGE, response_headers=[("Content-Encoding", "exotic")])).frames)
    assert outcome.only["appliance"]["anomalies"] == ["body_coding_unknown"]
    assert "body" not in outcome.only["appliance"]["response"]
    assert outcome.counts["bodies.unknown"] == 1


def test_bombs_are_marked_and_after_some_of_them_a_connection_is_not_decoded():
    bomb = exchange("GET", "/bomb", body=zeros("zstd", 16 << 20), response_headers=[("Content-Encoding", "zstd")])
    outcome = seen(talk(*[bomb] * 3, page()).frames)
    assert [event["appliance"]["anomalies"] for event in outcome.events] == [["body_limit"]] * 4
    assert "body" not in outcome.events[3]["appliance"]["response"]
    assert outcome.counts["bodies.limit"] == 4
    assert outcome.counts["decoded_bytes"] < 3 * (2 << 20)


def test_counters_say_what_became_of_bodies():
    outcome = seen(talk(page(), exchange("POST", upload=b"u" * 10, body=b"x" * 10)).frames)
    assert {name: outcome.counts[f"bodies.{name}"] for name in ("plain", "decoded", "limit")} == {
        "plain": 2,
        "decoded": 1,
        "limit": 0,
    }
    assert outcome.counts["decoded_bytes"] == len(PAGE)


def test_trailers_and_extensions_are_no_content():
    body = chunked(gzip.compress(PAGE), 77, extension=";a=b", trailers=[("X", "y")])
    head = (b"Content-Encoding: gzip", b"Transfer-Encoding: chunked")
    event = seen(spoken(request(), response(b"200 OK", *head, body=body)).frames).only
    assert event["appliance"]["response"]["body"]["sha256"] == SHA256


@given(st.lists(st.integers(1, 400), max_size=30), st.sampled_from(["gzip", "br", "zstd"]), st.booleans())
def test_any_split_into_segments_says_the_same_of_a_body(sizes, coding, broken):
    wire = bytearray(ENCODERS[coding](PAGE * 3))
    wire[len(wire) // 2] ^= broken
    framing = (f"Content-Encoding: {coding}".encode(), b"Content-Type: text/html", b"Transfer-Encoding: chunked")
    stream = response(b"200 OK", *framing, body=chunked(bytes(wire), 50))
    conversation = Conversation().handshake().client_sends(request()).idle(MILLISECOND)
    at = 0
    for size in [*sizes, len(stream)]:
        if stream[at : at + size]:
            conversation.server_sends(stream[at : at + size])
        at += size
    assert timeless(seen(conversation.close("server").frames).events) == timeless(
        seen(spoken(request(), stream).frames).events
    )


# -- hidden parameters -----------------------------------------------------------------------------------------------

SECRET = b"hunter2"
HIDE = {"redact_parameters": ["password", "token"], "headers": ["all"]}


def test_a_parameter_is_hidden_wherever_an_event_shows_it():
    head = request(
        b"/login?user=a&passWORD=hunter2&b=c",
        b"Host: shop.example",
        b"Referer: http://shop.example/?t%6Fken=hunter2&x=y",
        b"User-Agent: probe (?token=hunter2)",
        b"X-Original-URL: /login?password=hunter2",
        b"Content-Type: application/x-www-form-urlencoded",
        b"Content-Length: 27",
        method=b"POST",
    )
    answer = response(b"302 Found", b"Location: /in#token=hunter2&state=1", b"Content-Length: 0")
    outcome = seen(spoken(head + b"password=hunter2&user=alice", answer).frames, **HIDE)
    assert SECRET not in outcome.lines[0]
    event = outcome.only
    assert event["url"]["original"] == "/login?user=a&passWORD=[redacted]&b=c"
    assert event["url"]["query"] == "user=a&passWORD=[redacted]&b=c"
    assert (event["url"]["path"], event["url"]["domain"]) == ("/login", "shop.example")
    assert event["http"]["request"]["referrer"] == "http://shop.example/?t%6Fken=[redacted]&x=y"
    assert event["http"]["response"]["headers"]["location"] == ["/in#token=[redacted]&state=1"]
    assert event["http"]["request"]["headers"]["x-original-url"] == ["/login?password=[redacted]"]
    assert event["http"]["request"]["body"]["content"] == "password=[redacted]&user=alice"
    assert event["http"]["version"] == "1.1"


@pytest.mark.parametrize(
    "head",
    [
        b"GET /?password=hunter2 and more HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://a/b;token=hunter2/c?d=e HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /?password=hunter2 HTTP/1.1\nHost: a\nReferer: ?token=hunter2\n\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nReferer: http://a/\r\n ?password=hunter2\r\n\r\n",
        b"GET /?password=hunter2\r\n",
        b"PURGE \t/?password=hunter2 http/1.1\r\nHost: a?token=hunter2\r\n\r\n",
    ],
)
def test_odd_heads_hide_it_too(head):
    outcome = seen(spoken(head, response(b"200 OK", b"Content-Length: 0")).frames, **HIDE)
    assert SECRET not in outcome.lines[0]
    assert b"[redacted]" in outcome.lines[0]
    shown = outcome_of(spoken(head, response(b"200 OK", b"Content-Length: 0")).frames).only
    assert outcome.only["appliance"] == shown["appliance"]


def test_a_head_without_the_parameters_stays_as_it_is():
    frames = talk(exchange("GET", "/?user=a&b=c")).frames
    assert json.dumps(seen(frames, **HIDE).only) == json.dumps(seen(frames, headers=["all"]).only)
