"""Runs that `top` and `doctor` believe, and their output about them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from eventually import PATIENCE_S, read_line

from appliance.config.load import resolve
from appliance.native.safe_files import Unusable
from appliance.report.running_instance import RunningInstance, run_directories
from appliance.runtime.resolved_config import save_resolved
from appliance.stats.layout import capture_layout, feed_layout, supervisor_layout, worker_layout
from appliance.stats.page import Page, PageError
from appliance.wire.tcp_locator import VERDICTS

STRANGER, SERVICE = 54321, 543


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """With all that belongs into it, and no process."""
    with tempfile.TemporaryDirectory(prefix="seen-") as name:
        home = Path(name)
        save_resolved(resolve(None, {"source.interfaces": ["eth0"], "workers.count": 1}), home)
        layouts = {"capture-0": capture_layout(1, VERDICTS), "worker-0": worker_layout(1), "feed": feed_layout(1)}
        for process, layout in {**layouts, "supervisor": supervisor_layout(1, 1)}.items():
            Page.make(home / f"{process}.stats", layout)
        yield home


def give(home: Path, user: int, *, folder: bool = True) -> None:
    for path in (*home.iterdir(), *([home] if folder else [])):
        os.chown(path, user, user)


@pytest.fixture
def pretend() -> Iterator[Callable[..., None]]:
    """Starts a process that looks like the feed of a run."""
    started: list[subprocess.Popen[bytes]] = []

    def start(home: Path, user: int | None = None) -> None:
        words = ["/bin/sh", "-c", "echo; read end", "-m", "appliance.feed.process", str(home)]
        process = subprocess.Popen(words, user=user, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        read_line(process.stdout)

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


def test_a_run_of_ours_is_found(run_dir: Path, pretend: Callable[..., None]) -> None:
    pretend(run_dir)
    assert run_dir in run_directories()


@pytest.mark.root
@pytest.mark.parametrize("owner", [STRANGER, 0])
def test_a_process_of_a_stranger_that_looks_like_one_of_ours_is_not(
    run_dir: Path, pretend: Callable[..., None], owner: int
) -> None:
    give(run_dir, owner)
    pretend(run_dir, STRANGER)
    assert run_dir not in run_directories()


@pytest.mark.root
@pytest.mark.parametrize("folder", [True, False], ids=["a service of its own", "run.user"])
def test_a_run_of_a_service_is_found_by_root(run_dir: Path, pretend: Callable[..., None], folder: bool) -> None:
    give(run_dir, SERVICE, folder=folder)
    pretend(run_dir, SERVICE)
    assert run_dir in run_directories()


def test_a_link_to_a_run_directory_is_none(run_dir: Path, tmp_path: Path, pretend: Callable[..., None]) -> None:
    (tmp_path / "link").symlink_to(run_dir)
    pretend(tmp_path / "link")
    assert tmp_path / "link" not in run_directories()


@pytest.mark.root
@pytest.mark.parametrize("name", ["worker-0.stats", "config.json"])
def test_a_file_of_somebody_else_in_a_run_is_refused(run_dir: Path, name: str) -> None:
    give(run_dir, SERVICE)
    os.chown(run_dir / name, STRANGER, STRANGER)
    with pytest.raises(Unusable, match=f"{name} in it belongs to another user"):
        RunningInstance(run_dir)


def test_a_directory_that_others_write_in_is_refused(run_dir: Path) -> None:
    run_dir.chmod(0o777)
    with pytest.raises(Unusable, match="others may write in it"):
        RunningInstance(run_dir)


@pytest.mark.parametrize("name", ["worker-0.stats", "config.json", "feed.endpoint"])
def test_a_link_in_it_is_not_followed(run_dir: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("root's")
    (run_dir / name).unlink(missing_ok=True)
    (run_dir / name).symlink_to(tmp_path / "secret")
    if name == "feed.endpoint":
        assert RunningInstance(run_dir).endpoint("feed") == ""
    else:
        with pytest.raises(Unusable):
            RunningInstance(run_dir)


def test_a_named_pipe_in_it_is_not_waited_for(run_dir: Path) -> None:
    os.mkfifo(run_dir / "metrics.endpoint")
    assert RunningInstance(run_dir).endpoint("metrics") == ""
    (run_dir / "feed.stats").unlink()
    os.mkfifo(run_dir / "feed.stats")
    with pytest.raises(Unusable):
        RunningInstance(run_dir)


def test_an_endpoint_is_plain_text(run_dir: Path) -> None:
    (run_dir / "feed.endpoint").write_bytes(b"tcp://\x1b[2J\xff127.0.0.1:1\n" + b"x" * 5000)
    shown = RunningInstance(run_dir).endpoint("feed")
    assert shown.isprintable()
    assert len(shown) <= 1024


def test_a_page_that_is_cut_short_while_it_is_looked_at_ends_nobody(run_dir: Path) -> None:
    page = Page.open(run_dir / "worker-0.stats")
    page["segments"] = 7
    running = RunningInstance(run_dir)
    assert running.snapshots().workers[0]["segments"] == 7
    page.close()
    os.truncate(run_dir / "worker-0.stats", 0)
    assert running.snapshots().workers[0]["segments"] == 7


@pytest.mark.parametrize("names", [b"[1, 2]", b"{}", b'"x"', b"\xff", b"[" * 5000])
def test_names_that_are_none_are_no_page(run_dir: Path, names: bytes) -> None:
    path = run_dir / "worker-0.stats"
    content = bytearray(path.read_bytes())
    content[24 : 24 + len(names)] = names
    content[20:24] = len(names).to_bytes(4, sys.byteorder)
    path.write_bytes(content)
    with pytest.raises(PageError):
        Page.open(path, writable=False)


@pytest.mark.slow
def test_what_a_hostile_run_says_is_printed_without_control_characters(run_dir: Path) -> None:
    text = (run_dir / "config.json").read_text().replace('"eth0"', '"e\\u001b[2J\\u202e\\u009b"')
    (run_dir / "config.json").write_text(text)
    for words in (
        ["top", "--once", "--interval", "0.1"],
        ["doctor", "--seconds", "0"],
        ["doctor", "--seconds", "0", "--json"],
    ):
        command = [sys.executable, "-m", "appliance", *words, "--run", str(run_dir)]
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=False)
        said = (done.stdout + done.stderr).decode()
        assert not {"\x1b", "\u202e", "\x9b"} & set(said), said
        assert "Traceback" not in said
