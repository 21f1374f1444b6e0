"""The Python subscriber, against a feed played by the test (exact control) and against the real process."""

from __future__ import annotations

import asyncio
import random
import socket
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from eventually import PATIENCE_S, eventually
from feed_process import FakeFeed, FeedProcess, feed_config

from appliance.pubsub.protocol import HEARTBEAT
from appliance.subscriber.subscriber import AsyncSubscriber, Gap, Received, Subscriber, _reachable

pytestmark = pytest.mark.slow


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
    with Subscriber(feed.endpoint, ["http."], timeout_s=PATIENCE_S, on_gap=gaps.append, replay="off") as made:
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


def test_an_old_number_again_is_left_out(feed: FakeFeed, subscriber: Subscriber) -> None:
    for sequence in (5, 6, 5, 7):
        feed.say("http.2xx.", sequence, b"{}")
    assert [next(iter(subscriber)).sequence for _ in range(3)] == [5, 6, 7]
    assert (subscriber.lost, subscriber.duplicates) == (0, 1)


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
    with Subscriber(feed.endpoint, replay="off") as subscriber:
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
        Subscriber(feed.endpoint, ["http."], queue=10, replay="off") as slow,
    ):
        eventually(lambda: feed.page["subscribers"] == 2, "two subscribers")
        total = 400
        for _ in range(total):
            feed.workers[0].send(1, b"x" * 100_000)
            assert fast.receive(PATIENCE_S)
        assert fast.lost == 0
        eventually(lambda: slow.receive(0) is None and slow.messages + slow.lost == total, "the slow one catches up")
        assert 0 < slow.lost < total


# -- what was missed and is fetched ------------------------------------------------------------------------------------


def behind(feed: FeedProcess, messages: int) -> None:
    """Far more messages than may wait for a subscriber that does not read now."""
    for _ in range(messages):
        feed.workers[0].send(1, b"x" * 100_000)
        feed.workers[0].send(4, b"y" * 1000)
    eventually(lambda: feed.published() == 2 * messages, "everything is published")


def test_a_subscriber_that_fell_behind_fetches_what_it_missed(tmp_path: Path) -> None:
    with (
        FeedProcess(tmp_path, feed_config(subscriber_queue=10)) as feed,
        Subscriber(feed.endpoint, ["http."], queue=10) as slow,
    ):
        eventually(lambda: slow.receive(0) is None and slow.heartbeats, "it follows the feed")
        behind(feed, 300)
        got = [slow.receive(PATIENCE_S) for _ in range(600)]
        for topic in ("http.2xx.", "http.5xx."):
            assert [message.sequence for message in got if message and message.topic == topic] == [*range(1, 301)]
        assert slow.lost == 0
        assert slow.recovered > 0


def test_what_the_store_has_no_more_is_a_gap(tmp_path: Path) -> None:
    gaps: list[Gap] = []
    with (
        FeedProcess(tmp_path, feed_config(subscriber_queue=10, replay_bytes=3_000_000)) as feed,
        Subscriber(feed.endpoint, ["http."], queue=10, on_gap=gaps.append) as slow,
    ):
        eventually(lambda: slow.receive(0) is None and slow.heartbeats, "it follows the feed")
        behind(feed, 300)
        eventually(lambda: slow.receive(0) is None and slow.messages + slow.lost == 600, "all is accounted for")
        assert slow.recovered > 0
        assert slow.lost == sum(gap.last - gap.first + 1 for gap in gaps) > 0


def test_backfill_brings_what_was_published_before(tmp_path: Path) -> None:
    with FeedProcess(tmp_path, feed_config()) as feed:
        behind(feed, 20)
        with Subscriber(feed.endpoint, ["http.5xx."], backfill=True, timeout_s=PATIENCE_S) as late:
            assert [next(iter(late)).sequence for _ in range(20)] == [*range(1, 21)]


def test_a_killed_feed_costs_exactly_what_it_had_not_sent(tmp_path: Path) -> None:
    gaps: list[Gap] = []
    with (
        FeedProcess(tmp_path, feed_config(subscriber_queue=10)) as feed,
        Subscriber(feed.endpoint, ["http."], queue=10, on_gap=gaps.append) as subscriber,
    ):
        eventually(lambda: subscriber.receive(0) is None and subscriber.heartbeats, "it follows the feed")
        behind(feed, 100)
        first = feed.page["epoch"]
        feed.kill()
        (tmp_path / "feed.endpoint").unlink()
        feed.start()
        # The ports are new: whoever holds the old address would follow it with a fixed one.
        subscriber._client.socket.connect(feed.endpoint)
        eventually(lambda: subscriber.receive(0) is None and subscriber.epochs == 2, "the new life is seen")
        eventually(lambda: subscriber.receive(0) is None and subscriber.messages + subscriber.lost == 200, "all of it")
        assert {gap.epoch for gap in gaps} == {first}
        assert subscriber.cut == 0


