"""The benchmark on a wire: the highest rate that the appliance takes from an interface without losing anything.

    python ops/bench/live.py [--shape web,api,bulk] [--seconds 20] [--latency] [--rates R,R…] [--json OUT.json] …

Two network namespaces and a veth pair are made (needs root). At one end a capture file is sent from memory, again and
again with other addresses, at a commanded rate; at the other end the whole appliance runs, with events to a file.
A rate holds when the kernel dropped nothing, the ledger is closed, every transaction of every loop has its event, and
next to nothing was left to do when the last frame was sent. The highest such rate is found by bisection with short
probes and confirmed by a long one. Suricata takes its turn where it is installed, judged by its own counters, and so
does libpcap with an empty callback, above which nobody can come. The sender has the same cores as the sensor.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench import compile_floor, prepare, say
from contenders import HERE, ROOT, find
from measure import Failed
from probe import Load, OwnSender, Probe, Sender, Sensor, Tcpreplay, probe
from sensors import Appliance, Floor, Suricata
from shapes import SHAPES
from sustain import confirmed, highest
from veth import Cable, Unavailable

SHARES = (0.1, 0.5, 0.9)  # of the sustainable rate, at which latency is measured
REFERENCE = 100_000.0  # frames/s: and at this one, if it is sustainable


def compile_sender(directory: Path) -> Path:
    """The sender's program, compiled again whenever its source is newer."""
    source, program = HERE / "sender.c", directory / "sender"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(["cc", "-O2", "-pthread", "-o", str(program), str(source)], check=True)
    return program


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text under each other, the first cell to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def table(probes: Sequence[Probe]) -> str:
    """Probes as text: what was sent, what came of it, and who used how many processor seconds."""
    rows = [["program", "frames/s", "Mbit/s", "trans/s", "s", "left s", "load", "lost", "cpu s"]]
    for one in probes:
        used = ", ".join(f"{name} {seconds:.1f}" for name, seconds in one.cpu_s.items())
        rows.append(
            [
                one.sensor,
                f"{one.frames_s:,.0f}",
                f"{one.mbit_s:,.0f}",
                f"{one.transactions_s:,.0f}",
                f"{one.sent.seconds:.1f}",
                f"{one.drain_s:.2f}",
                f"{one.load:.1f}",
                "-" if one.holds else "; ".join(one.faults),
                used,
            ]
        )
    return columns(rows)


def latency_table(probes: Sequence[Probe]) -> str:
    """Frame to subscriber, in ms; `busy` is what the appliance used of one core."""
    rows = [["frames/s", "events", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "busy", "lost"]]
    for one in probes:
        figures = one.latency
        times = [f"{figures[name]:.1f}" if name in figures else "-" for name in ("p50", "p99", "p99.9", "max")]
        used = sum(seconds for name, seconds in one.cpu_s.items() if name.startswith(("capture", "worker", "feed")))
        faults = one.faults + ([f"{figures['messages lost']:.0f} messages"] if figures.get("messages lost") else [])
        busy = f"{used / one.sent.seconds * 100:.0f} %"
        rows.append([f"{one.frames_s:,.0f}", f"{figures['events']:,.0f}", *times, busy, "; ".join(faults) or "-"])
    return columns(rows)


class Bench:
    """Probes on one cable with one sender; every one of them is kept."""

    def __init__(self, cable: Cable, sender: Sender, load: Load, options: argparse.Namespace) -> None:
        self.cable = cable
        self.sender = sender
        self.load = load
        self.options = options
        self.done: list[Probe] = []

    def probe(self, sensor: Sensor, rate: float, seconds: float) -> Probe:
        """One probe, said to people."""
        result = probe(sensor, self.sender, self.cable, self.load, rate, seconds)
        self.done.append(result)
        outcome = "holds" if result.holds else "; ".join(result.faults)
        say(f"  {sensor.name} at {rate:,.0f} frames/s for {result.sent.seconds:.1f} s: {outcome}")
        return result

    def holds(self, sensor: Sensor, rate: float, seconds: float) -> bool:
        """Return whether a rate holds in one of the tries: a machine with other things to do spoils some."""
        return any(self.probe(sensor, rate, seconds).holds for _ in range(self.options.tries))

    def sustainable(self, sensor: Sensor) -> Probe | None:
        """The long probe at the highest rate that holds; None when there is none."""
        short, long, precision = self.options.short, self.options.seconds, self.options.precision
        most = self.options.most
        rate = highest(lambda rate: self.holds(sensor, rate, short), min(self.options.begin, most), most, precision)
        if not confirmed(lambda rate: self.holds(sensor, rate, long), rate, precision):
            return None
        return self.done[-1]


