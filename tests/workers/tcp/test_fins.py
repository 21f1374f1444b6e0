"""Ends by FIN. A FIN that its receiver has not acknowledged and its sender continues behind was forged."""

from __future__ import annotations

import pytest
from builders import (
    MILLISECOND,
    SECOND,
    START_NS,
    Conversation,
    differences,
    get,
    outcome_of,
    request,
    response,
    summaries,
)
from impair import interleave
from tcp_scenes import Stamped, after, aged, anomalies, of_side, put, tick, with_ttl, wrong_sum
from wire import ACK, FIN, FULL_WINDOW, RST, SYN

SENDERS = pytest.mark.parametrize("by", ["client", "server"])
WINDOW = FULL_WINDOW << 7
FAR = 2 * WINDOW + (1 << 20)
GRANTED = 10 * SECOND  # ten times tcp.gap_timeout_s: without an acknowledgement
ENDED = {"flows_ended.fin": 1, "flows_opened": 1}


def pairs(*numbers):
    return [(f"/{number}", 200, "verified") for number in numbers]


def counted(outcome, **expected):
    """The ledger closes, and these counters have these values."""
    assert differences(outcome) == {}
    for name, value in expected.items():
        assert outcome.counts[name] == value, name


def ended(outcome, *numbers, ignored=1):
    """One whole connection with these transactions, in which so many FINs were not believed."""
    assert summaries(outcome.events) == pairs(*numbers)
    assert not any(event["appliance"]["midstream"] for event in outcome.events)
    counted(outcome, fins_ignored=ignored, gaps=0, **ENDED)


def forged(said, side, kind, ahead=0, payload=b""):
    """A FIN of this side that its receiver does not get, or does not take."""
    peer = said.server if side is said.client else said.client
    flags, ack = FIN | ACK, peer.next
    if kind == "no ACK flag":
        flags = FIN
    elif kind == "acknowledges what was not sent":
        ack = peer.next + 1000
    elif kind == "acknowledges far ahead":
        ack = peer.next + FAR + (1 << 21)
    elif kind == "acknowledges before the start":
        ack = peer.isn - 70_000
    put(said, side, side.next + ahead, flags, payload, ack=ack)
    if kind == "time to live of 1":
        with_ttl(said, 1)
    elif kind == "bad checksum":
        wrong_sum(said)
    elif kind == "old time stamp":
        aged(said, side, 1 << 20)
    return said


KINDS = [
    "time to live of 1",
    "bad checksum",
    "no ACK flag",
    "acknowledges what was not sent",
    "acknowledges far ahead",
    "acknowledges before the start",
    "old time stamp",
]
FORGERIES = pytest.mark.parametrize("kind", KINDS)


def begun(kind, exchanges=0):
    """A connection after its handshake, and so many exchanges; with time stamps where the forgery needs them."""
    said = (Stamped() if kind == "old time stamp" else Conversation()).handshake()
    for number in range(exchanges):
        said.exchange(get(number)).acknowledge(said.client)
    return said


@SENDERS
@FORGERIES
@pytest.mark.parametrize("pause", [0, 300 * MILLISECOND, 5 * SECOND])
def test_a_forged_fin_before_the_first_request_hides_nothing(by, kind, pause):
    said = begun(kind)
    forged(said, getattr(said, by), kind).idle(pause)
    for number in range(20):
        said.exchange(get(number)).acknowledge(said.client).idle(MILLISECOND)
    ended(outcome_of(said.close().frames), *range(20), ignored=kind != "no ACK flag")


@SENDERS
@FORGERIES
@pytest.mark.parametrize("ahead", [-500, -1, 0, 1, 30, 500, FULL_WINDOW, WINDOW - 1])
def test_a_forged_fin_anywhere_in_the_window_hides_nothing(by, kind, ahead):
    said = begun(kind, exchanges=5)
    forged(said, getattr(said, by), kind, ahead)
    for number in range(5, 15):
        said.exchange(get(number)).acknowledge(said.client).idle(MILLISECOND)
    outcome = outcome_of(said.close().frames)
    assert summaries(outcome.events) == pairs(*range(15))
    counted(outcome, gaps=0, **ENDED)


@SENDERS
@pytest.mark.parametrize("ahead", [FAR + 100, 1 << 29, (1 << 31) - 1, -(1 << 31)])
def test_a_fin_outside_of_the_window_is_not_looked_at(by, ahead):
    said = begun("", exchanges=1)
    forged(said, getattr(said, by), "", ahead).exchange(get(1)).close()
    ended(outcome_of(said.frames), 0, 1, ignored=0)


