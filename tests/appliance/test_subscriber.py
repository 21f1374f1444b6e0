"""The Python subscriber, against a feed played by the test (exact control) and against the real process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from feed_process import PATIENCE_S, FeedProcess, eventually, feed_config

from appliance.bus import HEARTBEAT, Bus, FeedSocket
from appliance.subscriber import Gap, Received, Subscriber


class FakeFeed:
    """Publishes what it is told, numbered as it is told."""

    def __init__(self, endpoint: str = "tcp://127.0.0.1:*") -> None:
        self.bus = Bus()
        self.socket = FeedSocket(self.bus, endpoint, 1000)
        self.endpoint = self.socket.endpoint

    def subscribed(self, count: int = 1, meanwhile: Callable[[], object] = lambda: None) -> None:
        def known() -> bool:
            meanwhile()
            self.socket.read_subscriptions()
            return self.socket.subscribers >= count

        eventually(known, "the subscription arrives")

    def say(self, topic: str, sequence: int, *events: bytes, epoch: int = 1) -> None:
        self.socket.publish(topic, (epoch, sequence, len(events)), b"\n".join(events))

    def beat(self, epoch: int = 1, **last: int) -> None:
        numbers = {f"http.{name.removeprefix('_')}.": number for name, number in last.items()}
        self.say(HEARTBEAT, 1, json.dumps({"epoch": epoch, "last": numbers}).encode(), epoch=epoch)

    def close(self) -> None:
        self.bus.close()


@pytest.fixture
def feed() -> Iterator[FakeFeed]:
    made = FakeFeed()
    yield made
    made.close()


@pytest.fixture
def gaps() -> list[Gap]:
    return []


@pytest.fixture
def subscriber(feed: FakeFeed, gaps: list[Gap]) -> Iterator[Subscriber]:
    with Subscriber(feed.endpoint, ["http."], timeout_s=PATIENCE_S, on_gap=gaps.append) as made:
        feed.subscribed()
        yield made


def test_messages_come_as_events(feed: FakeFeed, subscriber: Subscriber) -> None:
    feed.say("http.2xx.", 10, b'{"a":1}', b'{"b":2}')
    feed.say("status.", 1, b"not asked for")
    feed.say("http.5xx.", 3, b"{}")
    stream = iter(subscriber)
    assert next(stream) == Received("http.2xx.", 1, 10, [b'{"a":1}', b'{"b":2}'])
    assert next(stream) == Received("http.5xx.", 1, 3, [b"{}"])
    assert (subscriber.received, subscriber.messages, subscriber.lost) == (3, 2, 0)


def test_a_hole_in_the_sequence_is_a_loss(feed: FakeFeed, subscriber: Subscriber, gaps: list[Gap]) -> None:
    for sequence in (5, 6, 9, 10):
        feed.say("http.2xx.", sequence, b"{}")
    assert [next(iter(subscriber)).sequence for _ in range(4)] == [5, 6, 9, 10]
    assert subscriber.lost == 2
    assert gaps == [Gap("http.2xx.", 1, 7, 8)]


def test_topics_are_numbered_apart(feed: FakeFeed, subscriber: Subscriber, gaps: list[Gap]) -> None:
    feed.say("http.2xx.", 1, b"{}")
    feed.say("http.4xx.", 100, b"{}")
    feed.say("http.2xx.", 2, b"{}")
    feed.say("http.4xx.", 102, b"{}")
    for _ in range(4):
        assert subscriber.receive(PATIENCE_S)
    assert gaps == [Gap("http.4xx.", 1, 101, 101)]


def test_a_heartbeat_reveals_a_loss_at_the_tail(feed: FakeFeed, subscriber: Subscriber, gaps: list[Gap]) -> None:
    feed.say("http.2xx.", 1, b"{}")
    feed.beat(_2xx=4, _5xx=0)
    feed.say("http.2xx.", 5, b"{}")
    feed.say("http.5xx.", 2, b"{}")
    for _ in range(3):
        assert subscriber.receive(PATIENCE_S)
    assert gaps == [Gap("http.2xx.", 1, 2, 4), Gap("http.5xx.", 1, 1, 1)]
    assert subscriber.lost == 4
    assert subscriber.heartbeats == 1


def test_what_was_before_the_subscription_is_no_loss(feed: FakeFeed, subscriber: Subscriber) -> None:
    feed.beat(_2xx=1000)
    feed.say("http.2xx.", 1001, b"{}")
    assert subscriber.receive(PATIENCE_S)
    assert subscriber.lost == 0


def test_a_heartbeat_for_other_topics_is_no_loss(feed: FakeFeed) -> None:
    with Subscriber(feed.endpoint, ["http.5xx."]) as subscriber:
        feed.subscribed()
        feed.beat(_2xx=1, _5xx=1)
        feed.beat(_2xx=50, _5xx=1)
        feed.say("http.5xx.", 2, b"{}")
        assert subscriber.receive(PATIENCE_S)
        assert subscriber.lost == 0


def test_a_new_epoch_counts_from_one(feed: FakeFeed, subscriber: Subscriber, gaps: list[Gap]) -> None:
    feed.say("http.2xx.", 70, b"{}")
    feed.say("http.2xx.", 3, b"{}", epoch=2)
    feed.beat(epoch=2, _2xx=3, _5xx=2)
    feed.say("http.2xx.", 4, b"{}", epoch=2)
    for _ in range(3):
        assert subscriber.receive(PATIENCE_S)
    assert subscriber.epochs == 2
    assert gaps == [Gap("http.2xx.", 2, 1, 2), Gap("http.5xx.", 2, 1, 2)]


def test_an_old_number_again_is_no_loss(feed: FakeFeed, subscriber: Subscriber) -> None:
    for sequence in (5, 6, 5, 7):
        feed.say("http.2xx.", sequence, b"{}")
    for _ in range(4):
        assert subscriber.receive(PATIENCE_S)
    assert subscriber.lost == 0


def test_what_is_no_feed_is_counted_and_skipped(feed: FakeFeed, subscriber: Subscriber) -> None:
    feed.socket.socket.send(b"http.")
    feed.socket.socket.send_multipart([b"http.2xx.", b"short", b"{}"])
    feed.socket.socket.send_multipart([b"http.\xff", bytes(24), b"{}"])
    feed.say(HEARTBEAT, 1, b"{")
    feed.say("http.2xx.", 1, b"{}")
    assert subscriber.receive(PATIENCE_S)
    assert subscriber.invalid == 4


def test_iteration_ends_after_the_timeout_although_the_heart_beats(feed: FakeFeed) -> None:
    with Subscriber(feed.endpoint, timeout_s=0.2) as subscriber:
        feed.subscribed()
        feed.say("http.2xx.", 1, b"{}")
        feed.beat(_2xx=1)
        assert len(list(subscriber)) == 1
        assert subscriber.heartbeats == 1


def test_it_finds_a_feed_that_starts_again(feed: FakeFeed) -> None:
    with Subscriber(feed.endpoint) as subscriber:
        feed.subscribed()
        feed.say("http.2xx.", 9, b"{}")
        assert subscriber.receive(PATIENCE_S)
        feed.close()
        again = FakeFeed(feed.endpoint)
        try:
            # A SUB socket repeats its subscription only while somebody reads from it.
            again.subscribed(meanwhile=lambda: subscriber.receive(0))
            again.say("http.2xx.", 2, b"{}", epoch=2)
            message = subscriber.receive(PATIENCE_S)
        finally:
            again.close()
        assert message is not None
        assert message.epoch == 2
        assert subscriber.lost == 1


def test_a_slow_subscriber_loses_only_its_own_and_knows_how_much(tmp_path: Path) -> None:
    config = feed_config(subscriber_queue=10)
    with (
        FeedProcess(tmp_path, config) as feed,
        Subscriber(feed.endpoint, ["http."]) as fast,
        Subscriber(feed.endpoint, ["http."], queue=10) as slow,
    ):
        eventually(lambda: feed.page["subscribers"] == 2, "two subscribers")
        total = 400
        for _ in range(total):
            feed.workers[0].send(1, b"x" * 100_000)
            assert fast.receive(PATIENCE_S)
        assert fast.lost == 0
        eventually(lambda: slow.receive(0) is None and slow.messages + slow.lost == total, "the slow one catches up")
        assert 0 < slow.lost < total
