"""The modules that a command loads: loading takes most of the time of a short command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from eventually import PATIENCE_S

ROOT = Path(__file__).resolve().parents[3]
LIBRARIES = {"cryptography", "dpkt", "msgspec", "prometheus_client", "rich", "zmq"}
HEAVY = {"asyncio", "ctypes", "dataclasses", "hashlib", "logging", "subprocess", "tomllib"}
SERVED = {"http.server", "socketserver", "wsgiref", "ssl"}
LINE = re.compile(r"import time: +\d+ \| +\d+ \| *([\w.]+)$", re.M)


def loaded(*words: object, file: Path | None = None) -> list[str]:
    """Every module that each process of a command loads, in that order."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "appliance", *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=PATIENCE_S,
    )
    assert done.returncode in (0, 2), done.stderr
    return LINE.findall(done.stderr)


def of_packages(modules: list[str], packages: set[str]) -> set[str]:
    return {name for name in modules if any(name == package or name.startswith(f"{package}.") for package in packages)}


def test_help_loads_no_library_but_that_of_the_command_line():
    assert not of_packages(loaded("run", "--help"), LIBRARIES | HEAVY | SERVED | {"workers"})


def test_devices_loads_the_list_of_interfaces_and_no_capture():
    modules = loaded("devices")
    assert "appliance.pcap.devices" in modules
    others = {"appliance.capture", "appliance.pcap.handle", "appliance.stats"}
    assert not of_packages(modules, LIBRARIES | HEAVY | others)


def test_events_loads_what_the_feed_needs_and_no_more():
    modules = loaded("events", "--connect", "none")
    assert "zmq" in modules
    mine = {"appliance.capture", "appliance.pcap", "appliance.supervisor", "workers"}
    assert not of_packages(modules, (LIBRARIES - {"msgspec", "zmq"}) | HEAVY | SERVED | mine)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture without a frame."""
    file = tmp_path_factory.mktemp("run") / "empty.pcap"
    file.write_bytes(bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000"))
    return file


@pytest.fixture(scope="module")
def run(empty: Path) -> list[str]:
    """Return the modules that all processes of a run over a file load."""
    return loaded("run", "-r", empty, "-o", empty.with_name("events"), "--workers", 2, "-q")


def test_the_library_of_certificates_and_ciphers_is_for_handshakes(empty, run):
    only = loaded(
        "run",
        "-r",
        empty,
        "-o",
        empty.with_name("http"),
        "--workers",
        2,
        "-q",
        "--dataset",
        "http",
        "--set",
        "quic.max_initials_per_second=0",
    )
    assert not of_packages(only, {"cryptography", "hashlib"})
    assert of_packages(run, {"cryptography"})


def test_a_file_loads_nothing_of_a_live_run(run):
    capture = {f"appliance.capture.{name}" for name in ("interface_monitor", "load_shedding", "fanout")}
    feed = {f"appliance.feed.{name}" for name in ("authenticator", "replay_server", "sockets")}
    live = {*capture, *feed, "appliance.metrics", "workers.body.reader"}
    others = {"appliance.doctor", "appliance.subscriber", "appliance.top"}
    assert not of_packages(
        run, (LIBRARIES - {"cryptography", "msgspec", "zmq"}) | (HEAVY - {"hashlib"}) | SERVED | live | others
    )


def test_what_the_processes_of_a_run_need_is_loaded_once_for_all(run):
    twice = {name for name, count in Counter(run).items() if count > 1}
    needed = {
        "zmq",
        "appliance.capture.sharder",
        "appliance.ipc.sockets",
        "workers.pipeline",
        "appliance.output.jsonlines",
    }
    assert needed <= set(run)
    assert twice <= {"nt"}  # of another system, where a module is only looked for
