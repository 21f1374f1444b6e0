"""Huge fields, very many of them, folds and heads without end: bounded, told, and the connection goes on."""

from __future__ import annotations

import pytest
from body_summaries import NEXT, NEXT_OK, OK
from builders import Conversation, config, differences, events_of, outcome_of, request, response, spoken, timeless
from hypothesis import given
from hypothesis import strategies as st

LIMIT = 512
SMALL = config(http={"max_head_bytes": LIMIT, "max_headers": 16})


def padded(size: int) -> bytes:
    """A request whose head has this many bytes."""
    bare = len(request(b"/0", b"X: "))
    return request(b"/0", b"X: " + b"f" * (size - bare))


@pytest.mark.parametrize("piece", [None, 1, 100, 511, 512, 513])
@pytest.mark.parametrize(("size", "names"), [(511, []), (512, []), (513, ["head_too_long", "body_cut"])])
def test_the_limit_is_exact_in_any_pieces(size, names, piece):
    said = Conversation(mss=1 << 15).handshake().client_sends(padded(size), piece).server_sends(OK).close()
    event = events_of(said.frames, config=SMALL)[0]
    assert event["appliance"].get("anomalies", []) == names
    assert event["url"]["original"] == "/0"


@pytest.mark.parametrize("piece", [None, 1, 100, 700])
@pytest.mark.parametrize("side", ["request", "response"])
def test_behind_a_head_that_is_too_long_the_connection_goes_on(side, piece):
    long = (b"X: " + b"f" * 300,) * 9
    asked, answered = request(b"/0", *(long if side == "request" else ())), OK
    if side == "response":
        answered = response(b"200 OK", *long, b"Content-Length: 0")
    said = Conversation().handshake().client_sends(asked, piece).server_sends(answered, piece)
    said.client_sends(NEXT, piece).server_sends(NEXT_OK, piece).close()
    outcome = outcome_of(said.frames, config=SMALL)
    found = [(event["url"]["original"], event["http"]["response"]["status_code"]) for event in outcome.events]
    assert found == [("/0", 200), ("/next", 200)]
    assert outcome.events[0]["appliance"]["anomalies"][:2] == ["head_too_long", "body_cut"]
    assert outcome.counts["parse_errors"] >= 1
    assert differences(outcome) == {}


@pytest.mark.parametrize(
    "filler",
    [
        b"X: y\r\n" * 20_000,
        b"X: " + b"f" * 120_000 + b"\r\n",
        b"X: y\r\n" + b" z\r\n" * 30_000,
        b" " * 120_000 + b"\r\n",
        b":\r\n" * 40_000,
        b"\r" * 120_000,
        b"X\0" * 60_000,
    ],
    ids=["fields", "one field", "folds", "blanks", "no names", "CRs", "NULs"],
)
@pytest.mark.parametrize("piece", [None, 1000])
def test_floods_of_a_head_are_one_event_that_says_so(filler, piece):
    said = Conversation(mss=1 << 15).handshake().client_sends(b"GET /0 HTTP/1.1\r\nHost: a\r\n" + filler, piece)
    outcome = outcome_of(said.server_sends(response(b"431 Too large", b"Content-Length: 0")).close().frames)
    event = outcome.only
    assert event["url"]["original"] == "/0"
    assert {"head_too_long", "body_cut"} <= {*event["appliance"]["anomalies"]}
    assert event["http"]["request"]["bytes"] == 65536  # as much as the limit; the rest belongs to no message
    assert outcome.counts["skipped_bytes"] == len(filler) + 26 - 65536
    assert event["http"]["response"]["status_code"] == 431
    assert differences(outcome) == {}


@pytest.mark.parametrize(("count", "names"), [(16, []), (17, ["too_many_headers"]), (30, ["too_many_headers"])])
def test_fields_beyond_the_limit_are_told(count, names):
    said = request(b"/0", *[b"X: y"] * (count - 1)) + NEXT
    events = events_of(spoken(said, OK + NEXT_OK).frames, config=config(http={"max_headers": 16, "headers": ["all"]}))
    assert events[0]["appliance"].get("anomalies", []) == names
    assert [event["url"]["original"] for event in events] == ["/0", "/next"]


def test_a_start_line_without_an_end_is_no_message():
    said = b"GET /" + b"a" * 100_000
    outcome = outcome_of(spoken(said, OK).frames)
    assert ["request" in event["http"] for event in outcome.events] == [False]
    assert differences(outcome) == {}


@given(
    st.integers(256, 1200),
    st.lists(
        st.sampled_from((b"X: y", b" fold", b"Content-Length: 3", b"X: " + b"f" * 90, b"bad", b": x")), max_size=30
    ),
    st.one_of(st.integers(1, 50), st.lists(st.integers(1, 300), min_size=1, max_size=6)),
)
def test_heads_about_as_long_as_the_limit_are_the_same_in_any_pieces(limit, fields, cut):
    how = config(http={"max_head_bytes": limit, "max_headers": 16})
    asked = [request(b"/0", *fields) + b"abc", NEXT]
    outcomes = []
    for sizes in (None, cut):
        said = Conversation(mss=1 << 15).handshake()
        for text, answer in zip(asked, (response(b"200 OK", *fields) + b"abc", NEXT_OK), strict=True):
            said.client_sends(text, sizes).server_sends(answer, sizes)
        outcomes.append(timeless(outcome_of(said.close("server").frames, config=how).events))
    assert outcomes[0] == outcomes[1]
