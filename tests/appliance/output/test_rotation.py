"""Output files that are closed by size and age, compressed, and removed; kills and full disks in between."""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import zstandard
from eventually import PATIENCE_S, eventually
from feed_process import FeedProcess, feed_config
from hypothesis import given
from hypothesis import strategies as st

from appliance.config.schema import Config, Output
from appliance.output.last_line import end_of_lines
from appliance.output.rotation import Archive
from appliance.stats.layout import feed_layout
from appliance.stats.page import Page

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "out"
    made.mkdir()
    return made


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    made = tmp_path / "run"
    made.mkdir(mode=0o700)
    return made


def config(folder: Path, **output: object) -> Config:
    options = msgspec.convert({"path": str(folder / "events.jsonl"), **output}, Output)
    return msgspec.structs.replace(feed_config(), output=options)


def event(number: int, size: int = 100) -> bytes:
    return json.dumps({"n": number, "fill": random.Random(number).randbytes(size).hex()[:size]}).encode()


def closed(folder: Path) -> list[Path]:
    """Files under their last name, oldest first."""
    return sorted(path for path in folder.iterdir() if path.name.startswith("events-"))


def content(path: Path) -> bytes:
    if path.suffix == ".zst":
        with path.open("rb") as file:
            return zstandard.ZstdDecompressor().stream_reader(file).read()
    return path.read_bytes()


def numbers(folder: Path) -> list[int]:
    """Of all events in all files, in their order; every line must be whole."""
    found = []
    for path in [*closed(folder), folder / "events.jsonl"]:
        data = content(path)
        assert not data or data.endswith(b"\n")
        found += [json.loads(line)["n"] for line in data.splitlines()]
    return found


def test_files_are_closed_before_they_grow_too_large(run_dir: Path, folder: Path) -> None:
    with FeedProcess(run_dir, config(folder, rotate_bytes=5000)) as feed:
        for number in range(200):
            feed.workers[0].send(1, event(number))
        feed.workers[0].end()
        assert feed.wait() == 0
        assert numbers(folder) == list(range(200))
        sizes = [path.stat().st_size for path in closed(folder)]
        assert max(sizes) <= 5000
        assert min(sizes) > 5000 - 130
        assert feed.page["rotations"] == len(sizes)


def test_one_message_that_is_larger_than_a_file_has_one_to_itself(run_dir: Path, folder: Path) -> None:
    with FeedProcess(run_dir, config(folder, rotate_bytes=1000)) as feed:
        for number in range(3):
            feed.workers[0].send(1, event(number, 3000))
        feed.workers[0].end()
        assert feed.wait() == 0
        assert numbers(folder) == [0, 1, 2]
        assert len(closed(folder)) == 2


def test_a_file_is_closed_when_it_is_old_and_not_when_it_is_empty(run_dir: Path, folder: Path) -> None:
    with FeedProcess(run_dir, config(folder, rotate_s=0.3)) as feed:
        feed.workers[0].send(1, event(0))
        eventually(lambda: closed(folder), "the file is closed although nothing comes")
        begun = feed.page["progress_ns"]
        eventually(lambda: feed.page["progress_ns"] > begun + 700_000_000, "the feed looks on for two files' age")
        assert len(closed(folder)) == 1
        feed.workers[0].send(1, event(1))
        eventually(lambda: len(closed(folder)) == 2, "the next one, too")
        assert numbers(folder) == [0, 1]


def test_closed_files_are_compressed(run_dir: Path, folder: Path) -> None:
    with FeedProcess(run_dir, config(folder, rotate_bytes=5000, compress="zstd")) as feed:
        for number in range(200):
            feed.workers[0].send(1, event(number))
        eventually(lambda: feed.page["compressed_files"] == feed.page["rotations"] > 3, "all are compressed")
        feed.workers[0].end()
        assert feed.wait() == 0
        assert {path.suffix for path in closed(folder)} == {".zst"}
        assert numbers(folder) == list(range(200))


