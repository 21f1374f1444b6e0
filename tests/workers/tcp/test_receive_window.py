"""The receive window: bytes that no honest sender can have sent by now are ignored, counted, and never make a gap."""

from __future__ import annotations

import pytest
from builders import MILLISECOND, SECOND, Conversation, differences, get, outcome_of, request, summaries
from tcp_scenes import after, moved, put
from wire import ACK, FIN, FULL_WINDOW, SYN

SCALE_7 = b"\x01\x03\x03\x07"
SCALE_15 = b"\x01\x03\x03\x0f"
NO_SCALE = b"\x02\x04\x05\xb4"
SLACK = 1 << 20
LARGEST = 1 << 30


def opened(client_options, server_options):
    """A handshake with these options; then the server offers its window once more, now scaled."""
    said = Conversation()
    put(said, said.client, said.client.isn, SYN, options=client_options)
    put(said, said.server, said.server.isn, SYN | ACK, options=server_options, ack=said.client.at(0))
    return said.established().acknowledge(said.client).acknowledge(said.server)


def verdict(said, end):
    """Bytes out of the window when one byte comes that ends at this offset."""
    return outcome_of(said.raw(said.client, end - 1, b"x").frames).counts["payload.out_of_window"]


@pytest.mark.parametrize(
    ("client", "server", "scale"),
    [
        (SCALE_7, SCALE_7, 7),
        (SCALE_7, SCALE_15, 14),  # RFC 7323 section 2.3: more than 14 counts as 14
        (NO_SCALE, NO_SCALE, 0),
        (SCALE_7, NO_SCALE, 0),  # section 2.2: both or none
        (NO_SCALE, SCALE_7, 0),
        (b"", b"", 0),
    ],
)
def test_a_segment_may_end_twice_the_receivers_scaled_window_ahead(client, server, scale):
    reach = min(2 * (FULL_WINDOW << scale) + SLACK, LARGEST)
    assert verdict(opened(client, server), reach) == 0
    assert verdict(opened(client, server), reach + 1) == 1


def test_the_window_of_a_syn_is_never_scaled():
    said = Conversation()
    put(said, said.client, said.client.isn, SYN, options=SCALE_7)
    put(said, said.server, said.server.isn, SYN | ACK, options=SCALE_7, ack=said.client.at(0))
    reach = 2 * FULL_WINDOW + SLACK
    assert verdict(said.established(), reach) == 0
    assert outcome_of(said.raw(said.client, 2 * reach, b"x").frames).counts["payload.out_of_window"] == 1


def test_the_largest_window_offered_so_far_counts():
    said = opened(SCALE_7, SCALE_7)
    said.server.wire.window = 0
    assert verdict(said.acknowledge(said.server), 2 * (FULL_WINDOW << 7)) == 0


@pytest.mark.parametrize("ahead", [1 << 20, 1 << 27, LARGEST - 1])
def test_where_no_scale_is_known_up_to_the_largest_window_is_believed(ahead):
    said = Conversation().established().exchange(get(0))
    said.idle(SECOND).acknowledge(said.client)
    assert verdict(said, len(get(0).request) + ahead) == 0


@pytest.mark.parametrize("behind", [LARGEST + 1, (1 << 31) - 1])
def test_bytes_older_than_any_window_are_out_of_it(behind):
    said = Conversation().handshake().exchange(get(0))
    assert verdict(said, len(get(0).request) - behind) == 1


@pytest.mark.parametrize("behind", [1, 1000, LARGEST - 1])
def test_old_bytes_within_the_largest_window_are_duplicates(behind):
    said = Conversation().handshake().exchange(get(0))
    said.raw(said.client, len(get(0).request) - behind - 1, b"x")
    counts = outcome_of(said.frames).counts
    assert counts["payload.out_of_window"] == 0
    assert counts["payload.duplicate"] + counts["payload.conflicting"] == 1


def goes_on(said, wait_ns=20 * SECOND):
    """Return the outcome of a connection that continues with /1 after this wait."""
    return outcome_of(said.idle(wait_ns).exchange(get(1)).close().frames)


