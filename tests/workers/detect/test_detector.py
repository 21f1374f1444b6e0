"""The application that takes the bytes of a connection, and the change to another one."""

from __future__ import annotations

import pytest
from body_summaries import OK
from builders import MILLISECOND, Conversation, config, differences, outcome_of, request, response

HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200)
BANNER = b"SSH-2.0-OpenSSH_9.6\r\n"
REFUSED = response(b"400 Bad Request", b"Content-Length: 0")
UPGRADE = request(b"/", b"Connection: upgrade", b"Upgrade: chat")
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n"


def said(*parts: bytes) -> Conversation:
    """Client and server in turns, one frame each."""
    made = Conversation().handshake()
    for place, text in enumerate(parts):
        (made.server_sends if place % 2 else made.client_sends)(text).idle(MILLISECOND)
    return made


def test_a_side_in_the_clear_is_read_beside_one_that_is_not():
    outcome = outcome_of(said(HELLO, REFUSED).close().frames)
    assert [event["http"]["response"]["status_code"] for event in outcome.events] == [400]
    assert outcome.counts["not_http_bytes.tls"] == len(HELLO)


def test_a_side_goes_on_in_http_after_its_other_protocol_was_refused():
    outcome = outcome_of(said(HELLO, REFUSED, request(b"/again"), OK).close().frames)
    assert [event.get("url", {}).get("path") for event in outcome.events] == [None, "/again"]
    assert differences(outcome) == {}


def test_each_side_of_a_connection_may_speak_a_protocol_of_its_own():
    outcome = outcome_of(said(HELLO, BANNER, bytes(10), bytes(20)).close().frames)
    assert outcome.events == []
    assert outcome.counts["not_http_bytes.tls"] == len(HELLO) + 10
    assert outcome.counts["not_http_bytes.ssh"] == len(BANNER) + 20


def test_a_gap_before_the_first_byte_of_the_other_side_leaves_it_searched():
    made = said(HELLO)
    made.server_sends(REFUSED[:9])
    made.frames.pop()
    outcome = outcome_of(made.server_sends(REFUSED[9:]).server_sends(bytes(50)).close().frames)
    assert outcome.counts["not_http_streams.tls"] == 1
    assert differences(outcome) == {}


def test_the_rest_of_a_piece_belongs_to_the_tunnel_that_begins_in_it():
    outcome = outcome_of(said(UPGRADE, SWITCHED + b"first", b"ask", b"answer").close().frames)
    assert outcome.only["appliance"]["tunnel"] == {"protocol": "chat"}
    assert outcome.counts["tunnel_bytes"] == len(b"first" + b"ask" + b"answer")
    assert differences(outcome) == {}


def test_a_request_behind_an_upgrade_leaves_when_the_tunnel_begins():
    made = said(UPGRADE + request(b"/behind"), SWITCHED)
    outcome = outcome_of(made.frames)
    assert [event["url"]["path"] for event in outcome.events] == ["/", "/behind"]
    assert outcome.events[1]["appliance"]["pairing"] == "request_only"
    assert differences(outcome) == {}


@pytest.mark.parametrize("first", [b"", b"\r\n"], ids=["bare", "behind a blank line"])
def test_a_protocol_is_told_where_http_would_begin(first):
    outcome = outcome_of(said(first + BANNER, BANNER).close().frames)
    assert outcome.counts["not_http_streams.ssh"] == 2


def test_the_memory_of_kept_first_bytes_counts_as_that_of_heads():
    outcome = outcome_of(Conversation().handshake().client_sends(b"PRI *", 1).frames)
    assert outcome.running["head_bytes"] >= 5 * 100  # a kept piece takes more than a hundred bytes
    assert outcome.counts["head_bytes"] == 0


def test_without_room_for_heads_no_first_bytes_are_kept():
    small = config(http={"max_total_head_bytes": 256, "max_head_bytes": 256})
    outcome = outcome_of(Conversation().handshake().client_sends(b"PRI * HTT", 1).frames, config=small)
    assert outcome.running["head_bytes"] <= 256 + 160
    assert differences(outcome) == {}
