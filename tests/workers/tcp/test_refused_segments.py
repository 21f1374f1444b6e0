"""Data that no host takes, by their acknowledgement (RFC 5961 section 5) or time stamp (RFC 7323 section 5)."""

from __future__ import annotations

import pytest
from builders import (
    MILLISECOND,
    SECOND,
    Conversation,
    config,
    differences,
    get,
    outcome_of,
    request,
    response,
    summaries,
)
from tcp_scenes import Stamped, after, aged, anomalies, of_side, put
from wire import ACK, FIN, FULL_WINDOW

from appliance.extract.connections import nanoseconds

SENDERS = pytest.mark.parametrize("by", ["client", "server"])
POLICIES = pytest.mark.parametrize("overlap", ["first", "last"])
WINDOW = FULL_WINDOW << 7
FAR = 2 * WINDOW + (1 << 20)
AHEAD = [1, 1000, WINDOW, FAR - 1000, FAR + 1000, 1 << 29, (1 << 31) - 1]
OLD = [-WINDOW - 1000, -(1 << 29), -(1 << 31)]
DECOYS = {"client": request(b"/decoy", b"Host: decoy.example"), "server": response(b"404 Decoy", b"Content-Length: 0")}
SIZES = pytest.mark.parametrize("size", [10, None, 2000], ids=["shorter", "a whole message", "longer"])


def pairs(*numbers):
    return [(f"/{number}", 200, "verified") for number in numbers]


def decoy(said, by, ahead=0, size=None, age=0):
    """Data of this side that no host takes, at the place of its next bytes; ahead: of what the other side has sent."""
    side, peer = (said.client, said.server) if by == "client" else (said.server, said.client)
    ack = peer.next + ahead
    data = DECOYS[by]
    put(said, side, side.next, ACK, data if size is None else (data * 40)[:size], ack=ack)
    return aged(said, side, age) if age else said


def around(said, by, **how):
    """An exchange, and the decoy in front of what one side says in it."""
    made = get(1)
    if by == "client":
        return decoy(said, by, **how).exchange(made)
    said.client_sends(made.request).acknowledge(said.server)
    return decoy(said, by, **how).idle(MILLISECOND).server_sends(made.response)


def played(by, overlap="first", kind=Conversation, **how):
    """Three exchanges; the decoy belongs to the second."""
    said = kind().handshake().exchange(get(0))
    said.acknowledge(said.client)
    around(said, by, **how).acknowledge(said.client).exchange(get(2)).acknowledge(said.client).close()
    return outcome_of(said.frames, config=config(tcp={"overlap": overlap}))


def right(outcome):
    assert summaries(outcome.events) == pairs(0, 1, 2)
    assert differences(outcome) == {}
    assert (outcome.counts["gaps"], outcome.counts["flows_opened"], outcome.counts["flows_ended.fin"]) == (0, 1, 1)


@SENDERS
@POLICIES
@SIZES
@pytest.mark.parametrize("ahead", AHEAD + OLD)
def test_data_with_an_acknowledgement_of_what_cannot_be_are_no_data(by, overlap, size, ahead):
    right(played(by, overlap, ahead=ahead, size=size))


@SENDERS
@POLICIES
@SIZES
@pytest.mark.parametrize("age", [1, 1000, 1 << 30])
def test_data_with_an_old_time_stamp_are_no_data(by, overlap, size, age):
    right(played(by, overlap, Stamped, age=age, size=size))


@pytest.mark.parametrize("age", [1, 1000, 1 << 30])
def test_the_stamp_of_a_syn_is_the_first_to_compare_with(age):
    """The server has sent nothing else when the decoy of its answer comes. RFC 7323 section 5.3."""
    said = decoy(Stamped().handshake(), "server", age=age).idle(MILLISECOND)
    outcome = outcome_of(said.exchange(get(0)).acknowledge(said.client).exchange(get(1)).close().frames)
    assert summaries(outcome.events) == pairs(0, 1)
    assert differences(outcome) == {}


@SENDERS
def test_an_old_time_stamp_is_taken_where_one_side_sends_none(by):
    """Then no host compares any."""
    said = Stamped()
    other = said.server if by == "client" else said.client
    other.wire = other.wire._wire
    said.handshake().exchange(get(0)).acknowledge(said.client)
    made = get(1)
    said.client_sends(made.request)
    if by == "client":
        aged(said, said.client, 1 << 20)
    said.idle(MILLISECOND).server_sends(made.response)
    if by == "server":
        aged(said, said.server, 1 << 20)
    outcome = outcome_of(said.frames)
    assert summaries(outcome.events) == pairs(0, 1)


