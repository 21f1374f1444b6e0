"""The cost of each room of the data path: nanoseconds a frame, microseconds a transaction, requests for memory.

    python ops/bench/rooms.py FILE.pcap … [--frames N] [--rounds N]

A room that is compiled is a library of its own, so where the processor is tells which one works (rooms.c). What the C
library copies and searches belongs to the room that asked for it. `objects` is Python's own code and its memory. Memory
is counted in a run of its own, in which Python takes every object from malloc; what it keeps for reuse is not seen.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from stages import pipeline, shard

HERE = Path(__file__).resolve().parent
_MOST = 1 << 20  # places kept of one run
_RUN = "ROOMS"  # in the environment: what this process is to measure

# What the parts of the data path are called, in its order, and the modules and packages in which each lies. The longest
# name counts. A package of neither is a part by its own name.
CAPTURE = {
    "read": ("libpcap", "libc", "appliance.pcap"),
    "locate": ("appliance.wire",),
    "hash": ("appliance.wire.flow_key",),
    "checksum": ("appliance.wire.checksum",),
    "copy": ("appliance.capture", "appliance.ipc"),
}
WORKER = {
    "receive": ("appliance.ipc", "workers.pipeline", "workers.assembly"),
    "segment": ("workers.tcp.segment", "workers.tcp.receive"),
    "table": ("workers.tcp.connection_table", "appliance.wire.flow_key"),
    "stream": ("workers.tcp", "workers.core"),
    "encode": ("workers.events",),
}
_PACKAGES = ("appliance", "workers")


def module_of(path: Path) -> str:
    """Return what a library is called: a compiled module by its place in the tree, another by its file alone."""
    name = path.name.partition(".")[0]
    roots = [at for at, part in enumerate(path.parts[:-1]) if part in _PACKAGES]
    return ".".join((*path.parts[roots[-1] : -1], name)) if roots else name


def part_of(module: str, parts: dict[str, tuple[str, ...]]) -> str:
    """Return the part that a module belongs to; its package if none has it, `objects` for what is none of ours."""
    found, length = "", 0
    for part, names in parts.items():
        for name in names:
            if len(name) > length and (module == name or module.startswith(f"{name}.")):
                found, length = part, len(name)
    if found:
        return found
    package, _, rest = module.partition(".")
    return rest.rpartition(".")[0] or rest if package in _PACKAGES and rest else "objects"


def libraries() -> tuple[list[int], list[tuple[int, str]]]:
    """The executable mappings of this process: where each starts, and (where it ends, its module_of)."""
    starts, rest = [], []
    for line in Path("/proc/self/maps").read_text().splitlines():
        where, flags, *_, name = line.split(maxsplit=5) if line.count("/") else (*line.split()[:2], "")
        if "x" in flags and name:
            begin, end = (int(part, 16) for part in where.split("-"))
            starts.append(begin)
            rest.append((end, module_of(Path(name))))
    return starts, rest


def rooms_of(places: Iterator[tuple[int, int]]) -> Counter[str]:
    """Return the number of samples in each library; the C library's leaves count for their caller."""
    starts, rest = libraries()

    def at(address: int) -> str:
        place = bisect_right(starts, address) - 1
        return rest[place][1] if place >= 0 and address < rest[place][0] else ""

    found: Counter[str] = Counter()
    for here, caller in places:
        room = at(here)
        found[(at(caller) or room) if room == "libc" else room] += 1
    return found


def parts_of(found: Counter[str], parts: dict[str, tuple[str, ...]]) -> dict[str, float]:
    """The share of each part, those of the table first; `objects` is what lies in none of our modules."""
    shares = dict.fromkeys(parts, 0.0)
    total = sum(found.values()) or 1
    for module, count in found.items():
        part = part_of(module, parts)
        shares[part] = shares.get(part, 0.0) + count / total
    return {**shares, "objects": shares.pop("objects", 0.0)}


class Watch:
    """rooms.c, which was loaded before everything else."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(os.environ["LD_PRELOAD"])
        self._library.rooms_asked.restype = ctypes.c_uint64
        self._library.rooms_end.restype = ctypes.c_size_t
        self._places = (ctypes.c_uint64 * 2 * _MOST)()

    def places(self, action: Callable[[], object]) -> tuple[float, Counter[str]]:
        """Seconds of processor time, and where they were spent."""
        if self._library.rooms_begin(self._places, ctypes.c_size_t(_MOST)):
            raise OSError("no timer")
        begun = time.process_time()
        action()
        spent = time.process_time() - begun
        count = self._library.rooms_end()
        return spent, rooms_of((place[0], place[1]) for place in self._places[:count])

    def asked(self, action: Callable[[], object]) -> int:
        """Return the number of requests for memory that the action makes."""
        before = self._library.rooms_asked()
        action()
        return int(self._library.rooms_asked() - before)


def measured(file: Path, frames: int, rounds: int) -> None:
    """Prints, of this process: a line for each part with its ns a frame and us a transaction, or the allocations."""
    watch = Watch()
    batches: list[bytes] = []
    held = shard(file, frames, lambda message: batches.append(bytes(message)))
    events = pipeline(file, batches)  # also what is only done once is done

    def capture() -> None:
        shard(file, frames)

    def worker() -> None:
        pipeline(file, batches)

    if os.environ[_RUN] == "asked":
        print(f"memory is asked for {watch.asked(capture) / held:.3f} times a frame in the capture, and in the worker")
        print(f"{watch.asked(worker) / events:.2f} times a transaction")
        return
    for name, action, parts in (("capture", capture, CAPTURE), ("worker", worker, WORKER)):
        seconds, found = 0.0, Counter[str]()
        for _ in range(rounds):
            spent, places = watch.places(action)
            seconds += spent / rounds
            found += places
        for part, share in parts_of(found, parts).items():
            print(f"{name:10}{part:10}{share * seconds / held * 1e9:>9.1f}{share * seconds / events * 1e6:>11.3f}")
        print(f"{name:10}{'all':10}{seconds / held * 1e9:>9.1f}{seconds / events * 1e6:>11.3f}", flush=True)


def compiled(directory: Path) -> Path:
    """rooms.c as a library."""
    library = directory / "rooms.so"
    flags = ["-O2", "-shared", "-fPIC", "-fno-builtin"]
    subprocess.run(["cc", *flags, "-o", str(library), str(HERE / "rooms.c"), "-lrt"], check=True)
    return library


def main(arguments: Sequence[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="rooms.py", description="What each room of the data path costs.")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--frames", type=int, default=500_000, help="at most so many, for they are held in memory")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    if _RUN in os.environ:
        measured(options.files[0], options.frames, options.rounds)
        return 0
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        preload = {"LD_PRELOAD": str(compiled(Path(directory)))}
        for file in options.files:
            print(f"\n{file.name}\n{'process':10}{'part':10}{'ns/frame':>9}{'us/trans':>11}", flush=True)
            for run, more in (("places", {}), ("asked", {"PYTHONMALLOC": "malloc"})):
                again = [
                    sys.executable,
                    __file__,
                    str(file),
                    f"--frames={options.frames}",
                    f"--rounds={options.rounds}",
                ]
                subprocess.run(again, env={**os.environ, **preload, **more, _RUN: run}, check=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
