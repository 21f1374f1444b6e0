"""A running appliance from outside: where its run directory is, and what its pages say. Nothing is written there."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from appliance.config import Config, ConfigError, load_resolved
from appliance.rundir import Unusable
from appliance.stats import Page, PageError
from appliance.summary import Snapshots

CHILDREN = (b"appliance.feed", b"appliance.capture")  # modules, with the run directory behind them
TICKS_S = os.sysconf("SC_CLK_TCK")


class Running:
    """The pages of one run, mapped. Raises Unusable when there are none that can be read."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        try:
            self.config: Config = load_resolved(directory)
            captures, workers = self.config.capture_count, self.config.worker_count
            self._captures = [_page(directory / f"capture-{c}.stats") for c in range(captures)]
            self._workers = [_page(directory / f"worker-{w}.stats") for w in range(workers)]
            self._feed, self._supervisor = _page(directory / "feed.stats"), _page(directory / "supervisor.stats")
            self._since = (directory / "supervisor.stats").stat().st_ctime
        except PermissionError as error:
            raise Unusable(
                f"--run {directory}: it belongs to another user; try again as that user or as root"
            ) from error
        except OSError as error:
            raise Unusable(f"--run {directory}: no run directory of an appliance: {error.strerror}") from error
        except (ConfigError, PageError) as error:
            raise Unusable(f"--run {directory}: {error}") from error

    def snapshots(self) -> Snapshots:
        """Every page as it is now, against the flow (stats.Pages)."""
        feed = self._feed.snapshot()
        workers = [page.snapshot() for page in self._workers]
        captures = [page.snapshot() for page in self._captures]
        return Snapshots(captures, workers, feed, self._supervisor.snapshot())

    @property
    def alive(self) -> bool:
        """Whether its supervisor still runs."""
        return cpu_s(self._supervisor["pid"]) is not None

    @property
    def uptime_s(self) -> float:
        """Since its run directory was prepared."""
        return max(0.0, time.time() - self._since)

    def endpoint(self, name: str) -> str:
        """Where "feed", "replay" or "metrics" really is; "" when it is nowhere."""
        try:
            return (self.directory / f"{name}.endpoint").read_text()
        except OSError:
            return ""


def find(wanted: Path | None) -> Running:
    """The run in this directory, or the only one on this machine. Raises Unusable."""
    if wanted is not None:
        return Running(wanted)
    found = sorted(directories())
    if not found:
        raise Unusable("no running appliance was found; name its run directory with --run DIR")
    if len(found) > 1:
        raise Unusable(f"{len(found)} appliances run here; choose one: {' '.join(f'--run {path}' for path in found)}")
    return Running(found[0])


def directories() -> set[Path]:
    """The run directories of all appliances of this network namespace: children name them on their command lines."""
    return {Path(os.fsdecode(words[1])) for words in _command_lines()}


def _command_lines() -> Iterator[list[bytes]]:
    """From the name of a child's module on."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        for place, word in enumerate(words[:-1]):
            if word in CHILDREN and words[place - 1] == b"-m" and words[place + 1].startswith(b"/") and _near(entry):
                yield words[place:]


def _near(process: str) -> bool:
    """Whether it sees the interfaces that we see; True where we may not know."""
    try:
        return os.readlink(f"/proc/{process}/ns/net") == os.readlink("/proc/self/ns/net")
    except OSError:
        return True


def cpu_s(pid: int) -> float | None:
    """Seconds of processor that a process has used; None when it is not there, or dead and not yet reaped."""
    if not pid:
        return None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else (int(fields[11]) + int(fields[12])) / TICKS_S


def _page(path: Path) -> Page:
    return Page.open(path, writable=False)
