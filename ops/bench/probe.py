"""One probe: so many frames at one rate past one sensor, and whether everything came out of it."""

from __future__ import annotations

import math
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from measure import Failed
from veth import SENDING, Cable

_TICKS = os.sysconf("SC_CLK_TCK")
_LAST_WORDS = 2000  # bytes of a failed program's stderr that are shown
QUIET_S = 0.5  # nothing moves for so long: the sensor is done
PATIENCE_S = 30.0  # for a sensor to start, and to be done
DRAIN_SHARE = (
    0.05  # of a probe's time may be left over at its end: a ring that fills for a minute is a loss in the next
)
LEAST_DRAIN_S = 0.3
PACE_SHARE = 0.02  # a sender that is later than this share of its time did not send at the rate


@dataclass(frozen=True, slots=True)
class Sent:
    """A sender's own report of the frames it sent."""

    frames: int
    bytes: int
    seconds: float
    refusals: int  # frames that the interface took only when they were offered again


@dataclass(frozen=True, slots=True)
class Verdict:
    """A sensor's report of what it saw. events: None if it makes none. losses by reason: all 0 if nothing was lost."""

    received: int
    events: int | None
    losses: Mapping[str, int]


class Sender(Protocol):
    """A program that sends a file again and again, each time with addresses of its own."""

    name: str

    def argv(self, file: Path, rate: float, loops: int) -> list[str]: ...
    def parse(self, said: str) -> Sent: ...


