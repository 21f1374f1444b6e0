"""More than the machine can take: whole new connections are left out, those followed stay whole, and it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from box import Box
from conversation import START_NS, Conversation
from exchange import exchange
from impair import interleave
from patience import eventually
from pcapfile import PcapWriter
from scene import Metrics, Scene
from transactions import Event

from appliance.batch import header
from appliance.bus import Bus, FrameInlet
from appliance.config import save_resolved
from appliance.locate import VERDICTS
from appliance.options import Config, Run, Shard, Shedding, Source, Workers
from appliance.stats import READY, Page, capture_layout, worker_layout
from workers.pipeline import Pipeline

pytestmark = pytest.mark.root

SECOND = 1_000_000_000
EXCHANGES = 3
NO_FEED = ("--feed", "off", "--metrics", "off")
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
        eventually(lambda: self.box.count("capture-0", "frames") > 5000, "the storm has begun")
        worker = self.box.send("worker-0", signal.SIGSTOP)
        time.sleep(3)
        self.seen = self.box.count("capture-0", "frames")
        self.steps = self.box.count("capture-0", "shed_steps.0")
        os.kill(worker, signal.SIGCONT)
        assert sender.wait(60) == 0
        self.box.wait_quiet()


def complete(events: Iterable[Event]) -> Counter[int]:
    """Whole transactions by client port."""
    return Counter(
        event["source"]["port"]
        for event in events
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
    eventually(lambda: box.count("capture-0", "shed_steps.0") == 0, "nothing new is left out any more")

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
    found = complete(box.events())
    whole = sum(count for port, count in found.items() if port < 30_000)
    kept = storm.COUNT - left_out
    assert whole >= 0.95 * EXCHANGES * kept, (whole, kept, lost_in_capture(box))
    assert sum(count for port, count in found.items() if port >= 30_000) == EXCHANGES * 100
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
    broken = sum(0 < count < EXCHANGES for count in complete(storm.box.events()).values())
    assert broken > 0


def test_an_overflowing_ring_makes_the_kernel_refuse_what_is_left_out(scene: Scene) -> None:
    made = connections(2400, 200, 20_000)
    file = write(scene.directory / "long.pcap", made)
    box = scene.capture("--workers", "1", *NO_FEED, "--ring", "1M", "-f", "tcp port 80")
    sender = scene.client.python("storm.py", "c0", file)
    capture = box.count("capture-0", "pid")
    most = 0
    while sender.poll() is None:  # a capture that runs a twentieth of the time
        os.kill(capture, signal.SIGSTOP)
        time.sleep(0.19)
        os.kill(capture, signal.SIGCONT)
        time.sleep(0.01)
        most = max(most, box.count("capture-0", "kernel_shed_steps"))
    assert most > 0
    eventually(lambda: box.count("capture-0", "shed_steps.0") == 0, "nothing new is left out any more")
    eventually(lambda: box.count("capture-0", "kernel_shed_steps") == 0, "the kernel refuses nothing any more")
    time.sleep(0.1)  # a turn of the capture: the filter is the user's again
    after = write(scene.directory / "after.pcap", connections(100, 100, 30_000))
    assert scene.client.python("storm.py", "c0", after).wait(60) == 0
    assert box.stop(signal.SIGTERM) == 143
    ledger = box.ledger()
    assert ledger["L1"]["kernel_dropped"] > 0
    assert sum(count for port, count in complete(box.events()).items() if port >= 30_000) == EXCHANGES * 100
    assert "seconds in which the kernel refused" in box.errors()


# -- twice what a worker takes, for longer -----------------------------------------------------------------------------


class SlowWorker:
    """A capture process whose only worker is played here, and takes so many bytes a second."""

    def __init__(self, scene: Scene, rate: float, *, shedding: bool) -> None:
        self.home = scene.directory / f"run-{shedding}"
        self.home.mkdir(mode=0o700)
        self.rate = rate
        config = Config(
            source=Source(interfaces=["s0"]),
            shard=Shard(batch_bytes=65536, link_bytes=1 << 22),
            workers=Workers(count=1),
            run=Run(observer="sensor-1"),
            shedding=Shedding(enabled=shedding),
        )
        save_resolved(config, self.home)
        self.page = Page.create(self.home / "capture-0.stats", capture_layout(1, VERDICTS))
        self.own = Page.create(self.home / "worker-0.stats", worker_layout(1))
        self.bus = Bus()
        self.inlet = FrameInlet(self.bus, config, self.home, 0)
        self.pipeline = Pipeline(config)
        self.lines: list[bytes] = []
        words = (sys.executable, "-m", "appliance.capture", self.home, 0)
        self.process = scene.server.start(*words, stdin=subprocess.PIPE)
        eventually(lambda: self.page["state"] == READY, "the capture is ready")

    def take(self) -> int:
        """The next batch, if there is one; its bytes."""
        message = self.inlet.receive()
        if message is None:
            return 0
        self.pipeline.feed(message)
        self.lines += [line for _, _, body in self.pipeline.take() for line in body.split(b"\n")]
        self.own["ended.0"] |= header(message).end
        return len(message)

    def work_during(self, sender: subprocess.Popen[bytes]) -> None:
        """At its rate until the sender has ended."""
        last, allowed = time.monotonic(), 0.0
        while sender.poll() is None:
            now = time.monotonic()
            allowed = min(allowed + (now - last) * self.rate, self.rate / 20)
            last = now
            while allowed > 0 and (size := self.take()):
                allowed -= size
            time.sleep(0.002)

    def finish(self) -> Counter[int]:
        """Stops the capture and takes the rest at any rate; whole transactions by client port."""
        self.process.terminate()
        while self.process.poll() is None:
            if not self.take():
                time.sleep(0.002)
        self.pipeline.finish()
        self.lines += [line for _, _, body in self.pipeline.take() for line in body.split(b"\n")]
        self.bus.close()
        return complete(map(json.loads, self.lines))


def test_at_twice_what_a_worker_takes_connections_are_whole_and_its_time_is_used(scene: Scene) -> None:
    made = connections(2000, 200, 20_000)
    file = write(scene.directory / "long.pcap", made)
    whole, used = {}, {}
    for shedding in (True, False):
        worker = SlowWorker(scene, file.stat().st_size / 10 / 2, shedding=shedding)
        worker.work_during(scene.client.python("storm.py", "c0", file))
        found = worker.finish()
        page = worker.page.snapshot()
        kept = len(made) - page["shed_flows"]
        whole[shedding] = sum(found.values()) / (EXCHANGES * kept)
        used[shedding] = page["sent.0"]
        rest = page["frames"] - page["shed_frames"] - page["offered.0"]
        assert rest == sum(value for name, value in page.items() if name.startswith("rejected."))
        assert page["offered.0"] == page["sent.0"] + page["dropped_backlog.0"] + page["dropped_stopping.0"]
    assert whole[True] >= 0.95, (whole, used)
    assert whole[False] < 0.6, (whole, used)
    assert used[True] > 0.6 * used[False], (whole, used)