@FORGERIES
def test_forged_fins_of_both_sides_between_all_requests_hide_nothing(kind):
    said = begun(kind)
    for number in range(10):
        forged(forged(said, said.client, kind), said.server, kind)
        said.exchange(get(number)).acknowledge(said.client)
        forged(forged(said, said.server, kind, 10), said.client, kind, 700).idle(50 * MILLISECOND)
    outcome = outcome_of(said.close().frames)
    assert summaries(outcome.events) == pairs(*range(10))
    counted(outcome, gaps=0, **ENDED)


@FORGERIES
def test_a_forged_fin_inside_of_a_body_cuts_nothing(kind):
    made = get(0, body=b"x" * 100_000)
    said = begun(kind).client_sends(made.request).server_sends(made.response[:20_000])
    forged(said, said.server, kind).server_sends(made.response[20_000:]).acknowledge(said.client).close()
    outcome = outcome_of(said.frames)
    assert outcome.only["appliance"]["response"] == {"complete": True, "missing_bytes": 0}
    assert outcome.only["http"]["response"]["body"]["bytes"] == 100_000
    counted(outcome, **ENDED)


@FORGERIES
@pytest.mark.parametrize("pause", [0, 5 * SECOND])
def test_a_forged_fin_inside_of_a_body_that_the_end_delimits_cuts_nothing(kind, pause):
    made = get(0, body=b"x" * 100_000, framing="close")
    said = begun(kind).client_sends(made.request).server_sends(made.response[:20_000])
    forged(said, said.server, kind).idle(pause)
    said.server_sends(made.response[20_000:]).acknowledge(said.client).close("server")
    outcome = outcome_of(said.frames)
    assert outcome.only["appliance"]["response"] == {"complete": True, "missing_bytes": 0}
    assert outcome.only["http"]["response"]["body"]["bytes"] == 100_000
    counted(outcome, **ENDED)


@FORGERIES
def test_a_forged_fin_inside_of_a_request_cuts_nothing(kind):
    made = get(0)
    said = begun(kind).client_sends(made.request[:20])
    forged(said, said.client, kind).idle(MILLISECOND).client_sends(made.request[20:]).server_sends(made.response)
    ended(outcome_of(said.acknowledge(said.client).close().frames), 0, ignored=kind != "no ACK flag")


@SENDERS
@pytest.mark.parametrize("kind", KINDS[2:])
def test_the_data_of_a_fin_that_no_host_takes_are_no_data(by, kind):
    said = begun(kind, exchanges=1)
    if by == "client":
        forged(said, said.client, kind, payload=request(b"/decoy", b"Host: decoy"))
        said.exchange(get(1))
    else:
        made = get(1)
        said.client_sends(made.request).acknowledge(said.server)
        forged(said, said.server, kind, payload=response(b"404 Decoy", b"Content-Length: 0"))
        said.idle(MILLISECOND).server_sends(made.response)
    outcome = outcome_of(said.acknowledge(said.client).exchange(get(2)).acknowledge(said.client).close().frames)
    assert summaries(outcome.events) == pairs(0, 1, 2)
    counted(outcome, gaps=0, **ENDED)


@SENDERS
def test_one_byte_at_a_time_behind_a_forged_fin_is_read(by):
    """Each acknowledgement could be one of the FIN: the byte that came with it says that it is not."""
    made = get(0)
    said = begun("")
    if by == "server":
        said.client_sends(made.request).acknowledge(said.server)
    forged(said, getattr(said, by), "time to live of 1")
    side, peer = (said.client, said.server) if by == "client" else (said.server, said.client)
    for byte in made.request if by == "client" else made.response:
        said.raw(side, side.next - side.at(0), bytes([byte]))
        side.next += 1
        said.acknowledge(peer)
    if by == "client":
        said.server_sends(made.response).acknowledge(said.client)
    ended(outcome_of(said.close().frames), 0)


def test_requests_after_a_forged_fin_are_followed_although_the_wait_is_over():
    said = begun("", exchanges=1)
    forged(said, said.client, "time to live of 1").idle(2 * GRANTED)
    outcome = outcome_of(said.exchange(get(1)).exchange(get(2)).close().frames)
    assert [one[:2] for one in summaries(outcome.events)] == [("/0", 200), ("/1", 200), ("/2", 200)]
    assert differences(outcome) == {}


