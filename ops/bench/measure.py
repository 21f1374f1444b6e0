"""Run a program and measure it: wall time, processor time of the whole tree, and memory."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_SAMPLE_S = 0.05
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_LAST_WORDS = 2000  # bytes of a failed program's stderr that are shown


class Failed(Exception):
    """A program that was to be measured did not end well; the text says which and what it said last."""


@dataclass(frozen=True, slots=True)
class Run:
    """One measured run."""

    wall_s: float
    user_s: float  # of the program and every descendant it waited for
    system_s: float
    peak_bytes: (
        int  # resident: of the tree when sampled (shared pages counted once a process), else of its largest process
    )
    processes: dict[str, float]  # processor time of each, by the module it runs or its name; empty unless sampled

    @property
    def cpu_s(self) -> float:
        """Processor time, both kinds."""
        return self.user_s + self.system_s


def descendants(pid: int) -> list[int]:
    """The process and all its living descendants; those that end meanwhile are left out."""
    found = [pid]
    for parent in found:
        try:
            for thread in os.listdir(f"/proc/{parent}/task"):
                children = Path(f"/proc/{parent}/task/{thread}/children").read_text()
                found.extend(int(child) for child in children.split())
        except OSError:
            continue
    return found


def resident_bytes(pid: int) -> int:
    """Resident memory of one process, 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def spent_s(pid: int) -> tuple[str, float] | None:
    """Return the name of a process and its processor time; None if it has ended."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    except (OSError, ValueError):
        return None
    module = words[words.index("-m") + 1 :] if "-m" in words else []
    what = module[0].removesuffix(".process").rpartition(".")[2] if module else "supervisor"
    return f"{what} {module[2] if len(module) > 3 else ''}".strip(), (int(user) + int(system)) / _TICKS


class _Sampler(threading.Thread):
    """Watches a tree until stopped: `peak` is the largest sum of memory seen, `spent` each process' time."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._ended = threading.Event()
        self.peak = 0
        self.spent: dict[str, float] = {}

    def run(self) -> None:
        while not self._ended.is_set():
            tree = descendants(self._pid)
            self.peak = max(self.peak, sum(resident_bytes(pid) for pid in tree))
            self.spent.update(found for pid in tree if (found := spent_s(pid)))
            self._ended.wait(_SAMPLE_S)

    def stop(self) -> int:
        self._ended.set()
        self.join()
        return self.peak


def run(
    argv: Sequence[str],
    *,
    scratch: Path,
    output: Path | None = None,
    sample: bool = False,
    timeout_s: float = 900.0,
    environment: dict[str, str] | None = None,
) -> Run:
    """Run to the end and measure; Failed when it cannot start, ends badly or takes longer than the time allowed.

    stdout goes to `output` (default: nowhere), stderr to a file in `scratch`. With `sample`, memory is that of the
    whole tree, looked at every 50 ms: for runs that are not timed.
    """
    errors = scratch / "stderr"
    with open(output or os.devnull, "wb") as out, open(errors, "wb") as err:
        begun = time.perf_counter()
        try:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env={**os.environ, **(environment or {})}
            )
        except OSError as fault:
            raise Failed(f"{argv[0]}: {fault.strerror}") from fault
        sampler = _Sampler(process.pid) if sample else None
        if sampler:
            sampler.start()
        late = threading.Timer(timeout_s, process.kill)
        late.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
        late.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)  # wait4 took it; Popen must not look for it
        peak = sampler.stop() if sampler else usage.ru_maxrss * 1024
    if process.returncode:
        said = errors.read_bytes()[-_LAST_WORDS:].decode(errors="replace").strip()
        raise Failed(f"{' '.join(argv)}: ended with {process.returncode} after {wall:.1f} s\n{said}")
    processes = sampler.spent if sampler else {}
    return Run(wall, usage.ru_utime, usage.ru_stime, max(peak, usage.ru_maxrss * 1024), processes)