def test_data_with_time_stamps_that_wrap_are_data():
    said = Stamped(first=(1 << 32) - 50).handshake()
    for number in range(10):
        said.exchange(get(number)).acknowledge(said.client).idle(20 * MILLISECOND)
    assert summaries(outcome_of(said.frames).events) == pairs(*range(10))


def test_a_time_stamp_from_the_future_hides_nothing():
    """It reaches the capture only; all that follows has an older one, and is acknowledged."""
    said = Stamped().handshake().exchange(get(0))
    said.acknowledge(said.client)
    put(said, said.client, said.client.next)
    aged(said, said.client, -(1 << 25))
    for number in range(1, 6):
        said.exchange(get(number)).acknowledge(said.client).idle(MILLISECOND)
    outcome = outcome_of(said.close().frames)
    assert summaries(outcome.events) == pairs(*range(6))
    assert outcome.counts["flows_ended.fin"] == 1


def test_refused_data_give_their_time_to_no_event():
    """They reach into the next request, which comes a second later."""
    said = Conversation().handshake().exchange(get(0))
    decoy(said, "client", ahead=FAR + 5000, size=2000).acknowledge(said.server).idle(500 * MILLISECOND)
    said.exchange(get(1)).idle(200 * MILLISECOND)
    then = said.now
    said.exchange(get(2)).acknowledge(said.client)
    outcome = outcome_of(said.close().frames)
    right(outcome)
    assert nanoseconds(outcome.events[2]["event"]["start"]) == then


def test_refused_data_that_are_acknowledged_were_taken_after_all():
    said = Conversation().handshake().exchange(get(0))
    said.acknowledge(said.client)
    made = get(1)
    put(said, said.client, said.client.next, ACK, made.request, ack=said.server.next + FAR + 5000)
    said.client.next += len(made.request)
    outcome = outcome_of(said.server_sends(made.response).acknowledge(said.client).close().frames)
    assert summaries(outcome.events)[1][:2] == ("/1", 200)
    assert anomalies(outcome.events[1]) == []


def test_refused_data_that_nobody_acknowledges_are_left_out_in_time():
    said = Conversation().handshake().exchange(get(0))
    decoy(said, "client", ahead=FAR + 5000).acknowledge(said.server)
    outcome = outcome_of(after(said, 2 * SECOND))
    assert summaries(outcome.events) == pairs(0)
    assert outcome.running["payload.unacknowledged"] == len(DECOYS["client"])
    assert outcome.running["pending_bytes"] == 0
    assert differences(outcome) == {}


def test_in_a_capture_of_one_side_no_acknowledgement_is_refused():
    said = Conversation().handshake().exchange(get(0))
    said.server.next += 3 << 20
    outcome = outcome_of(of_side(said.exchange(get(1)).close(), said.client))
    assert [one[:2] for one in summaries(outcome.events)] == [("/0", None), ("/1", None)]


def test_an_acknowledgement_behind_a_long_outage_of_the_capture_is_believed():
    """The client asks again after an answer of which nothing was captured."""
    said = Conversation().handshake().exchange(get(0)).client_sends(get(1).request)
    said.server.next += 200 << 20
    said.idle(SECOND).exchange(get(2)).exchange(get(3)).close()
    outcome = outcome_of(said.frames)
    asked = [one[0] for one in summaries(outcome.events)]
    assert asked[:2] == ["/0", "/1"]
    assert {"/2", "/3"} <= set(asked)
    assert differences(outcome) == {}


@SENDERS
def test_what_no_host_takes_acknowledges_nothing(by):
    """Neither bytes behind a hole nor a FIN."""
    said = Stamped().handshake().exchange(get(0))
    said.acknowledge(said.client)
    side, peer = (said.client, said.server) if by == "client" else (said.server, said.client)
    put(said, side, side.next, FIN | ACK)
    put(said, peer, peer.next, ACK, ack=side.next + 1)
    aged(said, peer, 1 << 20)
    said.exchange(get(1)).acknowledge(said.client).exchange(get(2)).close()
    right(outcome_of(said.frames))