def measure(shape: str, options: argparse.Namespace) -> dict[str, object]:
    """Everything about one shape, printed; raw figures come back."""
    file, figures = prepare(shape, options.scale, options.dir)
    frames, size, transactions = (int(figures[key]) for key in ("frames", "frame_bytes", "transactions"))
    load = Load(file, frames, size, transactions)
    program = compile_sender(options.dir)
    longest = int(subprocess.run([program, file], capture_output=True, text=True, check=True).stdout.split()[2])
    sender: Sender = (
        Tcpreplay(str(find("tcpreplay"))) if options.sender == "tcpreplay" else OwnSender(program, options.threads)
    )
    extra = shlex.split(options.appliance_args)
    sensors: list[Sensor] = [Appliance(extra)]
    if (suricata := find("suricata")) and not options.no_peers:
        sensors.append(Suricata(suricata))
    sensors.append(Floor(compile_floor(options.dir)))
    print(
        f"\n{shape}: loops of {frames:,} frames, {size / frames:.0f} bytes each, {transactions:,} transactions",
        flush=True,
    )
    with Cable(longest) as cable:
        bench = Bench(cable, sender, load, options)
        if options.rates:
            found = [bench.probe(each, rate, options.seconds) for rate in options.rates for each in sensors]
            print(table(found), flush=True)
            held = max((one.frames_s for one in found if one.holds and one.sensor == "appliance"), default=0.0)
        else:
            best = {each.name: bench.sustainable(each) for each in sensors}
            print(table([one for one in best.values() if one]), flush=True)
            ours = best["appliance"]
            held = ours.rate if ours else 0.0
            for other in sensors[1:]:
                if ours and (theirs := best[other.name]):
                    print(f"{ours.frames_s / theirs.frames_s:.2f} times the rate of {other.name}", flush=True)
        if options.latency and held:
            measured = Appliance(extra, subscribed=True)
            rates = sorted([held * share for share in SHARES] + ([REFERENCE] if held >= REFERENCE else []))
            late = [bench.probe(measured, rate, options.seconds) for rate in rates]
            print(f"frame to subscriber, {options.seconds:g} s each\n{latency_table(late)}", flush=True)
    return {"figures": figures, "held": held, "probes": [asdict(one) for one in bench.done]}


def rates(text: str) -> list[float]:
    """Rates of the command line, in frames/s."""
    return [float(one) for one in text.split(",") if one]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: 0 when the appliance held some rate on every shape, 1 when not, 2 when it cannot be tried."""
    parser = argparse.ArgumentParser(
        prog="live.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dir", type=Path, default=ROOT / "build" / "bench", help="where the captures are kept")
    parser.add_argument("--shape", default="web", help=f"which, separated by commas: {', '.join(SHAPES)}")
    parser.add_argument("--scale", type=float, default=0.25, help="share of the full size that one loop has")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the long probe, at least (default 20)")
    parser.add_argument("--short", type=float, default=4.0, help="seconds of the probes of the search (default 4)")
    parser.add_argument("--tries", type=int, default=1, help="a rate holds if it does in one of so many probes")
    parser.add_argument("--precision", type=float, default=0.05, help="of the rate found (default 0.05)")
    parser.add_argument("--begin", type=float, default=50_000, help="first rate, frames/s")
    parser.add_argument("--most", type=float, default=3_200_000, help="highest rate tried")
    parser.add_argument(
        "--rates", type=rates, metavar="R,R…", help="no search: one probe at each of these, in frames/s"
    )
    parser.add_argument(
        "--latency", action="store_true", help="also frame to subscriber at 10, 50 and 90 %% of the rate"
    )
    parser.add_argument("--sender", choices=("own", "tcpreplay"), default="own")
    parser.add_argument(
        "--threads", type=int, default=2, help="of our own sender; connections are divided among them (default 2)"
    )
    parser.add_argument("--no-peers", action="store_true", help="only the appliance")
    parser.add_argument("--appliance-args", default="", metavar="ARGS", help="more arguments for `appliance run`")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every probe")
    options = parser.parse_args(arguments)
    names = [name for name in options.shape.split(",") if name]
    if unknown := [name for name in names if name not in SHAPES]:
        parser.error(f"--shape: {', '.join(unknown)} not among {', '.join(SHAPES)}")
    if options.sender == "tcpreplay" and find("tcpreplay") is None:
        parser.error("--sender: tcpreplay is not installed")
    options.dir.mkdir(parents=True, exist_ok=True)
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    print(f"{machine}; sender: {options.sender}, on the same cores; load average {os.getloadavg()[0]:.1f}", flush=True)
    raw: dict[str, object] = {"machine": machine}
    try:
        for name in names:
            raw[name] = measure(name, options)
    except (Unavailable, Failed) as reason:
        say(f"live.py: {reason}")
        return 2
    if options.json:
        options.json.write_text(json.dumps(raw, indent=1) + "\n")
    return 0 if all(raw[name]["held"] for name in names) else 1  # type: ignore[index]


if __name__ == "__main__":
    raise SystemExit(main())
