"""Permissions of each process, seen from inside it and from /proc."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from box import Box, appliance
from eventually import PATIENCE_S, eventually
from hosts import HERE, Host, environment
from scene import Metrics, Scene
from traffic import write_sample

from appliance.config.load import resolve
from appliance.native import kernel_sandbox as confine
from appliance.runtime.resolved_config import save_resolved
from appliance.stats.layout import (
    capture_layout,
    feed_layout,
    files_layout,
    keeper_layout,
    recorder_layout,
    worker_layout,
)
from appliance.stats.names import FENCES_OF
from appliance.stats.page import Page
from appliance.wire.tcp_locator import VERDICTS

root = pytest.mark.root

AT_WORK = {
    "make a file",
    "read the configuration",
    "open a page",
    "be in two threads",
    "talk by a Unix socket",
    "signal itself",
    "limit itself",
}
MAY = {
    "worker": AT_WORK,
    "recorder": AT_WORK | {"write in the ring", "write in the folder of kept frames"},
    "keeper": AT_WORK | {"write in the folder of kept frames"},
    "files": AT_WORK | {"write in the folder of files"},
    "capture": AT_WORK | {"map executable"},
    "feed": AT_WORK
    | {"map executable", "write the output"}
    | {"socket IPv4", "socket IPv6", "socket IPv4, high bits set"},
}


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """Short: sockets live in it."""
    path = Path(tempfile.mkdtemp(prefix="fence-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "sample.pcap"
    write_sample(path)
    return path


def tried(role: str, run_dir: Path, directory: Path) -> dict[str, str]:
    """Return the outcome of each attempt of fenced.py in the sandbox of a role."""
    outside = directory / "outside"
    outside.mkdir()
    (directory / "out").mkdir()
    (directory / "ring" / "kept").mkdir(parents=True)
    given = {"source.file": str(directory / "none.pcap"), "output.path": str(directory / "out" / "events.jsonl")}
    given["record.path"] = str(directory / "ring")
    given["record.only"] = "status >= 500"
    (directory / "kept").mkdir()
    given["files.path"] = str(directory / "kept")
    save_resolved(resolve(None, {**given, "workers.count": 1}), run_dir)
    layouts = {"capture": capture_layout(1, VERDICTS), "worker": worker_layout(1), "feed": feed_layout(1)}
    layouts["recorder"] = recorder_layout(1)
    layouts["keeper"] = keeper_layout()
    layouts["files"] = files_layout(1)
    Page.create(run_dir / f"{role}.stats", layouts[role])
    words = [sys.executable, "-P", HERE / "fenced.py", role, run_dir, outside]
    done = subprocess.run(words, capture_output=True, text=True, env=environment(), timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return {**json.loads(done.stdout)}


@pytest.mark.parametrize("role", ["capture", "worker", "feed", "recorder", "keeper", "files"])
def test_a_process_is_refused_everything_but_its_work(role: str, run_dir: Path, tmp_path: Path) -> None:
    if not confine.landlock_version():
        pytest.skip("this kernel has no landlock")
    came = tried(role, run_dir, tmp_path)
    assert {name for name, outcome in came.items() if outcome == "done"} == MAY[role]
    assert {outcome for outcome in came.values() if outcome != "done"} == {"EPERM", "EACCES", "EAFNOSUPPORT"}
    assert {came[name] for name in ("execve", "ptrace", "map writable and executable")} == {"EPERM"}
    assert came["socket packet"] == came["socket vsock"] == "EAFNOSUPPORT"


def status(pid: int, name: str) -> str:
    lines = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    return lines[name].strip()


def threads(pid: int) -> list[str]:
    return os.listdir(f"/proc/{pid}/task")


def capabilities(pid: int) -> set[tuple[int, ...]]:
    """(effective, permitted, inheritable, ambient) of every thread."""
    names = ("CapEff", "CapPrm", "CapInh", "CapAmb")
    return {tuple(int(status(int(thread), name), 16) for name in names) for thread in threads(pid)}


def assert_fenced(box: Box) -> None:
    """Looks at every thread of every process from outside."""
    here = os.readlink("/proc/self/ns/net")
    outer = os.readlink(f"/proc/{box.process.pid}/ns/net")
    assert box.count("supervisor", "pid") == box.process.pid
    for name in [*box.names(), "supervisor"]:
        pid = box.count(name, "pid")
        if name != "supervisor":
            assert capabilities(pid) == {(0, 0, 0, 0)}, name
        for thread in threads(pid):
            assert status(int(thread), "NoNewPrivs") == "1"
            assert status(int(thread), "Seccomp") == "2"
        inside = os.readlink(f"/proc/{pid}/ns/net")
        assert (inside in (here, outer)) == (not name.startswith(("worker", "recorder", "keeper", "files")))
        limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
        assert [line.split()[4:6] for line in limits if line.startswith("Max core")] == [["0", "0"]]
        page = box.page(name)
        assert [page[f"sandbox.{fence}"] for fence in FENCES_OF[name.partition("-")[0]]].count(0) == 0, name


@root
def test_nothing_is_left_to_the_processes_of_a_live_run_started_by_root(scene: Scene) -> None:
    bodies = ("--set", "bodies.mime_type=true", "--set", 'bodies.hashes=["sha256"]')  # libraries of their own
    box = scene.capture("--workers", 2, *bodies)
    assert_fenced(box)
    scene.load("--requests", 5).communicate(timeout=PATIENCE_S)
    metrics = Metrics(scene.server)
    for role, names in {"capture": ["capture-0"], "worker": ["worker-0", "worker-1"], "feed": ["feed"]}.items():
        for name in names:
            assert metrics("appliance_sandbox", process=name) == len(FENCES_OF[role])
    assert metrics("appliance_sandbox", process="supervisor") == len(FENCES_OF["supervisor"])
    eventually(lambda: box.count("feed", "written_events"), "events")
    assert box.stop() == 143
    box.ledger()


@root
def test_one_capability_is_enough_to_start(scene: Scene) -> None:
    only = ["setpriv", "--bounding-set=-all,+net_raw", "--inh-caps=-all,+net_raw", "--ambient-caps=-all,+net_raw"]
    box = Box(Prefixed(scene.server, only), scene.directory, "-i", "s0", "--workers", 1)
    try:
        box.wait_ready()
        assert_fenced(box)
        scene.load("--requests", 5).communicate(timeout=PATIENCE_S)
        eventually(lambda: box.count("feed", "written_events"), "events")
    finally:
        box.stop()
        box.close()


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder for everybody. Not one of pytest: another run of it closes those to all but their owner."""
    with tempfile.TemporaryDirectory(prefix="open-") as base:
        Path(base).chmod(0o777)
        yield Path(base)


