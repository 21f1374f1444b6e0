"""The same bytes in pieces of any size and in any order give the same events, each piece taken once."""

from __future__ import annotations

import random
from itertools import permutations

import pytest
from builders import START_NS, Conversation, config, differences, get, outcome_of, payload_of, post, summaries, timeless
from tcp_scenes import moved

MADE = [post(0, size=300, body=b"x" * 500), get(1, framing="chunked", body=b"y" * 300), get(2)]
REQUESTS = b"".join(one.request for one in MADE)
RESPONSES = b"".join(one.response for one in MADE)


def cut(data, count):
    """`count` pieces of about equal size, with their places."""
    size = -(-len(data) // count)
    return [(place, data[place : place + size]) for place in range(0, len(data), size)]


def said_in_order(requests, responses, number=0):
    """All requests, then all responses, in these pieces and in this order."""
    said = Conversation(client_port=1024 + number, start_ns=START_NS + number * 10_000_000).handshake()
    for place, data in requests:
        said.raw(said.client, place, data)
    moved(said.client, len(REQUESTS))
    said.acknowledge(said.server)
    for place, data in responses:
        said.raw(said.server, place, data)
    moved(said.server, len(RESPONSES))
    return said.acknowledge(said.client).close()


def alike(outcome):
    """The events without time and port, and what is made of the port."""
    for event in outcome.events:
        event["source"]["port"] = event["network"]["community_id"] = 0
    return timeless(outcome.events)


PLAIN = alike(outcome_of(said_in_order([(0, REQUESTS)], [(0, RESPONSES)]).frames))


@pytest.mark.parametrize("side", ["requests", "responses"])
@pytest.mark.parametrize("count", [2, 3, 4, 5, 6])
def test_every_permutation_of_a_few_segments_gives_the_same_events(count, side):
    data = REQUESTS if side == "requests" else RESPONSES
    orders = list(permutations(cut(data, count)))
    frames = []
    for number, order in enumerate(orders):
        both = (order, [(0, RESPONSES)]) if side == "requests" else ([(0, REQUESTS)], order)
        frames += said_in_order(*both, number).frames
    outcome = outcome_of(frames)
    assert alike(outcome) == sorted(PLAIN * len(orders))
    assert outcome.counts["payload.delivered"] == len(orders) * len(REQUESTS + RESPONSES)
    assert outcome.counts["gaps"] == 0
    assert differences(outcome) == {}


ORDERS = {
    "in order": list,
    "backwards": lambda pieces: pieces[::-1],
    "even, then odd": lambda pieces: pieces[::2] + pieces[1::2],
    "odd, then even": lambda pieces: pieces[1::2] + pieces[::2],
    "from the middle": lambda pieces: pieces[len(pieces) // 2 :] + pieces[: len(pieces) // 2],
    "shuffled": lambda pieces: random.Random(13).sample(pieces, len(pieces)),
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
def test_segments_of_one_byte_in_any_order_give_the_same_events(order):
    requests = [(place, REQUESTS[place : place + 1]) for place in range(len(REQUESTS))]
    responses = [(place, RESPONSES[place : place + 1]) for place in range(len(RESPONSES))]
    outcome = outcome_of(said_in_order(order(requests), order(responses)).frames)
    assert alike(outcome) == PLAIN
    assert outcome.counts["payload.delivered"] == len(REQUESTS + RESPONSES)
    assert differences(outcome) == {}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
def test_two_thousand_segments_in_any_order_are_each_taken_once(order):
    made = get(0, body=b"x" * 399_000)
    pieces = [(place, made.response[place : place + 200]) for place in range(0, len(made.response), 200)]
    assert len(pieces) == 1996
    said = Conversation().handshake().client_sends(made.request)
    for place, data in order(pieces):
        said.raw(said.server, place, data)
    moved(said.server, len(made.response))
    outcome = outcome_of(said.acknowledge(said.client).close().frames)
    counts = outcome.counts
    assert outcome.only["appliance"]["response"] == {"complete": True, "missing_bytes": 0}
    assert outcome.only["http"]["response"]["body"]["bytes"] == 399_000
    assert counts["payload.delivered"] == len(made.request + made.response)
    assert (counts["gaps"], counts["payload.duplicate"], counts["pending_bytes"]) == (0, 0, 0)
    assert counts["segments"] == len(said.frames)
    assert differences(outcome) == {}


def test_backwards_all_but_the_first_segment_are_out_of_order():
    pieces = cut(RESPONSES, 6)
    counts = outcome_of(said_in_order([(0, REQUESTS)], pieces[::-1]).frames).counts
    assert counts["out_of_order_segments"] == len(pieces) - 1


@pytest.mark.parametrize("limit", [16, 256, 4096])
def test_more_segments_in_front_of_a_hole_than_may_be_held_cost_one_gap_each_time(limit):
    """Every other byte of a body: the work is bounded by the limit, not by the square of what was sent."""
    body = b"x" * 10_000
    made = get(0, body=body)
    start = len(made.response) - len(body)
    said = Conversation().handshake().client_sends(made.request).server_sends(made.response[:start])
    for place in range(1, len(body), 2):
        said.raw(said.server, start + place, b"x")
    moved(said.server, len(made.response))
    outcome = outcome_of(said.frames, config=config(tcp={"max_pending_segments": limit}))
    assert outcome.running["gaps"] == max(0, 5000 - limit)
    assert outcome.only["http"]["response"]["body"]["bytes"] == len(body)
    assert outcome.only["appliance"]["response"]["missing_bytes"] == 5000
    assert differences(outcome) == {}


def test_the_pieces_hold_all_there_is():
    said = said_in_order(cut(REQUESTS, 5), cut(RESPONSES, 6))
    assert sum(len(payload_of(frame)) for _, frame in said.frames) == len(REQUESTS + RESPONSES)


@pytest.mark.parametrize("where", [{}, {"client": "198.51.100.20", "server": "192.0.2.10"}], ids=["low", "high"])
def test_each_frame_may_come_anywhere_in_the_order_of_capture(where):
    """An answer before the SYN-ACK too: its acknowledgement speaks of a request that has not come yet."""
    frames = Conversation(**where).handshake().exchange(get(0)).exchange(get(1)).close().frames
    for place in range(len(frames)):
        for to in range(len(frames)):
            others = frames[:place] + frames[place + 1 :]
            outcome = outcome_of([*others[:to], frames[place], *others[to:]])
            found = summaries(outcome.events)
            assert found == [("/0", 200, "verified"), ("/1", 200, "verified")], (place, to)
            assert differences(outcome) == {}
