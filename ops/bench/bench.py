"""The benchmark: from a capture file to events, beside libpcap, dpkt and the peers that are installed.

    python ops/bench/bench.py [--rounds 5] [--quick] [--shapes web,api,bulk,tls,h2,grpc] [--json OUT.json] …

Files are made once and read from the page cache. All programs take turns in every round, so that a machine that drifts
drifts for all. Timed runs throw their output away; one more run of each, not timed, counts its events, and for the
appliance closes the ledger and samples the memory of all its processes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import startup
from contenders import ROOT, Contender, appliance, count, dpkt, floor, peers, program
from measure import Failed, Run, run
from shapes import SHAPES, builder, write_shape

HERE = Path(__file__).resolve().parent
_PYTHON_PATH = {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
_SLOW_RUNS = 2
STARTS = 10  # rounds of what takes a tenth of a second


@dataclass(slots=True)
class Result:
    """Results of one contender on one shape."""

    name: str
    peer: bool
    runs: list[Run] = field(default_factory=list)
    events: int | None = None
    peak_bytes: int = 0
    processes: dict[str, float] = field(default_factory=dict)  # seconds of the counted run
    unaccounted: int | None = None
    fault: str = ""

    @property
    def wall_s(self) -> float:
        """Median wall time."""
        return median(one.wall_s for one in self.runs)


def say(text: str) -> None:
    """Progress, for people."""
    print(text, file=sys.stderr, flush=True)


def prepare(shape: str, scale: float, directory: Path) -> tuple[Path, dict[str, int | float | str]]:
    """The shape's file and its figures, made unless the same builder already made them at this scale."""
    name = shape if scale == 1 else f"{shape}-{scale:g}"
    file = directory / f"{name}.pcap"
    sidecar = file.with_suffix(".json")
    try:
        figures: dict[str, int | float | str] = json.loads(sidecar.read_text())
        if figures["builder"] == builder() and figures["bytes"] == file.stat().st_size:
            return file, figures
    except (OSError, ValueError, KeyError):
        pass
    say(f"making {file} …")
    sidecar.unlink(missing_ok=True)
    return file, write_shape(shape, file, scale)


def compile_floor(directory: Path) -> Path:
    """The floor's program, compiled again whenever its source is newer."""
    source, program = HERE / "floor.c", directory / "floor"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(["cc", "-O2", "-o", str(program), str(source), "-lpcap"], check=True)
    return program


def attempt(contender: Contender, file: Path, result: Result, *, counted: bool = False) -> None:
    """One run, noted in the result; a failure is noted and ends this contender's part."""
    if result.fault:
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        scratch = Path(name)
        try:
            if not counted:
                result.runs.append(run(contender.timed(file, scratch), scratch=scratch, environment=_PYTHON_PATH))
                result.peak_bytes = max(result.peak_bytes, result.runs[-1].peak_bytes)
            elif contender.counted:
                output = scratch / contender.events if contender.stdout else None
                argv = contender.counted(file, scratch)
                once = run(argv, scratch=scratch, output=output, sample=True, environment=_PYTHON_PATH)
                result.peak_bytes = max(result.peak_bytes, once.peak_bytes)
                result.processes = once.processes
                result.events = count(scratch / contender.events, contender.mark)
                ledger = scratch / "ledger.json"
                if ledger.exists():
                    result.unaccounted = int(json.loads(ledger.read_text())["unaccounted"])
        except (Failed, OSError, ValueError, KeyError) as fault:
            result.fault = str(fault) or type(fault).__name__


def measure(contenders: Sequence[Contender], file: Path, rounds: int) -> list[Result]:
    """All rounds on one file, the contenders taking turns, after a counted run of each that warms the page cache."""
    results = [Result(one.name, one.peer) for one in contenders]
    for contender, result in zip(contenders, results, strict=True):
        if not contender.slow:
            say(f"  counting: {contender.name}")
            attempt(contender, file, result, counted=True)
            if not contender.peer:  # again: the first use of so much memory is, on a virtual machine, its host's time
                attempt(contender, file, result, counted=True)
    for turn in range(rounds):
        say(f"  round {turn + 1} of {rounds}")
        for contender, result in zip(contenders, results, strict=True):
            if not contender.slow or turn < _SLOW_RUNS:
                attempt(contender, file, result)
    return results


def ratio(value: float, by: float | None) -> str:
    """`value` times, or a dash when there is nothing to compare with."""
    return f"{value / by:.2f}" if by else "-"