@root
def test_a_run_of_root_becomes_somebody_else(scene: Scene, open_to_all: Path) -> None:
    scene.directory = open_to_all
    box = scene.capture("--workers", 1, "--set", "run.user=nobody")
    assert_fenced(box)
    nobody = pwd.getpwnam("nobody").pw_uid
    for name in box.names():
        assert {status(int(t), "Uid") for t in threads(box.count(name, "pid"))} == {"\t".join([str(nobody)] * 4)}, name
        assert status(box.count(name, "pid"), "Groups") == ""
    scene.load("--requests", 5).communicate(timeout=PATIENCE_S)
    eventually(lambda: box.count("feed", "written_events"), "events")
    box.kill("worker-0")
    box.kill("capture-0")
    box.kill("feed")
    assert_fenced(box)
    assert box.stop() == 143
    box.ledger()


@root
def test_a_process_that_starts_again_believes_its_supervisor_and_not_the_run_directory(scene: Scene) -> None:
    box = scene.capture("--workers", 1)
    (box.home / "config.json").write_bytes(b'{"output": {"path": "/etc/passwd"}}')
    for name in box.names():
        box.kill(name)
    scene.load("--requests", 5).communicate(timeout=PATIENCE_S)
    eventually(lambda: box.events(), "events where they were before")
    assert box.stop() == 143
    box.ledger()


@root
def test_root_writes_into_a_home_that_is_its_owners_alone(sample: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    os.chown(home, 65534, 65534)
    (home / "sample.pcap").write_bytes(sample.read_bytes())
    done = appliance(
        "run", "-r", home / "sample.pcap", "-o", home / "events.jsonl", "--feed", "off", "--metrics", "off"
    )
    assert done.code == 0, done.err
    assert (home / "events.jsonl").stat().st_size > 0


def test_it_can_be_switched_off(run_box: Callable[..., Box], sample: Path) -> None:
    reader, writer = os.pipe()
    box = run_box("-r", "-", "--feed", "off", "--metrics", "off", "--set", "run.sandbox=off", stdin=reader)
    os.close(reader)
    try:
        os.write(writer, sample.read_bytes()[:24])
        box.wait_ready()
        for name in box.names():
            page = box.page(name)
            assert not any(page[slot] for slot in page.names if slot.startswith("sandbox."))
            assert status(page["pid"], "Seccomp") == "0"
    finally:
        os.close(writer)
    assert box.wait() == 0


def test_a_user_that_does_not_exist_is_named(sample: Path) -> None:
    done = appliance("run", "-r", sample, "-o", "-", "--set", "run.user=nosuchuser")
    assert done.code == 2
    assert "run.user 'nosuchuser'" in done.err
    assert "useradd" in done.err


class Prefixed(Host):
    """A host where a process is started by way of another program."""

    def __init__(self, host: Host, prefix: list[str]) -> None:
        super().__init__(host.name)
        self._prefix = prefix

    def argv(self, words: object) -> list[str]:
        return [*super().argv([]), *self._prefix, *(str(word) for word in words)]  # type: ignore[attr-defined]
