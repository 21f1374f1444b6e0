"""More than the machine can take: whole new connections are left out, those followed stay whole, and it ends."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from box import Box
from conversation import START_NS, Conversation
from exchange import exchange
from hosts import wait_for
from impair import interleave
from pcapfile import PcapWriter
from scene import Metrics, Scene

pytestmark = pytest.mark.root

SECOND = 1_000_000_000
EXCHANGES = 3
LINKS = ("--workers", "1", "--feed", "off", "--set", "shard.batch_bytes=65536", "--set", "shard.link_bytes=25165824")


def connections(count: int, per_second: int, first: int) -> list[Conversation]:
    """Short connections of some 55 KB and 0.2 s each, from client ports `first` on."""
    made = []
    for number in range(count):
        start = START_NS + number * SECOND // per_second
        how = {"mss": 1400, "start_ns": start, "rtt_ns": 20_000_000, "client_isn": number * 77_777}
        one = Conversation("192.0.2.200", "192.0.2.201", first + number, **how).handshake()
        for place in range(EXCHANGES):
            one.exchange(exchange("GET", f"/{first + number}/{place}", body=b"b" * 18_000))
        made.append(one.close())
    return made


def write(path: Path, made: list[Conversation]) -> Path:
    with PcapWriter(path) as out:
        out.write_all(interleave(made))
    return path


class Storm:
    """1200 connections in 6 s, 12 MB/s for a link of 24 MiB; the worker is stopped from 1 s to 4 s."""

    FIRST, COUNT = 20_000, 1200

    def __init__(self, scene: Scene, *words: str) -> None:
        self.made = connections(self.COUNT, 200, self.FIRST)
        file = write(scene.directory / "storm.pcap", self.made)
        self.box = scene.capture(*LINKS, *words)
        sender = scene.client.python("storm.py", "c0", file)
        wait_for(lambda: self.box.count("capture-0", "frames") > 5000, "the storm has begun")
        worker = self.box.send("worker-0", signal.SIGSTOP)
        time.sleep(3)
        self.seen = self.box.count("capture-0", "frames")
        self.steps = self.box.count("capture-0", "shed_steps.0")
        os.kill(worker, signal.SIGCONT)
        assert sender.wait(60) == 0
        self.box.wait_quiet()

    def complete(self) -> Counter[int]:
        """Whole transactions by client port."""
        return Counter(
            event["source"]["port"]
            for event in self.box.events()
            if event["appliance"].get("request", {}).get("complete")
            and event["appliance"].get("response", {}).get("complete")
            and not event["appliance"]["response"]["missing_bytes"]
        )


def lost_in_capture(box: Box) -> int:
    page = box.page("capture-0").snapshot()
    return page["kernel_dropped"] + page["dropped_backlog.0"]


def test_connections_that_are_followed_stay_whole_while_others_are_left_out(scene: Scene) -> None:
    storm = Storm(scene, "--metrics", "127.0.0.1:9470")
    box = storm.box
    assert storm.steps > 128
    assert storm.seen > 20_000  # it went on reading while the worker took nothing
    wait_for(lambda: box.count("capture-0", "shed_steps.0") == 0, "nothing new is left out any more")

    metrics = Metrics(scene.server)
    left_out = int(metrics("appliance_capture_shed_flows_total", interface="s0"))
    frames = int(metrics("appliance_capture_shed_frames_total", interface="s0"))
    assert metrics("appliance_capture_shed_ratio", worker="0") == 0
    assert left_out > 100
    after = write(scene.directory / "after.pcap", connections(100, 100, 30_000))
    assert scene.client.python("storm.py", "c0", after).wait(60) == 0
    assert box.stop(signal.SIGTERM) == 143

    ledger = box.ledger()
    assert ledger["L2"]["shed_frames"] == frames  # none since
    complete = storm.complete()
    whole = sum(count for port, count in complete.items() if port < 30_000)
    kept = storm.COUNT - left_out
    assert whole >= 0.95 * EXCHANGES * kept, (whole, kept, lost_in_capture(box))
    assert sum(count for port, count in complete.items() if port >= 30_000) == EXCHANGES * 100
    shares = {event["appliance"].get("sampling", 1) for event in box.events()}
    assert 1 in shares
    assert min(shares) < 0.5
    assert {event["appliance"].get("sampling", 1) for event in box.events() if event["source"]["port"] >= 30_000} == {1}
    assert "left out as a whole because the machine was not enough" in box.errors()


def test_without_it_random_batches_are_dropped(scene: Scene) -> None:
    storm = Storm(scene, "--metrics", "off", "--set", "shedding.enabled=false")
    assert storm.box.stop(signal.SIGTERM) == 143
    ledger = storm.box.ledger()
    assert ledger["L2"]["shed_frames"] == 0
    assert ledger["L3"]["dropped_backlog"] > 0
    broken = sum(0 < count < EXCHANGES for count in storm.complete().values())
    assert broken > 0
