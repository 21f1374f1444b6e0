"""More than the machine can take: whole new connections are left out, those followed stay whole, and it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from box import Box
from conversation import START_NS, Conversation
from eventually import PATIENCE_S, eventually
from exchange import exchange
from impair import interleave
from pcapfile import PcapWriter
from scene import Metrics, Scene
from transactions import Event

from appliance.config.schema import Config, Run, Shard, Shedding, Source, Workers
from appliance.ipc.frame_batch import header
from appliance.ipc.frame_link import FrameReceiver
from appliance.ipc.sockets import Bus
from appliance.runtime.resolved_config import save_resolved
from appliance.stats.layout import capture_layout, worker_layout
from appliance.stats.names import READY
from appliance.stats.page import Page
from appliance.wire.tcp_locator import VERDICTS
from workers.pipeline import Pipeline

pytestmark = pytest.mark.root

SECOND = 1_000_000_000
RING_BYTES = 2_000_000  # twice the smallest ring
MOST_AT_ONCE = 280_000  # bytes that a slow worker may make up for
EXCHANGES = 3
TRIES = 4
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
    """1200 connections, 66 MB for a link of 24 MiB; the worker stands still until `enough` of the page is true."""

    FIRST, COUNT = 20_000, 1200

    def __init__(self, scene: Scene, enough: Callable[[Page], bool], *words: str) -> None:
        self.made = connections(self.COUNT, 200, self.FIRST)
        file = write(scene.directory / "storm.pcap", self.made)
        self.box = scene.capture(*LINKS, *words)
        sender = scene.client.python("storm.py", "c0", file)
        eventually(lambda: self.box.count("capture-0", "frames") > 5000, "the storm has begun")
        page = self.box.page("capture-0")
        worker = self.box.send("worker-0", signal.SIGSTOP)
        eventually(lambda: enough(page), "the capture goes on while the worker takes nothing, and does what it must")
        os.kill(worker, signal.SIGCONT)
        assert sender.wait(PATIENCE_S) == 0
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


def arrived(pid: int) -> int:
    """Bytes that came to s0 so far, where this process is."""
    lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.split()[0] == "s0:")


def turn(page: Page) -> None:
    """Waits until a process has turned its loop from end to end."""
    for _ in range(2):
        before = page["progress_ns"]
        eventually(lambda: page["progress_ns"] != before, "it turns its loop")  # noqa: B023


def lost_in_capture(box: Box) -> int:
    page = box.page("capture-0").snapshot()
    return page["kernel_dropped"] + page["dropped_backlog.0"]


def test_connections_that_are_followed_stay_whole_while_others_are_left_out(scene: Scene) -> None:
    def enough(page: Page) -> bool:
        return page["frames"] > 20_000 and page["shed_steps.0"] > 160 and page["shed_flows"] > 200

    storm = Storm(scene, enough, "--metrics", "127.0.0.1:9470")
    box = storm.box
    eventually(lambda: box.count("capture-0", "shed_steps.0") == 0, "nothing new is left out any more")

    metrics = Metrics(scene.server)
    left_out = int(metrics("appliance_capture_shed_flows_total", interface="s0"))
    frames = int(metrics("appliance_capture_shed_frames_total", interface="s0"))
    assert metrics("appliance_capture_shed_ratio", worker="0") == 0
    assert left_out > 100
    after = write(scene.directory / "after.pcap", connections(100, 100, 30_000))
    assert scene.client.python("storm.py", "c0", after).wait(PATIENCE_S) == 0
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
    assert "shed as a whole because of overload" in box.errors()


def test_without_it_random_batches_are_dropped(scene: Scene) -> None:
    def enough(page: Page) -> bool:
        return page["dropped_backlog.0"] > 2000

    storm = Storm(scene, enough, "--metrics", "off", "--set", "shedding.enabled=false")
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
    page = box.page("capture-0")
    most = 0

    def overflows() -> bool:
        return arrived(page["pid"]) > before + RING_BYTES or sender.poll() is not None

    while sender.poll() is None:  # a capture that runs a moment, and then not until twice its ring has come
        os.kill(page["pid"], signal.SIGSTOP)
        before = arrived(page["pid"])
        eventually(overflows, "more comes than the ring takes")
        os.kill(page["pid"], signal.SIGCONT)
        turn(page)
        time.sleep(0.01)
        most = max(most, page["kernel_shed_steps"])
    assert most > 0
    eventually(lambda: box.count("capture-0", "shed_steps.0") == 0, "nothing new is left out any more")
    eventually(lambda: box.count("capture-0", "kernel_shed_steps") == 0, "the kernel refuses nothing any more")
    turn(page)  # the filter is the user's again
    last = undisturbed(scene, box)
    assert box.stop(signal.SIGTERM) == 143
    ledger = box.ledger()
    assert ledger["L1"]["kernel_dropped"] > 0
    assert sum(count for port, count in complete(box.events()).items() if port >= last) == EXCHANGES * 50
    assert "seconds in which the kernel refused" in box.errors()


def undisturbed(scene: Scene, box: Box) -> int:
    """Sends 50 connections until the small ring had room for all of them; the first client port of these."""
    page = box.page("capture-0")

    def lost() -> tuple[int, int]:
        return page["kernel_dropped"], page["shed_flows"]

    for first in range(30_000, 50_000, 1000):
        before = lost()
        file = write(scene.directory / "after.pcap", connections(50, 50, first))
        assert scene.client.python("storm.py", "c0", file).wait(PATIENCE_S) == 0
        box.wait_quiet()
        eventually(
            lambda: page["kernel_received"] == page["frames"] + page["kernel_dropped"], "all is read and counted"
        )
        if lost() == before:
            return first
    pytest.fail("the ring never had room")


# -- twice what a worker takes, for longer -----------------------------------------------------------------------------


class SlowWorker:
    """A capture process whose only worker is played here, and takes half the bytes that come."""

    def __init__(self, scene: Scene, *, shedding: bool) -> None:
        self.home = scene.directory / f"run-{shedding}-{sum(1 for _ in scene.directory.iterdir())}"
        self.home.mkdir(mode=0o700)
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
        self.receiver = FrameReceiver(self.bus, config, self.home, 0)
        self.pipeline = Pipeline(config)
        self.lines: list[bytes] = []
        words = (sys.executable, "-m", "appliance.capture.process", self.home, 0)
        self.process = scene.server.start(*words, stdin=subprocess.PIPE)
        eventually(lambda: self.page["state"] == READY, "the capture is ready")

    def take(self) -> int:
        """The next batch, if there is one; its bytes."""
        message = self.receiver.receive()
        if message is None:
            return 0
        self.pipeline.feed(message)
        self.lines += [line for _, _, body in self.pipeline.take() for line in body.split(b"\n")]
        self.own["ended.0"] |= header(message).end
        return len(message)

    def work_during(self, sender: subprocess.Popen[bytes]) -> None:
        """Until the sender has ended. What it did not take in its time it does not take later, but for a little."""
        last, allowed = self.page["bytes"], 0.0
        while sender.poll() is None:
            now = self.page["bytes"]
            allowed = min(allowed + (now - last) / 2, MOST_AT_ONCE)
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


def at_twice_what_a_worker_takes(scene: Scene) -> tuple[dict[bool, float], dict[bool, int]]:
    """Return, with and without shedding, the share of whole transactions and the frames that the worker received."""
    made = connections(2000, 200, 20_000)
    file = write(scene.directory / "long.pcap", made)
    whole, used = {}, {}
    for shedding in (True, False):
        worker = SlowWorker(scene, shedding=shedding)
        worker.work_during(scene.client.python("storm.py", "c0", file))
        found = worker.finish()
        page = worker.page.snapshot()
        kept = len(made) - page["shed_flows"]
        whole[shedding] = sum(found.values()) / (EXCHANGES * kept)
        used[shedding] = page["sent.0"]
        rest = page["frames"] - page["shed_frames"] - page["offered.0"]
        assert rest == sum(value for name, value in page.items() if name.startswith("rejected."))
        assert page["offered.0"] == page["sent.0"] + page["dropped_backlog.0"] + page["dropped_stopping.0"]
    return whole, used


def test_at_twice_what_a_worker_takes_connections_are_whole_and_its_time_is_used(scene: Scene) -> None:
    for _ in range(TRIES):  # other work on the machine takes the worker's time too, which is overload of another size
        whole, used = at_twice_what_a_worker_takes(scene)
        if whole[True] >= 0.95 and whole[False] < 0.6 and used[True] > 0.6 * used[False]:
            return
    pytest.fail(f"in none of {TRIES} tries: {whole}, {used}")
