"""Hours of mixed traffic with a fault in every interval: is everything accounted for, and is memory flat?

    python ops/soak/soak.py [--seconds 7200] [--interval 60] [--rate 20000] [--seed N] [--csv PATH]

Two network namespaces and a veth pair (needs root); at one end the sender of the benchmark, at the other a whole run
with a configuration file, a feed, metrics and an output file that rotates; a subscriber in a process of its own. In
every interval a shape of traffic is sent for most of the time, something is done to the run at a random moment, and
then the wire is silent until nothing moves: at that point every identity of the ledger has to be true to the frame and
the byte. Of each process the memory is noted. At the end: what the subscriber had, and was told to have lost, is what
was published.

A line for each interval; ends with 0 when everything held.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "ops" / "bench")]

from bench import prepare  # noqa: E402
from live import compile_sender  # noqa: E402
from measure import resident_bytes  # noqa: E402
from probe import OwnSender, loops_for  # noqa: E402
from veth import SENSING, Cable, ip  # noqa: E402

from appliance.report.running_instance import RunningInstance  # noqa: E402
from appliance.stats import ledger  # noqa: E402
from appliance.stats.names import READY, TOPICS  # noqa: E402

SHAPES = {"web": 0.02, "api": 0.02, "bulk": 0.02}
LONGEST = 1514
PATIENCE_S = 60.0
STILL_S = 1.5  # without a change: nothing is on its way
SETTLE_S = 3.0  # holes, and what waits for the other direction, are over by then
GROWTH = 0.2  # of the memory after the first quarter: more is a leak
ENOUGH = 24  # intervals, to tell: what is bounded has been filled by then
SUBSCRIBER = """
import signal, sys
from appliance import Subscriber
ends = []
signal.signal(signal.SIGTERM, lambda *_: ends.append(1))
with Subscriber(sys.argv[1], ["http."], timeout_s=1.0, backfill=True) as feed:
    print("ready", flush=True)
    quiet = 0  # seconds without a message, after the end was asked for
    while quiet < 3:
        for message in feed:
            quiet = 0
        quiet = quiet + 1 if ends else 0
    print(feed.messages, feed.lost, feed.recovered, feed.epochs, feed.cut, feed.invalid, flush=True)
"""


def wait_for(true: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> None:
    """Until it is so. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"it did not happen: {what}")
        time.sleep(0.02)


