"""The content of a CONNECT tunnel: the protocol of its first bytes, to a depth, with its own events."""

from __future__ import annotations

import pytest
from body_summaries import OK
from builders import (
    MILLISECOND,
    SECOND,
    Conversation,
    config,
    differences,
    outcome_of,
    request,
    response,
    summaries,
)
from tls_bytes import CLIENT, full_1_3

CUTS = pytest.mark.parametrize("cut", [None, 1, 7], ids=["whole", "by byte", "by seven"])
GRANTED = response(b"200 Connection established")
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200)


def connect(port: int = 443) -> bytes:
    return request(b"a.example:%d" % port, method=b"CONNECT")


def said(*parts: bytes, cut=None, established=False) -> Conversation:
    """Client and server in turns."""
    made = Conversation().established() if established else Conversation().handshake()
    for place, text in enumerate(parts):
        (made.server_sends if place % 2 else made.client_sends)(text, cut).idle(MILLISECOND)
    return made


def targets(outcome):
    return [(target, status) for target, status, _ in summaries(outcome.events)]


@CUTS
@pytest.mark.parametrize("depth", [0, 1, 2, 4])
def test_tunnels_are_entered_to_the_configured_depth(depth, cut):
    asked = [part for port in range(3) for part in (connect(port), GRANTED)]
    outcome = outcome_of(
        said(*asked, request(b"/in"), OK, cut=cut).close().frames, config=config(http={"max_connect_depth": depth})
    )
    entered = min(depth, 3)
    expected = [(f"a.example:{port}", 200) for port in range(min(3, depth + 1))] + [("/in", 200)] * (depth >= 3)
    assert targets(outcome) == expected
    assert outcome.counts["tunnels_too_deep"] == (depth < 3)
    unread = sum(map(len, asked[2 * entered + 2 :])) + len(request(b"/in")) + len(OK) if depth < 3 else 0
    assert outcome.counts["tunnel_bytes"] == unread
    assert differences(outcome) == {}


def test_events_of_a_tunnel_are_numbered_after_its_connect():
    outcome = outcome_of(said(connect(), GRANTED, request(b"/0"), OK, request(b"/1"), OK).close().frames)
    assert [event["appliance"]["transaction"] for event in outcome.events] == [0, 1, 2]
    assert len({event["event"]["id"] for event in outcome.events}) == 3


def test_a_server_may_be_the_client_inside_the_tunnel():
    outcome = outcome_of(said(connect(), GRANTED + request(b"/back"), OK, request(b"/again"), OK).close().frames)
    events = sorted(outcome.events, key=lambda event: event["appliance"]["transaction"])
    assert [target for target, _, _ in summaries(events)] == ["a.example:443", "/back", "/again"]
    assert [event["source"] for event in events[1:]] == [events[0]["destination"]] * 2


def test_the_first_bytes_of_a_tunnel_are_known_in_a_connection_joined_late():
    outcome = outcome_of(said(b"", OK, connect(), GRANTED, HELLO, HELLO, established=True).close().frames)
    assert outcome.counts["not_http_bytes.tls"] == 2 * len(HELLO)
    assert differences(outcome) == {}


@CUTS
def test_a_handshake_inside_the_tunnel_is_an_event_of_the_connection(cut):
    made = said(connect(), GRANTED)
    for side, data in full_1_3():
        (made.client_sends if side == CLIENT else made.server_sends)(data, cut).idle(MILLISECOND)
    outcome = outcome_of(made.close().frames)
    by_dataset = {event["event"]["dataset"]: event for event in outcome.events}
    assert sorted(by_dataset) == ["appliance.http", "appliance.tls"]
    assert by_dataset["appliance.tls"]["tls"]["client"]["server_name"] == "a.example"
    assert len({event["appliance"]["connection"] for event in outcome.events}) == 1
    assert differences(outcome) == {}


@CUTS
def test_bytes_sent_into_the_tunnel_before_its_answer_are_missing_there(cut):
    made = said(connect() + request(b"/early"), GRANTED, b"", OK, request(b"/later"), OK, cut=cut)
    outcome = outcome_of(made.close().frames)
    assert ("/later", 200) in targets(outcome)
    assert differences(outcome) == {}


def test_a_loss_at_the_begin_of_the_tunnel_leaves_it_searched():
    made = said(connect(), GRANTED)
    made.client_sends(request(b"/lost")[:20]).frames.pop()
    made.client_sends(request(b"/lost")[20:]).idle(MILLISECOND).server_sends(OK).idle(SECOND)
    made.client_sends(request(b"/next")).idle(MILLISECOND).server_sends(OK).close()
    outcome = outcome_of(made.frames)
    assert ("/next", 200) in targets(outcome)
    assert differences(outcome) == {}


@pytest.mark.parametrize("lost", range(10, 60, 7))
def test_a_loss_that_covers_the_end_of_the_granting_head_closes_the_ledger(lost):
    head = response(b"200 Connection established", b"Via: a", b"X-A: " + b"b" * 30)
    made = said(connect())
    made.server_sends(head[:lost]).server_sends(head[lost:] + HELLO[:10]).frames.pop()
    made.idle(MILLISECOND).client_sends(HELLO).idle(SECOND).server_sends(HELLO[10:]).close()
    outcome = outcome_of(made.frames)
    assert targets(outcome)[0][0] == "a.example:443"
    assert differences(outcome) == {}


def test_an_upgrade_inside_a_tunnel_is_one():
    upgrade = request(b"/ws", b"Connection: upgrade", b"Upgrade: chat")
    switched = response(b"101 Switching Protocols", b"Upgrade: chat")
    outcome = outcome_of(said(connect(), GRANTED, upgrade, switched + b"hi", b"there").close().frames)
    assert [event["appliance"]["tunnel"]["protocol"] for event in outcome.events] == ["connect", "chat"]
    assert outcome.counts["tunnels"] == 2
    assert outcome.counts["tunnel_bytes"] == len(b"hithere")
    assert differences(outcome) == {}
