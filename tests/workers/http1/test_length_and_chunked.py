"""Heads that say in two ways how long the body is. RFC 9112 section 6.3 decides, the other reading is told."""

from __future__ import annotations

import pytest
from body_summaries import CHUNKED, OK, Reading, reading, request_reading, response_reading
from builders import events_of, request, response, spoken

BODY = b"5\r\nhello\r\n0\r\n\r\n"
BOTH = {"length_and_chunked"}


def post(*fields: bytes, version: bytes = b"1.1", body: bytes = BODY) -> bytes:
    return request(b"/", *fields, method=b"POST", version=version) + body


@pytest.mark.parametrize(
    "fields",
    [
        (b"Content-Length: 3", CHUNKED),
        (CHUNKED, b"Content-Length: 3"),
        (b"content-length:3", b"TRANSFER-ENCODING:\tCHUNKED\t"),
        (b"Content-Length: 3", b"Transfer-Encoding: gzip, chunked"),
        (b"Content-Length: 3", b"Transfer-Encoding: gzip", CHUNKED),
        (b"Content-Length: 3", b"Transfer-Encoding: identity, chunked"),
        (b"Content-Length: 3", b"Transfer-Encoding: , chunked ,"),
        (b"Content-Length: 3", b"Transfer-Encoding:", b" chunked"),
    ],
)
def test_chunked_decides_and_the_length_is_told(fields):
    folded = {"folded_header"} if b" chunked" in fields else set()
    for found in (request_reading(post(*fields)), response_reading(response(b"200 OK", *fields, body=BODY))):
        assert found == (Reading(5, True, BOTH | folded, ["length 3"]), True)


def test_every_length_is_told_beside_chunked():
    found, follows = request_reading(post(CHUNKED, b"Content-Length: 3", b"Content-Length: 4, 3"))
    assert follows
    assert (found.body, found.others) == (5, ["length 3", "length 4"])
    assert found.anomalies == BOTH | {"lengths_differ", "length_repeated"}


def test_what_the_length_would_smuggle_is_no_request():
    hidden = b"0\r\n\r\nGET /in HTTP/1.1\r\nHost: a.example\r\n\r\n"
    events = events_of(spoken(post(b"Content-Length: %d" % len(hidden), CHUNKED, body=hidden), response()).frames)
    assert [event["url"]["original"] for event in events] == ["/", "/in"]  # for who believes in chunked, it is one
    assert reading(events[0], "request").others == [f"length {len(hidden)}"]


@pytest.mark.parametrize(
    ("coding", "anomalies"),
    [
        (b"xchunked", {"unknown_coding"}),
        (b"chunkedx", {"unknown_coding"}),
        (b"x, y", {"unknown_coding"}),
        (b'"chunked"', {"unknown_coding"}),
        (b"chunked;q=1", {"unknown_coding"}),  # chunked has no parameters (RFC 9112 section 7.1)
        (b"chunked x", {"unknown_coding"}),
        (b"chunked\0", {"unknown_coding", "control_in_head"}),
        (b"\x0bchunked", {"unknown_coding", "control_in_head"}),
        (b"chunked, gzip", {"chunked_not_last"}),
        (b"chunked, identity", {"chunked_not_last"}),
        (b"chunked, x", {"chunked_not_last", "unknown_coding"}),
    ],
)
def test_a_request_whose_last_coding_is_not_chunked_has_no_end(coding, anomalies):
    # RFC 9112 section 6.3, 4.: its length cannot be told; a server refuses it and closes.
    field = b"Transfer-Encoding: " + coding
    found, follows = request_reading(post(field))
    assert not follows
    assert found.others == ["chunked"]
    assert found.anomalies == anomalies | {"early_response"}
    found, _ = request_reading(post(field, b"Content-Length: 3"))
    assert found.others == ["length 3", "chunked"]


@pytest.mark.parametrize("coding", [b"gzip", b"x-gzip", b"deflate", b"compress", b"X-Compress", b"gzip;q=1"])
def test_a_response_with_codings_but_not_chunked_ends_with_its_connection(coding):
    found, follows = response_reading(response(b"200 OK", b"Transfer-Encoding: " + coding, body=BODY))
    assert not follows
    assert (found.anomalies, found.others, found.complete) == (set(), [], True)
    found, _ = response_reading(response(b"200 OK", b"Transfer-Encoding: " + coding, b"Content-Length: 5", body=BODY))
    assert found.body > len(BODY)


def test_identity_alone_codes_nothing():
    fields = (b"Transfer-Encoding: identity", b"Content-Length: 5")
    assert request_reading(post(*fields, body=b"hello")) == (Reading(5, True, set(), []), True)


@pytest.mark.parametrize("fields", [(CHUNKED, CHUNKED), (b"Transfer-Encoding: chunked, chunked",)])
def test_chunked_that_is_named_twice_is_still_chunked(fields):
    expected = Reading(5, True, {"chunked_repeated"}, []), True
    assert request_reading(post(*fields)) == expected
    assert response_reading(response(b"200 OK", *fields, body=BODY)) == expected


def test_chunked_in_http_1_0_is_chunked_and_flagged():
    # RFC 9112 section 6.1: a faulty framing; servers follow it all the same, proxies may not.
    found, follows = request_reading(post(CHUNKED, version=b"1.0"))
    assert follows
    assert found == Reading(5, True, {"chunked_in_http10"}, [])
    found, follows = response_reading(response(b"200 OK", CHUNKED, body=BODY, version=b"1.0"))
    assert follows
    assert found == Reading(5, True, {"chunked_in_http10"}, ["until_close"])
    found, _ = request_reading(post(CHUNKED, b"Content-Length: 3", version=b"1.0"))
    assert found == Reading(5, True, {"chunked_in_http10", *BOTH}, ["length 3"])


@pytest.mark.parametrize(
    ("field", "other"), [(CHUNKED, "chunked"), (b"Content-Length: 5", "length 5"), (b"Content-Length: 0", None)]
)
def test_framing_where_none_is_allowed_is_ignored_and_told(field, other):
    # RFC 9110 section 8.6, RFC 9112 section 6.1.
    expected = Reading(0, True, {"length_not_allowed"}, [other] if other else [])
    assert response_reading(response(b"204 No Content", field)) == (expected, True)


@pytest.mark.parametrize("status", [b"100 Continue", b"103 Early Hints"])
@pytest.mark.parametrize("field", [CHUNKED, b"Content-Length: 5"])
def test_framing_of_an_informational_response_is_ignored_and_told_with_its_final_one(status, field):
    found, follows = response_reading(response(status, field) + OK)
    assert (found, follows) == (Reading(0, True, {"length_not_allowed"}, []), True)


@pytest.mark.parametrize(("field", "other"), [(CHUNKED, "chunked"), (b"Content-Length: 5", "length 5")])
def test_framing_of_an_accepted_connect_is_ignored_and_told(field, other):
    asked = request(b"a.example:443", method=b"CONNECT")
    (event,) = events_of(spoken(asked, response(b"200 OK", field, body=b"hello")).frames)
    assert reading(event, "response") == Reading(0, True, {"length_not_allowed"}, [other])
    assert event["appliance"]["tunnel"] == {"protocol": "connect"}