def table(results: Sequence[Result], figures: dict[str, int | float | str]) -> str:
    """One shape's results as text; `x` is how many floors it takes, how much faster than dpkt, than the best peer."""
    timed = {one.name: one for one in results if one.runs}
    base = timed["libpcap floor"].wall_s if "libpcap floor" in timed else None
    slow = timed["dpkt loop"].wall_s if "dpkt loop" in timed else None
    best = min((one.wall_s for one in timed.values() if one.peer), default=None)
    frames, size, transactions = (int(figures[key]) for key in ("frames", "frame_bytes", "transactions"))
    rows = [
        [
            "program",
            "wall s",
            "(min - max)",
            "cpu s",
            "x floor",
            "x dpkt",
            "x best peer",
            "k frames/s",
            "Gbit/s",
            "k trans/s",
            "MiB",
            "events",
        ]
    ]
    for one in results:
        if not one.runs:
            rows.append([one.name, "failed" if one.fault else "-", *[""] * 10])
            continue
        wall = one.wall_s
        walls = [each.wall_s for each in one.runs]
        rows.append(
            [
                one.name,
                f"{wall:.3f}",
                f"({min(walls):.2f} - {max(walls):.2f})",
                f"{median(each.cpu_s for each in one.runs):.2f}",
                ratio(wall, base),
                ratio(slow, wall) if slow else "-",
                ratio(best, wall) if best else "-",
                f"{frames / wall / 1e3:,.0f}",
                f"{size * 8 / wall / 1e9:.2f}",
                f"{transactions / wall / 1e3:,.1f}",
                f"{one.peak_bytes / 2**20:,.0f}",
                "-" if one.events is None else f"{one.events:,}",
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def processes(results: Sequence[Result]) -> str:
    """Processor seconds of each process of the appliance, its start and a real output file included."""
    spent = next((one.processes for one in results if one.name == "appliance"), {})
    return "appliance, cpu s: " + ", ".join(f"{name} {seconds:.2f}" for name, seconds in sorted(spent.items()))


def stages(file: Path, rounds: int) -> None:
    """The cost of each stage, and of each room, in processes of their own: what they hold is not ours to carry on."""
    sys.stdout.flush()
    for name in ("stages.py", "rooms.py"):
        subprocess.run([sys.executable, Path(__file__).with_name(name), file, "--rounds", str(rounds)], check=True)


def faults(results: Sequence[Result], figures: dict[str, int | float | str]) -> list[str]:
    """Return the faults: failed programs, events that are not the transactions, a ledger that does not close."""
    found = [f"{one.name} FAILED: {one.fault}" for one in results if one.fault]
    for one in results:
        if one.events is not None and one.events != figures["transactions"]:
            found.append(f"{one.name}: {one.events:,} EVENTS, BUT {figures['transactions']:,} TRANSACTIONS IN THE FILE")
        if one.unaccounted:
            found.append(f"{one.name}: {one.unaccounted:,} FRAMES UNACCOUNTED IN THE LEDGER")
        if one.name == "appliance" and one.unaccounted is None and not one.fault:
            found.append("appliance: NO LEDGER WAS WRITTEN")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: 0 when every check of the appliance held, 1 when not."""
    parser = argparse.ArgumentParser(prog="bench.py", description="Measure the appliance beside its peers.")
    parser.add_argument("--dir", type=Path, default=ROOT / "build" / "bench", help="where the captures are kept")
    parser.add_argument("--shapes", default=",".join(SHAPES), help="which, separated by commas")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full size of the shapes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two rounds, no dpkt loop")
    parser.add_argument("--no-peers", action="store_true", help="only the floor and the appliance")
    parser.add_argument("--tshark", action="store_true", help="tshark too: very slow")
    parser.add_argument("--appliance-args", default="", metavar="ARGS", help="more arguments for `appliance run`")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every raw figure")
    options = parser.parse_args(arguments)
    names = [name for name in options.shapes.split(",") if name]
    if unknown := [name for name in names if name not in SHAPES]:
        parser.error(f"--shapes: {', '.join(unknown)} not among {', '.join(SHAPES)}")
    rounds = min(options.rounds, 2) if options.quick else options.rounds
    options.dir.mkdir(parents=True, exist_ok=True)
    ours = [floor(compile_floor(options.dir)), appliance(shlex.split(options.appliance_args))]
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    print(f"{machine}; {rounds} rounds, medians", flush=True)
    raw: dict[str, object] = {"machine": machine, "rounds": rounds, "scale": options.scale}
    bad = False
    for name in names:
        file, figures = prepare(name, options.scale, options.dir)
        say(f"{name}:")
        events = SHAPES[name].events
        contenders = [*ours, *([] if options.no_peers else peers(with_tshark=options.tshark, events=events))]
        contenders += [] if options.quick or options.no_peers else [dpkt()]
        results = measure(contenders, file, rounds)
        size = f"{figures['frames']:,} frames, {int(figures['bytes']) / 1e9:.2f} GB"
        print(f"\n{name}: {size}, {figures['transactions']:,} transactions\n{table(results, figures)}", flush=True)
        print(processes(results), flush=True)
        for text in faults(results, figures):
            bad |= text.startswith("appliance")
            print(f"!!! {text}", flush=True)
        stages(file, rounds)
        raw[name] = {"figures": figures, "results": [asdict(one) for one in results]}
    print(f"\n{startup.table(startup.measure([program()], max(STARTS, rounds)))}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(raw, indent=1) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