def test_responses_after_a_forged_fin_of_the_server_are_followed_although_the_wait_is_over():
    said = begun("", exchanges=1)
    forged(said, said.server, "time to live of 1").idle(2 * GRANTED)
    outcome = outcome_of(said.exchange(get(1)).acknowledge(said.client).exchange(get(2)).close().frames)
    assert ("/2", 200, "verified") in summaries(outcome.events)
    assert differences(outcome) == {}


@pytest.mark.parametrize("pause", [0, 5 * SECOND])
def test_in_a_capture_of_one_side_data_behind_a_fin_count(pause):
    said = begun("")
    forged(said, said.client, "time to live of 1").idle(pause).exchange(get(0)).exchange(get(1)).close()
    outcome = outcome_of(of_side(said, said.client))
    assert [one[:2] for one in summaries(outcome.events)] == [("/0", None), ("/1", None)]
    assert differences(outcome) == {}


# -- true FINs ---------------------------------------------------------------------------------------------------------


def until_close():
    """An answer whose body the server's FIN ends, and that FIN."""
    made = get(0, body=b"x" * 3000, framing="close")
    said = Conversation().handshake().client_sends(made.request).server_sends(made.response)
    put(said, said.server, said.server.next, FIN | ACK)
    said.server.next += 1
    return said


def complete(outcome):
    return outcome.only["appliance"]["response"]["complete"]


def test_the_event_of_a_body_that_a_fin_ends_waits_for_its_acknowledgement():
    assert outcome_of(until_close().frames).running["messages.complete"] == 1  # the request
    said = until_close()
    outcome = outcome_of(said.acknowledge(said.client).frames)
    assert outcome.running["messages.complete"] == 2
    assert complete(outcome)


def test_a_fin_that_nobody_acknowledges_ends_its_direction_after_the_long_wait():
    said = until_close()
    assert outcome_of(after(said, GRANTED - SECOND)).running["messages.complete"] == 1
    outcome = outcome_of(after(said, GRANTED + 2 * SECOND))
    assert outcome.running["messages.complete"] == 2
    assert complete(outcome)
    assert outcome.counts["fins_ignored"] == 0


def test_in_a_capture_of_one_side_a_fin_ends_its_direction_after_the_settle_time():
    said = until_close()
    outcome = outcome_of(of_side(said, said.server) + tick(said.now + SECOND) + tick(said.now + 4 * SECOND))
    assert outcome.running["messages.complete"] == 1
    assert complete(outcome)


def test_a_fin_that_the_capture_ends_behind_is_the_end():
    assert complete(outcome_of(until_close().frames))


@pytest.mark.parametrize("end", ["reset by the server", "reset by the client", "idle"])
def test_a_fin_that_was_not_acknowledged_counts_when_the_connection_ends(end):
    said = until_close()
    if end != "idle":
        said.reset(end.removeprefix("reset by the "))
    outcome = outcome_of(after(said, 400 * SECOND if end == "idle" else SECOND))
    assert outcome.running["messages.complete"] == 2
    assert complete(outcome)


@SENDERS
def test_data_forged_behind_a_true_fin_are_left_out(by):
    said = begun("", exchanges=1)
    side, peer = (said.client, said.server) if by == "client" else (said.server, said.client)
    put(said, side, side.next, FIN | ACK)
    put(said, side, side.next, ACK, request(b"/late") if by == "client" else response(b"500 Late"))
    side.next += 1
    put(said, peer, peer.next, FIN | ACK)
    peer.next += 1
    outcome = outcome_of(said.acknowledge(side).frames)
    ended(outcome, 0, ignored=0)
    assert outcome.counts["payload.ignored"] > 0


@SENDERS
def test_a_fin_that_is_sent_again_and_again_is_one(by):
    said = begun("", exchanges=1)
    side = getattr(said, by)
    for _ in range(5):
        put(said.idle(SECOND), side, side.next, FIN | ACK)
    ended(outcome_of(said.close(by).frames), 0, ignored=0)


def test_a_fin_with_the_last_bytes_that_is_sent_again_is_one():
    made = get(0, framing="close")
    said = begun("").client_sends(made.request)
    for _ in range(3):
        said.raw(said.server, 0, made.response, FIN | ACK).idle(200 * MILLISECOND)
    said.server.next = said.server.at(len(made.response) + 1)
    outcome = outcome_of(said.acknowledge(said.client).frames)
    assert complete(outcome)
    assert (outcome.counts["fins_ignored"], outcome.counts["payload.conflicting"]) == (0, 0)


