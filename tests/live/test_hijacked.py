"""A worker in a stranger's hands: what it tries against others is refused, what it does to itself stays there."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from box import Box, alive
from eventually import eventually
from hosts import HERE
from traffic import write_sample

from appliance.native import kernel_sandbox as confine
from appliance.runtime import seccomp_filter as syscalls

QUIET = ("--workers", 2, "--metrics", "off")
REFUSED = {"EPERM", "EACCES", "EXDEV"}


@pytest.fixture
def start(run_box: Callable[..., Box], tmp_path: Path) -> Iterator[Callable[..., Box]]:
    """Starts a run over a capture that comes by standard input, and goes on until `end`."""
    ends: list[int] = []

    def started(*words: str | int, program: tuple[str | Path, ...] = ("-m", "appliance")) -> Box:
        write_sample(tmp_path / "sample.pcap")
        reader, writer = os.pipe()
        box = run_box("-r", "-", *QUIET, *words, stdin=reader, program=program)
        os.close(reader)
        ends.append(writer)
        os.write(writer, (tmp_path / "sample.pcap").read_bytes()[:24])
        box.wait_ready()
        box.finish_input = lambda: os.close(ends.pop())  # type: ignore[attr-defined]
        return box

    yield started
    for writer in ends:
        os.close(writer)


@pytest.fixture
def attempts(start: Callable[..., Box]) -> tuple[Box, dict[str, str]]:
    """Return the run in which the attempts were made, and the outcome of each."""
    if not confine.landlock_version() or confine.ARCHITECTURE != syscalls.X86_64:
        pytest.skip("this kernel has no landlock, or this machine other numbers of system calls")
    box = start(program=(HERE / "stand_ins" / "hijacked.py",))
    found = box.home / "worker-0" / "attempts"
    eventually(found.exists, f"the attempts\n{box.errors()}")
    return box, json.loads(found.read_text())


def test_a_worker_writes_nothing_but_its_page_and_folder_and_touches_no_process(
    attempts: tuple[Box, dict[str, str]],
) -> None:
    box, came = attempts
    tried = {name.split(" ")[0] for name in came}
    assert {"write", "empty", "cut", "map", "remove", "replace", "limit", "kill", "trace", "starve"} <= tried
    for wanted in ("config.json", "worker-1.stats", "feed.stats", "supervisor.stats", "key", "lock"):
        assert f"write {wanted}" in came
    assert {name: result for name, result in came.items() if result not in REFUSED} == {}
    box.finish_input()  # type: ignore[attr-defined]
    assert box.wait() == 0, box.errors()
    box.ledger()


def test_a_page_that_is_cut_short_harms_only_its_process(start: Callable[..., Box]) -> None:
    box = start()
    for name in ("worker-0", "worker-1", "feed"):
        before = box.count(name, "pid")
        os.truncate(box.home / f"{name}.stats", 0)
        eventually(lambda name=name, before=before: back(box, name, before), f"{name} is back\n{box.errors()}")
    os.truncate(box.home / "supervisor.stats", 0)
    assert alive(box.process.pid)
    box.process.send_signal(signal.SIGTERM)
    box.wait()
    assert "Traceback" not in box.errors()
    assert "its stats page was damaged" in box.errors()


def back(box: Box, name: str, before: int) -> bool:
    """Return whether a process has restarted."""
    assert box.process.poll() is None, box.errors()
    try:
        return box.count(name, "pid") not in (0, before) and box.count(name, "state") == 2
    except ValueError:
        return False


@pytest.mark.parametrize("bind", ["off", "tcp://127.0.0.1:0"])
def test_memory_of_events_that_is_cut_short_does_not_end_the_feed(start: Callable[..., Box], bind: str) -> None:
    box = start("--set", "run.sandbox=off", "--feed", bind)
    feed = box.count("feed", "pid")
    for path in (box.home / "worker-0").glob("events-*"):
        os.truncate(path, 4096)
    for path in (box.home / "worker-1").glob("returned-*"):
        os.truncate(path, 0)
    assert box.count("feed", "pid") == feed
    box.finish_input()  # type: ignore[attr-defined]
    box.wait()
    assert "feed was killed" not in box.errors()
    assert "capture 0 was killed" not in box.errors()


def test_a_configuration_in_the_run_directory_is_nobodys_order(start: Callable[..., Box]) -> None:
    box = start()
    pids = box.pids()
    (box.home / "config.json").write_bytes(b"{}")
    for name in box.names():
        box.page(name).add("wanted_generation", 1)
    told = {name: box.count(name, "progress_ns") for name in box.names()}
    eventually(lambda: all(box.count(name, "progress_ns") > told[name] for name in told), "everybody looked again")
    assert [box.count(name, "config_error") for name in box.names()] == [0] * 4
    assert {box.count(name, "generation") for name in box.names()} == {1}
    assert box.pids() == pids
