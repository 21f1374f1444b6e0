"""The closed list of anomalies: each has bytes that make it, and what is as it should be makes none."""

from __future__ import annotations

import pytest
from builders import MILLISECOND, Conversation, config, events_of, get, request, response, spoken, talk, without
from hypothesis import given
from tcp_strategies import frames_of, talks

from appliance.stats.names import ANOMALIES, HTTP2_ANOMALIES

OK = response(b"200 OK", b"Content-Length: 0")
SMALL = config(http={"max_head_bytes": 256, "max_headers": 16})
CHUNKED = b"Transfer-Encoding: chunked"
ELSEWHERE = {  # made of TCP segments and IP fragments, or of bodies that are decoded
    "overlap_conflict",
    "fragment_conflict",
    "body_coding_failed",
    "body_coding_unknown",
    "body_limit",
    "body_left_out",  # takes turns: test_http_left_out.py
}

# What the client says, what the server says.
MADE_BY = {
    "length_and_chunked": (request(b"/", CHUNKED, b"Content-Length: 5") + b"0\r\n\r\n", OK),
    "lengths_differ": (request(b"/", b"Content-Length: 0, 5"), OK),
    "bad_length": (request(b"/", b"Content-Length:"), OK),
    "bad_chunk": (request(b"/", CHUNKED) + b"x", OK),
    "bare_lf": (b"GET / HTTP/1.1\nHost: a\r\n\r\n", OK),
    "folded_header": (request(b"/", b"X:", b" y"), OK),
    "space_before_colon": (request(b"/", b"X :"), OK),
    "bad_header_line": (request(b"/", b"X"), OK),
    "head_too_long": (request(b"/", b"X: " + b"y" * 256), OK),
    "chunked_not_last": (request(b"/", b"Transfer-Encoding: chunked, gzip"), OK),
    "unknown_coding": (request(b"/", b"Transfer-Encoding: x"), OK),
    "spaces_in_target": (request(b"/ /"), OK),
    "body_cut": (request(b"/", b"X: " + b"y" * 256), OK),
    "missing_version": (b"GET /\r\n", b""),
    "odd_version": (request(version=b"1.2"), OK),
    "odd_request_line": (request(b" /"), OK),
    "odd_status_line": (request(), b"HTTP/1.1  204\r\n\r\n"),
    "unknown_method": (request(method=b"X"), OK),
    "blank_lines": (b"\n" + request(), OK),
    "bare_cr": (request(b"/", b"X: \ry"), OK),
    "control_in_head": (request(b"/", b"X: \0"), OK),
    "host_missing": (request(host=None), OK),
    "hosts_differ": (request(b"/", b"Host: a", b"Host: b"), OK),
    "too_many_headers": (request(b"/", *[b"X: y"] * 16), OK),
    "length_repeated": (request(b"/", b"Content-Length: 0, 0"), OK),
    "length_leading_zeros": (request(b"/", b"Content-Length: 00"), OK),
    "chunked_repeated": (request(b"/", CHUNKED, CHUNKED) + b"0\r\n\r\n", OK),
    "chunked_in_http10": (request(b"/", CHUNKED, version=b"1.0") + b"0\r\n\r\n", OK),
    "odd_chunk": (request(b"/", CHUNKED) + b"0\n\r\n", OK),
    "chunk_section_too_long": (request(b"/", CHUNKED) + b"0;" + b"x" * 257 + b"\r\n\r\n", OK),
    "extra_bytes": (request() + b"\0", OK),
    "early_response": (request(b"/", b"Content-Length: 1"), OK),
    "odd_target": (request(b"x"), OK),
    "length_not_allowed": (request(), response(b"204 No", b"Content-Length: 0")),
}
ALONE = {"head_too_long": ["head_too_long", "body_cut"], "body_cut": ["head_too_long", "body_cut"]}
ALSO = {"chunked_not_last": "early_response", "unknown_coding": "early_response"}  # such a request has no end


def test_the_table_is_the_whole_list():
    assert {*MADE_BY, "resynchronised", *ELSEWHERE} == {*ANOMALIES} - {*HTTP2_ANOMALIES}


@pytest.mark.parametrize("name", MADE_BY)
def test_an_anomaly_arises_alone_of_its_bytes(name):
    event = events_of(spoken(*MADE_BY[name]).frames, config=SMALL)[0]
    found = [other for other in event["appliance"]["anomalies"] if other != ALSO.get(name)]
    assert found == ALONE.get(name, [name])