def test_a_half_closed_connection_gives_its_long_answer():
    made = get(0, body=b"x" * 200_000)
    said = begun("").client_sends(made.request)
    put(said, said.client, said.client.next, FIN | ACK)
    said.client.next += 1
    said.server_sends(made.response[:50_000], 1000).idle(30 * SECOND).server_sends(made.response[50_000:], 1000)
    put(said, said.server, said.server.next, FIN | ACK)
    said.server.next += 1
    ended(outcome_of(said.acknowledge(said.client).frames), 0, ignored=0)


def simultaneous(said):
    for side in (said.client, said.server):
        put(said, side, side.next, FIN | ACK)
    said.client.next += 1
    said.server.next += 1
    return said.acknowledge(said.client).acknowledge(said.server)


def test_a_simultaneous_close_ends_the_connection():
    ended(outcome_of(simultaneous(begun("", exchanges=1)).frames), 0, ignored=0)


@pytest.mark.parametrize("lost", [1, 2, 3])
@SENDERS
def test_a_close_of_which_frames_are_lost_is_one(lost, by):
    """Its last frames: the acknowledgement, the second FIN, the first."""
    said = begun("", exchanges=1).close(by)
    frames = said.frames[:-lost]
    outcome = outcome_of(frames + tick(said.now + 400 * SECOND))
    assert summaries(outcome.events) == pairs(0)
    if lost == 1:
        assert outcome.counts["flows_ended.fin"] == 1
    assert differences(outcome) == {}


@pytest.mark.parametrize("acknowledged", [True, False])
@SENDERS
def test_a_syn_soon_after_a_close_begins_a_new_connection(acknowledged, by):
    first = begun("", exchanges=1).close(by)
    if not acknowledged:
        first.frames.pop()
    second = Conversation(client_isn=9_000_000, server_isn=8_000_000, start_ns=first.now + MILLISECOND)
    second.handshake().exchange(get(1)).close()
    outcome = outcome_of(first.frames + second.frames)
    assert summaries(outcome.events) == pairs(0, 1) or summaries(outcome.events) == pairs(1, 0)
    assert not any(event["appliance"]["midstream"] for event in outcome.events)
    counted(outcome, **{"flows_ended.fin": 2, "flows_opened": 2, "fins_ignored": 0})


def test_the_later_fin_is_the_end_where_the_first_was_forged():
    """Both are there before anything is acknowledged."""
    made = get(0, framing="close", body=b"x" * 700)
    said = begun("").client_sends(made.request)
    forged(said, said.server, "time to live of 1", 100)
    said.server_sends(made.response)
    put(said, said.server, said.server.next, FIN | ACK)
    said.server.next += 1
    outcome = outcome_of(said.acknowledge(said.client).frames)
    assert outcome.running["messages.complete"] == 2
    assert outcome.only["http"]["response"]["body"]["bytes"] == 700
    assert outcome.counts["fins_ignored"] == 1


def test_waits_for_acknowledgements_of_fins_do_not_outlast_their_connections():
    crowd = []
    for port in range(500):
        said = Conversation(client_port=1000 + port, start_ns=START_NS + port * MILLISECOND)
        said.handshake().exchange(get(0))
        put(said, said.client, said.client.next, FIN | ACK)
        crowd.append(said)
    outcome = outcome_of(interleave(crowd) + tick(START_NS + 1000 * SECOND))
    assert outcome.running["flows"] <= 1
    assert len(outcome.events) == 500
    assert differences(outcome) == {}


@pytest.mark.parametrize("flags", [SYN | FIN, SYN | FIN | ACK, RST | FIN | ACK])
@SENDERS
def test_a_fin_beside_a_syn_or_a_reset_ends_nothing(flags, by):
    said = begun("", exchanges=1)
    side = getattr(said, by)
    put(said, side, side.next + (500 if flags & RST else -1), flags)
    outcome = outcome_of(said.exchange(get(1)).close().frames)
    assert summaries(outcome.events) == pairs(0, 1)
    counted(outcome, **ENDED)


def test_a_forged_fin_shows_no_anomaly_of_the_transaction():
    said = begun("")
    forged(said, said.client, "time to live of 1").exchange(get(0)).close()
    assert anomalies(outcome_of(said.frames).only) == []
