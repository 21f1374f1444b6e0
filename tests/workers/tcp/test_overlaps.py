"""Two and three segments that overlap in every way there is, with other bytes each, against the byte map.

The bytes of the segments stand in a User-Agent. A universe of five places has every relation that three intervals can
have (Allen's thirteen for each two of them), since six ends fit into it.
"""

from __future__ import annotations

from itertools import combinations, product

import pytest
from builders import START_NS, Conversation, batches_of, config, differences, outcome_of, request, response
from models.reassembly import ByteMap
from tcp_scenes import anomalies

pytestmark = pytest.mark.slow

HEAD = request(b"/x", b"Host: a.example")[:-2] + b"User-Agent: "
END = b"\r\n\r\n"
PLACES = 5
VERSIONS = (b"abcde", b"ABCDE", b"01234")  # of each segment its own: no byte of two segments is equal
FILL = b"....."
INTERVALS = list(combinations(range(PLACES + 1), 2))
POLICIES = pytest.mark.parametrize("policy", ["first", "last"])


def scene(said, number, policy, hole, wrap):
    """A connection in which these segments come, then all that is missing; and what the byte map makes of it."""
    start = len(HEAD) + hole
    isn = -(start + wrap + 1) if wrap else 5000
    conversation = Conversation(client_port=1024 + number, client_isn=isn, start_ns=START_NS + number * 10_000_000)
    conversation.handshake()
    model = ByteMap(policy)

    def send(offset, data):
        conversation.raw(conversation.client, offset, data)
        model.offer(offset, data)

    send(0, HEAD)
    for version, (low, high) in zip(VERSIONS, said, strict=False):
        send(start + low, version[low:high])
    for missing in model.holes(start + PLACES):
        send(missing.start, (b"h" * hole + FILL)[missing.start - len(HEAD) : missing.stop - len(HEAD)])
    send(start + PLACES, END)
    return conversation.frames, model


def overlaps(said, policy, hole, wrap):
    """Every scene in one capture, as (outcome, models)."""
    made = [scene(segments, number, policy, hole, wrap) for number, segments in enumerate(said)]
    frames = [frame for part, _ in made for frame in part]
    return outcome_of(frames, config=config(tcp={"overlap": policy})), [model for _, model in made]


@POLICIES
@pytest.mark.parametrize("wrap", [0, 1, 3], ids=lambda wrap: f"wrap at {wrap}" if wrap else "no wrap")
@pytest.mark.parametrize("hole", [0, 1], ids=["in order", "behind a hole"])
@pytest.mark.parametrize("count", [2, 3])
def test_overlapping_segments_give_the_bytes_of_the_byte_map(count, hole, wrap, policy):
    said = list(product(INTERVALS, repeat=count))
    outcome, models = overlaps(said, policy, hole, wrap)
    found = [
        (event["user_agent"]["original"].encode(), "overlap_conflict" in anomalies(event)) for event in outcome.events
    ]
    meant = [(model.stream()[len(HEAD) : -len(END)], model.conflicting > 0) for model in models]
    assert len(found) == len(said)
    assert [(one, *pair) for one, *pair in zip(said, found, meant, strict=True) if pair[0] != pair[1]] == []
    for name in ("duplicate", "conflicting", "delivered"):
        assert outcome.counts[f"payload.{name}"] == sum(getattr(model, name) for model in models), name
    assert differences(outcome) == {}


@POLICIES
def test_a_conflict_in_one_byte_of_a_held_body_marks_its_event(policy):
    made = response(b"200 OK", b"Content-Length: 3000", body=b"x" * 3000)
    said = Conversation().handshake().client_sends(request(b"/1"))
    said.raw(said.server, 100, made[100:]).raw(said.server, 1500, b"x" * 700 + b"y" + b"x" * 299)
    said.raw(said.server, 0, made[:100])
    outcome = outcome_of(said.frames, config=config(tcp={"overlap": policy}))
    assert anomalies(outcome.only) == ["overlap_conflict"]
    assert outcome.counts["payload.conflicting"] > 0
    assert differences(outcome) == {}


def test_equal_copies_never_mark_an_event():
    outcome, models = overlaps([((0, 3),)], "first", 1, 0)
    assert anomalies(outcome.only) == []
    assert outcome.counts["payload.conflicting"] == models[0].conflicting == 0


@pytest.mark.parametrize(("batches", "outcome"), [(15, "conflicting"), (16, "duplicate")])
def test_delivered_bytes_are_compared_as_long_as_the_last_batches_are_kept(batches, outcome):
    said = Conversation().handshake().client_sends(HEAD)
    other = Conversation(client_port=7).handshake()
    for place in range(batches):
        other.raw(other.client, place * 3500, b"-" * 3500)
    copy = Conversation().established().raw(said.client, 0, HEAD.swapcase())
    frames = said.frames + other.frames + copy.frames
    assert len(batches_of(frames, batch_bytes=4096)[0][0]) == 1 + batches + 1
    assert outcome_of(frames, batch_bytes=4096).counts[f"payload.{outcome}"] == len(HEAD)


def test_what_was_held_and_then_delivered_is_compared_too():
    said = Conversation().handshake()
    said.raw(said.client, 4, HEAD[4:]).raw(said.client, 0, HEAD[:4]).raw(said.client, 0, HEAD.swapcase()[:9])
    said.raw(said.client, len(HEAD), END)
    outcome = outcome_of(said.frames)
    assert anomalies(outcome.only) == ["overlap_conflict"]
    assert outcome.counts["payload.conflicting"] == 9
    assert outcome.only["url"]["original"] == "/x"
