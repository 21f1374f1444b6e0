"""Processes that are killed, stopped and interrupted under load: what is lost is counted, everything else is there."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import termios
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import pytest
from box import Box, alive
from capture_files import records
from conversation import Conversation
from eventually import PATIENCE_S, eventually
from load import Load
from scene import PORT, Metrics, Scene
from traffic import write_sample
from transactions import Transaction, assert_contiguous, assert_same, of_event

from appliance.capture.sharder import Sharder

SERVER, CLIENT = "192.0.2.1", "192.0.2.2"
NO_FEED = ("--feed", "off", "--metrics", "off")
SMALL_LINKS = ("--set", "shard.batch_bytes=65536", "--set", "shard.link_bytes=1048576")
root = pytest.mark.root


def worker_of(box: Box, workers: int) -> Callable[[int], int]:
    """Return a function that finds the worker of a client port's connection, by the run's own key."""
    key = (box.home / "key").read_bytes()

    @cache
    def worker(port: int) -> int:
        sharder = Sharder(key, workers)
        frame = Conversation(CLIENT, SERVER, port, PORT).handshake().frames[0]
        sharder.push(*frame)
        sharder.seal()
        return int(sharder.take()[0][0])

    return worker


def of_others(some: Iterable[Transaction], worker: Callable[[int], int], not_of: int) -> list[Transaction]:
    """Those whose connection is not one of this worker."""
    return [one for one in some if worker(one.client_port) != not_of]


def assert_unique(events: Iterable[Transaction]) -> None:
    """No request is reported twice."""
    requests = Counter(one.target for one in events if one.target)
    assert set(requests.values()) == {1}, requests.most_common(3)


def made(box: Box, name: str) -> int:
    """Events that a worker has made so far."""
    return sum(value for slot, value in box.page(name).snapshot().items() if slot.startswith("made."))


def wait_more(count: Callable[[], int], what: str, more: int = 50) -> None:
    """Until a count has grown."""
    before = count()
    eventually(lambda: count() >= before + more, what)


def restarts(box: Box) -> dict[str, int]:
    """Counters of restarts that are not 0."""
    return {slot: n for slot, n in box.page("supervisor").snapshot().items() if slot.startswith("restarts.") and n}


def seen(box: Box) -> list[Transaction]:
    return [of_event(event) for event in box.events()]


# -- workers -----------------------------------------------------------------------------------------------------------


@root
def test_a_killed_worker_costs_the_others_nothing(scene: Scene) -> None:
    box = scene.capture("--workers", 3, "--feed", "off")
    load = Load(scene)
    wait_more(lambda: made(box, "worker-1"), "worker 1 makes events")
    # Stopped first, it has frames waiting before it: its successor takes them over.
    box.send("worker-1", signal.SIGSTOP)
    wait_more(lambda: box.count("capture-0", "sent.1"), "frames are sent to worker 1", 100)
    box.kill("worker-1")
    wait_more(lambda: made(box, "worker-1"), "worker 1 goes on")
    metrics = Metrics(scene.server)
    assert metrics("appliance_worker_restarts_total", worker="1") == 1
    assert metrics("appliance_worker_restarts_total", worker="0") == 0
    later = Load(scene, "later")
    wait_more(lambda: made(box, "worker-1"), "worker 1 goes on", 100)
    later_done = later.stop()
    done = load.stop()
    worker = worker_of(box, 3)
    assert box.stop() == 143

    events = seen(box)
    assert_same(of_others(events, worker, 1), of_others([*done, *later_done], worker, 1))
    assert set(later_done) <= set(events)
    assert_unique(events)
    ledger = box.ledger()
    lost = box.count("worker-1", "lost.0") + box.count("worker-1", "crash_lost")
    assert ledger["L3"]["lost"] + ledger["L4"]["crash_lost"] == lost
    assert ledger["L3"]["lost"] == 0
    rejected = sum(count for reason, count in ledger["L4"].items() if reason.startswith("rejected."))
    assert ledger["L3"]["sent"] == ledger["L4"]["segments"] + rejected + lost
    assert [box.count(f"worker-{w}", "lost.0") + box.count(f"worker-{w}", "crash_lost") for w in (0, 2)] == [0, 0]
    assert restarts(box) == {"restarts.worker.1": 1}
    assert "worker 1 was killed by SIGKILL: restarting now" in box.errors()


@root
def test_what_is_seen_again_after_a_kill_is_never_paired_wrongly(scene: Scene) -> None:
    box = scene.capture("--workers", 1, *NO_FEED)
    load = Load(scene)
    for _ in range(3):
        wait_more(lambda: made(box, "worker-0"), "the worker makes events")
        box.kill("worker-0")
    wait_more(lambda: made(box, "worker-0"), "the worker makes events")
    done = {one.target: one for one in load.stop()}
    assert box.stop() == 143
    for event in box.events():
        if event["appliance"]["pairing"] not in ("ordered", "verified"):
            continue
        one, told = of_event(event), done[event["url"]["original"]]
        assert (one.method, one.status, one.client_port) == (told.method, told.status, told.client_port), event
        if event["appliance"]["response"] == {"complete": True, "missing_bytes": 0}:
            assert one.response_body == told.response_body, event
    box.ledger()
    assert restarts(box) == {"restarts.worker.0": 3}


@root
def test_a_stopped_worker_is_not_waited_for(scene: Scene) -> None:
    box = scene.capture("--workers", 2, *SMALL_LINKS, "--feed", "off", "--set", "shedding.enabled=false")
    load = Load(scene)
    wait_more(lambda: made(box, "worker-0"), "worker 0 makes events")
    box.send("worker-0", signal.SIGSTOP)
    eventually(lambda: box.count("capture-0", "dropped_backlog.0") > 100, "frames for worker 0 are dropped")
    wait_more(lambda: box.count("capture-0", "frames"), "the capture goes on", 500)
    wait_more(lambda: made(box, "worker-1"), "worker 1 goes on")
    metrics = Metrics(scene.server)
    assert metrics("appliance_frames_outcome_total", stage="link", outcome="dropped_backlog", worker="0") > 100
    assert metrics("appliance_frames_outcome_total", stage="link", outcome="dropped_backlog", worker="1") == 0
    box.send("worker-0", signal.SIGCONT)
    wait_more(lambda: made(box, "worker-0"), "worker 0 goes on")
    done = load.stop()
    worker = worker_of(box, 2)
    assert box.stop() == 143

    assert_same(of_others(seen(box), worker, 0), of_others(done, worker, 0))
    ledger = box.ledger()
    assert ledger["L3"]["dropped_backlog"] == box.count("capture-0", "dropped_backlog.0")
    assert ledger["L3"]["lost"] == ledger["L4"]["crash_lost"] == 0
    assert restarts(box) == {}
    assert "frames dropped because workers fell behind" in box.errors()


# -- feed and capture --------------------------------------------------------------------------------------------------


@root
def test_a_killed_feed_loses_only_what_the_ledger_says(scene: Scene) -> None:
    box = scene.capture("--workers", 2)
    listener = scene.listen()
    load = Load(scene)
    wait_more(lambda: box.count("feed", "written_events"), "events are written")
    box.send("feed", signal.SIGSTOP)
    wait_more(lambda: made(box, "worker-0") + made(box, "worker-1"), "events wait for the feed")
    box.kill("feed")
    wait_more(lambda: box.count("feed", "written_events"), "events are written again")
    later = Load(scene, "later")
    wait_more(lambda: box.count("feed", "written_events"), "events are written again", 100)
    later_done = later.stop()
    done = load.stop() + later_done
    assert box.stop() == 143

    events = seen(box)
    assert_unique(events)
    assert set(later_done) <= set(events) <= set(done)
    feed = box.ledger()["L7"]
    assert feed["made"] == len(done)
    dropped = feed["dropped_backlog"] + feed["dropped_share"]
    assert feed["published"] + feed["lost"] + feed["crash_lost"] + dropped == len(done)
    assert feed["lost"] == 0  # what waited for it was its successor's
    assert len(events) <= feed["published"]
    assert restarts(box) == {"restarts.feed": 1}
    heard = json.loads(listener.communicate(timeout=PATIENCE_S)[0])
    assert_contiguous(heard["messages"])
    assert len({epoch for _, epoch, _, _ in heard["messages"]}) == 2


@root
def test_a_killed_capture_is_started_again(scene: Scene) -> None:
    box = scene.capture("--workers", 2, *NO_FEED)
    load = Load(scene)
    wait_more(lambda: box.count("capture-0", "frames"), "frames are captured", 1000)
    box.kill("capture-0")
    later = Load(scene, "later")
    wait_more(lambda: box.count("feed", "written_events"), "events are written again", 100)
    later_done = later.stop()
    done = load.stop()
    assert box.stop() == 143
    events = seen(box)
    assert_unique(events)
    assert set(later_done) <= set(events)
    assert len(set(events) & set(done)) > 50
    box.ledger()
    assert restarts(box) == {"restarts.capture.0": 1}


# -- while a file is read ----------------------------------------------------------------------------------------------


class PipeBox:
    """The appliance with the sample capture on its standard input, as far as `feed` has put it there."""

    def __init__(self, box: Box, pipe: BinaryIO, path: Path) -> None:
        self.transactions = write_sample(path)["transactions"]
        self.box = box
        self._pipe = pipe
        self._data = path.read_bytes()
        self._ends = list(accumulate((16 + len(frame) for _, _, frame in records(path)), initial=24))
        self._fed = 0
        self._give(4096)  # it is ready once it has seen what kind of file it is
        box.wait_ready()

    def _give(self, end: int) -> None:
        self._pipe.write(self._data[self._fed : end])
        self._pipe.flush()
        self._fed = end

    def feed(self, share: float) -> int:
        """Up to this share of the file, a bit at a time; waits until all of it was taken, and some of it is out.
        Returns how many whole frames that were; the next one is given in part."""
        end = self._ends[int(share * len(self._ends))] + 20
        for middle in range(self._fed, end, 10_000):
            self._give(middle)
            time.sleep(0.005)
        self._give(end)
        eventually(lambda: not self._waiting(), "what was given is taken")
        eventually(lambda: self.box.count("feed", "written_events"), "some events are written")
        return sum(known <= end for known in self._ends) - 1

    def _waiting(self) -> int:
        return int(struct.unpack("i", fcntl.ioctl(self._pipe, termios.FIONREAD, b"1234"))[0])

    def finish(self) -> int:
        """Gives it the rest; its exit code."""
        with suppress(BrokenPipeError):  # it may read no more: its exit code says so
            self._give(len(self._data))
        with suppress(BrokenPipeError):
            self._pipe.close()
        return self.box.wait()


@pytest.fixture
def pipe_box(run_box: Callable[..., Box], tmp_path: Path) -> Iterator[PipeBox]:
    reader, writer = os.pipe()
    box = run_box("-r", "-", "--workers", 2, *NO_FEED, stdin=reader)
    os.close(reader)
    with suppress(BrokenPipeError), os.fdopen(writer, "wb") as pipe:
        yield PipeBox(box, pipe, tmp_path / "sample.pcap")


def test_what_came_before_a_pause_comes_out_during_it(pipe_box: PipeBox) -> None:
    frames = pipe_box.feed(0.4)
    eventually(lambda: pipe_box.box.count("capture-0", "frames") == frames, "every whole frame is read")
    eventually(lambda: pipe_box.box.count("feed", "written_events") > 50, "events are written")
    assert pipe_box.finish() == 0
    assert len(pipe_box.box.events()) == pipe_box.transactions
    pipe_box.box.ledger()


def test_a_worker_killed_while_a_file_is_read_loses_at_most_what_it_had(pipe_box: PipeBox) -> None:
    pipe_box.feed(0.4)
    pipe_box.box.kill("worker-0")
    assert pipe_box.finish() == 1  # what was lost was asked for
    events = pipe_box.box.events()
    assert pipe_box.transactions / 2 < len(events) <= pipe_box.transactions
    assert len({event["event"]["id"] for event in events}) == len(events)
    pipe_box.box.ledger()
    assert restarts(pipe_box.box) == {"restarts.worker.0": 1}


def test_a_capture_killed_while_a_file_is_read_fails_the_run(pipe_box: PipeBox) -> None:
    pipe_box.feed(0.4)
    pipe_box.box.send("capture-0", signal.SIGKILL)
    assert pipe_box.finish() == 1
    assert "cannot be resumed" in pipe_box.box.errors()
    assert 0 < len(pipe_box.box.events()) < pipe_box.transactions
    pipe_box.box.ledger()


def test_a_term_signal_while_a_file_is_read_brings_out_what_was_read(pipe_box: PipeBox) -> None:
    pipe_box.feed(0.4)
    assert pipe_box.box.stop(signal.SIGTERM) == 143
    assert 0 < len(pipe_box.box.events()) < pipe_box.transactions
    pipe_box.box.ledger()


def test_a_term_signal_before_any_input_is_a_clean_end(run_box: Callable[..., Box]) -> None:
    reader, writer = os.pipe()
    box = run_box("-r", "-", *NO_FEED, stdin=reader)
    os.close(reader)
    with os.fdopen(writer, "wb"):
        eventually(lambda: box.names() and box.count(box.names()[0], "starts"), "the capture has begun to wait")
        assert box.stop(signal.SIGTERM) == 143
    assert box.events() == []
    box.ledger()


# -- the supervisor ----------------------------------------------------------------------------------------------------


def assert_nobody_is_left(box: Box) -> None:
    pids = box.pids()
    assert all(map(alive, pids))
    box.process.kill()
    box.process.wait(PATIENCE_S)
    eventually(lambda: not any(map(alive, pids)), "every process has left")


@root
def test_a_killed_supervisor_leaves_nobody_behind(scene: Scene) -> None:
    box = scene.capture("--workers", 2)
    load = Load(scene)
    wait_more(lambda: box.count("feed", "written_events"), "events are written")
    box.send("worker-1", signal.SIGSTOP)  # nor one that cannot see it
    assert_nobody_is_left(box)
    assert len(load.stop()) > 50


def test_a_killed_supervisor_leaves_nobody_waiting_for_standard_input(pipe_box: PipeBox) -> None:
    pipe_box.feed(0.3)
    assert_nobody_is_left(pipe_box.box)


@root
def test_ctrl_c_under_load_drains_and_prints_the_ledger(scene: Scene) -> None:
    box = scene.capture("--workers", 2)
    load = Load(scene)
    wait_more(lambda: box.count("feed", "written_events"), "events are written", 200)
    os.killpg(box.process.pid, signal.SIGINT)  # as a terminal does it
    assert box.wait() == 130  # and not 1: nothing had to be killed at the end of the five seconds
    done = load.stop()
    box.ledger()
    assert "ledger closed: nothing is unaccounted for" in box.errors()
    assert "not drained" not in box.errors()
    whole = [one for one in seen(box) if one.status and one.target]
    assert len(whole) >= 200
    ports = {one.client_port: 0 for one in whole}
    assert ports.keys() <= {one.client_port for one in done}
