"""An output that others move, remove or read while it is written: the path is what was asked for, not what was open."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
from pathlib import Path

import msgspec
import pytest
from eventually import PATIENCE_S, eventually, open_pipe, read_all, read_exactly, read_line
from feed_process import FeedProcess, feed_config

from appliance.config.schema import Config, Output, Run

pytestmark = pytest.mark.slow

GONE = "events.jsonl (deleted)"
AGAIN = 3  # exit code of a feed that another has to follow


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


def config(
    folder: Path,
    *,
    sandbox: str = "on",
    file: bool = False,
    name: str = "events.jsonl",
    drain_s: float = 1.0,
    **output: object,
) -> Config:
    options = msgspec.convert({"path": str(folder / name), **output}, Output)
    return msgspec.structs.replace(feed_config(file=file), output=options, run=Run(drain_s=drain_s, sandbox=sandbox))


def numbers(*paths: Path) -> list[int]:
    """Of the events in these files, each line whole."""
    data = b"".join(path.read_bytes() for path in paths)
    return [json.loads(line)["n"] for line in data.splitlines()]


class Scene:
    """A feed that has written event 0, and sends the next ones."""

    def __init__(self, feed: FeedProcess) -> None:
        self.feed = feed
        self.sent = 0
        self.send()
        eventually(lambda: self.written == 1, "the first event is written")

    @property
    def written(self) -> int:
        return self.feed.page["written_events"]

    def send(self, count: int = 1) -> None:
        for _ in range(count):
            self.feed.workers[0].send(1, json.dumps({"n": self.sent}).encode())
            self.sent += 1

    def opened(self, count: int) -> None:
        eventually(lambda: self.feed.page["output_opened"] == count, f"the output is opened for the time {count}")

    def end(self, code: int = 0) -> str:
        """Its last words."""
        self.feed.workers[0].end()
        assert self.feed.wait() == code
        assert self.feed.process.stderr is not None
        return read_all(self.feed.process.stderr).decode()


def test_a_file_that_was_renamed_and_made_anew_is_opened_anew(run_dir: Path, folder: Path) -> None:
    path, old = folder / "events.jsonl", folder / "events.jsonl.1"
    with FeedProcess(run_dir, config(folder)) as feed:
        scene = Scene(feed)
        path.rename(old)
        path.touch(mode=0o640)
        scene.opened(2)
        scene.send(2)
        assert f"{path}: the file was moved or removed; reopened" in scene.end()
    assert (numbers(old), numbers(path)) == ([0], [1, 2])
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("fate", ["renamed", "removed", "replaced by a link"])
def test_a_path_without_its_file_gets_another(run_dir: Path, folder: Path, fate: str) -> None:
    path = folder / "events.jsonl"
    with FeedProcess(run_dir, config(folder)) as feed:
        scene = Scene(feed)
        if fate == "removed":
            path.unlink()
        else:
            path.rename(folder / "old")
        if fate == "replaced by a link":
            (folder / "other").touch()
            path.symlink_to("other")
        scene.opened(2)
        scene.send()
        scene.end()
    assert numbers(path) == [1]


def test_a_hangup_has_the_path_looked_at(run_dir: Path, folder: Path) -> None:
    path = folder / "events.jsonl"
    with FeedProcess(run_dir, config(folder)) as feed:
        scene = Scene(feed)
        path.rename(folder / "old")
        feed.process.send_signal(signal.SIGHUP)
        scene.opened(2)
        scene.send()
        scene.end()
    assert numbers(path) == [1]


def test_a_hangup_costs_nothing_where_nothing_was_moved(run_dir: Path, folder: Path) -> None:
    with FeedProcess(run_dir, config(folder)) as feed:
        scene = Scene(feed)
        feed.process.send_signal(signal.SIGHUP)
        scene.send()
        assert scene.end() == ""
        assert feed.page["output_opened"] == 1
    assert numbers(folder / "events.jsonl") == [0, 1]


def test_a_file_that_was_emptied_is_gone_on_with(run_dir: Path, folder: Path) -> None:
    path = folder / "events.jsonl"
    with FeedProcess(run_dir, config(folder)) as feed:
        scene = Scene(feed)
        os.truncate(path, 0)
        resource.prlimit(feed.process.pid, resource.RLIMIT_FSIZE, (4, resource.RLIM_INFINITY))
        scene.send()
        eventually(lambda: feed.page["write_errors"] == 1, "the disk is full")
        resource.prlimit(feed.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        scene.send()
        scene.end()
    assert path.read_bytes() == b'{"n": 2}\n'


# -- folders -----------------------------------------------------------------------------------------------------------


def test_a_folder_that_was_moved_away_keeps_the_events_until_there_is_another(run_dir: Path, folder: Path) -> None:
    path, moved = folder / "events.jsonl", folder.with_name("moved")
    with FeedProcess(run_dir, config(folder, sandbox="off")) as feed:
        scene = Scene(feed)
        folder.rename(moved)
        feed.process.send_signal(signal.SIGHUP)
        scene.send()
        eventually(lambda: scene.written == 2, "the event is written where the file is now")
        folder.mkdir()
        scene.opened(2)
        scene.send()
        assert "it cannot be reopened: No such file or directory; the open file is used" in scene.end()
    assert (numbers(moved / "events.jsonl"), numbers(path)) == ([0, 1], [2])


def test_events_wait_for_a_folder_that_was_removed(run_dir: Path, folder: Path) -> None:
    with FeedProcess(run_dir, config(folder, sandbox="off")) as feed:
        scene = Scene(feed)
        shutil.rmtree(folder)
        eventually(lambda: not _holds(feed, GONE), "the removed file is let go")
        scene.send(2)
        eventually(lambda: feed.published() == 3, "the events are published")
        folder.mkdir()
        eventually(lambda: scene.written == 3, "the events are written")
        assert feed.page["dropped_output"] == 0
        assert "events wait for it" in scene.end()
    assert numbers(folder / "events.jsonl") == [1, 2]


def _holds(feed: FeedProcess, end: str) -> bool:
    """Return whether the process has a file open whose name ends with `end`."""
    found = []
    for name in Path(f"/proc/{feed.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(name))
    return any(name.endswith(end) for name in found)


def test_a_fenced_feed_asks_for_another_when_the_folder_is_back(run_dir: Path, folder: Path) -> None:
    with FeedProcess(run_dir, config(folder)) as feed:
        if not feed.page["sandbox.landlock"]:
            pytest.skip("this kernel has no landlock")
        scene = Scene(feed)
        shutil.rmtree(folder)
        folder.mkdir()
        assert feed.wait() == AGAIN
        feed.kill()
        feed.start()
        scene.send()
        eventually(lambda: scene.written == 2, "the event is written")
        scene.end()
        assert feed.page["crash_lost"] == 0
    assert numbers(folder / "events.jsonl") == [1]


@pytest.mark.root
def test_a_fenced_feed_asks_for_another_when_the_file_belongs_to_somebody_else(run_dir: Path, folder: Path) -> None:
    path = folder / "events.jsonl"
    with FeedProcess(run_dir, config(folder)) as feed:
        if os.geteuid() != 0 or not feed.page["sandbox.capabilities"]:
            pytest.skip("needs a root that can give up capabilities")
        scene = Scene(feed)
        (folder / "new").touch(mode=0o600)
        os.chown(folder / "new", 1234, 1234)
        (folder / "new").rename(path)
        assert feed.wait() == AGAIN
        feed.kill()
        feed.start()
        scene.send()
        eventually(lambda: scene.written == 2, "the event is written")
        scene.end()
    assert numbers(path) == [1]


def test_reading_a_file_does_not_wait_for_a_folder_that_is_gone(run_dir: Path, folder: Path) -> None:
    with FeedProcess(run_dir, config(folder, sandbox="off", file=True)) as feed:
        scene = Scene(feed)
        shutil.rmtree(folder)
        eventually(lambda: not _holds(feed, GONE), "the removed file is let go")
        scene.send(3)
        scene.end()
        assert feed.page["dropped_output"] == 3


def test_reading_a_file_says_that_what_it_wrote_was_removed(run_dir: Path, folder: Path) -> None:
    with FeedProcess(run_dir, config(folder, file=True)) as feed:
        scene = Scene(feed)
        (folder / "events.jsonl").unlink()
        scene.opened(2)
        scene.end()
        assert feed.page["write_errors"] == 1


# -- rotation ----------------------------------------------------------------------------------------------------------


def test_what_somebody_puts_in_the_place_is_not_closed_as_ours(run_dir: Path, folder: Path) -> None:
    path = folder / "events.jsonl"
    with FeedProcess(run_dir, config(folder, rotate_bytes=20)) as feed:
        scene = Scene(feed)
        path.rename(folder / "old")
        path.write_text('{"n": 100}\n')
        scene.send(3)
        scene.opened(2)
        scene.send(2)
        scene.end()
        closed = sorted(one for one in folder.iterdir() if one.name.startswith("events-"))
    before = numbers(folder / "old")
    assert numbers(*closed, path) == [100, *range(len(before), 6)]


def test_files_go_on_being_closed_in_a_folder_that_is_back(run_dir: Path, folder: Path) -> None:
    with FeedProcess(run_dir, config(folder, sandbox="off", rotate_bytes=20)) as feed:
        scene = Scene(feed)
        shutil.rmtree(folder)
        folder.mkdir()
        scene.opened(2)
        scene.send(4)
        eventually(lambda: scene.written == 5, "all are written")
        scene.end()
        found = sorted(folder.iterdir())
    assert numbers(*found) == [1, 2, 3, 4]
    assert len(found) > 1


# -- named pipes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", [False, True])
def test_a_named_pipe_whose_reader_left_waits_for_the_next(run_dir: Path, folder: Path, file: bool) -> None:
    path = folder / "pipe"
    os.mkfifo(path)
    with FeedProcess(run_dir, config(folder, file=file, name="pipe", drain_s=PATIENCE_S)) as feed:
        feed.workers[0].send(1, b'{"n": 0}')
        with open_pipe(path) as reader:
            assert read_line(reader) == b'{"n": 0}\n'
        feed.workers[0].send(1, b'{"n": 1}')
        eventually(lambda: feed.published() == 2, "the event is published")
        with open_pipe(path) as reader:
            assert read_line(reader) == b'{"n": 1}\n'
            feed.workers[0].end()
            assert feed.wait() == 0
        assert feed.page["output_closed"] == feed.page["dropped_output"] == 0


def test_a_file_run_waits_a_drain_for_another_reader_of_its_named_pipe(run_dir: Path, folder: Path) -> None:
    path = folder / "pipe"
    os.mkfifo(path)
    with FeedProcess(run_dir, config(folder, file=True, name="pipe", drain_s=0.2)) as feed:
        feed.workers[0].send(1, b'{"n": 0}')
        with open_pipe(path) as reader:
            assert read_line(reader) == b'{"n": 0}\n'
        feed.workers[0].send(1, b'{"n": 1}')
        eventually(lambda: feed.page["output_closed"], "the feed gives the output up")
        feed.workers[0].send(1, b'{"n": 2}')
        feed.workers[0].end()
        assert feed.wait() == 0
        assert (feed.page["written_events"], feed.page["dropped_output"]) == (1, 2)


def test_the_next_reader_of_a_named_pipe_gets_whole_lines(run_dir: Path, folder: Path) -> None:
    path = folder / "pipe"
    os.mkfifo(path)
    line = b'{"n": "' + b"x" * 200_000 + b'"}'
    with FeedProcess(run_dir, config(folder, name="pipe")) as feed:
        feed.workers[0].send(1, line)
        with open_pipe(path) as reader:
            assert read_exactly(reader, 10) == line[:10]
        eventually(lambda: not _holds(feed, str(path)), "the feed has noticed")
        with open_pipe(path) as reader:
            assert read_line(reader) == line + b"\n"
            feed.workers[0].end()
            assert feed.wait() == 0


def test_a_named_pipe_that_was_made_anew_is_opened(run_dir: Path, folder: Path) -> None:
    path = folder / "pipe"
    os.mkfifo(path)
    with FeedProcess(run_dir, config(folder, sandbox="off", name="pipe")) as feed:
        feed.workers[0].send(1, b'{"n": 0}')
        with open_pipe(path) as reader:
            assert read_line(reader) == b'{"n": 0}\n'
            path.unlink()
            os.mkfifo(path)
            feed.process.send_signal(signal.SIGHUP)
            assert read_all(reader) == b""  # let go
        feed.workers[0].send(1, b'{"n": 1}')
        with open_pipe(path) as reader:
            assert read_line(reader) == b'{"n": 1}\n'
            feed.workers[0].end()
            assert feed.wait() == 0
