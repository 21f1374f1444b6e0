"""The appliance as a service: what it tells its manager, and the units that start it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from box import Box, state
from eventually import PATIENCE_S, eventually
from hosts import ROOT, Host, environment
from scene import Scene, require

UNITS = ROOT / "ops" / "systemd"
root = pytest.mark.root


class Manager:
    """A service manager's ear: a datagram socket, and what came there."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.setblocking(False)
        self.heard: list[dict[str, str]] = []

    def hear(self) -> list[dict[str, str]]:
        """All messages so far, each as its fields."""
        while True:
            try:
                text = self.socket.recv(4096).decode()
            except BlockingIOError:
                return self.heard
            self.heard.append(dict(line.split("=", 1) for line in text.splitlines()))

    def said(self, field: str) -> list[str]:
        return [message[field] for message in self.hear() if field in message]


@pytest.fixture
def manager() -> Iterator[Manager]:
    with tempfile.TemporaryDirectory(prefix="mgr-") as directory:
        made = Manager(Path(directory))
        yield made
        made.socket.close()


def serviced(scene: Scene, manager: Manager, config: Path | None = None, **more: str) -> Box:
    told = {**environment(), "NOTIFY_SOCKET": str(manager.path), **more}
    words = ["-c", str(config)] if config else []
    return Box(Environed(scene.server, told), scene.directory, "-i", "s0", "--workers", 1, *words)


class Environed(Host):
    """A host whose processes have another environment."""

    def __init__(self, host: Host, environment: dict[str, str]) -> None:
        super().__init__(host.name)
        self._environment = environment

    def start(self, *words: str | int | Path, **how: object) -> subprocess.Popen[bytes]:
        return super().start(*words, **{"env": self._environment, **how})


@root
def test_a_service_manager_is_told_of_start_progress_and_end(scene: Scene, manager: Manager) -> None:
    box = serviced(scene, manager, WATCHDOG_USEC="600000")
    try:
        eventually(lambda: manager.said("READY"), "READY=1")
        box.wait_ready()
        assert manager.said("STATUS")[0] == "capturing on s0"
        told = len(manager.said("WATCHDOG"))
        eventually(lambda: len(manager.said("WATCHDOG")) >= told + 3, "WATCHDOG=1 again and again")
        for name in box.names():
            assert b"NOTIFY_SOCKET" not in Path(f"/proc/{box.count(name, 'pid')}/environ").read_bytes()
        assert not manager.said("STOPPING")
        assert box.stop() == 143
        assert manager.said("STOPPING") == ["1"]
    finally:
        box.close()


@root
def test_a_stopped_supervisor_does_not_feed_the_watchdog(scene: Scene, manager: Manager) -> None:
    box = serviced(scene, manager, WATCHDOG_USEC="300000")
    try:
        box.wait_ready()
        eventually(lambda: manager.said("WATCHDOG"), "WATCHDOG=1")
        box.process.send_signal(signal.SIGSTOP)
        eventually(lambda: state(box.process.pid) == "T", "it is stopped")  # what it said before that has arrived
        fed = len(manager.said("WATCHDOG"))
        time.sleep(0.6)  # twice what the manager would wait
        assert len(manager.said("WATCHDOG")) == fed
        box.process.send_signal(signal.SIGCONT)
        eventually(lambda: len(manager.said("WATCHDOG")) > fed, "it goes on")
    finally:
        box.close()


@root
def test_a_reload_is_told_from_its_begin_to_its_end(scene: Scene, manager: Manager) -> None:
    file = scene.directory / "appliance.toml"
    file.write_text("")
    box = serviced(scene, manager, file)
    try:
        box.wait_ready()
        for text, said in (("[http]\nmax_headers = 50\n", "configuration 2"), ("nonsense", "not reloaded: ")):
            eventually(lambda: manager.said("READY"), "READY=1")
            before = len(manager.hear())
            file.write_text(text)
            box.process.send_signal(signal.SIGHUP)
            eventually(lambda: any("READY" in one for one in manager.hear()[before:]), "READY=1 again")  # noqa: B023
            told = [one for one in manager.hear()[before:] if "WATCHDOG" not in one]
            assert told[0]["RELOADING"] == "1"
            assert 0 < int(told[0]["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
            assert told[1]["STATUS"].startswith(said)
        assert box.stop() == 143
    finally:
        box.close()


@root
def test_a_manager_that_is_gone_is_no_matter(scene: Scene, manager: Manager) -> None:
    manager.path.unlink()
    box = serviced(scene, manager, WATCHDOG_USEC="300000")
    try:
        assert box.wait_ready().stop() == 143
    finally:
        box.close()


# -- the units ---------------------------------------------------------------------------------------------------------


def analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    require("systemd-analyze")
    words = ("systemd-analyze", "--no-pager", *map(str, words))
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=PATIENCE_S)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A tree of files with our units, systemd's own, and something at each path that ours start."""
    ours = tmp_path / "etc/systemd/system"
    ours.mkdir(parents=True)
    system = Path("/usr/lib/systemd/system")
    if not system.is_dir():
        system = Path("/lib/systemd/system")
    if system.is_dir():
        shutil.copytree(system, tmp_path / "usr/lib/systemd/system", symlinks=True)
    for unit in UNITS.glob("*.service"):
        shutil.copy(unit, ours)
        for program in re.findall(r"^Exec\w+=-?(/\S+)", unit.read_text(), re.M):
            there = tmp_path / program.lstrip("/")
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_text("#!/bin/sh\n")
            there.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("unit", ["capture-appliance@eth1.service", "capture-nic@eth1.service"])
def test_a_unit_has_no_fault(image: Path, unit: str) -> None:
    done = analyze("verify", "--man=no", f"--root={image}", unit)
    assert [line for line in done.stderr.splitlines() if unit.partition("@")[0] in line] == []
    if (image / "usr/lib/systemd/system/sysinit.target").exists():
        assert done.returncode == 0, done.stderr


def test_a_fault_in_a_unit_would_be_found(image: Path) -> None:
    unit = image / "etc/systemd/system/capture-appliance@.service"
    unit.write_text(unit.read_text().replace("WatchdogSec=30", "WatchdogSecs=30"))
    assert "WatchdogSecs" in analyze("verify", "--man=no", f"--root={image}", "capture-appliance@eth1.service").stderr


@pytest.mark.parametrize("unit", ["capture-appliance@.service", "capture-nic@.service"])
def test_a_unit_is_exposed_by_two_of_ten_at_most(unit: str) -> None:
    done = analyze("security", "--offline=true", "--threshold=20", UNITS / unit)
    assert done.returncode == 0, done.stdout
    assert re.search(r"exposure level for \S+: (0|1)\.\d|: 2\.0", done.stdout)


def test_the_users_and_folders_are_written_as_systemd_reads_them(tmp_path: Path) -> None:
    require("systemd-sysusers", "systemd-tmpfiles")
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes a user in a tree of its own")
    (tmp_path / "etc").mkdir()
    words = ["systemd-sysusers", f"--root={tmp_path}", str(UNITS / "capture-appliance.sysusers")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert "capture-appliance:" in (tmp_path / "etc/passwd").read_text()
    words = ["systemd-tmpfiles", f"--root={tmp_path}", "--create", str(UNITS / "capture-appliance.tmpfiles")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "etc/capture-appliance").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "var/lib/capture-appliance").stat().st_uid != 0