def test_what_is_found_after_a_loss_says_so():
    said = talk(get(0, body=b"x" * 3000, framing="chunked"), get(1))
    lost = [place for place, (_, frame) in enumerate(said.frames) if len(frame) > 1000][1]
    events = events_of(without(said.frames, lost))
    assert events[1]["appliance"]["anomalies"] == ["resynchronised"]


@given(talks(exchanges_most=6))
def test_ordinary_conversations_have_none(drawn):
    anomalies = [event["appliance"].get("anomalies", []) for event in events_of(frames_of(drawn))]
    assert all(found in ([], ["unknown_method"]) for found in anomalies)  # BREW is no registered method


BENIGN = {
    "every registered method": (
        b"".join(
            request(method=method)
            for method in b"GET PUT DELETE OPTIONS TRACE PATCH PROPFIND REPORT VERSION-CONTROL QUERY M-SEARCH".split()[
                :-1
            ]
        ),
        OK * 10,
    ),
    "a head with all it may have": (
        request(
            b"/a%20b?c=d&e='(f)'",
            b"Accept: */*;q=0.5",
            b'If-None-Match: W/"x", "y"',
            b"Empty:",
            b"X_1~!#$%&'*+-.^`|: \xe9\xff\x80",
            b"User-Agent:\tx (y; z)\t",
            b"Cookie: a=b; c=d",
        ),
        OK,
    ),
    "the forms of a target": (
        request(b"http://a.example/x?y") + request(b"https://a.example") + request(b"*", method=b"OPTIONS"),
        OK * 3,
    ),
    "the absolute form names the host again": (request(b"http://a.example:80/", b"Host: a.example:80"), OK),
    "an empty host": (request(b"/", b"Host:"), OK),
    "the same host twice in one field's case": (request(b"http://A.example/", b"Host: a.EXAMPLE"), OK),
    "http/1.0 without a host": (b"GET / HTTP/1.0\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\nx"),
    "chunks with extensions, trailers and zeros": (
        request(b"/", CHUNKED, method=b"POST") + b'0003;a;b=c;d="e"\r\nabc\r\nA\r\n0123456789\r\n000\r\nX: y\r\n\r\n',
        OK,
    ),
    "coded and chunked": (
        request(b"/", b"Transfer-Encoding: gzip, chunked", method=b"PUT") + b"1\r\nx\r\n0\r\n\r\n",
        OK,
    ),
    "codings over two fields": (
        request(b"/", b"Transfer-Encoding: GZip", b"Transfer-Encoding: CHUNKED") + b"0\r\n\r\n",
        OK,
    ),
    "a coded body until the end": (request(), response(b"200 OK", b"Transfer-Encoding: gzip", body=b"xyz")),
    "head, 304 and 204": (
        request(method=b"HEAD") + request() * 2,
        response(b"200 OK", b"Content-Length: 5")
        + response(b"304 Not Modified", b"Content-Length: 7")
        + response(b"204 No"),
    ),
    "head answered in chunks": (request(method=b"HEAD"), response(b"200 OK", CHUNKED)),
    "no reason": (
        request() * 2,
        b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n",
    ),
    "a reason of any text": (request(), response(b"404 R\xe9ason: (none)", b"Content-Length: 0")),
    "informational answers": (request(), response(b"100 Continue") + response(b"103 Early Hints", b"Link: </a>") + OK),
    "connect": (
        request(b"a.example:443", method=b"CONNECT", host=b"a.example:443"),
        response(b"200 Established") + b"\x16\x03\x01",
    ),
    "upgrade": (
        request(b"/", b"Connection: upgrade", b"Upgrade: websocket"),
        response(b"101 Switching", b"Upgrade: websocket") + b"\x81\0",
    ),
    "http/1.0 answers http/1.1": (request(), b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx"),
    "a content coding": (request(), response(b"200 OK", b"Content-Encoding: br", b"Content-Length: 1", body=b"x")),
    "as many fields as are allowed": (request(b"/", *[b"X: y"] * 15), OK),
}


@pytest.mark.parametrize("name", BENIGN)
def test_what_is_as_it_should_be_has_none(name):
    events = events_of(spoken(*BENIGN[name]).frames, config=config(http={"max_headers": 16}))
    assert events
    assert [event["appliance"].get("anomalies") for event in events] == [None] * len(events)


def test_100_continue_and_the_body_behind_it_have_none():
    said = Conversation().handshake()
    said.client_sends(request(b"/", b"Expect: 100-continue", b"Content-Length: 5", method=b"POST")).idle(MILLISECOND)
    said.server_sends(response(b"100 Continue")).client_sends(b"hello").idle(MILLISECOND).server_sends(OK).close()
    assert "anomalies" not in events_of(said.frames)[0]["appliance"]
