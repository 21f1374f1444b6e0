"""The run directory and its lock, restarts, children, and the output that is proved before anything starts."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from eventually import PATIENCE_S

from appliance.native.safe_files import Unusable
from appliance.output.output_file import prepare_output
from appliance.runtime import run_directory as rundir
from appliance.runtime.run_directory import RunDirectory
from appliance.stats.layout import feed_layout
from appliance.stats.names import DONE, READY
from appliance.stats.page import Page
from appliance.supervisor.child_process import Backoff, Child, ParentDeathPipe, signals_on_pipe


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which private run directories are made during the test."""
    monkeypatch.setattr(rundir, "base_directory", lambda: tmp_path)
    return tmp_path


# -- run directory ---------------------------------------------------------------------------------------------------


def test_a_private_directory_is_ours_alone_and_goes_away(base: Path) -> None:
    home = RunDirectory.open("")
    assert home.path.parent == base
    assert home.path.stat().st_mode & 0o777 == 0o700
    (home.path / "shard-0").touch()
    home.close()
    assert list(base.iterdir()) == []


def test_the_default_place_is_in_memory() -> None:
    home = RunDirectory.open("")
    try:
        mounts = rundir._memory_mounts()
        if "/dev/shm" in mounts:
            assert any(str(home.path).startswith(f"{mount}/") for mount in mounts)
    finally:
        home.close()


def test_two_private_directories_at_once(base: Path) -> None:
    first, second = RunDirectory.open(""), RunDirectory.open("")
    assert first.path != second.path
    assert first.path.exists()
    first.close()
    second.close()


def test_what_a_killed_supervisor_left_is_swept_away(base: Path) -> None:
    code = (
        "import os, pathlib, signal; from appliance.runtime import run_directory as p; "
        f"p.base_directory = lambda: pathlib.Path({str(base)!r}); "
        "p.RunDirectory.open(''); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], check=False, timeout=PATIENCE_S)
    (left,) = base.iterdir()
    home = RunDirectory.open("")
    assert not left.exists()
    home.close()


def test_a_directory_of_ones_choice_is_kept_and_cleaned(tmp_path: Path) -> None:
    wanted = tmp_path / "run"
    wanted.mkdir(mode=0o755)
    for name in ("worker-7.stats", "shard-7", "key", "version", "feed.endpoint", "config.json"):
        (wanted / name).touch()
    (wanted / "notes.txt").touch()
    home = RunDirectory.open(str(wanted))
    assert sorted(path.name for path in wanted.iterdir()) == ["lock", "notes.txt"]
    assert wanted.stat().st_mode & 0o777 == 0o700
    home.close()
    assert wanted.exists()


def test_one_instance_owns_a_directory(tmp_path: Path) -> None:
    home = RunDirectory.open(str(tmp_path / "run"))
    with pytest.raises(Unusable, match=rf"--run-dir .*another instance \(process {os.getpid()}\)"):
        RunDirectory.open(str(tmp_path / "run"))
    home.close()
    RunDirectory.open(str(tmp_path / "run")).close()


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="too long a path"):
        RunDirectory.open(str(tmp_path / ("x" * 120)))


def test_an_impossible_directory_is_refused() -> None:
    with pytest.raises(Unusable, match="--run-dir /proc/nope: "):
        RunDirectory.open("/proc/nope")


# -- restarts --------------------------------------------------------------------------------------------------------


def test_the_first_restart_is_at_once_and_the_others_wait_longer_and_longer() -> None:
    backoff = Backoff()
    delays = [backoff.next_delay(1.0) for _ in range(9)]
    assert delays == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 16.0, 16.0, 16.0]


def test_a_steady_run_earns_an_immediate_restart() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.next_delay(0.0)
    assert backoff.next_delay(30.0) == 0.0
    assert backoff.next_delay(1.0) == 1.0


# -- children --------------------------------------------------------------------------------------------------------


@pytest.fixture
def death_pipe() -> Iterator[ParentDeathPipe]:
    line = ParentDeathPipe()
    yield line
    line.close()