def test_the_oldest_files_beyond_a_number_are_removed(run_dir: Path, folder: Path) -> None:
    with FeedProcess(run_dir, config(folder, rotate_bytes=5000, keep_files=3)) as feed:
        (folder / "events-notes.jsonl").write_text("somebody else's")
        for number in range(400):
            feed.workers[0].send(1, event(number))
        feed.workers[0].end()
        assert feed.wait() == 0
        (folder / "events-notes.jsonl").unlink()
        assert len(closed(folder)) == 3
        left = numbers(folder)
        assert left == list(range(left[0], 400))
        assert feed.page["removed_files"] == feed.page["rotations"] - 3


def test_the_oldest_files_beyond_a_size_are_removed(run_dir: Path, folder: Path) -> None:
    with FeedProcess(run_dir, config(folder, rotate_bytes=5000, keep_bytes=17_000, compress="zstd")) as feed:
        for number in range(1500):
            feed.workers[0].send(1, event(number))
        feed.workers[0].end()
        assert feed.wait() == 0
        sizes = [path.stat().st_size for path in closed(folder)]
        assert 17_000 - max(sizes) < sum(sizes) <= 17_000
        left = numbers(folder)
        assert left == list(range(left[0], 1500))


# -- kills -------------------------------------------------------------------------------------------------------------


def test_no_line_is_torn_by_kills(run_dir: Path, folder: Path) -> None:
    chance, sent = random.Random(1), 0
    with FeedProcess(run_dir, config(folder, rotate_bytes=400_000, compress="zstd")) as feed:
        for _ in range(10):
            for _ in range(20):
                feed.workers[0].send(1, *(event(sent + n, 20_000) for n in range(5)))
                sent += 5
            time.sleep(chance.random() * 0.05)
            feed.kill()
            feed.start()
        feed.workers[0].end()
        assert feed.wait() == 0
        found = numbers(folder)
        assert found == sorted(set(found))
        assert feed.page["rotations"] > 0
        # A kill may come between a write and its counter, never before the write.
        assert feed.page["written_events"] <= len(found) <= feed.page["received.0"]
        assert not list(folder.glob("*.part"))


def test_what_a_killed_life_left_undone_is_done(run_dir: Path, folder: Path) -> None:
    stamps = ["20261122T100000.000000Z", "20261122T110000.000000Z", "20261122T120000.000000Z"]
    for number, stamp in enumerate(stamps):
        (folder / f"events-{stamp}.jsonl").write_bytes(event(number) + b"\n")
    whole = zstandard.compress(event(0) + b"\n")
    (folder / f"events-{stamps[0]}.jsonl.zst").write_bytes(whole)  # killed before it removed the other
    (folder / f"events-{stamps[1]}.jsonl.zst.part").write_bytes(b"half of it")
    (folder / "events.jsonl").write_bytes(event(3) + b"\n" + event(4)[:50])
    with FeedProcess(run_dir, config(folder, rotate_bytes=5000, compress="zstd")) as feed:
        feed.workers[0].send(1, event(5))
        eventually(lambda: [path.suffix for path in closed(folder)] == [".zst"] * 3, "all are compressed")
        feed.workers[0].end()
        assert feed.wait() == 0
        assert numbers(folder) == [0, 1, 2, 3, 5]
        assert feed.page["torn_bytes"] == 50
        assert feed.page["compressed_files"] == 2


@given(st.lists(st.integers(0, 300), max_size=6), st.integers(0, 200_000))
def test_half_a_line_is_found_wherever_it_was_torn(sizes: list[int], torn: int) -> None:
    path = Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp") / f"torn-{os.getpid()}"
    whole = b"".join(event(n, size) + b"\n" for n, size in enumerate(sizes))
    last = event(99, 200_000)
    path.write_bytes(whole + last[:torn])
    try:
        assert end_of_lines(path) == len(whole)
    finally:
        path.unlink()


@pytest.mark.parametrize("last", [b"no event of ours", b'{"n": 1}'])
def test_what_is_no_half_event_is_left_alone(tmp_path: Path, last: bytes) -> None:
    (tmp_path / "x").write_bytes(b'{"n": 0}\n' + last)
    assert end_of_lines(tmp_path / "x") == 9 + len(last)


