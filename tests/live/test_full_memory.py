"""A run directory whose file system is full, as /dev/shm soon is in a container: that is said, and nothing hangs."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from box import Box, appliance, resume
from builders import get, talk
from eventually import PATIENCE_S, eventually
from load import Load
from pcapfile import PcapWriter
from scene import Scene

pytestmark = pytest.mark.root
SMALL_BATCHES = ("--set", "shard.batch_bytes=65536")  # a slot has 264 kB, and a worker keeps 16 of them
LIVE = ("--feed", "off", "--workers", 1, *SMALL_BATCHES)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes a file system of so many bytes."""
    made: list[Path] = []

    def make(size: str) -> Path:
        place = Path(tempfile.mkdtemp(prefix="shm-"))
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=False, timeout=PATIENCE_S
        )
        if done.returncode:
            pytest.skip("cannot mount a file system")
        made.append(place)
        return place

    yield make
    for place in made:
        subprocess.run(["umount", "--lazy", place], check=True, timeout=PATIENCE_S)
        place.rmdir()


def long_file(path: Path) -> Path:
    """Some 6 MB of requests and responses."""
    with PcapWriter(path) as out:
        for number in range(400):
            for ns, frame in talk(get(number, body=bytes(14_000)), client_port=1024 + number).frames:
                out.write(ns, frame)
    return path


def test_frames_that_a_full_file_system_costs_are_counted_as_that(
    scene: Scene, memory: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(memory("10m")))
    links = ("--set", "shard.link_bytes=4194304", "--set", "run.hung_s=60", "--set", "shedding.enabled=false")
    box = scene.capture(*LIVE, *links)
    pid = box.send("worker-0", signal.SIGSTOP)
    load = Load(scene)
    try:
        eventually(lambda: box.count("capture-0", "dropped_memory.0"), "frames are dropped")
        eventually(lambda: f"frames dropped because {box.home} is full" in box.errors(), "it is said")
    finally:
        resume(pid)
        load.stop()
    assert "workers fell behind" not in box.errors()
    assert box.count("capture-0", "dropped_backlog.0") == 0
    assert box.stop() == 143
    box.ledger()


def test_a_file_system_that_may_become_full_is_a_warning_at_the_start(
    scene: Scene, memory: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(memory("64m")))
    box = scene.capture("--feed", "off", "--workers", 1)
    eventually(lambda: f"{box.home} has 67.1 MB free, and batches may take" in box.errors(), "it is said")
    assert "--shm-size" in box.errors()
    assert box.stop() == 143


def test_a_live_run_that_could_not_go_on_for_long_does_not_start(
    scene: Scene, memory: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(memory("4m")))
    box = Box(scene.server, scene.directory, "-i", "s0", "--metrics", "off", *LIVE)
    try:
        assert box.wait() == 2
        assert f"{box.home} has 4.1" in box.errors()
        assert "lower shard.batch_bytes" in box.errors()
        assert "Traceback" not in box.errors()
    finally:
        box.close()


@pytest.mark.parametrize("size", ["16k", "40k", "100k", "300k", "1m", "3m"])
def test_a_file_that_needs_more_memory_than_there_is_ends_with_that(
    size: str, memory: Callable[[str], Path], tmp_path: Path
) -> None:
    source, place = long_file(tmp_path / "long.pcap"), memory(size)
    words = ("--feed", "off", "--metrics", "off", "--run-dir", place / "r", "--workers", 1, *SMALL_BATCHES)
    done = appliance("run", "-r", source, "-o", tmp_path / "events.jsonl", *words)
    assert done.code == 2, done.err
    assert "--shm-size" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("batch_bytes", [65536, 4096])
def test_a_file_goes_through_a_small_file_system_that_holds_what_it_needs(
    batch_bytes: int, memory: Callable[[str], Path], tmp_path: Path
) -> None:
    """Short batches fill many slots in a turn: those must go out before the capture takes others."""
    source, batches = long_file(tmp_path / "long.pcap"), f"shard.batch_bytes={batch_bytes}"
    words = ("--feed", "off", "--metrics", "off", "--run-dir", memory("10m") / "r", "--workers", 1, "--set", batches)
    done = appliance("run", "-r", source, "-o", tmp_path / "events.jsonl", *words)
    assert done.code == 0, done.err
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 400
