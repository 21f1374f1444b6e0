"""The cost of more workers and of other frames: processor time of each process for a capture file.

    python ops/bench/spread.py [workers] [sizes] [--shape web] [--workers 1,2,4,8,16] [--sizes 64,…] [--rounds 3]

workers   the whole program from file to events with so many of them; on a machine with fewer cores they take turns:
          the wall time then says little, but processor time still says what each could do with a core of its own
sizes     one worker, downloads cut into segments of so many bytes

Reading a file never drops, so each run has to bring out every event. What a run without frames takes is subtracted.
`alone` is the rate at which the busiest process would use one core fully: what the machine could do with a core for
each process. Medians of the rounds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import shapes
from bench import prepare, say
from contenders import ROOT, count
from live import columns
from measure import Failed
from pcapfile import PcapWriter
from probe import last_words, started
from sensors import end

sys.path.insert(0, str(ROOT))

from appliance.stats.page import Page

HEADERS = 54  # bytes before the payload in the frames of the shapes
SIZED_BYTES = 300e6  # of payload, at most, that are cut into segments
SIZED_FRAMES = 300_000


@dataclass(frozen=True, slots=True)
class Cost:
    """One run: seconds of wall time, and of processor time by kind of process."""

    wall_s: float
    capture_s: float
    workers_s: float
    busiest_s: float  # of the workers
    feed_s: float

    @property
    def bottleneck_s(self) -> float:
        """Of the process that would be the last to be done if each had a core of its own."""
        return max(self.capture_s, self.busiest_s, self.feed_s)


def ran_s(pid: int) -> float:
    """Seconds that the living threads of a process have run, to the nanosecond; 0.0 when it is gone."""
    try:
        return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9
    except OSError:
        return 0.0


def watch(process: subprocess.Popen[bytes], run: Path) -> dict[str, float]:
    """Processor seconds of every child, looked at until the end of the program, some ms before the end of the child."""
    pages: dict[str, Page] = {}
    used: dict[str, float] = {}
    while process.poll() is None:
        for path in run.glob("*.stats"):
            if path.stem not in pages:
                pages[path.stem] = Page.open(path)
        for name, page in pages.items():
            if page["pid"]:
                used[name] = max(used.get(name, 0.0), ran_s(page["pid"]))
        time.sleep(0.005)
    return used


def once(file: Path, workers: int, transactions: int) -> Cost:
    """The appliance on a file. Raises Failed when it fails or events are missing."""
    with tempfile.TemporaryDirectory(prefix="spread-") as name:
        scratch = Path(name)
        run = scratch / "run"
        words = [sys.executable, "-m", "appliance", "run", "-r", str(file), "--workers", str(workers)]
        words += ["-o", str(scratch / "events"), "--run-dir", str(run), "--feed", "off", "--metrics", "off", "-q"]
        begun = time.perf_counter()
        process = started(words, scratch / "said", {"PYTHONPATH": str(ROOT)})
        try:
            used = watch(process, run)
        finally:
            end(process)
        wall = time.perf_counter() - begun
        events = count(scratch / "events", b"\n") if process.returncode == 0 else -1
        if events != transactions:
            raise Failed(f"{events:,} events of {transactions:,} transactions\n{last_words(scratch / 'said')}")
    each = [seconds for name, seconds in used.items() if name.startswith("worker-")]
    return Cost(wall, used["capture-0"], sum(each), max(each), used["feed"])


def cost(file: Path, workers: int, transactions: int, rounds: int) -> Cost:
    """Medians of several runs, without what the same processes take when there is nothing to do."""
    nothing = file.with_name("nothing.pcap")
    with PcapWriter(nothing):
        pass
    idle = [once(nothing, workers, 0) for _ in range(rounds)]
    runs = [once(file, workers, transactions) for _ in range(rounds)]

    def spent(name: str, of: Sequence[Cost]) -> float:
        return median(getattr(one, name) for one in of)

    names = ("capture_s", "workers_s", "busiest_s", "feed_s")
    return Cost(spent("wall_s", runs), *(max(0.01, spent(name, runs) - spent(name, idle)) for name in names))


def row(first: Sequence[str], one: Cost, frames: int) -> list[str]:
    """A line of the tables: ns of processor time for each frame."""
    each = (one.capture_s, one.workers_s, one.feed_s)
    alone = frames / one.bottleneck_s / 1e3
    return [*first, *(f"{seconds / frames * 1e9:,.0f}" for seconds in each), f"{alone:,.0f}", f"{one.wall_s:.2f}"]


HEAD = ["capture ns", "workers ns", "feed ns", "alone k/s", "wall s"]


def by_workers(shape: str, scale: float, counts: Sequence[int], rounds: int, directory: Path) -> None:
    """Prints the cost of a frame for each number of workers, and how even their shares are."""
    file, figures = prepare(shape, scale, directory)
    frames, transactions = int(figures["frames"]), int(figures["transactions"])
    rows = [["workers", "busiest/mean", *HEAD]]
    for workers in counts:
        say(f"  {workers} workers")
        found = cost(file, workers, transactions, rounds)
        rows.append(row([str(workers), f"{found.busiest_s / found.workers_s * workers:.2f}"], found, frames))
    print(f"\n{shape}, {frames:,} frames\n{columns(rows)}", flush=True)


def by_size(sizes: Sequence[int], rounds: int, directory: Path) -> None:
    """Prints the cost of a frame for each size of the segments of large downloads."""
    rows = [["frame bytes", "frames", *HEAD, "Gbit/s"]]
    whole = shapes.SHAPES["bulk"].transactions
    for size in sizes:
        say(f"  segments of {size} bytes")
        shapes.MSS = size
        file = directory / f"size-{size}.pcap"
        scale = min(SIZED_BYTES, SIZED_FRAMES * size) / 2.75e6 / whole  # a download is 2.75 MB on the average
        figures = shapes.write_shape("bulk", file, scale)
        frames, bits = int(figures["frames"]), int(figures["frame_bytes"]) * 8
        found = cost(file, 1, int(figures["transactions"]), rounds)
        rate = bits / found.bottleneck_s / 1e9
        rows.append([*row([str(size + HEADERS), f"{frames:,}"], found, frames), f"{rate:.1f}"])
        file.unlink()
        file.with_suffix(".json").unlink()
    print(f"\nlarge downloads, every second segment acknowledged\n{columns(rows)}", flush=True)


def numbers(text: str) -> list[int]:
    """Numbers of the command line."""
    return [int(one) for one in text.split(",") if one]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: 0, or 1 when a run did not do all its work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=[], metavar="workers|sizes")
    parser.add_argument("--dir", type=Path, default=ROOT / "build" / "bench", help="where the captures are kept")
    parser.add_argument("--shape", default="web", choices=sorted(shapes.SHAPES))
    parser.add_argument("--scale", type=float, default=0.5, help="share of the full size of the shape")
    parser.add_argument("--workers", type=numbers, default=[1, 2, 4, 8, 16], metavar="N,N…")
    parser.add_argument("--sizes", type=numbers, default=[64, 256, 512, 1024, 1460], metavar="BYTES,…")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    options.dir.mkdir(parents=True, exist_ok=True)
    wanted = options.what or ["workers", "sizes"]
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}", flush=True)
    try:
        if "workers" in wanted:
            by_workers(options.shape, options.scale, options.workers, options.rounds, options.dir)
        if "sizes" in wanted:
            by_size(options.sizes, options.rounds, options.dir)
    except Failed as reason:
        say(f"spread.py: {reason}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
