"""The appliance under test: started by its command line, watched through its own files, ended by signals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eventually import PATIENCE_S, eventually
from hosts import Host, environment
from transactions import Event, read_events

from appliance.stats.names import READY
from appliance.stats.page import Page

# How long a stop may take and a process stand still where the machine has much else to do; a test of either says less.
PATIENT = ("--set", f"run.drain_s={PATIENCE_S}", "--set", f"run.hung_s={PATIENCE_S}")


class Result(NamedTuple):
    """The result of a run to the end of its input."""

    code: int
    out: str
    err: str


def appliance(*words: str | int | Path, host: Host | None = None, **how: Any) -> Result:
    """Runs the command line to its end."""
    how = {"stdin": subprocess.DEVNULL, "timeout": PATIENCE_S, **how}
    argv = (host or Host()).argv([sys.executable, "-m", "appliance", *words])
    done = subprocess.run(argv, capture_output=True, check=False, env=environment(), **how)
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


def state(pid: int) -> str:
    """Its letter in ps; "X" when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def alive(pid: int) -> bool:
    """Return whether the process runs; a zombie does not."""
    return state(pid) not in "ZX"


def resume(pid: int) -> None:
    """SIGCONT, unless it was killed meanwhile because it stood still."""
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        pass


class Box:
    """A running appliance. Its events, ledger and standard error are files; its counters outlive it."""

    def __init__(
        self,
        host: Host,
        directory: Path,
        *words: str | int,
        stdin: int | None = None,
        program: Sequence[str | Path] = ("-m", "appliance"),
    ) -> None:
        self.host = host
        self.home = Path(tempfile.mkdtemp(prefix="live-"))  # short: sockets live in it
        self.output = directory / "events.jsonl"
        self.ledger_file = directory / "ledger.json"
        self.error_file = directory / "stderr.txt"
        files = ["-o", self.output, "--ledger", self.ledger_file, "--run-dir", self.home]
        with self.error_file.open("wb") as errors:
            self.process = host.start(
                *(sys.executable, *program, "run", *PATIENT, *words, *files),
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                process_group=0,
            )

    # -- watching ------------------------------------------------------------------------------------------------------

    def page(self, name: str) -> Page:
        """The counters of a process: "capture-0", "worker-1", "feed", "supervisor"."""
        return Page.open(self.home / f"{name}.stats")

    def names(self) -> list[str]:
        """The processes that have counters, without the supervisor."""
        return sorted(path.stem for path in self.home.glob("*.stats") if path.stem != "supervisor")

    def count(self, name: str, slot: str) -> int:
        """One counter as it is now."""
        return self.page(name)[slot]

    def pids(self) -> list[int]:
        """Of all child processes."""
        return [self.count(name, "pid") for name in self.names()]

    def errors(self) -> str:
        """Return the text written to standard error so far."""
        return self.error_file.read_text()

    def wait_ready(self) -> Box:
        """Until every process is at work."""

        def ready() -> bool:
            assert self.process.poll() is None, self.errors()
            names = self.names()
            return "feed" in names and all(self.count(name, "state") == READY for name in names)

        eventually(ready, "the appliance is ready")
        return self

    def wait_quiet(self) -> None:
        """Until nothing is on its way any more from the wire to the events."""
        still = {"at": self._moved(), "turns": 0}

        def quiet() -> bool:
            moved = self._moved()
            still["turns"] = still["turns"] + 1 if moved == still["at"] else 0
            still["at"] = moved
            return still["turns"] >= 25

        eventually(quiet, "the appliance has nothing more to do")

    def _moved(self) -> int:
        return sum(
            value
            for name in self.names()
            for slot, value in self.page(name).snapshot().items()
            if slot.startswith(("frames", "segments", "made.", "published.", "written_events"))
        )

    # -- acting --------------------------------------------------------------------------------------------------------

    def send(self, name: str, number: int) -> int:
        """Sends a signal to a child; its number."""
        pid = self.count(name, "pid")
        os.kill(pid, number)
        return pid

    def kill(self, name: str) -> None:
        """kill -9, and waits until its successor is at work."""
        starts = self.count(name, "starts")
        pid = self.send(name, signal.SIGKILL)
        eventually(lambda: not alive(pid), f"{name} is dead")
        back = f"{name} is back"
        eventually(lambda: self.count(name, "starts") > starts and self.count(name, "state") == READY, back)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Asks it to end; its exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        try:
            return int(self.process.wait(2 * PATIENCE_S))  # longer than a drain
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end:\n{self.errors()}") from None

    # -- what came of it -----------------------------------------------------------------------------------------------

    def events(self) -> list[Event]:
        """Everything written so far."""
        return read_events(self.output)

    def ledger(self) -> dict[str, dict[str, int]]:
        """The terms of each identity, after the end; every one of them has to be closed."""
        ledger = json.loads(self.ledger_file.read_text())
        open_by = {name: one["difference"] for name, one in ledger["identities"].items() if one["difference"]}
        assert (ledger["unaccounted"], open_by) == (0, {}), self.errors()
        assert list(ledger["identities"]) == [f"L{n}" for n in range(1, 13)]
        return {name: one["terms"] for name, one in ledger["identities"].items()}

    def close(self) -> None:
        """Leaves nothing behind, whatever went wrong."""
        known = self.pids()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        for pid in known:
            try:
                if str(self.home) in Path(f"/proc/{pid}/cmdline").read_text():
                    os.kill(pid, signal.SIGKILL)
            except (OSError, ValueError):
                pass
        shutil.rmtree(self.home, ignore_errors=True)
