"""Handshakes: a segment that was never accepted takes no part in them. RFC 9293 section 3.10.7.3."""

from __future__ import annotations

import pytest
from builders import MILLISECOND, SECOND, Conversation, differences, get, outcome_of, request, summaries
from tcp_scenes import put
from wire import ACK, FIN, RST, SYN

SIDES = pytest.mark.parametrize(
    "where", [{}, {"client": "198.51.100.20", "server": "192.0.2.10"}], ids=["client is low", "server is low"]
)


def pairs(*numbers):
    return [(f"/{number}", 200, "verified") for number in numbers]


# What comes between a SYN and the true answer to it. None of it reaches a host, or none takes it.


def server_refuses(said):
    put(said, said.server, said.server.at(0), RST | ACK, ack=said.client.at(0))


def server_resets(said):
    put(said, said.server, said.server.at(0), RST)


def server_refuses_another(said):
    put(said, said.server, 0, RST | ACK, ack=said.client.at(5000))


def client_resets(said):
    put(said, said.client, said.client.at(0), RST)


def client_ends(said):
    put(said, said.client, said.client.at(0), FIN | ACK, ack=said.server.at(0))


def client_ends_without_ack(said):
    put(said, said.client, said.client.at(0), FIN)


def server_ends(said):
    put(said, said.server, said.server.at(0), FIN | ACK, ack=said.client.at(0))


def server_ends_with_data(said):
    put(said, said.server, said.server.at(0), FIN | ACK, b"HTTP/1.1 404 Decoy\r\n\r\n", ack=said.client.at(-1))


def another_answer(said):
    put(said, said.server, said.server.isn + 777_777_777, SYN | ACK, ack=said.client.at(5000))


def answer_to_nothing(said):
    put(said, said.server, said.server.isn + 50, SYN | ACK, ack=said.client.at(-1))


def data_before_the_answer(said):
    put(said, said.client, said.client.at(0), ACK, request(b"/decoy"), ack=said.server.isn + 99_999_999)


def everything(said):
    for one in FORGERIES[:-1]:
        one(said)


FORGERIES = [
    server_refuses,
    server_resets,
    server_refuses_another,
    client_resets,
    client_ends,
    client_ends_without_ack,
    server_ends,
    another_answer,
    answer_to_nothing,
    everything,
]


def opened(forge, wait, where):
    """Forgeries behind the SYN, which is sent again after the wait; then the true handshake and three exchanges."""
    said = Conversation(**where)
    put(said, said.client, said.client.isn, SYN)
    forge(said)
    if wait:
        put(said.idle(wait), said.client, said.client.isn, SYN)
    put(said, said.server, said.server.isn, SYN | ACK, ack=said.client.at(0))
    put(said, said.client, said.client.at(0), ACK, ack=said.server.at(0))
    said.established()
    for number in range(3):
        said.exchange(get(number)).acknowledge(said.client)
    outcome = outcome_of(said.close().frames)
    assert summaries(outcome.events) == pairs(0, 1, 2)
    assert {event["source"]["port"] for event in outcome.events} == {40000}
    assert not any(event["appliance"]["midstream"] for event in outcome.events)
    assert outcome.counts["flows_ended.fin"] == 1
    assert differences(outcome) == {}


@SIDES
@pytest.mark.parametrize("wait", [0, 50 * MILLISECOND, 3 * SECOND])
@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
def test_a_handshake_under_forgeries_opens_the_connection(forge, wait, where):
    opened(forge, wait, where)


@SIDES
@pytest.mark.parametrize("wait", [0, 50 * MILLISECOND])
def test_data_before_the_answer_to_a_syn_are_none(wait, where):
    """Once the settle time is over they are taken for those of a capture of one side."""
    opened(data_before_the_answer, wait, where)


@SIDES
@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
def test_a_server_that_was_only_forged_has_not_been_seen(forge, where):
    """Else the data would wait no longer for its answer to the SYN."""
    opened(lambda said: (data_before_the_answer(said), forge(said)), 0, where)


@SIDES
def test_a_connection_begins_with_its_own_syn_whatever_was_announced_before(where):
    said = Conversation(**where).handshake().exchange(get(0))
    put(said, said.client, said.client.isn + 123_456, SYN)
    said.acknowledge(said.client).close()
    following = Conversation(client_isn=9_000_000, server_isn=8_000_000, start_ns=said.now + MILLISECOND, **where)
    outcome = outcome_of(said.frames + following.handshake().exchange(get(1)).close().frames)
    assert sorted(summaries(outcome.events)) == pairs(0, 1)
    assert not any(event["appliance"]["midstream"] for event in outcome.events)
    assert (outcome.counts["flows_opened"], outcome.counts["flows_ended.fin"], outcome.counts["gaps"]) == (2, 2, 0)
    assert differences(outcome) == {}


# After the handshake: another one that one side, or both, seem to begin.


def syn(said):
    put(said, said.client, said.client.isn + 123_456, SYN)


def syn_of_the_server(said):
    put(said, said.server, said.server.isn + 123_456, SYN)


def syn_ack(said):
    put(said, said.server, said.server.isn + 123_456, SYN | ACK, ack=said.client.at(0))


def syn_ack_of_the_client(said):
    put(said, said.client, said.client.isn + 500_000_000, SYN | ACK, ack=said.server.at(0))


def syn_and_an_answer_to_another(said):
    syn(said)
    put(said, said.server, said.server.isn + 5, SYN | ACK, ack=said.client.at(77))


def syn_with_fin(said):
    put(said, said.client, said.client.next, SYN | FIN)


def syn_with_reset(said):
    put(said, said.client, said.client.next, SYN | RST)


def syn_with_a_request(said):
    put(said, said.client, said.client.isn + 99, SYN, request(b"/decoy"))


def no_flags(said):
    put(said, said.client, said.client.next, 0, request(b"/decoy"))


def reset_and_syn(said):
    put(said, said.client, said.client.next, RST)
    syn(said)


def fins_and_syn(said):
    for side in (said.client, said.server):
        put(said, side, side.next, FIN | ACK)
    syn(said)


LATER = [
    syn,
    syn_of_the_server,
    syn_ack,
    syn_ack_of_the_client,
    syn_and_an_answer_to_another,
    syn_with_fin,
    syn_with_reset,
    syn_with_a_request,
    no_flags,
    reset_and_syn,
    fins_and_syn,
]


@SIDES
@pytest.mark.parametrize("exchanges", [0, 1])
@pytest.mark.parametrize("forge", LATER, ids=lambda forge: forge.__name__)
def test_a_forged_beginning_inside_of_a_connection_hides_nothing(forge, exchanges, where):
    said = Conversation(**where).handshake()
    for number in range(exchanges):
        said.exchange(get(number)).acknowledge(said.client)
    forge(said)
    for number in range(exchanges, 5):
        said.exchange(get(number)).acknowledge(said.client).idle(MILLISECOND)
    outcome = outcome_of(said.close().frames)
    assert summaries(outcome.events) == pairs(*range(5))
    assert differences(outcome) == {}
