"""Framing against h11: the same transactions out of the same bytes, drawn and hand-written."""

from __future__ import annotations

import pytest
from builders import events_of, spoken
from exchange import exchange
from hypothesis import given
from hypothesis import strategies as st
from models.http import Transaction, transactions
from talks import talks


def reported(events):
    """Events as the model's transactions."""
    return [
        Transaction(
            event["http"]["request"]["method"],
            event["url"]["original"],
            event["http"]["response"]["status_code"],
            event["http"]["request"]["body"]["bytes"],
            event["http"]["response"]["body"]["bytes"],
            tuple(event["appliance"].get("informational", ())),
        )
        for event in events
    ]


@given(talks(most=1, exchanges_most=6, longest=2000))
def test_drawn_conversations_are_read_as_h11_reads_them(drawn):
    (talk,) = drawn
    client = b"".join(one.request + one.held for one in talk.made)
    server = b"".join(one.interim + one.response for one in talk.made)
    assert reported(events_of(talk.conversation().frames)) == transactions(client, server)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
EXCHANGES = {
    "plain": (GET, OK),
    "no reason": (GET, b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"),
    "empty reason": (GET, b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n"),
    "bare line feeds": (GET.replace(b"\r\n", b"\n"), OK.replace(b"\r\n", b"\n")),
    "names in any case": (GET, b"HTTP/1.1 200 OK\r\ncOnTeNt-LeNgTh: 2\r\n\r\nok"),
    "no space behind the colon": (GET, b"HTTP/1.1 200 OK\r\nContent-Length:2\r\n\r\nok"),
    "spaces around a value": (GET, b"HTTP/1.1 200 OK\r\nContent-Length: \t2 \t\r\n\r\nok"),
    "the same length twice": (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok"),
    "lengths in a list": (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok"),
    "chunked": (GET, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n"),
    "chunk sizes with zeros": (GET, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0003\r\nabc\r\n000\r\n\r\n"),
    "chunk extensions": (GET, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0;c\r\n\r\n"),
    "trailers": (GET, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\nZ: 1\r\n\r\n"),
    "Chunked in capitals": (GET, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
    "until the end": (GET, b"HTTP/1.1 200 OK\r\n\r\nall of this"),
    "http 1.0 until the end": (b"GET / HTTP/1.0\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\nall of this"),
    "http 1.0 keep-alive": (
        b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + b"GET /b HTTP/1.0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok" + b"HTTP/1.0 200 OK\r\n\r\nrest",
    ),
    "head with a length": (GET.replace(b"GET", b"HEAD") + GET, b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + OK),
    "head with chunks": (
        GET.replace(b"GET", b"HEAD") + GET,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + OK,
    ),
    "304 with a length": (GET + GET, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n" + OK),
    "204": (GET + GET, b"HTTP/1.1 204 No Content\r\n\r\n" + OK),
    "100 and 103 before the answer": (
        GET,
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK,
    ),
    "post without a body": (b"POST / HTTP/1.1\r\nHost: a.example\r\n\r\n", OK),
    "post with an empty body": (b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\n\r\n", OK),
    "get with a body": (b"GET / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc" + GET, OK + OK),
    "upload in chunks": (
        b"PUT /f HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + GET,
        OK + OK,
    ),
    "a method of one's own": (b"M-SEARCH * HTTP/1.1\r\nHost: a.example\r\n\r\n", OK),
    "absolute target": (b"GET http://a.example/x HTTP/1.1\r\nHost: a.example\r\n\r\n", OK),
    "options for the server": (b"OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n", OK),
    "a body that looks like messages": (GET + GET, b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n" + OK[:40] + OK),
}


@pytest.mark.parametrize("name", EXCHANGES)
def test_hand_written_exchanges_are_read_as_h11_reads_them(name):
    client, server = EXCHANGES[name]
    expected = transactions(client, server)
    assert expected
    assert reported(events_of(spoken(client, server).frames)) == expected


@pytest.mark.parametrize("name", EXCHANGES)
def test_hand_written_exchanges_are_complete(name):
    for event in events_of(spoken(*EXCHANGES[name]).frames):
        assert event["appliance"]["request"] == {"complete": True, "missing_bytes": 0}
        assert event["appliance"]["response"] == {"complete": True, "missing_bytes": 0}


@given(st.integers(0, 400), st.integers(1, 400), st.sampled_from(("length", "chunked")))
def test_bytes_of_a_message_are_all_of_its_bytes_on_the_wire(size, chunk, framing):
    made = exchange("POST", upload=b"u" * size, body=b"x" * size, framing=framing, upload_framing=framing, chunk=chunk)
    (event,) = events_of(spoken(made.request, made.response).frames)
    assert event["http"]["request"]["bytes"] == len(made.request)
    assert event["http"]["response"]["bytes"] == len(made.response)