def test_the_asynchronous_twin_gives_the_same(tmp_path: Path) -> None:
    async def read(feed: FeedProcess) -> tuple[list[int], int]:
        async with AsyncSubscriber(feed.endpoint, ["http.2xx."], queue=10, backfill=True) as subscriber:
            numbers = []
            async for message in subscriber:
                numbers.append(message.sequence)
                if len(numbers) == 30:
                    break
            assert await subscriber.receive(0.01) is None
            return numbers, subscriber.lost

    with FeedProcess(tmp_path, feed_config()) as feed:
        behind(feed, 30)
        assert asyncio.run(read(feed)) == ([*range(1, 31)], 0)


def test_the_asynchronous_twin_wakes_up_for_what_comes_and_lets_others_run(tmp_path: Path) -> None:
    async def read(feed: FeedProcess) -> list[int]:
        async with AsyncSubscriber(feed.endpoint, ["http.2xx."], timeout_s=PATIENCE_S) as subscriber:
            while not subscriber.heartbeats:
                await subscriber.receive(0.05)

            async def work() -> None:
                for _ in range(3):
                    feed.workers[0].send(1, b"{}")
                    await asyncio.sleep(0.01)

            task = asyncio.create_task(work())
            got = [(await anext(aiter(subscriber))).sequence for _ in range(3)]
            await task
            return got

    with FeedProcess(tmp_path, feed_config()) as feed:
        assert asyncio.run(read(feed)) == [1, 2, 3]


@pytest.mark.parametrize(
    ("endpoint", "announced", "reached"),
    [
        ("tcp://sensor.example:5556", "tcp://0.0.0.0:5557", "tcp://sensor.example:5557"),
        ("tcp://[::1]:5556", "tcp://[::]:5557", "tcp://[::1]:5557"),
        ("ipc:///run/feed", "ipc:///run/replay", "ipc:///run/replay"),
    ],
)
def test_questions_go_to_the_host_by_which_the_feed_was_reached(endpoint: str, announced: str, reached: str) -> None:
    assert _reachable(endpoint, announced) == reached


def test_over_kills_of_the_feed_every_message_comes_or_is_in_a_gap(tmp_path: Path) -> None:
    gaps: list[Gap] = []
    seen: dict[int, list[int]] = defaultdict(list)
    last: dict[int, int] = {}
    chance = random.Random(2)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    config = feed_config(bind=f"tcp://127.0.0.1:{port}", subscriber_queue=10, replay_bytes=2_000_000)

    def read(until: Callable[[], bool]) -> None:
        def done() -> bool:
            while (message := subscriber.receive(0)) is not None:
                seen[message.epoch].append(message.sequence)
            return until()

        eventually(done, "the subscriber gets on")

    with (
        FeedProcess(tmp_path, config) as feed,
        Subscriber(feed.endpoint, ["http."], queue=10, on_gap=gaps.append) as subscriber,
    ):
        for life in range(1, 6):
            read(lambda life=life: subscriber.epochs == life and subscriber.heartbeats > 0)
            for _ in range(150):
                feed.workers[0].send(1, b"x" * 50_000)
            target = chance.randint(60, 150)
            eventually(lambda target=target: feed.page["sequence.http.2xx."] >= target, "some are published")
            read(lambda: True)
            if life < 5:
                feed.kill()
                last[feed.page["epoch"]] = feed.page["sequence.http.2xx."]
                feed.start()
        worker = feed.workers[0]
        eventually(lambda: feed.page["received.0"] + feed.page["lost.0"] == worker.sent, "all are published")
        last[feed.page["epoch"]] = feed.page["sequence.http.2xx."]
        read(lambda: sum(map(len, seen.values())) + subscriber.lost == sum(last.values()))
    for epoch, end in last.items():
        missing = [n for gap in gaps if gap.epoch == epoch for n in range(gap.first, gap.last + 1)]
        assert seen[epoch] == sorted(set(seen[epoch]))
        assert sorted(seen[epoch] + missing) == list(range(1, end + 1))
    assert subscriber.recovered > 0
    assert subscriber.cut == 0