@pytest.mark.parametrize("ahead", [20_000_000, 300_000_000, 900_000_000, LARGEST + 5])
@pytest.mark.parametrize("payload", [b"x", b"x" * 1400])
def test_a_forged_segment_far_ahead_makes_no_gap(ahead, payload):
    said = Conversation().handshake().exchange(get(0))
    outcome = goes_on(said.raw(said.client, ahead, payload))
    assert summaries(outcome.events) == [("/0", 200, "verified"), ("/1", 200, "verified")]
    assert outcome.counts["payload.out_of_window"] == len(payload)
    assert (outcome.counts["gaps"], outcome.counts["flows_ended.fin"]) == (0, 1)
    assert differences(outcome) == {}


def test_a_forged_segment_that_its_receiver_refuses_is_left_out_after_the_long_wait():
    said = Conversation().handshake().exchange(get(0))
    said.raw(said.client, 5000, b"x" * 100).acknowledge(said.server)
    outcome = goes_on(said)
    assert summaries(outcome.events) == [("/0", 200, "verified"), ("/1", 200, "verified")]
    assert (outcome.counts["payload.unacknowledged"], outcome.counts["gaps"]) == (100, 0)
    assert differences(outcome) == {}


@pytest.mark.parametrize("answered", [True, False], ids=["its receiver answers", "no answer"])
@pytest.mark.parametrize("wait", [2 * SECOND, 20 * SECOND])
def test_a_forged_segment_between_window_and_reach_makes_no_gap(wait, answered):
    said = Conversation().handshake().exchange(get(0))
    said.raw(said.client, (FULL_WINDOW << 7) + 500_000, b"x")
    if answered:
        said.acknowledge(said.server)
    outcome = goes_on(said, wait)
    assert [one[0] for one in summaries(outcome.events)] == ["/0", "/1"]


def test_a_forged_segment_in_the_window_takes_no_request_away():
    said = Conversation().handshake().exchange(get(0))
    outcome = goes_on(said.raw(said.client, 5000, b"x"))
    assert [one[0] for one in summaries(outcome.events)] == ["/0", "/1"]


@pytest.mark.parametrize("offset", [-1, -5000, -LARGEST + 100])
def test_an_old_fin_ends_nothing(offset):
    said = Conversation().handshake().exchange(get(0))
    outcome = goes_on(said.raw(said.client, offset, b"", FIN | ACK), 2 * SECOND)
    assert summaries(outcome.events) == [("/0", 200, "verified"), ("/1", 200, "verified")]
    assert outcome.counts["flows_ended.fin"] == 1


@pytest.mark.parametrize("payload", [b"", b"x"])
def test_a_fin_far_ahead_makes_no_gap(payload):
    said = Conversation().handshake().exchange(get(0))
    outcome = goes_on(said.raw(said.client, 300_000_000, payload, FIN | ACK))
    assert summaries(outcome.events) == [("/0", 200, "verified"), ("/1", 200, "verified")]
    assert (outcome.counts["gaps"], outcome.counts["flows_ended.fin"]) == (0, 1)


def test_an_acknowledgement_of_what_was_never_sent_is_not_counted():
    said = Conversation().handshake().exchange(get(0))
    put(said, said.server, said.server.next, ACK, ack=said.client.at(1 << 29))
    outcome = outcome_of(said.exchange(get(1)).close().frames)
    assert outcome.counts["acked_unseen_bytes"] == 0


def test_data_without_ack_in_an_established_connection_is_not_taken():
    said = Conversation().handshake().exchange(get(0))
    put(said, said.client, said.client.next, 0, request(b"/evil"))
    outcome = outcome_of(said.idle(MILLISECOND).exchange(get(1)).close().frames)
    assert [one[0] for one in summaries(outcome.events)] == ["/0", "/1"]


def test_an_honest_sender_may_fill_its_whole_window_behind_a_hole():
    size = 300_000
    made = get(0, body=b"x" * size)
    said = Conversation().handshake().client_sends(made.request)
    for place in range(1000, len(made.response), 1000):
        said.raw(said.server, place, made.response[place : place + 1000])
    said.raw(said.server, 0, made.response[:1000])
    moved(said.server, len(made.response))
    outcome = outcome_of(after(said.acknowledge(said.client), 0))
    assert outcome.only["appliance"]["response"] == {"complete": True, "missing_bytes": 0}
    assert (outcome.counts["payload.out_of_window"], outcome.counts["gaps"]) == (0, 0)
