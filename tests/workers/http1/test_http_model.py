"""Framing against h11: the same transactions out of the same bytes, drawn and hand-written."""

from __future__ import annotations

import pytest
from builders import events_of, spoken
from exchange import exchange
from hypothesis import assume, given
from hypothesis import strategies as st
from models.http import Refused, Transaction, accepted, transactions
from tcp_strategies import talks


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


# -- the grammar -----------------------------------------------------------------------------------------------------

some = st.sampled_from
TOLERATED = {
    "bare_lf",
    "folded_header",
    "unknown_method",
    "odd_target",
    "length_repeated",
    "length_leading_zeros",
    "length_and_chunked",
    "hosts_differ",
    "odd_chunk",
    "early_response",
}


@st.composite
def framed(draw, *, request, close=False):
    """(framing fields, body on the wire): chunks with extensions and trailers, a length in its spellings, or none."""
    body = draw(st.binary(max_size=60) | some((b"", b"GET / HTTP/1.1\r\n\r\n", b"0\r\n\r\n", b"\r\n")))
    framing = draw(some(("length", "chunked", "none" if request else "length", "close" if close else "chunked")))
    if framing == "length":
        length = draw(some((b"%d", b"%d", b"0%d", b"\t%d ", b"%d, %d"))).replace(b"%d", b"%d" % len(body))
        return [b"Content-Length:" + length], body
    if framing == "chunked":
        wire, left = b"", body
        while left:
            size = draw(st.integers(1, len(left)))
            digits = draw(some((b"%x", b"%X", b"00%x"))) % size
            wire += digits + draw(some((b"", b";a", b";a=b;c", b';a="b c"'))) + b"\r\n" + left[:size] + b"\r\n"
            left = left[size:]
        wire += draw(some((b"0", b"000", b"0;last"))) + b"\r\n"
        wire += draw(some((b"", b"", b"X-Sum: 1\r\n", b"A: b\r\nC:\r\n"))) + b"\r\n"
        return [b"Transfer-Encoding:" + draw(some((b" chunked", b"CHUNKED", b"\tChunked ")))], wire
    return [], body if framing == "close" else b""


FIELDS = some(
    (
        b"X: y",
        b"X:",
        b"x-empty: \t",
        b"X: a\r\n b",
        b"X: a\r\n\t\tb\r\n c",
        b"X: \xe9\xff",
        b"A~!#$%&'*+-.^_`|: :",
        b"Accept: */*",
    )
)


@st.composite
def dialogues(draw):
    """Both directions of a few exchanges that the grammar of RFC 9112 allows."""
    client, server = b"", b""
    count = draw(st.integers(1, 4))
    for number in range(count):
        method = draw(some((b"GET", b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS", b"M-SEARCH", b"brew")))
        version = draw(some((b"1.1", b"1.1", b"1.0")))
        end = draw(some((b"\r\n", b"\r\n", b"\n")))
        framing, body = draw(framed(request=True))
        fields = draw(st.permutations([b"Host: a.example", *framing, *draw(st.lists(FIELDS, max_size=3))]))
        target = draw(some((b"/%d", b"/%d?q='x'", b"http://a.example/%d", b"*%d", b"%%%d"))) % number
        line = method + b" " + target + b" HTTP/" + version
        client += end.join((line, *(field.replace(b"\r\n", end) for field in fields), b"", b"")) + body
        for status in draw(st.lists(some((b"100 Continue", b"103 Early Hints")), max_size=2)):
            server += b"HTTP/1.1 " + status + b"\r\n\r\n"
        status = draw(some((b"200 OK", b"200", b"404 ", b"204 No", b"304 Not", b"500 \xff", b"999 x")))
        framing, body = draw(framed(request=False, close=number == count - 1))
        if status[:3] == b"204":
            framing = []
        if method == b"HEAD" or status[:3] in (b"204", b"304"):
            body = b""
        fields = draw(st.permutations([*framing, *draw(st.lists(FIELDS, max_size=3))]))
        end = draw(some((b"\r\n", b"\r\n", b"\n")))
        line = b"HTTP/" + draw(some((b"1.1", b"1.0"))) + b" " + status
        server += end.join((line, *(field.replace(b"\r\n", end) for field in fields), b"", b"")) + body
    return client, server


@given(dialogues())
def test_all_that_the_grammar_allows_is_read_as_h11_reads_it(said):
    expected = transactions(*said)
    events = events_of(spoken(*said).frames)
    assert reported(events) == expected
    for event in events:
        assert event["appliance"]["request"]["complete"]
        assert event["appliance"]["response"]["complete"]
        assert {*event["appliance"].get("anomalies", ())} <= TOLERATED | {"chunked_in_http10"}


MUTATIONS = some(
    (b"", b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b",", b"0", b"9", b"\0", b"\xa0", b"Content-Length: 3\r\n", b"x")
)


@pytest.mark.slow
@given(dialogues(), st.booleans(), st.floats(0, 1), st.integers(0, 2), MUTATIONS)
def test_whatever_h11_accepts_of_damaged_bytes_is_read_as_h11_reads_it(said, ours, place, cut, put):
    client, server = said
    text = client if ours else server
    at = int(place * len(text))
    text = text[:at] + put + text[at + cut :]
    said = (text, server) if ours else (client, text)
    try:
        expected = accepted(*said)
    except Refused:
        assume(False)
    assert reported(events_of(spoken(*said).frames)) == expected
