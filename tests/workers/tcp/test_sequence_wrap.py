"""The wrap-around of sequence numbers: its place changes nothing."""

from __future__ import annotations

import random

import pytest
from builders import MILLISECOND, SECOND, Conversation, differences, get, outcome_of, post, response, without
from tcp_scenes import moved
from wire import ACK, FIN

ASK = post(0, size=9000)
ANSWER = get(1, body=b"z" * 40000)
SAMPLED = sorted(random.Random(4).sample(range(70_001), 24))
EDGES = sorted(
    {
        max(0, place + step)
        for place in (0, len(ASK.request), 1460, 2920, 4380, len(ASK.response), len(ASK.response + ANSWER.response))
        for step in (-1, 0, 1, 2)
    }
)


def scene(client_isn, server_isn):
    """Everything at once: held segments, a hole that is filled, one that is not, copies, a conflict, an end."""
    said = Conversation(client_isn=client_isn, server_isn=server_isn).handshake()
    data = ASK.request
    said.raw(said.client, 2920, data[2920:4380]).raw(said.client, 1000, data[1000:3000]).raw(
        said.client, 0, data[:1460]
    )
    said.raw(said.client, 4000, b"?" * 500).raw(said.client, 5000, data[5000:6000]).raw(said.client, 5500, b"!" * 700)
    said.raw(said.client, 4380, data[4380:])
    moved(said.client, len(data))
    said.acknowledge(said.server).idle(MILLISECOND).server_sends(ASK.response)
    start = len(said.frames)
    said.client_sends(ANSWER.request).idle(MILLISECOND).server_sends(ANSWER.response)
    said.raw(said.client, len(data) - 1).raw(said.server, 0, ASK.response)
    frames = without(said.frames, start + 8)
    said.frames[:] = frames
    said.raw(said.server, -70_001, b"old" * 10).raw(said.client, 1 << 30, b"far" * 10)
    said.idle(2 * SECOND).exchange(get(2)).close()
    return said.frames


def account(client_isn, server_isn):
    """Events, but for the id, and the counters."""
    outcome = outcome_of(scene(client_isn, server_isn))
    assert differences(outcome) == {}
    return outcome.lines, outcome.running, outcome.counts


BASE = account(1 << 30, 1 << 29)


def test_the_scene_has_what_it_is_meant_to_have():
    _, counts, _ = BASE
    for name in ("payload.conflicting", "payload.duplicate", "payload.out_of_window", "gaps", "out_of_order_segments"):
        assert counts[name] > 0, name
    assert len(BASE[0]) == 3


@pytest.mark.parametrize("back", sorted({*SAMPLED, *EDGES}))
def test_numbers_that_wrap_anywhere_give_the_same_events_and_counters(back):
    assert account(2**32 - back, 1 << 29) == BASE
    assert account(1 << 30, 2**32 - back) == BASE


@pytest.mark.parametrize("back", range(20))
def test_a_wrap_at_every_byte_of_a_short_connection(back):
    made = response(b"200 OK", b"Content-Length: 3", body=b"abc")
    said = Conversation(client_isn=-back, server_isn=-2 * back).handshake()
    said.client_sends(b"GET / HTTP/1.1\r\n\r\n", 1).server_sends(made, 1)
    said.raw(said.server, len(made), b"", FIN | ACK)
    outcome = outcome_of(said.frames)
    assert outcome.only["appliance"]["pairing"] == "verified"
    assert outcome.counts["payload.delivered"] == 18 + len(made)


def cut(frame, size):
    """The frame as if `size` bytes of payload had followed and been cut off."""
    total = len(frame) - 14 + size
    return frame[:16] + total.to_bytes(2, "big") + frame[18:]


def test_a_stream_longer_than_its_numbers_goes_on():
    """Five gigabytes, in frames that a snapshot length has cut to their headers."""
    size, step = 5 << 30, 65_000
    head = response(b"200 OK", b"Content-Length: %d" % size)
    said = Conversation().handshake().client_sends(b"GET / HTTP/1.1\r\n\r\n").server_sends(head)
    frames = said.frames
    for sent in range(0, size, step):
        frame = said.server.wire.frame(said.server.at(len(head) + sent), said.client.next, ACK)
        frames.append((said.now, cut(frame, min(step, size - sent))))
        said.idle(1000)
    outcome = outcome_of(frames)
    assert outcome.only["http"]["response"]["body"]["bytes"] == size
    assert outcome.only["appliance"]["response"] == {"complete": True, "missing_bytes": size}
    assert outcome.counts["gaps"] == 0
