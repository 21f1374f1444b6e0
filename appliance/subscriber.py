"""Reading the feed from Python.

    with Subscriber("tcp://127.0.0.1:5556", ["http."]) as feed:
        for message in feed:
            for event in message.events:
                print(event.decode())
        print(feed.lost, "messages missed")

What a slow or absent subscriber misses is gone for it, but never unnoticed: messages are numbered by topic, and a
heartbeat says the last number of every topic.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import NamedTuple, Self

import msgspec

from appliance.bus import FEED_HEADER, HEARTBEAT, Bus, FeedClient

DEFAULT_ENDPOINT = "tcp://127.0.0.1:5556"
QUEUE = 1000  # messages that wait in this process; what exceeds them waits at the feed


class Received(NamedTuple):
    """One message: its events are JSON objects, one per item, without newlines."""

    topic: str
    epoch: int
    sequence: int
    events: list[bytes]


class Gap(NamedTuple):
    """Messages that were published and did not come: numbers first to last of a topic, both included."""

    topic: str
    epoch: int
    first: int
    last: int


class _Heartbeat(msgspec.Struct):
    epoch: int
    last: dict[str, int]


class Subscriber:
    """Yields the messages of a feed, and knows what it missed. Reconnects by itself.

    topics: prefixes, such as "http." or "http.5xx."; none means all of them. timeout_s: iteration ends when no message
    came for so long; None waits for ever. on_gap is called for each run of missing messages. A new epoch means that the
    feed was started again: its numbers start from 1. Heartbeats are read here and not yielded. Raises BusError.
    """

    def __init__(
        self,
        endpoint: str = DEFAULT_ENDPOINT,
        topics: Sequence[str] = (),
        *,
        timeout_s: float | None = None,
        on_gap: Callable[[Gap], None] | None = None,
        queue: int = QUEUE,
    ) -> None:
        self.topics = tuple(topics) or ("",)
        self.timeout_s = timeout_s
        self.on_gap = on_gap
        self.received = 0  # events
        self.messages = 0
        self.lost = 0  # messages
        self.heartbeats = 0
        self.invalid = 0  # messages that are not a feed's: something else is behind the endpoint, or another version
        self.epochs = 0  # runs of the feed seen
        self.epoch = 0  # of the run being read
        self._next: dict[str, int] = {}  # by topic: the number that must come
        self._from_start = False  # whether this epoch began while we were subscribed: its first number is 1
        self._bus = Bus()
        self._client = FeedClient(self._bus, endpoint, self.topics, queue)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the subscription."""
        self._bus.close()

    def __iter__(self) -> Iterator[Received]:
        while (message := self.receive(self.timeout_s)) is not None:
            yield message

    def receive(self, timeout_s: float | None = None) -> Received | None:
        """The next message, or None when none came within timeout_s seconds (None: waits for ever)."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            got = self._client.receive(left)
            if got is None:
                return None
            if len(got) != 3 or len(got[1]) != FEED_HEADER.size or not got[0].isascii():
                self.invalid += 1
                continue
            topic, body = got[0].decode(), got[2]
            epoch, sequence, _ = FEED_HEADER.unpack(got[1])
            if epoch != self.epoch:
                self._new_epoch(epoch)
            if topic != HEARTBEAT:
                self._expect(topic, sequence, sequence + 1)
                events = body.split(b"\n")
                self.messages += 1
                self.received += len(events)
                return Received(topic, epoch, sequence, events)
            self._beat(body)
            if left == 0.0:
                return None

    def _new_epoch(self, epoch: int) -> None:
        self._from_start = self.epochs > 0
        self.epochs += 1
        self.epoch = epoch
        self._next.clear()

    def _expect(self, topic: str, sequence: int, after: int) -> None:
        """Everything before number `sequence` must have come; `after` is what comes next."""
        expected = self._next.get(topic, 1 if self._from_start else sequence)
        if sequence > expected:
            self.lost += sequence - expected
            if self.on_gap is not None:
                self.on_gap(Gap(topic, self.epoch, expected, sequence - 1))
        self._next[topic] = max(expected, after)

    def _beat(self, body: bytes) -> None:
        try:
            beat = msgspec.json.decode(body, type=_Heartbeat)
        except msgspec.DecodeError:
            self.invalid += 1
            return
        self.heartbeats += 1
        for topic, last in beat.last.items():
            if topic.startswith(self.topics):
                self._expect(topic, last + 1, last + 1)