def test_names_sort_by_time_whatever_the_clock_does(tmp_path: Path) -> None:
    page = Page.create(tmp_path / "page", feed_layout(1))
    archive = Archive(tmp_path / "events.jsonl", Output(path="x"), page)
    made, now = [], datetime(2026, 11, 22, tzinfo=UTC)
    for step in (0, 0, 5, -3600, -1):
        now += timedelta(seconds=step)
        made.append(archive.free_name(now))
        made[-1].touch()
    assert made == sorted(set(made)) == archive.closed()


class Busy(Archive):
    """While it compresses a file, others are closed."""

    def __init__(self, path: Path, options: Output, page: Page) -> None:
        super().__init__(path, options, page)
        self.later: list[bytes] = []

    def _compress(self, path: Path) -> None:
        while self.later:
            made = self.free_name(datetime(2026, 11, 22, tzinfo=UTC))
            made.write_bytes(self.later.pop())
            self.add(made)
        super()._compress(path)


def test_files_closed_while_others_are_compressed_are_not_counted_at_their_full_size(tmp_path: Path) -> None:
    page = Page.create(tmp_path / "page", feed_layout(1))
    archive = Busy(tmp_path / "events.jsonl", Output(path="x", compress="zstd", keep_bytes=50_000), page)
    archive.later = [b"x" * 100_000] * 3
    first = archive.free_name(datetime(2026, 11, 21, tzinfo=UTC))
    first.write_bytes(b"x" * 100_000)
    archive.add(first)
    eventually(lambda: page["compressed_files"] == 4, "all four are compressed")
    archive.finish(lambda: True)
    assert len(closed(tmp_path)) == 4
    assert page["removed_files"] == 0


# -- full disks --------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with half a megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk], capture_output=True, check=False, timeout=PATIENCE_S
    )
    if done.returncode:
        pytest.skip("cannot mount a file system")
    yield disk
    subprocess.run(["umount", disk], check=True, timeout=PATIENCE_S)


@pytest.mark.root
def test_a_full_disk_costs_counted_events_and_the_run_recovers_alone(run_dir: Path, small_disk: Path) -> None:
    options = config(small_disk, rotate_bytes=100_000, compress="zstd")
    ballast = small_disk / "ballast"
    with FeedProcess(run_dir, options) as feed:
        for number in range(10):
            feed.workers[0].send(1, event(number, 1000))
        eventually(lambda: feed.page["written_events"] == 10, "ten events are written")
        ballast.write_bytes(bytes(480_000))
        for number in range(10, 300):
            feed.workers[0].send(1, event(number, 1000))
        eventually(lambda: feed.published() == 300, "the feed goes on")
        assert feed.page["dropped_output"] > 0
        ballast.unlink()
        for number in range(300, 500):
            feed.workers[0].send(1, event(number, 1000))
        feed.workers[0].end()
        assert feed.wait() == 0
        found = numbers(small_disk)
        assert found == sorted(set(found))
        assert found[-200:] == list(range(300, 500))
        assert len(found) == feed.page["written_events"] == 500 - feed.page["dropped_output"]


def test_a_file_that_cannot_be_compressed_now_is_later(run_dir: Path, folder: Path) -> None:
    with FeedProcess(run_dir, config(folder, rotate_bytes=50_000, compress="zstd")) as feed:
        # A limit on the size of files stands for the full disk.
        for number in range(40):
            feed.workers[0].send(1, event(number, 1000))
        eventually(lambda: feed.page["written_events"] == 40, "they are written")
        resource.prlimit(feed.process.pid, resource.RLIMIT_FSIZE, (15_000, resource.RLIM_INFINITY))
        feed.workers[0].send(1, event(40, 20_000))
        eventually(lambda: feed.page["archive_errors"] or feed.page["dropped_output"], "something fails")
        resource.prlimit(feed.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        for number in range(41, 200):
            feed.workers[0].send(1, event(number, 1000))
        feed.workers[0].end()
        assert feed.wait() == 0
        assert {path.suffix for path in closed(folder)} == {".zst"}
        found = numbers(folder)
        assert found == sorted(set(found))
        assert len(found) == 200 - feed.page["dropped_output"]
