"""Chunk sizes, extensions, ends and trailers that are odd or wrong. RFC 9112 section 7.1."""

from __future__ import annotations

import pytest
from body_summaries import CHUNKED, Reading, reading, request_reading, response_reading
from builders import Conversation, config, events_of, outcome_of, request, response, spoken
from hypothesis import given
from hypothesis import strategies as st

ASK = request(b"/", CHUNKED, method=b"POST")
ODD, BAD = {"odd_chunk"}, {"bad_chunk"}


def readings(body: bytes) -> set[tuple[object, ...]]:
    """Of a request and of a response with this body; they are the same."""
    both = request_reading(ASK + body), response_reading(response(b"200 OK", CHUNKED, body=body))
    return {(found.body, found.complete, frozenset(found.anomalies), follows) for found, follows in both}


FINE = {
    "one chunk": (b"5\r\nhello\r\n0\r\n\r\n", 5),
    "no chunk": (b"0\r\n\r\n", 0),
    "capitals": (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", 20),
    "leading zeros": (b"0000000000000005\r\nhello\r\n0000000000000000\r\n\r\n", 5),
    "extensions": (b'5;a\r\nhello\r\n1;a=b;c="d e"\r\nx\r\n0;last\r\n\r\n', 6),
    "an extension that looks like a size": (b"1;5\r\nx\r\n0\r\n\r\n", 1),
    "trailers": (b"0\r\nX: y\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n", 0),
    "a trailer that looks like a request": (b"0\r\nGET /in HTTP/1.1: x\r\nHost: a\r\n\r\n", 0),
    "a trailer that is no field": (b"0\r\nnothing\r\n\r\n", 0),
    "data that look like chunks": (b"a\r\n5\r\nabc\r\n0\r\r\n0\r\n\r\n", 10),
    "data that are line ends": (b"4\r\n\r\n\r\n\r\n0\r\n\r\n", 4),
}
ODDITIES = {
    "blanks behind the size": (b"5 \t\r\nhello\r\n0 \r\n\r\n", 5),
    "blanks before the size": (b" 5\r\nhello\r\n\t0\r\n\r\n", 5),
    "blanks before the extension": (b"5 ;a\r\nhello\r\n0\r\n\r\n", 5),
    "bare line feed behind a size": (b"5\nhello\r\n0\r\n\r\n", 5),
    "bare line feed behind an extension": (b"5;a\nhello\r\n0\r\n\r\n", 5),
    "bare line feed behind data": (b"5\r\nhello\n0\r\n\r\n", 5),
    "bare line feed behind the last size": (b"5\r\nhello\r\n0\n\r\n", 5),
    "bare line feed at the end": (b"5\r\nhello\r\n0\r\n\n", 5),
    "bare line feeds everywhere": (b"5\nhello\n0\n\n", 5),
    "bare line feed behind a trailer": (b"0\r\nX: y\n\r\n", 0),
    "CR in an extension": (b"5;a\rb\r\nhello\r\n0\r\n\r\n", 5),
    "CR CR behind an extension": (b"5;a\r\r\nhello\r\n0\r\n\r\n", 5),
    "CR in a trailer": (b"0\r\nX: \ry\r\n\r\n", 0),
    "CR CR before the empty line, which is the next": (b"0\r\n\r\r\n\r\n", 0),
    "more than 16 digits": (b"00000000000000005\r\nhello\r\n0\r\n\r\n", 5),
}
BROKEN = {
    "empty size": (b"\r\n\r\n", 0),
    "only an extension": (b";a\r\nx\r\n0\r\n\r\n", 0),
    "only blanks": (b"  \r\nx\r\n0\r\n\r\n", 0),
    "0x": (b"0x5\r\nhello\r\n0\r\n\r\n", 0),
    "underscore": (b"0_5\r\nhello\r\n0\r\n\r\n", 0),
    "plus": (b"+5\r\nhello\r\n0\r\n\r\n", 0),
    "minus": (b"-5\r\nhello\r\n0\r\n\r\n", 0),
    "no hexadecimal digit": (b"5g\r\nhello\r\n0\r\n\r\n", 0),
    "digits of other scripts": (b"\xd9\xa5\r\nhello\r\n0\r\n\r\n", 0),
    "two words": (b"5 5\r\nhello\r\n0\r\n\r\n", 0),
    "blank inside": (b"1 0\r\n0123456789abcdef\r\n0\r\n\r\n", 0),
    "NUL": (b"5\0\r\nhello\r\n0\r\n\r\n", 0),
    "2^64": (b"10000000000000000\r\nx", 0),
    "2^64 + 5": (b"10000000000000005\r\nhello\r\n0\r\n\r\n", 0),
    "2^63 with zeros before it": (b"008000000000000000\r\nx", 0),
    "CR and any byte behind the size": (b"5\rXhello\r\n0\r\n\r\n", 0),
    "CR CR behind the size": (b"5\r\r\nhello\r\n0\r\n\r\n", 0),
    "data longer than said": (b"4\r\nhello\r\n0\r\n\r\n", 4),
    "data shorter than said": (b"7\r\nhello\r\n0\r\n\r\n", 7),
    "nothing between data and size": (b"5\r\nhello0\r\n\r\n", 5),
    "CR and any byte behind data": (b"5\r\nhello\rX0\r\n\r\n", 5),
    "an empty line between chunks": (b"5\r\nhello\r\n\r\n0\r\n\r\n", 5),
    "text": (b"<html>", 0),
}


@pytest.mark.parametrize("name", FINE)
def test_chunks_as_they_should_be_are_followed(name):
    body, size = FINE[name]
    assert readings(body) == {(size, True, frozenset(), True)}


@pytest.mark.parametrize("name", ODDITIES)
def test_an_oddity_is_followed_and_told(name):
    body, size = ODDITIES[name]
    assert readings(body) == {(size, True, frozenset(ODD), True)}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_followed_ends_the_message(name):
    body, size = BROKEN[name]
    outcome = outcome_of(spoken(ASK + body, response(b"200 OK", CHUNKED, body=body)).frames)
    event = outcome.only
    for side in ("request", "response"):
        found = reading(event, side)
        assert (found.body, found.complete) == (size, False)
    assert "bad_chunk" in event["appliance"]["anomalies"]
    assert {*event["appliance"]["anomalies"]} <= BAD | ODD
    assert outcome.counts["messages.failed"] == 2
    assert event["http"]["response"]["status_code"] == 200


@pytest.mark.parametrize("name", BROKEN)
def test_behind_what_cannot_be_followed_the_next_turn_is_found(name):
    said = (
        Conversation()
        .handshake()
        .client_sends(ASK + BROKEN[name][0])
        .server_sends(response(b"400 Bad", b"Content-Length: 0"))
    )
    said.client_sends(request(b"/next")).server_sends(response(b"200 next", b"Content-Length: 0")).close()
    events = events_of(said.frames)
    assert [(event["url"]["original"], event["http"]["response"]["status_code"]) for event in events] == [
        ("/", 400),
        ("/next", 200),
    ]


@pytest.mark.parametrize("size", [b"7fffffffffffffff", b"8000000000000000"[:-1], b"0ffffffffffffff"])
def test_a_huge_chunk_is_counted_not_waited_for(size):
    event = outcome_of(spoken(ASK + size + b"\r\nhello", response()).frames).only
    assert reading(event, "request")[:2] == (5, False)


@pytest.mark.parametrize(
    "body",
    [
        b"5;" + b"e" * 5000 + b"\r\nhello\r\n0\r\n\r\n",
        b"".join(b"1;" + b"e" * 9 + b"\r\nx\r\n" for _ in range(500)) + b"0\r\n\r\n",
        b"0\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"0\r\nX: " + b"y" * 5000 + b"\r\n\r\n",
        b"5" + b" " * 5000 + b"\r\nhello\r\n0\r\n\r\n",
    ],
    ids=["one extension", "many extensions", "many trailers", "one trailer", "blanks"],
)
def test_floods_beside_the_data_are_passed_over_and_told(body):
    said = spoken(ASK + body + request(b"/next"), response() * 2)
    events = events_of(said.frames, config=config(http={"max_head_bytes": 4096}))
    assert reading(events[0], "request").anomalies - ODD == {"chunk_section_too_long"}
    assert events[0]["appliance"]["request"]["complete"]
    assert events[1]["url"]["original"] == "/next"


@pytest.mark.parametrize("end", range(1, 23))
def test_a_body_that_stops_anywhere_is_incomplete(end):
    body = b"5;a\r\nhello\r\n0\r\nX: y\r\n\r\n"
    event = outcome_of(spoken(ASK + body[:end], response()).frames).only
    assert reading(event, "request") == Reading(min(max(end - 5, 0), 5), False, {"early_response"}, [])


chunks = st.lists(st.binary(min_size=1, max_size=40), max_size=6)
sizes = st.one_of(st.just(1), st.integers(1, 9), st.lists(st.integers(1, 12), min_size=1, max_size=6))


@given(chunks, st.sampled_from((b"", b";a", b";a=b", b' ;x="\xff"')), st.sampled_from((b"", b"X: y\r\n")), sizes)
def test_any_chunks_in_any_pieces_are_all_their_bytes(data, extension, trailer, cut):
    body = b"".join(b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in data)
    body += b"0" + extension + b"\r\n" + trailer + b"\r\n"
    said = (
        Conversation()
        .handshake()
        .client_sends(ASK + body, cut)
        .server_sends(response(b"200 OK", CHUNKED, body=body), cut)
    )
    event = outcome_of(said.close().frames).only
    for side in ("request", "response"):
        found = reading(event, side)
        assert (found.body, found.complete) == (sum(map(len, data)), True)
        assert found.anomalies == (ODD if extension.startswith(b" ") else set())
    assert event["http"]["request"]["bytes"] == len(ASK + body)
