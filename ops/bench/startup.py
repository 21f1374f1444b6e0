"""Measure the start of the appliance: an empty run, its first frame, and short commands.

    python ops/bench/startup.py [--rounds 15] [--against PROGRAM] [--json OUT.json]

Each line stands beside its goal, and a line over its goal says so. The capture file holds one frame, so a run is what
it costs to start and to end. The first frame is read when the records are read for the first time; the kernel says so
(inotify(7)). `--against` names the `appliance` of another installation: both take turns in every round.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import select
import struct
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from contenders import program

IN_ACCESS = 1  # inotify(7)
IN_NONBLOCK, IN_CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
READ = 2  # accesses to the file: libpcap has looked at its header, and records are read
FRAME = bytes(12) + b"\x08\x06" + bytes(46)  # ARP: no TCP, so no event
LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Start:
    """One start of a program, to its end."""

    wall_ms: float
    cpu_ms: float  # of all its processes
    first_ms: float | None  # to the first frame, where there is one


@dataclass(frozen=True, slots=True)
class Case:
    """A command to start. goal: (wall, processor time, first frame) in ms; None: without a goal."""

    name: str
    words: tuple[str, ...]
    goal: tuple[float | None, float | None, float | None] = (None, None, None)
    reads: bool = False
    code: int = 0


@dataclass(slots=True)
class Result:
    """All starts of one case by one program."""

    case: str
    program: str
    starts: list[Start] = field(default_factory=list)

    def figures(self) -> tuple[float, float, float | None]:
        """Return the medians in ms: wall time, processor time, first frame."""
        first = [one.first_ms for one in self.starts if one.first_ms is not None]
        walls, cpus = [one.wall_ms for one in self.starts], [one.cpu_ms for one in self.starts]
        return median(walls), median(cpus), median(first) if first else None


def cases(file: Path, scratch: Path) -> list[Case]:
    """Return what is measured."""
    run = ("run", "-r", str(file), "-o", str(scratch / "events"), "-q")
    return [
        Case("an empty run", run, (100, 120, 60), reads=True),
        Case("--help", ("--help",), (30, 30, None)),
        Case("run --help", ("run", "--help"), (30, 30, None)),
        Case("devices", ("devices",), (60, 60, None)),
        # An endpoint that is none ends it where it would begin to listen.
        Case("events", ("events", "--connect", "none"), (100, 100, None), code=2),
    ]


def write_capture(file: Path) -> None:
    """Write a capture file with one frame."""
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)
    file.write_bytes(head + struct.pack("<IIII", 0, 0, len(FRAME), len(FRAME)) + FRAME)


class Watch:
    """Tells when a file is read. Use it in a `with`."""

    def __init__(self, file: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor = libc.inotify_init1(IN_NONBLOCK | IN_CLOEXEC)
        if self.descriptor < 0 or libc.inotify_add_watch(self.descriptor, os.fsencode(file), IN_ACCESS) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(file))

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def taken(self) -> int:
        """Return how many accesses there were since the last call."""
        return len(os.read(self.descriptor, 4096)) // struct.calcsize("iIII")


def start(argv: Sequence[str], case: Case, file: Path) -> Start:
    """Start a program and wait for its end. Raises RuntimeError when it ends otherwise than it should."""
    with Watch(file) as watch:
        nowhere = os.open(os.devnull, os.O_RDWR)
        words, files = [*argv, *case.words], [(os.POSIX_SPAWN_DUP2, nowhere, number) for number in (0, 1, 2)]
        begun = time.perf_counter()
        pid = os.posix_spawn(argv[0], words, os.environ, file_actions=files)
        ended = os.pidfd_open(pid)
        waiting = select.poll()
        waiting.register(ended, select.POLLIN)
        waiting.register(watch.descriptor, select.POLLIN)
        read: list[float] = []  # when, as far as it was noticed: two in a row may be told as one
        running = True
        while running:
            happened = dict(waiting.poll(LIMIT_S * 1000))
            now = time.perf_counter()
            if watch.descriptor in happened:
                read += [(now - begun) * 1e3] * watch.taken()
            running = bool(happened) and ended not in happened
        os.close(ended)
        os.close(nowhere)
        _, status, usage = os.wait4(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code != case.code or (case.reads and not read):
        raise RuntimeError(f"{' '.join([*argv, *case.words])}: ended with {code}")
    return Start((now - begun) * 1e3, (usage.ru_utime + usage.ru_stime) * 1e3, read[:READ][-1] if case.reads else None)


def measure(programs: Sequence[Sequence[str]], rounds: int) -> list[tuple[Case, list[Result]]]:
    """Return every case with a result of each program; they take turns. A first round is not counted."""
    with tempfile.TemporaryDirectory(prefix="startup-") as name:
        scratch = Path(name)
        file = scratch / "one.pcap"
        write_capture(file)
        found = []
        for case in cases(file, scratch):
            results = [Result(case.name, " ".join(argv)) for argv in programs]
            for turn in range(rounds + 1):
                for argv, result in zip(programs, results, strict=True):
                    one = start(argv, case, file)
                    if turn:
                        result.starts.append(one)
            found.append((case, results))
    return found


def table(found: Sequence[tuple[Case, list[Result]]]) -> str:
    """Return the medians beside the goals, as text; the first program is held to them."""
    lines = [f"{'start, ms':14}{'wall':>8}{'goal':>6}{'cpu':>8}{'goal':>6}{'1st frame':>11}{'goal':>6}"]
    for case, results in found:
        for number, result in enumerate(results):
            goals = (None, None, None) if number else case.goal
            cells = []
            for value, goal, width in zip(result.figures(), goals, (8, 8, 11), strict=True):
                cells.append(f"{'-' if value is None else f'{value:.0f}':>{width}}")
                cells.append(f"{'' if goal is None else f'{goal:.0f}':>6}")
            over = any(
                value is not None and goal is not None and value > goal
                for value, goal in zip(result.figures(), goals, strict=True)
            )
            title = case.name if number == 0 else "  the other"
            lines.append(f"{title:14}{''.join(cells)}{'  over its goal' if over else ''}".rstrip())
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="startup.py", description="Measure how long the appliance takes to start.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--against", metavar="PROGRAM", help="the appliance of another installation")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every raw figure")
    options = parser.parse_args(arguments)
    programs = [program(), *([[options.against]] if options.against else [])]
    found = measure(programs, options.rounds)
    print(table(found))
    if options.json:
        raw = {case.name: [asdict(result) for result in results] for case, results in found}
        options.json.write_text(json.dumps(raw, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
