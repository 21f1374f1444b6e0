"""Somebody sets the clock that stamps the frames of a live capture: nothing is over at once, nothing lasts for ever."""

from __future__ import annotations

import json
import struct

import pytest
from builders import SECOND, Conversation, batches_of, config
from exchange import exchange

from workers.pipeline import Pipeline

HOUR = 3600 * SECOND
SEALED_AT = 40  # offset in the header of a batch
BOOT = 12345 * SECOND


class Live:
    """A pipeline of a live capture, given frames with the time that has really passed."""

    def __init__(self) -> None:
        self.pipeline = Pipeline(config(), live=True)
        self.events: list[dict] = []

    def feed(self, frames: list[tuple[int, bytes]], passed_ns: int, step_ns: int = 0) -> None:
        """One batch, sealed so long after the start, while the clock was wrong by this."""
        for batch in batches_of([(ts_ns + step_ns, frame) for ts_ns, frame in frames])[0][0][:-1]:
            message = bytearray(batch)
            struct.pack_into("<Q", message, SEALED_AT, BOOT + passed_ns)
            self.pipeline.feed(message)
        self.take()

    def take(self) -> None:
        self.events += [json.loads(line) for _, _, body in self.pipeline.take() for line in body.split(b"\n")]

    def __getitem__(self, slot: str) -> int:
        return self.pipeline.counts()[slot]


def talks(count: int = 20) -> list[Conversation]:
    """Connections that have begun."""
    return [Conversation(client_port=1000 + n).handshake().exchange(exchange("GET", f"/{n}/1")) for n in range(count)]


def go_on(some: list[Conversation], after_ns: int) -> list[tuple[int, bytes]]:
    """The frames of one more exchange in each."""
    frames = []
    for number, talk in enumerate(some):
        before = len(talk.frames)
        talk.idle(after_ns).exchange(exchange("GET", f"/{number}/2"))
        frames += talk.frames[before:]
    return sorted(frames, key=lambda frame: frame[0])


@pytest.mark.parametrize("step", [HOUR, -HOUR, 24 * HOUR, -24 * HOUR, 40 * SECOND, -40 * SECOND])
def test_connections_outlive_a_step_of_the_clock(step: int) -> None:
    live, some = Live(), talks()
    live.feed(sorted(frame for talk in some for frame in talk.frames), 0)
    live.feed(go_on(some, SECOND), SECOND, step)
    assert (live["flows"], live["flows_ended.timeout"]) == (20, 0)
    assert sorted(event["appliance"]["transaction"] for event in live.events) == [0] * 20 + [1] * 20
    assert {event["appliance"]["pairing"] for event in live.events} == {"verified"}


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_connections_end_in_their_time_after_a_step(step: int) -> None:
    live, some = Live(), talks()
    live.feed(sorted(frame for talk in some for frame in talk.frames), 0)
    live.feed(go_on(some, SECOND), SECOND, step)
    other = Conversation(client_port=99, start_ns=some[0].now + 250 * SECOND).handshake()
    live.feed(other.frames, 250 * SECOND, step)
    assert live["flows_ended.timeout"] == 0
    late = Conversation(client_port=98, start_ns=some[0].now + 303 * SECOND).handshake()
    live.feed(late.frames, 303 * SECOND, step)
    assert live["flows_ended.timeout"] == 20


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_step_in_the_middle_of_a_batch(step: int) -> None:
    live, some = Live(), talks()
    live.feed(sorted(frame for talk in some for frame in talk.frames), 0)
    frames = go_on(some, SECOND)
    half = len(frames) // 2
    live.feed(frames[:half] + [(ts_ns + step, frame) for ts_ns, frame in frames[half:]], SECOND)
    live.feed(go_on(some, SECOND), 2 * SECOND, step)
    assert live["flows_ended.timeout"] == 0
    assert len(live.events) == 60


def test_a_quiet_line_is_no_step() -> None:
    live, some = Live(), talks()
    live.feed(sorted(frame for talk in some for frame in talk.frames), 0)
    clock = live.pipeline.now_ns
    for second in range(1, 200):
        live.pipeline.advance(clock + second * SECOND)
    live.feed(go_on(some, 200 * SECOND), 200 * SECOND)
    assert live.pipeline.now_ns == max(ts_ns for talk in some for ts_ns, _ in talk.frames)


def test_frames_of_a_file_may_lie_apart_as_they_will() -> None:
    pipeline = Pipeline(config())
    first = Conversation().handshake().frames
    for batch in batches_of(first + [(ts_ns + HOUR, frame) for ts_ns, frame in Conversation().frames])[0][0][:-1]:
        pipeline.feed(batch)
    pipeline.feed(batches_of(Conversation(client_port=7, start_ns=first[0][0] + HOUR).handshake().frames)[0][0][0])
    assert pipeline.counts()["flows_ended.timeout"] == 1
