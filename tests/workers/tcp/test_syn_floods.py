"""Floods of attempts and storms of ends, while forty connections go on."""

from __future__ import annotations

import pytest
from builders import (
    MILLISECOND,
    SECOND,
    START_NS,
    Conversation,
    Outcome,
    batches_of,
    collect,
    config,
    differences,
    get,
    summaries,
    talk,
)
from impair import interleave
from tcp_scenes import flood, put
from wire import ACK, FIN, RST, SYN

from workers.pipeline import Pipeline

TIGHT = {"max_half_open": 64, "max_connections": 256}


def watched(frames, limits):
    """The outcome, and the largest number of flows and of attempts that was ever held, batch by batch."""
    (messages,), capture = batches_of(frames, batch_bytes=4096)
    pipeline = Pipeline(config(tcp=limits))
    most = {"flows": 0, "half_open": 0}
    for message in messages:
        pipeline.feed(message)
        most = {name: max(value, pipeline.counts()[name]) for name, value in most.items()}
    outcome = Outcome(capture=capture)
    outcome.running.update(pipeline.counts())
    pipeline.finish()
    outcome.counts.update(pipeline.counts())
    return collect(pipeline, outcome), most


def citizens(count=40):
    """Connections that open before the flood and go on all through it."""
    out = []
    for number in range(count):
        said = Conversation(client_port=50_000 + number, start_ns=START_NS + number * 1000).handshake()
        for turn in range(4):
            said.exchange(get(turn)).idle(20 * MILLISECOND)
        out.append(said.close())
    return out


@pytest.mark.parametrize(
    ("flags", "payload"),
    [(SYN, b""), (SYN, b"GET / HTTP/1.1\r\n\r\n"), (SYN | ACK, b""), (ACK, b"x"), (FIN | ACK, b"x"), (SYN | RST, b"")],
    ids=["SYN", "SYN with data", "SYN-ACK", "data", "FIN with data", "SYN and RST"],
)
def test_a_flood_of_attempts_costs_no_established_connection(flags, payload):
    frames = interleave([*citizens(), flood(10_000, flags, payload=payload)])
    outcome, most = watched(frames, TIGHT)
    made = [one for one in summaries(outcome.events) if one[1]]
    assert made == [(f"/{turn}", 200, "verified") for _ in range(40) for turn in range(4)]
    assert most["flows"] <= TIGHT["max_connections"]
    assert most["half_open"] <= TIGHT["max_half_open"]
    assert outcome.counts["flows_ended.half_open"] >= 10_000 - 2 * TIGHT["max_half_open"] - 40
    assert outcome.counts["flows_ended.fin"] == 40
    assert outcome.counts["flows_ended.evicted"] == 0
    assert differences(outcome) == {}


@pytest.mark.parametrize("flags", [RST, FIN | ACK, ACK, RST | ACK])
def test_a_storm_of_segments_without_data_opens_no_connection(flags):
    outcome, most = watched(interleave([*citizens(), flood(10_000, flags)]), TIGHT)
    assert most["flows"] <= 40
    assert outcome.counts["rejected.no_connection"] == 10_000
    assert outcome.counts["flows_ended.fin"] == 40
    assert differences(outcome) == {}


def test_a_flood_that_its_target_answers_costs_no_established_connection():
    answered = []
    for number in range(3000):
        said = Conversation(f"10.1.{number >> 8}.{number & 255}", client_port=2000, start_ns=START_NS + number * 30_000)
        put(said, said.client, said.client.isn, SYN)
        put(said, said.server, said.server.isn, SYN | ACK, ack=said.client.at(0))
        answered.append(said)
    outcome, most = watched(interleave([*citizens(), *answered]), TIGHT)
    assert outcome.counts["flows_ended.fin"] == 40
    assert most["half_open"] <= TIGHT["max_half_open"]
    assert outcome.counts["flows_ended.half_open"] >= 3000 - TIGHT["max_half_open"]


def test_after_a_flood_the_table_is_empty_again_by_time():
    frames = flood(2000, SYN)
    late = talk(get(0), client_port=7, start_ns=START_NS + 40 * SECOND).frames
    outcome, _ = watched(frames + late, {**TIGHT, "half_open_timeout_s": 30})
    assert outcome.running["flows"] == 1
    assert outcome.running["half_open"] == 0
    assert outcome.counts["flows_ended.timeout"] == TIGHT["max_half_open"]
    assert outcome.counts["flows_ended.half_open"] == 2000 - TIGHT["max_half_open"]


def test_an_attempt_that_was_pushed_out_is_picked_up_when_it_goes_on():
    slow = Conversation(client_port=7)
    put(slow, slow.client, slow.client.isn, SYN)
    slow.established().idle(SECOND)
    put(slow, slow.server, slow.server.isn, SYN | ACK, ack=slow.client.at(0))
    slow.exchange(get(0)).exchange(get(1)).close()
    outcome, _ = watched(interleave([slow, flood(1000, SYN)]), TIGHT)
    assert [one[:2] for one in summaries(outcome.events)] == [("/0", 200), ("/1", 200)]
