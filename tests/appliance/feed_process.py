"""A real feed process on a run directory of its own, with workers played by the test; and a feed played by the test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import msgspec
from eventually import PATIENCE_S, eventually

from appliance.config.schema import Config, Feed, Source, Workers
from appliance.feed.sockets import FeedSocket
from appliance.ipc.event_batch import EventMessage, pack_events, pack_runs
from appliance.ipc.event_link import EventSender
from appliance.ipc.sockets import Bus
from appliance.pubsub.protocol import HEARTBEAT
from appliance.runtime.resolved_config import save_resolved
from appliance.stats.layout import feed_layout, worker_layout
from appliance.stats.names import READY, TOPICS
from appliance.stats.page import Page

ROOT = Path(__file__).resolve().parents[2]


class FakeWorker:
    """The sending side of a worker: numbers what it sends like one."""

    def __init__(self, config: Config, run_dir: Path, index: int) -> None:
        self.index = index
        self.bus = Bus()
        self.link = EventSender(self.bus, config, run_dir, index, time.time_ns())
        self.sent = 0
        self.sequence = 0

    def send(self, topic: int, *bodies: bytes, skipped: int = 0) -> None:
        """Sends the bodies as one message; `skipped` events before it count as sent and never leave."""
        self.sent += skipped
        self.mixed(*((topic, body) for body in bodies))

    def mixed(self, *events: tuple[int, bytes]) -> None:
        """Sends (topic, body) of each event as one message, in this order."""
        runs = pack_runs((topic, 1, len(body) + 1) for topic, body in events)
        body = b"\n".join(body for _, body in events)
        self.raw(pack_events(EventMessage(self.index, len(events), 7, self.sequence, self.sent, runs, body)))
        self.sequence += 1
        self.sent += len(events)

    def end(self) -> None:
        self.raw(pack_events(EventMessage(self.index, 0, 7, self.sequence, self.sent, end=True)))
        self.sequence += 1

    def raw(self, data: bytes) -> None:
        assert self.link.ready(PATIENCE_S)
        assert self.link.put(data)

    def close(self) -> None:
        self.bus.close()


class FeedProcess:
    """`python -m appliance.feed`, started as the supervisor does. A with block ends it, whatever happened."""

    def __init__(self, run_dir: Path, config: Config, stdout: int | IO[bytes] | None = None, files: int = 0) -> None:
        """files: descriptors that it may have, as many as we if 0."""
        self.limited = ["sh", "-c", 'ulimit -n "$0" && exec "$@"', str(files)] if files else []
        self.run_dir = run_dir
        self.config = config
        run_dir.chmod(0o700)
        save_resolved(config, run_dir)
        workers = config.worker_count
        self.page = Page.create(run_dir / "feed.stats", feed_layout(workers))
        self.worker_pages = [Page.create(run_dir / f"worker-{w}.stats", worker_layout(1)) for w in range(workers)]
        self.workers = [FakeWorker(config, run_dir, w) for w in range(workers)]
        self.stdout = stdout
        self.start()

    def start(self) -> None:
        self.page["state"] = 0
        self.process = subprocess.Popen(
            [*self.limited, sys.executable, "-m", "appliance.feed.process", str(self.run_dir)],
            stdin=subprocess.PIPE,
            stdout=self.stdout,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        eventually(lambda: self.page["state"] >= READY or self.process.poll() is not None, "the feed is ready")

    def kill(self) -> None:
        self.process.kill()
        self._reap()

    def wait(self) -> int:
        """Its exit code."""
        return self.process.wait(PATIENCE_S)

    def _reap(self) -> None:
        self.process.wait(PATIENCE_S)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    @property
    def endpoint(self) -> str:
        return (self.run_dir / "feed.endpoint").read_text()

    @property
    def replay(self) -> str:
        return (self.run_dir / "replay.endpoint").read_text()

    def published(self) -> int:
        return sum(self.page[f"published.{topic}"] for topic in TOPICS)

    def __enter__(self) -> FeedProcess:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.close()
        if self.process.returncode is None:
            self.process.kill()
        self._reap()


class FakeFeed:
    """Publishes what it is told, numbered as it is told."""

    def __init__(self, endpoint: str = "tcp://127.0.0.1:*") -> None:
        self.bus = Bus()
        self.socket = FeedSocket(self.bus, endpoint, 1000, None, Feed().peers, Feed().peer_bytes)
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


def feed_config(*, workers: int = 1, file: bool = False, **feed: Any) -> Config:
    """Any free ports; live, unless a file is read."""
    ports = {"bind": "tcp://127.0.0.1:0", "replay": "tcp://127.0.0.1:0", "heartbeat_s": 0.1}
    source = Source(file="some.pcap") if file else Source(interfaces=["lo"])
    return Config(source=source, workers=Workers(count=workers), feed=msgspec.convert({**ports, **feed}, Feed))
