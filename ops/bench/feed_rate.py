"""The number of events a second from workers through the feed to subscribers; each part is a process of its own.

    python ops/bench/feed_rate.py [feed] [client] [--events N] [--subscribers N] [--workers N] [--rounds N]

feed    workers send batches as real ones do, the feed numbers, keeps and publishes them, and every subscriber (the
        Subscriber of the library) must have all of them. Workers are held back so that nobody's queue is full: the rate
        is what goes on for ever without a loss.
client  a publisher alone and one Subscriber: what a client in Python can take.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from appliance.config.schema import Feed

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from appliance.config.load import resolve  # noqa: E402
from appliance.config.schema import Config  # noqa: E402
from appliance.feed.sockets import FeedSocket  # noqa: E402
from appliance.ipc.event_batch import EventMessage, event_header, pack_runs  # noqa: E402
from appliance.ipc.event_link import EventSender  # noqa: E402
from appliance.ipc.sockets import Bus  # noqa: E402
from appliance.runtime.child_environment import child_environment  # noqa: E402
from appliance.runtime.resolved_config import load_resolved, save_resolved  # noqa: E402
from appliance.stats.layout import feed_layout, worker_layout  # noqa: E402
from appliance.stats.names import READY, TOPICS  # noqa: E402
from appliance.stats.page import Page  # noqa: E402
from appliance.subscriber.subscriber import Subscriber  # noqa: E402

TOPIC = 1  # http.2xx.
AHEAD = 200  # messages that the slowest subscriber may be behind: a fifth of its queue
EVENT = json.dumps(
    {
        "@timestamp": "2026-11-22T10:00:00.123456789Z",
        "ecs": {"version": "8.11.0"},
        "event": {"kind": "event", "category": ["web", "network"], "id": "0123456789abcdef", "duration": 1234567},
        "source": {"ip": "192.0.2.1", "port": 51000},
        "destination": {"ip": "198.51.100.20", "port": 80},
        "url": {"original": "/item?id=0123456789", "domain": "shop.example", "path": "/item", "scheme": "http"},
        "http": {"version": "1.1", "request": {"method": "GET", "bytes": 100}, "response": {"status_code": 200}},
        "appliance": {"transaction": 0, "pairing": "verified", "midstream": False},
        "fill": "",
    }
).encode()
EVENT = EVENT.replace(b'"fill": ""', b'"fill": "%s"' % (b"x" * (1200 - len(EVENT))))  # as long as those of `make run`


class Progress:
    """A number in a file that one process writes and another reads."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 8)

    def set(self, value: int) -> None:
        struct.pack_into("=Q", self._memory, 0, value)

    def get(self) -> int:
        return int(struct.unpack_from("=Q", self._memory)[0])


def batch(config: Config) -> tuple[int, bytes]:
    """A full batch of a worker: how many events, and their lines."""
    count = config.feed.event_batch_bytes // (len(EVENT) + 1)
    return count, b"\n".join([EVENT] * count)


def hold(followers: Sequence[Progress], sent: int) -> None:
    while sent - min(follower.get() for follower in followers) > AHEAD:
        time.sleep(0.0005)


def worker(home: Path, index: int, messages: int, subscribers: int) -> None:
    """The sending half of a worker."""
    config = load_resolved(home)
    link = EventSender(Bus(), config, home, index, time.time_ns())
    count, body = batch(config)
    followers = [Progress(home / f"progress-{n}") for n in range(subscribers)]
    for number in range(messages):
        hold(followers, number * config.worker_count)
        runs = pack_runs([(TOPIC, count, len(body) + 1)])
        head = event_header(EventMessage(index, count, 7, number, number * count, runs, body))
        while not link.put(head, body):
            link.ready(1.0)
    time.sleep(3600)


def publisher(home: Path, messages: int) -> None:
    """A feed that does nothing but publish."""
    socket = FeedSocket(Bus(), "tcp://127.0.0.1:*", 1000, None, Feed().peers, Feed().peer_bytes)
    count, body = batch(load_resolved(home))
    (home / "feed.endpoint").write_text(socket.endpoint)
    follower = Progress(home / "progress-0")
    while not socket.subscribers:
        socket.read_subscriptions()
        time.sleep(0.01)
    for number in range(1, messages + 1):
        hold([follower], number)
        socket.publish(TOPICS[TOPIC], (1, number, count), body)
    time.sleep(3600)


