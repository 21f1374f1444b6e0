"""The first processes of a run are forked; one that starts again is executed. Nobody who looks sees a difference."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from box import Box
from eventually import eventually

NAMES = {
    "capture-0": "appliance.capture.process",
    "worker-0": "workers.process.worker",
    "feed": "appliance.feed.process",
}


def words(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")


def open_files(pid: int) -> set[str]:
    """Return what the descriptors of a process refer to, but for those that it closes meanwhile."""
    found = set()
    for number in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            found.add(os.readlink(f"/proc/{pid}/fd/{number}"))
    return found


def start(run_box: Callable[..., Box]) -> Box:
    """A run that waits for a capture file on its standard input."""
    box = run_box("-r", "-", "--workers", 1, "--feed", "off", "--metrics", "off", stdin=subprocess.PIPE)
    eventually(lambda: set(NAMES) <= set(box.names()), "their pages are there")
    eventually(lambda: all(box.count(name, "starts") for name in NAMES), "all have begun")
    return box


def test_each_is_called_by_its_module(run_box: Callable[..., Box]) -> None:
    box = start(run_box)
    for name, module in NAMES.items():
        assert words(box.count(name, "pid"))[:3] == ["python", "-m", module]
        assert Path(f"/proc/{box.count(name, 'pid')}/comm").read_text().strip() == name.replace("-", " ")


def test_none_has_a_descriptor_of_the_supervisors(run_box: Callable[..., Box]) -> None:
    box = start(run_box)
    for name in NAMES:
        assert not [each for each in open_files(box.count(name, "pid")) if "pidfd" in each or each.endswith("/lock")]


def test_none_can_write_a_file_of_another(run_box: Callable[..., Box]) -> None:
    box = start(run_box)
    for name in NAMES:
        process = Path(f"/proc/{box.count(name, 'pid')}")
        for number in os.listdir(process / "fd"):
            try:
                file = Path(os.readlink(process / "fd" / number))
                lines = (process / "fdinfo" / number).read_text().splitlines()
            except FileNotFoundError:
                continue  # closed meanwhile
            flags = next(line for line in lines if "flags" in line)
            if file.is_relative_to(box.home) and int(flags.split()[1], 8) & os.O_ACCMODE:
                assert file.relative_to(box.home).parts[0] in (name, f"{name}.stats"), f"{name} has {file}"


def test_only_the_feed_has_the_output_and_only_the_capture_the_source(run_box: Callable[..., Box]) -> None:
    box = start(run_box)
    eventually(lambda: all(box.count(name, "state") for name in NAMES), "all are ready")
    files = {name: open_files(box.count(name, "pid")) for name in (*NAMES, "supervisor")}
    source = os.readlink(f"/proc/{box.process.pid}/fd/0")
    assert {name for name in NAMES if source in files[name]} == {"capture-0"}
    assert not {name for name in NAMES if str(box.output) in files[name]} - {"feed"}


def test_none_maps_the_memory_of_the_supervisor(run_box: Callable[..., Box]) -> None:
    box = start(run_box)
    for name in NAMES:
        maps = Path(f"/proc/{box.count(name, 'pid')}/maps").read_text()
        mine = [line for line in maps.splitlines() if str(box.home) in line and " rw-s " in line]
        assert not [line for line in mine if f"/{name}" not in line], mine


def test_one_that_starts_again_is_executed(run_box: Callable[..., Box]) -> None:
    box = start(run_box)
    box.send("worker-0", signal.SIGKILL)
    eventually(lambda: box.count("worker-0", "starts") == 2, "it is back")
    assert words(box.count("worker-0", "pid"))[:4] == [sys.executable, "-P", "-m", "workers.process.worker"]