class Sensor(Protocol):
    """A program at the other end of the cable. start() returns when it is at work; stop() when it has ended."""

    name: str

    def start(self, cable: Cable, scratch: Path) -> None: ...
    def pids(self) -> dict[str, int]: ...
    def moved(self) -> int: ...
    def stop(self) -> Verdict: ...
    def kill(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Load:
    """The file that is sent."""

    file: Path
    frames: int
    bytes: int
    transactions: int


@dataclass(slots=True)
class Probe:
    """Measurements of one probe."""

    sensor: str
    rate: float  # frames a second, as commanded
    loops: int
    sent: Sent
    verdict: Verdict
    transactions: int  # in what was sent
    drain_s: float  # from the last frame sent to the last thing done
    cpu_s: dict[str, float]  # by process, from the first frame sent to the last thing done
    load: float  # average of the machine over a minute, at the end
    latency: dict[str, float] = field(default_factory=dict)  # by quantile, in ms

    @property
    def frames_s(self) -> float:
        """As really sent."""
        return self.sent.frames / self.sent.seconds

    @property
    def mbit_s(self) -> float:
        """Of frames without preamble, gap and checksum."""
        return self.sent.bytes * 8 / self.sent.seconds / 1e6

    @property
    def transactions_s(self) -> float:
        """Of the traffic sent."""
        return self.transactions / self.sent.seconds

    @property
    def faults(self) -> list[str]:
        """Everything for which this rate does not count as held; empty when it does."""
        found = [f"{reason} {number:,}" for reason, number in self.verdict.losses.items() if number]
        if self.verdict.received != self.sent.frames:
            found.append(f"{self.sent.frames:,} frames sent, {self.verdict.received:,} arrived")
        if self.verdict.events not in (None, self.transactions):
            found.append(f"{self.verdict.events:,} events of {self.transactions:,} transactions")
        if self.drain_s > max(LEAST_DRAIN_S, DRAIN_SHARE * self.sent.seconds):
            found.append(f"{self.drain_s:.1f} s behind at the end")
        if self.rate and self.frames_s < self.rate * (1 - PACE_SHARE):
            found.append(f"the sender came to {self.frames_s:,.0f} frames/s only")
        return found

    @property
    def holds(self) -> bool:
        """Nothing lost anywhere, everything out, at the rate that was commanded."""
        return not self.faults


class OwnSender:
    """sender.c, compiled."""

    name = "sender"

    def __init__(self, program: Path, threads: int = 1) -> None:
        self._program = program
        self._threads = threads

    def argv(self, file: Path, rate: float, loops: int) -> list[str]:
        """Its command line; rate 0 is as fast as it goes."""
        return [str(self._program), str(file), SENDING, f"{rate:.3f}", str(loops), str(self._threads)]

    def parse(self, said: str) -> Sent:
        """Its last line. Raises Failed when it is none."""
        try:
            frames, size, seconds, refusals, _behind = said.strip().rpartition("\n")[2].split()
            return Sent(int(frames), int(size), float(seconds), int(refusals))
        except ValueError as fault:
            raise Failed(f"the sender said {said[-200:]!r}") from fault


class Tcpreplay:
    """tcpreplay, from memory, with other addresses in every loop."""

    name = "tcpreplay"

    def __init__(self, program: str) -> None:
        self._program = program

    def argv(self, file: Path, rate: float, loops: int) -> list[str]:
        """Its command line; rate 0 is as fast as it goes."""
        pace = ["--pps", f"{rate:.0f}"] if rate else ["--topspeed"]
        again = ["--loop", str(loops), "--unique-ip"] if loops > 1 else []
        return [self._program, "--intf1", SENDING, "--preload-pcap", *pace, *again, str(file)]

    def parse(self, said: str) -> Sent:
        """Its statistics. Raises Failed when they are not there, or frames were left out."""
        actual = re.search(r"Actual: (\d+) packets \((\d+) bytes\) sent in ([\d.]+) seconds", said)
        failed = re.search(r"Failed packets:\s+(\d+)", said)
        again = re.search(r"Retried packets \(ENOBUFS\):\s+(\d+)", said)
        if actual is None or (failed and int(failed[1])):
            raise Failed(f"tcpreplay said {said[-500:]!r}")
        return Sent(int(actual[1]), int(actual[2]), float(actual[3]), int(again[1]) if again else 0)


def cpu_s(pid: int) -> float:
    """Seconds of processor time that a process has used, all its threads, both kinds; 0.0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def loops_for(rate: float, seconds: float, frames: int) -> int:
    """Whole loops of a file of so many frames that take at least `seconds` at `rate`."""
    return max(1, math.ceil(rate * seconds / frames))


def wait_quiet(sensor: Sensor, begin: float) -> float:
    """Seconds from `begin` (time.monotonic) until the last thing the sensor did."""
    moved, at = sensor.moved(), time.monotonic()
    while (now := time.monotonic()) - at < QUIET_S and now - begin < PATIENCE_S:
        time.sleep(0.02)
        if (value := sensor.moved()) != moved:
            moved, at = value, time.monotonic()
    return max(0.0, at - begin)


def scratch_directory() -> tempfile.TemporaryDirectory[str]:
    """In memory where that can be: no disk takes part in a probe."""
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(prefix="bench-live-", dir=memory if os.access(memory, os.W_OK) else None)


def probe(sensor: Sensor, sender: Sender, cable: Cable, load: Load, rate: float, seconds: float) -> Probe:
    """One probe of at least `seconds`, in whole loops of the file. Raises Failed when a program fails."""
    loops = loops_for(rate, seconds, load.frames)
    with scratch_directory() as name, open(f"{name}/said", "w+") as said:
        try:
            sensor.start(cable, Path(name))
            before = {each: cpu_s(pid) for each, pid in sensor.pids().items()}
            argv = cable.at_sender(sender.argv(load.file, rate, loops))
            running = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)
            _, status, usage = os.wait4(running.pid, 0)
            ended = time.monotonic()
            running.returncode = os.waitstatus_to_exitcode(status)
            said.seek(0)
            words = said.read()
            if running.returncode:
                raise Failed(f"{' '.join(argv)}: ended with {running.returncode}\n{words[-_LAST_WORDS:].strip()}")
            drain = wait_quiet(sensor, ended)
            used = {each: cpu_s(pid) - before.get(each, 0.0) for each, pid in sensor.pids().items()}
            used[sender.name] = usage.ru_utime + usage.ru_stime
            verdict = sensor.stop()
        finally:
            sensor.kill()
    transactions = load.transactions * loops
    sent = sender.parse(words)
    latency = getattr(sensor, "latency", {})
    return Probe(sensor.name, rate, loops, sent, verdict, transactions, drain, used, os.getloadavg()[0], latency)


def last_words(errors: Path) -> str:
    """The end of what a program wrote on standard error."""
    try:
        return errors.read_bytes()[-_LAST_WORDS:].decode(errors="replace").strip()
    except OSError:
        return ""


def started(argv: Sequence[str], errors: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A sensor's process, in a group of its own, with everything it says in `errors`."""
    with errors.open("wb") as said:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env={**os.environ, **environment},
            process_group=0,
        )
