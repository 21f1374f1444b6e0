"""A header of the PROXY protocol, or an SSLRequest of MySQL, in front of a ClientHello in the same segment.

The handshake's event is that of the hello alone.
"""

from __future__ import annotations

import pytest
from builders import MILLISECOND, Conversation, differences, outcome_of, request, response
from test_tls_events import MYSQL_GREETING, only, turned
from tls_bytes import CLIENT, full_1_2, full_1_3

PROXY = {
    "1": b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n",
    "1, unknown": b"PROXY UNKNOWN\r\n",
    "1, longest": b"PROXY TCP6 " + b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff " * 2 + b"65535 65535\r\n",
    "2": b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x02\xdc\x04\x01\xbb",
    "2, local": b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00",
    "2, with fields": b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x1c\xc0\x00\x02\x01\xc6\x33\x64\x02\xdc\x04\x01\xbb"
    b"\x01\x00\x02h2\x02\x00\x08a.exampl",
}
HANDSHAKES = {"1.2": full_1_2(b"no der"), "1.3": full_1_3()}
EVERY = pytest.mark.parametrize("version", PROXY)


def event_behind(turns, *pieces, cut=None):
    """The event of a handshake whose first turn came in these pieces."""
    made = Conversation().handshake()
    for piece in pieces:
        made.client_sends(piece, cut).idle(MILLISECOND)
    outcome = outcome_of(turned(turns[1:], cut, made=made).close().frames)
    assert differences(outcome) == {}
    assert outcome.counts["connections.tls"] == 1
    return only(outcome)


def alike(event, turns):
    alone = only(outcome_of(turned(turns).close().frames))
    assert event["tls"] == alone["tls"]
    for name in ("ja4", "alpn_offered", "versions_offered", "client_hello", "server_hello"):
        assert event["appliance"]["tls"].get(name) == alone["appliance"]["tls"].get(name)
    assert event["source"] == alone["source"]


@EVERY
@pytest.mark.parametrize("tls", HANDSHAKES)
@pytest.mark.parametrize("cut", [None, 1, 7, 50, 700])
def test_a_hello_in_the_same_segment_is_read(version, tls, cut):
    turns = HANDSHAKES[tls]
    assert turns[0][0] == CLIENT
    alike(event_behind(turns, PROXY[version] + turns[0][1], cut=cut), turns)


@EVERY
@pytest.mark.parametrize("cut", [None, 1, 7])
def test_a_hello_in_the_next_segment_is_read(version, cut):
    turns = HANDSHAKES["1.3"]
    alike(event_behind(turns, PROXY[version], turns[0][1], cut=cut), turns)


@EVERY
def test_a_hello_is_read_whatever_the_place_of_the_cut(version):
    turns = HANDSHAKES["1.3"]
    sent = PROXY[version] + turns[0][1]
    for place in range(1, len(PROXY[version]) + 12):
        alike(event_behind(turns, sent[:place], sent[place:]), turns)


SSL_REQUEST = b"\x20\0\0\1\x05\xae\xff\x01\0\0\0\1\xff" + bytes(23)


@pytest.mark.parametrize("tls", HANDSHAKES)
def test_a_hello_in_the_segment_of_an_ssl_request_is_read(tls):
    turns = HANDSHAKES[tls]
    made = Conversation().handshake()
    made.server_sends(MYSQL_GREETING).idle(MILLISECOND)
    made.client_sends(SSL_REQUEST + turns[0][1]).idle(MILLISECOND)
    alike(only(outcome_of(turned(turns[1:], made=made).close().frames)), turns)


@pytest.mark.parametrize("before", [SSL_REQUEST, PROXY["1"], PROXY["2"]], ids=["mysql", "1", "2"])
def test_what_follows_may_be_no_hello(before):
    made = Conversation().handshake().client_sends(before + b"\x16\x03\x01" + bytes(40)).idle(MILLISECOND)
    made.server_sends(b"what?")
    outcome = outcome_of(made.close().frames)
    assert outcome.events == []
    assert differences(outcome) == {}


@EVERY
def test_a_request_in_the_same_segment_is_still_read(version):
    made = Conversation().handshake().client_sends(PROXY[version] + request(b"/")).idle(MILLISECOND)
    made.server_sends(response(b"200 OK", b"Content-Length: 0"))
    outcome = outcome_of(made.close().frames)
    assert outcome.only["url"]["path"] == "/"
    assert outcome.only["http"]["response"]["status_code"] == 200