def child(directory: Path, source: str, stdin: int | None) -> Child:
    """A child that runs `source` as a module with the run directory as its argument."""
    page = Page.create(directory / "feed.stats", feed_layout(1))
    (directory / "stub_child.py").write_text(f"import os, sys, signal, time\n{source}\n")
    return Child("feed", 0, directory, page, module="stub_child", stdin=stdin, stdout=2)


@pytest.fixture
def stubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def ended(one: Child) -> int:
    poll = select.poll()
    poll.register(one.pidfd, select.POLLIN)
    assert poll.poll(10_000), "the child did not end"
    return one.reap()


def test_a_child_gets_its_directory_and_a_group_of_its_own(stubs: Path, death_pipe: ParentDeathPipe) -> None:
    one = child(
        stubs,
        f"sys.exit(7 if sys.argv[1] == {str(stubs)!r} and os.getpgid(0) == os.getpid() else 1)",
        death_pipe.reader,
    )
    one.start(time.monotonic())
    assert one.alive
    assert ended(one) == 7
    assert not one.alive


def test_a_child_takes_no_code_from_the_current_directory(
    stubs: Path, death_pipe: ParentDeathPipe, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = tmp_path_factory.mktemp("hostile")
    (hostile / "json.py").write_text("raise SystemExit(66)")
    monkeypatch.chdir(hostile)
    one = child(stubs, "import json; sys.exit(0)", death_pipe.reader)
    one.start(time.monotonic())
    assert ended(one) == 0


def test_a_signal_shows_as_a_negative_code(stubs: Path, death_pipe: ParentDeathPipe) -> None:
    one = child(stubs, "time.sleep(60)", death_pipe.reader)
    one.start(time.monotonic())
    one.send(signal.SIGKILL)
    assert ended(one) == -signal.SIGKILL
    one.send(signal.SIGKILL)  # to nobody: no error


def test_the_end_of_the_supervisor_is_the_end_of_standard_input(stubs: Path) -> None:
    death_pipe = ParentDeathPipe()
    one = child(stubs, "sys.exit(5 if os.read(0, 1) == b'' else 1)", death_pipe.reader)
    one.start(time.monotonic())
    death_pipe.close()
    assert ended(one) == 5


def test_a_child_that_was_ready_once_is_known_to_be_able_to(stubs: Path, death_pipe: ParentDeathPipe) -> None:
    one = child(stubs, "sys.exit(int(open(sys.argv[1] + '/code').read()))", death_pipe.reader)
    for code, state, able in [(1, 1, False), (2, DONE, False), (1, READY, True)]:
        (stubs / "code").write_text(str(code))
        one.start(time.monotonic())
        one.page["state"] = state
        assert ended(one) == code
        assert one.ever_ready is able


def test_progress_counts_from_the_start_until_there_is_some(stubs: Path, death_pipe: ParentDeathPipe) -> None:
    one = child(stubs, "", death_pipe.reader)
    one.started_at = 100.0
    assert one.progress_age_s(103 * 10**9) == 3.0
    one.page["progress_ns"] = 102 * 10**9
    assert one.progress_age_s(103 * 10**9) == 1.0


# -- signals and output ----------------------------------------------------------------------------------------------


def test_signals_arrive_as_bytes() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with signals_on_pipe([signal.SIGTERM]) as reader:
        os.kill(os.getpid(), signal.SIGTERM)
        assert select.select([reader], [], [], 5)[0]
        assert os.read(reader, 10) == bytes([signal.SIGTERM])
    assert signal.getsignal(signal.SIGTERM) is before


def test_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_on_pipe([signal.SIGHUP]):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_is_there_is_kept_until_the_source_has_proven_itself(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("old")
    assert not prepare_output(str(path), "-o")
    assert path.read_text() == "old"
    assert prepare_output(str(tmp_path / "new"), "-o")


@pytest.mark.parametrize("option", ["-o", "--ledger"])
def test_an_output_that_cannot_be_written_is_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(Unusable, match=rf"{option} .*: No such file or directory"):
        prepare_output(str(tmp_path / "no" / "file"), option)
    with pytest.raises(Unusable, match=rf"{option} .*: Is a directory"):
        prepare_output(str(tmp_path), option)


def test_a_named_pipe_is_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    prepare_output(str(tmp_path / "pipe"), "-o")