def reader(home: Path, index: int, messages: int) -> None:
    """A subscriber; writes when it had its first and its last message, and what it did not get."""
    progress = Progress(home / f"progress-{index}")
    with Subscriber((home / "feed.endpoint").read_text(), [TOPICS[TOPIC]], timeout_s=30.0) as feed:
        (home / f"ready-{index}").touch()
        began, cpu = 0.0, 0.0
        for message in feed:
            if not began:
                began, cpu = time.monotonic(), time.process_time()
            progress.set(message.sequence)
            if message.sequence == messages:
                break
        told = {
            "events": feed.received,
            "lost": feed.lost,
            "recovered": feed.recovered,
            "seconds": time.monotonic() - began,
            "cpu": time.process_time() - cpu,
        }
    (home / f"told-{index}.part").write_text(json.dumps(told))
    (home / f"told-{index}.part").rename(home / f"told-{index}")


def start(*arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, *map(str, arguments)], stdin=subprocess.PIPE, env=child_environment())


def wait_for(paths: Sequence[Path]) -> None:
    while not all(path.exists() for path in paths):
        time.sleep(0.01)


def play(what: str, events: int, subscribers: int, workers: int) -> float:
    """One round; events a second of the slowest subscriber."""
    config = resolve(
        None,
        {
            "source.interfaces": ["lo"],
            "workers.count": workers,
            "feed.bind": "tcp://127.0.0.1:0",
            "feed.replay": "tcp://127.0.0.1:0",
            "metrics.bind": "off",
        },
    )
    count, _ = batch(config)
    messages = -(-events // count)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    me = Path(__file__).resolve()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as name:
        home = Path(name)
        save_resolved(config, home)
        page = Page.create(home / "feed.stats", feed_layout(workers))
        for w in range(workers):
            Page.create(home / f"worker-{w}.stats", worker_layout(1))
        for n in range(subscribers):
            Progress(home / f"progress-{n}")
        running = [
            start(me, "publisher", home, messages) if what == "client" else start("-m", "appliance.feed.process", home)
        ]
        try:
            wait_for([home / "feed.endpoint"])
            each = -(-messages // workers)
            total = messages if what == "client" else each * workers
            readers = [start(me, "reader", home, n, total) for n in range(subscribers)]
            running += readers
            wait_for([home / f"ready-{n}" for n in range(subscribers)])
            if what == "feed":
                while page["state"] != READY or page["subscribers"] < subscribers:
                    time.sleep(0.01)
                running += [start(me, "worker", home, w, each, subscribers) for w in range(workers)]
            wait_for([home / f"told-{n}" for n in range(subscribers)])
            told = [json.loads((home / f"told-{n}").read_text()) for n in range(subscribers)]
        finally:
            for process in running:
                process.kill()
                process.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cost = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / (count * total)
    lost = sum(one["lost"] + one["recovered"] for one in told)
    seconds = max(one["seconds"] for one in told)
    rate = count * (total - 1) / seconds
    spent = ", ".join(f"{1e6 * one['cpu'] / one['events']:.2f}" for one in told)
    print(
        f"  {rate:,.0f} events/s, {rate * len(EVENT) / 1e6:,.0f} MB/s; processor time for an event "
        f"{cost * 1e6:.2f} µs over all processes, {spent} µs in a reader; missed {lost}"
    )
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", help="feed, client or both")
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--subscribers", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    for what in given.what or ["feed", "client"]:
        subscribers = given.subscribers if what == "feed" else 1
        print(f"{what}: {given.events:,} events of {len(EVENT)} bytes, {subscribers} subscribers", flush=True)
        rates = [play(what, given.events, subscribers, given.workers) for _ in range(given.rounds)]
        print(f"{what}: median {median(rates):,.0f} events/s", flush=True)


if __name__ == "__main__":
    parts = {"worker": worker, "publisher": publisher, "reader": reader}
    if len(sys.argv) > 1 and sys.argv[1] in parts:
        parts[sys.argv[1]](Path(sys.argv[2]), *map(int, sys.argv[3:]))  # type: ignore[operator]
    else:
        main()
