"""Reassembly against the byte map: the same bytes, and the same account of where each one went."""

from __future__ import annotations

import pytest
from builders import SECOND, Conversation, config, differences, events_of, outcome_of, payload_of
from exchange import exchange
from hypothesis import given
from hypothesis import strategies as st
from models.reassembly import ByteMap

BEFORE = b"GET /x HTTP/1.1\r\nHost: a.example\r\nUser-Agent: "
AFTER = b"\r\n\r\n"
LETTERS = 60
FIRST = BEFORE + bytes(97 + place % 26 for place in range(LETTERS)) + AFTER
OTHER = BEFORE + bytes(65 + place % 26 for place in range(LETTERS)) + AFTER
SIZE = len(FIRST)

segments = st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(1, 40), st.booleans()), max_size=30)


def play(said, isn=1000, policy="first"):
    """The conversation and its byte map; each segment is (offset, size, of the other copy)."""
    conversation = Conversation(client_isn=isn).handshake()
    model = ByteMap(policy)
    for offset, size, other in said:
        data = (OTHER if other else FIRST)[offset : offset + size]
        conversation.raw(conversation.client, offset, data)
        model.offer(offset, data)
    return conversation, model


@pytest.mark.parametrize("policy", ["first", "last"])
@given(segments, st.integers(0, 2**32 - 1))
def test_what_is_delivered_is_what_the_byte_map_delivers(policy, said, isn):
    conversation, model = play([*said, (0, SIZE, False)], isn, policy)
    (event,) = events_of(conversation.frames, config=config(tcp={"overlap": policy}))
    assert event["user_agent"]["original"].encode() == model.stream()[len(BEFORE) : -len(AFTER)]


@given(segments)
def test_every_byte_is_delivered_repeated_or_pending(said):
    conversation, model = play(said)
    outcome = outcome_of(conversation.frames)
    running = outcome.running
    assert running["payload.delivered"] == model.delivered
    assert running["pending_bytes"] == model.pending
    assert running["payload.duplicate"] + running["payload.conflicting"] == model.repeated
    assert differences(outcome) == {}


@given(segments)
def test_bytes_are_conflicting_only_where_a_copy_differs(said):
    conversation, model = play(said)
    counts = outcome_of(conversation.frames).running
    assert counts["payload.conflicting"] >= model.conflicting
    assert bool(counts["payload.conflicting"]) == bool(model.conflicting)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=20), st.data())
def test_missing_bytes_of_a_body_are_those_that_no_segment_carried(sizes, data):
    size = sum(sizes)
    made = exchange(body=b"x" * size)
    head = len(made.response) - size
    said = Conversation().handshake().client_sends(made.request).server_sends(made.response, [head, *sizes])
    body = [place for place, (_, frame) in enumerate(said.frames) if payload_of(frame).startswith(b"x")]
    lost = data.draw(st.sets(st.sampled_from(body)))
    kept = [frame for place, frame in enumerate(said.frames) if place not in lost]
    kept.append((kept[-1][0] + SECOND, said.server.wire.frame(said.server.next, said.client.next, 0x10, b"HTTP/1.1 ")))
    outcome = outcome_of(kept)
    answer = outcome.only["appliance"]["response"]
    missing = sum(len(payload_of(said.frames[place][1])) for place in lost)
    assert (answer["missing_bytes"], answer["complete"]) == (missing, True)
    assert outcome.counts["gap_bytes"] == missing
    assert outcome.only["http"]["response"]["body"]["bytes"] == size