@dataclass
class Soak:
    """One soak on a cable; its processes end with it."""

    cable: Cable
    home: Path
    dice: random.Random
    rate: float
    files: dict[str, tuple[Path, int]]  # by shape: the capture, and its frames
    sender: OwnSender
    filters: list[str] = field(default_factory=lambda: ["", "tcp"])

    def start(self) -> None:
        """The appliance, then the subscriber."""
        self.config = self.home / "soak.toml"
        self.configure("")
        self.errors = self.home / "stderr.txt"
        run = self.home / "run"
        words = [sys.executable, "-m", "appliance", "run", "-c", str(self.config), "--run-dir", str(run)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                self.cable.at_sensor(words), stdout=subprocess.DEVNULL, stderr=errors, env=environment
            )
        wait_for(lambda: (run / "feed.endpoint").exists(), "the appliance has started")
        self.running = RunningInstance(run)
        wait_for(self.at_work, "every process is at work")
        words = [sys.executable, "-c", SUBSCRIBER, self.running.endpoint("feed")]
        self.subscriber = subprocess.Popen(
            self.cable.at_sensor(words), stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self.subscriber.stdout is not None
        self.subscriber.stdout.readline()

    def configure(self, expression: str) -> None:
        """The configuration file, with another filter and limits that differ with it."""
        self.config.write_text(
            f'[source]\ninterfaces = ["{SENSING}"]\nfilter = "{expression}"\n[capture]\nring_bytes = 134217728\n'
            f"[workers]\ncount = 2\n[feed]\nreplay_bytes = 33554432\n[tcp]\nidle_timeout_s = {600 + len(expression)}\n"
            f'[output]\npath = "{self.home}/events.jsonl"\nrotate_bytes = 20000000\nkeep_files = 3\ncompress = "zstd"\n'
        )

    # -- looking -------------------------------------------------------------------------------------------------------

    def pids(self) -> dict[str, int]:
        """Of every process, by name."""
        pages = self.running.snapshots()
        found = {f"capture-{n}": page["pid"] for n, page in enumerate(pages.captures)}
        found |= {f"worker-{n}": page["pid"] for n, page in enumerate(pages.workers)}
        return {**found, "feed": pages.feed["pid"], "supervisor": pages.supervisor["pid"]}

    def at_work(self) -> bool:
        """Return whether every process is at work."""
        pages = self.running.snapshots()
        return all(page["state"] == READY for page in (*pages.captures, *pages.workers, pages.feed)) and all(
            resident_bytes(pid) for pid in self.pids().values()
        )

    def still(self) -> None:
        """Until nothing moves, and what waits for time to pass has waited."""
        time.sleep(SETTLE_S)
        before, since = -1, time.monotonic()
        end = since + PATIENCE_S
        while time.monotonic() - since < STILL_S:
            pages = self.running.snapshots()
            moved = sum(page["frames"] for page in pages.captures) + pages.feed["written_events"]
            moved += sum(page["segments"] + page["gap_bytes"] for page in pages.workers)
            if moved != before:
                before, since = moved, time.monotonic()
            if time.monotonic() > end:
                raise TimeoutError("the run does not come to rest")
            time.sleep(0.05)

    def messages(self) -> int:
        """Published so far, in all epochs."""
        return sum(self.running.snapshots().feed[f"published_messages.{topic}"] for topic in TOPICS)

    # -- doing ---------------------------------------------------------------------------------------------------------

    def faults(self) -> list[tuple[str, Callable[[], None]]]:
        """Everything that may be done to the run."""
        found: list[tuple[str, Callable[[], None]]] = [
            ("another configuration", self.reload),
            ("interface down and up", self.unplug),
            ("garbage on the feed", self.garbage),
            ("nothing", lambda: None),
        ]
        for name in self.pids():
            if name != "supervisor":
                found.append((f"kill {name}", lambda name=name: self.signal(name, signal.SIGKILL)))
                found.append((f"stop {name}", lambda name=name: self.signal(name, signal.SIGSTOP)))
        return found

    def signal(self, name: str, number: int) -> None:
        """SIGKILL, or SIGSTOP, after which only the supervisor helps."""
        os.kill(self.pids()[name], number)

    def reload(self) -> None:
        """SIGHUP, with the other filter."""
        self.filters.reverse()
        self.configure(self.filters[0])
        os.kill(self.pids()["supervisor"], signal.SIGHUP)

    def unplug(self) -> None:
        """The interface is down for a second."""
        ip("-n", self.cable.sensor, "link", "set", SENSING, "down")
        time.sleep(1)
        ip("-n", self.cable.sensor, "link", "set", SENSING, "up")

    def garbage(self) -> None:
        """A hundred connections that are no subscriber's."""
        port = self.running.endpoint("feed").rpartition(":")[2]
        words = f"import os, socket\nfor _ in range(100):\n    s = socket.create_connection(('127.0.0.1', {port}))\n"
        words += "    s.sendall(os.urandom(200))\n    s.close()\n"
        subprocess.run(self.cable.at_sensor([sys.executable, "-c", words]), capture_output=True, check=False)

    def interval(self, seconds: float) -> tuple[str, str]:
        """Traffic, a fault in its midst, silence; what was sent and what was done."""
        shape = self.dice.choice(sorted(self.files))
        file, frames = self.files[shape]
        busy = max(2.0, seconds - SETTLE_S - STILL_S - 2)
        argv = self.sender.argv(file, self.rate, loops_for(self.rate, busy, frames))
        sending = subprocess.Popen(self.cable.at_sender(argv), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(busy * self.dice.uniform(0.1, 0.6))
        name, act = self.dice.choice(self.faults())
        act()
        sending.wait()
        wait_for(self.at_work, f"all are at work after: {name}")
        self.still()
        return shape, name

    def end(self) -> str:
        """Ends everything; what is wrong, "" if nothing is."""
        messages = self.messages()
        crashes = self.running.snapshots().supervisor["restarts.feed"]
        assert self.subscriber.stdout is not None
        self.subscriber.send_signal(signal.SIGTERM)
        told = list(map(int, self.subscriber.stdout.readline().split()))
        had, lost, recovered, epochs, cut, invalid = told
        print(f"subscriber: {had:,} messages, {recovered:,} of them asked for again, {lost:,} lost, {epochs} feeds")
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE_S)
        wrong = []
        # A feed killed between the number of a message and its counter has sent it, or not: its events are
        # in the ledger as lost in a crash, and the subscriber has the message, or is told that it is gone.
        if not 0 <= had + lost - messages <= crashes and not cut:
            wrong.append(f"{messages:,} messages were published, the subscriber knows of {had + lost:,}")
        if invalid:
            wrong.append(f"{invalid} messages were none")
        if self.process.returncode != 128 + signal.SIGTERM:
            wrong.append(f"the appliance ended with {self.process.returncode}")
        return "; ".join(wrong)

    def kill(self) -> None:
        """Leaves nothing behind."""
        for process in (getattr(self, "subscriber", None), getattr(self, "process", None)):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()


def growth(history: Sequence[dict[str, int]]) -> dict[str, float]:
    """Of each process: by how much its memory grows over the run, as a share of what it has after the first quarter.

    A restart begins anew with less: the slope is that of the highest values of each eighth of the run."""
    found = {}
    later = history[len(history) // 4 :]
    step = max(1, len(later) // 6)
    for name in later[0] if later else ():
        tops = [max(one[name] for one in later[at : at + step]) for at in range(0, len(later), step)]
        if len(tops) > 2:
            slope = statistics.linear_regression(range(len(tops)), tops).slope
            found[name] = slope * (len(tops) - 1) / tops[0]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: 0 when everything held, 1 when not."""
    parser = argparse.ArgumentParser(prog="soak.py", description="Hours of traffic with a fault in every interval.")
    parser.add_argument("--seconds", type=float, default=7200)
    parser.add_argument("--interval", type=float, default=60)
    parser.add_argument("--rate", type=float, default=20_000, help="frames a second")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--dir", type=Path, default=ROOT / "build" / "bench", help="where the captures are kept")
    parser.add_argument("--csv", type=Path, help="what was seen in each interval")
    options = parser.parse_args(arguments)
    options.dir.mkdir(parents=True, exist_ok=True)
    files = {}
    for shape, scale in SHAPES.items():
        file, figures = prepare(shape, scale, options.dir)
        files[shape] = file, int(figures["frames"])
    print(f"seed {options.seed}, {options.rate:,.0f} frames/s", flush=True)
    history: list[dict[str, int]] = []
    rows: list[dict[str, object]] = []
    bad = 0
    base = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
    with Cable(LONGEST) as cable, tempfile.TemporaryDirectory(prefix="soak-", dir=base) as name:
        sender = OwnSender(compile_sender(options.dir))
        soak = Soak(cable, Path(name), random.Random(options.seed), options.rate, files, sender)
        try:
            soak.start()
            end = time.monotonic() + options.seconds
            while time.monotonic() < end:
                shape, fault = soak.interval(options.interval)
                pages = soak.running.snapshots()
                wrong = {key: one["difference"] for key, one in ledger.identities(pages).items() if one["difference"]}
                history.append({process: resident_bytes(pid) for process, pid in soak.pids().items()})
                bad += bool(wrong)
                row = {"number": len(history), "shape": shape, "fault": fault}
                row |= {
                    "frames": sum(page["frames"] for page in pages.captures),
                    "events": pages.feed["written_events"],
                }
                row |= {"unaccounted": wrong or 0, **{key: size >> 10 for key, size in history[-1].items()}}
                rows.append(row)
                memory = " ".join(f"{process} {size >> 20}" for process, size in history[-1].items())
                print(f"{len(history):4} {shape:5}{fault:24} ledger {wrong or 'closed'}; MiB: {memory}", flush=True)
            fault = soak.end()
            if fault:
                bad += 1
                print(f"!!! {fault}")
        except (TimeoutError, OSError, ValueError) as reason:
            bad += 1
            print(f"!!! {reason}\n{soak.errors.read_text()[-3000:]}")
        finally:
            soak.kill()
            if options.csv and rows:
                with options.csv.open("w", newline="") as out:
                    writer = csv.DictWriter(out, rows[0].keys())
                    writer.writeheader()
                    writer.writerows(rows)
    if len(history) < ENOUGH:
        print(f"memory: fewer than {ENOUGH} intervals do not tell whether it grows")
    for process, share in growth(history).items() if len(history) >= ENOUGH else ():
        leaks = share > GROWTH
        bad += leaks
        print(f"memory of {process}: {share:+.1%} over the last three quarters{' !!!' if leaks else ''}")
    print(f"{len(history)} intervals, {bad} faults" if bad else f"{len(history)} intervals, everything accounted for")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
