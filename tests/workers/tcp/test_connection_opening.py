"""Data in a SYN, and handshakes of other shapes."""

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
from tcp_scenes import after, anomalies, moved, of_side, put, tick
from wire import ACK, SYN

LOW_SERVER = {"client": "198.51.100.20", "server": "192.0.2.10"}
SIDES = pytest.mark.parametrize("where", [{}, LOW_SERVER], ids=["client is low", "server is low"])
ASK = request(b"/early", b"Host: a.example")
ANSWER = response(b"200 OK", b"Content-Length: 0")
PAIR = [("/early", 200, "verified")]


def early(taken, where, data=ASK):
    """A SYN with data, of which the SYN-ACK takes so many bytes."""
    said = Conversation(**where)
    put(said, said.client, said.client.isn, SYN, data)
    put(said, said.server, said.server.isn, SYN | ACK, ack=said.client.at(taken))
    said.established()
    moved(said.client, taken)
    return said


@SIDES
def test_data_in_a_syn_that_is_acknowledged_counts(where):
    outcome = outcome_of(early(len(ASK), where).server_sends(ANSWER).close().frames)
    assert summaries(outcome.events) == PAIR
    assert outcome.counts["payload.delivered"] == len(ASK + ANSWER)
    assert differences(outcome) == {}


@SIDES
def test_data_in_a_syn_that_is_not_acknowledged_is_ignored_and_comes_again(where):
    outcome = outcome_of(early(0, where).client_sends(ASK).server_sends(ANSWER).close().frames)
    assert summaries(outcome.events) == PAIR
    assert outcome.counts["payload.ignored"] == len(ASK)
    assert outcome.counts["payload.duplicate"] == 0
    assert differences(outcome) == {}


@SIDES
def test_refused_data_may_be_followed_by_other_data(where):
    outcome = outcome_of(early(0, where).client_sends(get(1).request).server_sends(ANSWER).close().frames)
    assert summaries(outcome.events) == [("/1", 200, "verified")]
    assert anomalies(outcome.only) == []


@SIDES
def test_data_in_a_syn_that_is_acknowledged_in_part_is_whole_once_the_rest_came_again(where):
    said = early(20, where).client_sends(ASK[20:])
    outcome = outcome_of(said.acknowledge(said.server).server_sends(ANSWER).close().frames)
    assert summaries(outcome.events) == PAIR
    assert outcome.counts["payload.duplicate"] == len(ASK) - 20
    assert differences(outcome) == {}


@SIDES
def test_data_in_a_syn_that_was_sent_twice_counts_once(where):
    said = early(len(ASK), where)
    said.frames.insert(1, (said.frames[0][0] + 1000, said.frames[0][1]))
    outcome = outcome_of(said.server_sends(ANSWER).close().frames)
    assert summaries(outcome.events) == PAIR
    assert outcome.counts["payload.duplicate"] == len(ASK)


@SIDES
def test_a_syn_that_is_repeated_without_its_data_leaves_the_answer_to_the_server(where):
    said = Conversation(**where)
    put(said, said.client, said.client.isn, SYN, ASK)
    put(said.idle(SECOND), said.client, said.client.isn, SYN)
    put(said, said.server, said.server.isn, SYN | ACK, ack=said.client.at(0))
    outcome = outcome_of(said.established().client_sends(ASK).server_sends(ANSWER).close().frames)
    assert summaries(outcome.events) == PAIR
    assert differences(outcome) == {}


@SIDES
def test_the_data_of_a_syn_and_what_follows_are_one_stream(where):
    outcome = outcome_of(
        early(len(ASK[:10]), where, ASK[:10]).client_sends(ASK[10:]).server_sends(ANSWER).close().frames
    )
    assert summaries(outcome.events) == PAIR


@SIDES
def test_data_in_a_syn_whose_sender_opens_with_another_are_none(where):
    """The server has accepted only the second SYN, so the first one and its data are part of no connection."""
    said = Conversation(**where)
    put(said, said.client, said.client.isn + 31_337, SYN, request(b"/decoy", b"Host: a.example"))
    outcome = outcome_of(said.handshake().client_sends(ASK).server_sends(ANSWER).close().frames)
    assert summaries(outcome.events) == PAIR
    assert differences(outcome) == {}


@SIDES
@pytest.mark.parametrize("apart", [1, -1, 1000, -1000, 1 << 19, 1 << 30])
def test_of_two_answers_to_a_syn_the_one_that_the_client_takes_counts(where, apart):
    said = Conversation(**where)
    put(said, said.client, said.client.isn, SYN)
    put(said, said.server, said.server.isn + apart, SYN | ACK, ack=said.client.at(0))
    put(said, said.server, said.server.isn, SYN | ACK, ack=said.client.at(0))
    said.established().acknowledge(said.client)
    outcome = outcome_of(said.client_sends(ASK).server_sends(ANSWER).close().frames)
    assert summaries(outcome.events) == PAIR
    assert differences(outcome) == {}


def test_data_in_the_syn_ack_counts():
    said = Conversation()
    put(said, said.client, said.client.isn, SYN, ASK)
    put(said, said.server, said.server.isn, SYN | ACK, ANSWER, ack=said.client.at(len(ASK)))
    said.established()
    moved(said.client, len(ASK))
    moved(said.server, len(ANSWER))
    outcome = outcome_of(said.acknowledge(said.client).close().frames)
    assert summaries(outcome.events) == PAIR
    assert differences(outcome) == {}


