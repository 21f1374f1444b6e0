"""Other limits and other things in events while connections go on."""

from __future__ import annotations

import json

import pytest
from builders import Conversation, batches_of, config, talk
from exchange import exchange
from impair import interleave

from workers.pipeline import Pipeline


def fed(pipeline: Pipeline, frames: list[tuple[int, bytes]]) -> list[dict]:
    """The events that some more frames complete."""
    for batch in batches_of(frames)[0][0]:
        pipeline.feed(batch)
    return [json.loads(line) for _, _, body in pipeline.take() for line in body.split(b"\n")]


def test_a_connection_goes_on_under_another_configuration():
    made = exchange("GET", "/?secret=1", request_headers=[("X-One", "1"), ("X-Two", "2")])
    frames = Conversation().handshake().exchange(made).exchange(made).frames
    half = len(frames) // 2 + 2
    pipeline = Pipeline(config(http={"headers": ["x-one"]}))
    (first,) = fed(pipeline, frames[:half])
    pipeline.configure(config(http={"headers": ["x-two"], "redact": ["x-two"], "redact_parameters": ["secret"]}))
    (second,) = fed(pipeline, frames[half:])
    assert first["http"]["request"]["headers"] == {"x-one": ["1"]}
    assert second["http"]["request"]["headers"] == {"x-two": ["[redacted]"]}
    assert [event["url"]["query"] for event in (first, second)] == ["secret=1", "secret=[redacted]"]
    assert [event["appliance"]["transaction"] for event in (first, second)] == [0, 1]


def test_bodies_are_looked_into_from_now_on():
    frames = Conversation().handshake().exchange(exchange("GET", "/", body=b"abc")).frames
    pipeline = Pipeline(config())
    (first,) = fed(pipeline, frames)
    pipeline.configure(config(bodies={"hashes": ["md5"]}))
    other = Conversation(client_port=2).handshake().exchange(exchange("GET", "/", body=b"abc")).frames
    (second,) = fed(pipeline, other)
    assert ("md5" in json.dumps(first), "md5" in json.dumps(second)) == (False, True), second


def test_events_leave_in_messages_of_the_same_size():
    pipeline = Pipeline(config())
    pipeline.configure(config())
    frames = Conversation().handshake().exchange(exchange("GET", "/")).exchange(exchange("GET", "/")).frames
    for batch in batches_of(frames)[0][0]:
        pipeline.feed(batch)
    assert [events for _, events, _ in pipeline.take()] == [2]


def test_the_type_of_a_body_is_told_from_now_on():
    made = exchange("GET", "/", body=b"%PDF-1.7 ")
    pipeline = Pipeline(config())
    pipeline.configure(config(bodies={"mime_type": True}))
    (event,) = fed(pipeline, Conversation().handshake().exchange(made).frames)
    assert event["http"]["response"]["mime_type"] == "application/pdf"


def test_a_lower_limit_makes_the_table_smaller_bit_by_bit():
    pipeline = Pipeline(config())
    talks = [Conversation(client_port=1000 + n).handshake().exchange(exchange("GET", "/")) for n in range(40)]
    fed(pipeline, interleave([one.frames for one in talks]))
    pipeline.configure(config(tcp={"max_connections": 16}))
    assert pipeline.counts()["flows"] == 40
    more = [Conversation(client_port=2000 + n).handshake().exchange(exchange("GET", "/")) for n in range(30)]
    fed(pipeline, interleave([one.frames for one in more]))
    assert pipeline.counts()["flows"] == 16


def test_events_are_taken_before():
    pipeline = Pipeline(config())
    for batch in batches_of(talk(exchange()).frames)[0][0]:
        pipeline.feed(batch)
    with pytest.raises(ValueError, match="events to take"):
        pipeline.configure(config())


def test_a_dataset_is_turned_off_and_on():
    conversation = Conversation().handshake()
    exchanges = []
    for _ in range(3):
        begun = len(conversation.frames)
        conversation.exchange(exchange("GET", "/"))
        exchanges.append(conversation.frames[begun:])
    exchanges[0] = conversation.frames[: 3 + len(exchanges[0])]
    pipeline = Pipeline(config())
    found = [len(fed(pipeline, exchanges[0]))]
    pipeline.configure(config(events={"datasets": ["flow"]}))
    found.append(len(fed(pipeline, exchanges[1])))
    pipeline.configure(config(events={"datasets": ["http"]}))
    (last,) = fed(pipeline, exchanges[2])
    assert (found, last["appliance"]["transaction"]) == ([1, 0], 2)
    counts = pipeline.counts()
    assert (counts["made.http.2xx."], counts["pairing.ordered"] + counts["pairing.verified"]) == (2, 3)
