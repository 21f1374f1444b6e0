"""One bad subscriber, or ten thousand strangers, cost the others nothing: real processes on both sides."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from itertools import cycle
from pathlib import Path

import msgspec
import pytest
from eventually import PATIENCE_S, eventually, read_line
from feed_process import ROOT, FeedProcess, feed_config

from appliance.config.schema import Run
from appliance.subscriber.subscriber import Subscriber

pytestmark = pytest.mark.slow

CONSUMER = Path(__file__).parents[1] / "consumer.py"
MESSAGES = 3000
QUEUE = 100  # at the feed, for each subscriber
AHEAD = 30  # of what the good ones have read: ZeroMQ learns of room in a queue only when half of it was read
BODY = b"x" * 50_000
MAX_RSS = 150 << 20  # a small feed is 40 MiB; the queue of each of 8 subscribers holds 5 MB, the store 8 MB


class Consumer:
    """consumer.py at work."""

    def __init__(self, feed: FeedProcess, name: str, *, pause_s: float = 0.0, crash_after: int = 0) -> None:
        self.progress = feed.run_dir / f"progress-{name}"
        self.process = subprocess.Popen(
            [sys.executable, str(CONSUMER), feed.endpoint, self.progress, str(pause_s), str(crash_after)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def ready(self) -> None:
        assert self.process.stdout is not None
        assert read_line(self.process.stdout) == "ready\n"

    def count(self) -> int:
        """Messages that have come or are known to be lost."""
        return int(self.progress.read_text() or 0) if self.progress.exists() else 0

    def tally(self) -> tuple[list[int], list[int]]:
        """The numbers it got, and those in its gaps."""
        out, _ = self.process.communicate(timeout=PATIENCE_S)
        told = json.loads(out)
        return told["numbers"], [n for first, last in told["gaps"] for n in range(first, last + 1)]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)
        if self.process.stdout is not None:
            self.process.stdout.close()


def peak_rss(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def test_of_eight_subscribers_three_bad_ones_lose_only_their_own(tmp_path: Path) -> None:
    config = feed_config(subscriber_queue=QUEUE, replay_bytes=8_000_000)
    config = msgspec.structs.replace(config, run=Run(drain_s=60.0))
    with FeedProcess(tmp_path, config) as feed:
        good = [Consumer(feed, f"good-{n}") for n in range(5)]
        stopped, slow = Consumer(feed, "stopped"), Consumer(feed, "slow", pause_s=0.02)
        everyone = [*good, stopped, slow]
        try:
            for consumer in everyone:
                consumer.ready()
            stopped.process.send_signal(signal.SIGSTOP)
            crashing, crashes = Consumer(feed, "crashing", crash_after=5), 0
            for number in range(MESSAGES):
                feed.workers[0].send(1, BODY)
                if crashing.process.poll() is not None:
                    crashing.kill()
                    crashes += 1
                    crashing = Consumer(feed, "crashing", crash_after=5)
                # As fast as the good ones read: the machine may be, beyond what waits for each of them, too slow.
                eventually(
                    lambda number=number: min(c.count() for c in good) >= number - AHEAD, "the good ones keep up"
                )
            eventually(lambda: feed.published() == MESSAGES, "everything is published")
            assert peak_rss(feed.process.pid) < MAX_RSS
            stopped.process.send_signal(signal.SIGCONT)
            crashing.kill()
            # While the feed lives, a heartbeat tells whoever catches up what it missed at the tail.
            eventually(lambda: {c.count() for c in everyone} == {MESSAGES}, "everyone knows how many there were")
            feed.workers[0].end()
            everything = list(range(1, MESSAGES + 1))
            for consumer in good:
                assert consumer.tally() == (everything, [])
            for consumer in (stopped, slow):
                numbers, gaps = consumer.tally()
                assert gaps
                assert sorted(numbers + gaps) == everything
            assert feed.wait() == 0
            assert crashes > 0
        finally:
            for consumer in [*everyone, crashing]:
                consumer.kill()


def test_subscribers_that_come_and_go_all_the_time_disturb_nobody(tmp_path: Path) -> None:
    with FeedProcess(tmp_path, feed_config()) as feed, Subscriber(feed.endpoint, ["http."]) as subscriber:
        eventually(lambda: subscriber.receive(0) is None and subscriber.heartbeats, "it follows the feed")
        for number in range(1, 101):
            feed.workers[0].send(1, b"{}")
            message = subscriber.receive(PATIENCE_S)
            assert message is not None
            assert message.sequence == number
            with Subscriber(feed.endpoint, ["http."], backfill=number % 10 == 0) as visitor:
                if number % 10 == 0:  # the past is complete for whoever stays long enough to hear the first heartbeat
                    got = [visitor.receive(PATIENCE_S) for _ in range(number)]
                    assert [past.sequence for past in got if past] == list(range(1, number + 1))
        assert subscriber.lost == subscriber.recovered == 0
        eventually(lambda: feed.page["subscribers"] == 1, "the visitors are gone")


def test_ten_thousand_strangers_do_not_disturb_the_feed(tmp_path: Path) -> None:
    garbage = cycle(
        [
            b"",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
            b"\xff" * 4096,
            b"\xff" + bytes(8) + b"\x7f",
            b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48),
            b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48) + b"\x04\xff\x05READY" + b"\xff" * 8 + bytes(300),
            os.urandom(300),
        ]
    )
    with FeedProcess(tmp_path, feed_config()) as feed, Subscriber(feed.endpoint, ["http."]) as subscriber:
        eventually(lambda: subscriber.receive(0) is None and subscriber.heartbeats, "it follows the feed")
        feed.workers[0].send(1, b"{}")  # from the first on, the feed has the memory of its worker
        assert subscriber.receive(PATIENCE_S)
        descriptors = len(os.listdir(f"/proc/{feed.process.pid}/fd"))
        ports = cycle([int(endpoint.rpartition(":")[2]) for endpoint in (feed.endpoint, feed.replay)])
        lingering: list[socket.socket] = []
        for number in range(10_000):
            stranger = socket.create_connection(("127.0.0.1", next(ports)))
            try:
                stranger.sendall(next(garbage))
            except OSError:
                pass  # refused while it was still talking
            lingering.append(stranger)
            if len(lingering) > 200:
                lingering.pop(0).close()
            if number % 100 == 0:
                feed.workers[0].send(1, b"{}")
                message = subscriber.receive(PATIENCE_S)
                assert message is not None
                assert message.sequence == number // 100 + 2
        for stranger in lingering:
            stranger.close()
        assert subscriber.lost == subscriber.recovered == subscriber.invalid == 0
        # One more than before: the subscriber has connected to where it would ask for what it missed.
        eventually(
            lambda: len(os.listdir(f"/proc/{feed.process.pid}/fd")) <= descriptors + 1, "their connections are gone"
        )
        assert peak_rss(feed.process.pid) < MAX_RSS