def test_of_a_capture_of_one_side_the_data_of_a_syn_counts_after_the_settle_time():
    said = early(len(ASK), {})
    outcome = outcome_of(of_side(said, said.client) + tick(START_NS + 300 * MILLISECOND))
    assert outcome.running["payload.delivered"] == len(ASK)
    assert summaries(outcome.events) == [("/early", None, "request_only")]
    assert differences(outcome) == {}


def test_refused_data_of_a_syn_leaves_no_gap_and_no_event():
    outcome = outcome_of(after(early(0, {}), 20 * SECOND))
    assert outcome.counts["gaps"] == 0
    assert outcome.events == []
    assert differences(outcome) == {}


def test_data_in_a_syn_inside_an_established_connection_is_not_taken():
    """Every host answers it with a challenge ACK (RFC 5961 section 4)."""
    said = Conversation().handshake().exchange(get(0))
    put(said, said.client, said.client.next - 1, SYN, request(b"/evil"))
    outcome = outcome_of(said.idle(MILLISECOND).exchange(get(1)).close().frames)
    assert [one[0] for one in summaries(outcome.events)] == ["/0", "/1"]


# -- handshakes ------------------------------------------------------------------------------------------------------


def simultaneous(said):
    """Both send a SYN, both answer it."""
    put(said, said.client, said.client.isn, SYN)
    put(said, said.server, said.server.isn, SYN)
    put(said, said.client, said.client.isn, SYN | ACK, ack=said.server.at(0))
    put(said, said.server, said.server.isn, SYN | ACK, ack=said.client.at(0))


def crossed(said):
    """As simultaneous(), but the answers are pure acknowledgements (RFC 793, figure 8, as some stacks do it)."""
    put(said, said.client, said.client.isn, SYN)
    put(said, said.server, said.server.isn, SYN)
    put(said, said.client, said.client.at(0), ACK, ack=said.server.at(0))
    put(said, said.server, said.server.at(0), ACK, ack=said.client.at(0))


def split_in_four(said):
    """The server's SYN-ACK comes as a SYN of its own, which the client answers with a SYN-ACK."""
    put(said, said.client, said.client.isn, SYN)
    put(said, said.server, said.server.isn, SYN)
    put(said, said.client, said.client.isn, SYN | ACK, ack=said.server.at(0))
    put(said, said.server, said.server.at(0), ACK, ack=said.client.at(0))


def split_in_five(said):
    """First an acknowledgement, then a SYN of its own."""
    put(said, said.client, said.client.isn, SYN)
    put(said, said.server, said.server.isn + 77, ACK, ack=said.client.at(0))
    put(said, said.server, said.server.isn, SYN)
    put(said, said.client, said.client.isn, SYN | ACK, ack=said.server.at(0))
    put(said, said.server, said.server.at(0), ACK, ack=said.client.at(0))


def answer_first(said):
    """The capture has the answer before the question."""
    put(said, said.server, said.server.isn, SYN | ACK, ack=said.client.at(0))
    put(said, said.client, said.client.isn, SYN)
    put(said, said.client, said.client.at(0), ACK, ack=said.server.at(0))


def repeated(said):
    """Every part of it twice, the SYN a second later."""
    put(said, said.client, said.client.isn, SYN)
    put(said.idle(SECOND), said.client, said.client.isn, SYN)
    for _ in range(2):
        put(said, said.server, said.server.isn, SYN | ACK, ack=said.client.at(0))
    for _ in range(2):
        put(said, said.client, said.client.at(0), ACK, ack=said.server.at(0))


HANDSHAKES = [simultaneous, crossed, split_in_four, split_in_five, answer_first, repeated]


@SIDES
@pytest.mark.parametrize("handshake", HANDSHAKES, ids=lambda handshake: handshake.__name__)
def test_every_handshake_gives_the_roles_that_http_says(handshake, where):
    said = Conversation(**where)
    handshake(said)
    said.established().exchange(get(0)).exchange(get(1)).close()
    outcome = outcome_of(said.frames)
    assert summaries(outcome.events) == [("/0", 200, "verified"), ("/1", 200, "verified")]
    assert {event["source"]["port"] for event in outcome.events} == {40000}
    assert not any(event["appliance"]["midstream"] for event in outcome.events)
    assert (outcome.counts["flows_opened"], outcome.counts["flows_ended.fin"], outcome.counts["gaps"]) == (1, 1, 0)
    assert differences(outcome) == {}


@pytest.mark.parametrize("handshake", [simultaneous, split_in_four], ids=lambda handshake: handshake.__name__)
def test_a_request_of_the_side_that_was_asked_makes_it_the_client(handshake):
    """Ignore the sender of the first SYN: in a simultaneous open either side may be the server."""
    said = Conversation()
    handshake(said)
    said.established().server_sends(get(0).request).idle(MILLISECOND).client_sends(get(0).response)
    event = outcome_of(said.frames).only
    assert (event["source"]["port"], event["destination"]["port"]) == (80, 40000)


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_handshake_of_which_a_frame_is_lost_still_opens(lost):
    said = Conversation().handshake().exchange(get(0)).exchange(get(1)).close()
    outcome = outcome_of(said.frames[:lost] + said.frames[lost + 1 :])
    assert [one[:2] for one in summaries(outcome.events)] == [("/0", 200), ("/1", 200)]
    assert outcome.counts["flows_opened"] == 1
    assert differences(outcome) == {}
