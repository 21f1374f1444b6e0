"""One target, one process, many executions: run under the sanitizers by fuzz.py, never by hand.

Every case is written to a shared page before it runs, so that it is there when a sanitizer ends the process. A case
that makes the rooms take a step they never took before joins the corpus.
"""

from __future__ import annotations

import os
import sys

sys.setdlopenflags(os.RTLD_NOW | os.RTLD_GLOBAL)  # the rooms call into it at every block
import cover  # noqa: E402

sys.setdlopenflags(os.RTLD_NOW)

import faulthandler  # noqa: E402
import hashlib  # noqa: E402
import json  # noqa: E402
import mmap  # noqa: E402
import signal  # noqa: E402
import struct  # noqa: E402
import time  # noqa: E402
import traceback  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from cases import Case, Mutator  # noqa: E402
from targets import Target, load  # noqa: E402

FOUND = 98  # exit status: an oracle of the target said no
PAGE = struct.Struct("<QQ")  # executions begun, bytes of the case that runs
PAGE_BYTES = 1 << 23
REPORT_S = 15


def weight(case: Case) -> int:
    """Return the number of items to execute."""
    return len(case.items)


class Hunt:
    """The corpus of one target, and what has been run."""

    def __init__(self, target: Target, page: mmap.mmap) -> None:
        self.target = target
        self.page = page
        self.corpus: list[Case] = []
        self.executions = 0
        self.frames = 0
        self.steps = cover.steps()

    def execute(self, case: Case) -> bool:
        """Runs one case; True if it led somewhere new. Does not return when it is a finding."""
        packed = case.pack(self.target.name, self.target.layout)
        self.executions += 1
        self.page[: PAGE.size + len(packed)] = PAGE.pack(self.executions, len(packed)) + packed
        cover.begin()
        try:
            self.frames += self.target.run(case)
        except Exception:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(FOUND)
        steps, self.steps = self.steps, cover.steps()
        return self.steps > steps

    def sow(self, files: list[Path]) -> None:
        """The seeds of the target and the cases of some files; kept if they lead somewhere new."""
        seeds = self.target.seeds()
        for path in files:
            seeds.append(Case.unpack(path.read_bytes(), self.target.layout))
        self.corpus += [case for case in seeds if self.execute(case)] or seeds[:1]

    def run(self, seed: int, executions: int, seconds: float, keep: Path | None) -> None:
        """Mutates and runs, until so many executions or seconds are over. Without `keep` the corpus does not grow."""
        mutator = Mutator(seed, self.target.layout, self.target.words)
        pick = mutator.random.random
        begun = said = time.monotonic()
        while (not executions or self.executions < executions) and (not seconds or time.monotonic() - begun < seconds):
            size = len(self.corpus)
            # What was found last is the least explored; of two cases the shorter is, mostly, done sooner.
            late = [self.corpus[min(int(at), size - 1)] for at in (size * (1 - pick() ** 2), size * pick())]
            case = min(late, key=weight) if pick() < 0.5 else late[0]
            for _ in range(16):
                changed = mutator.mutated(case, self.corpus[int(size * pick())])
                if self.execute(changed) and keep is not None:
                    self.corpus.append(changed)
                    packed = changed.pack(self.target.name, self.target.layout)
                    (keep / f"{hashlib.sha256(packed).hexdigest()[:16]}.case").write_bytes(packed)
            if seconds and time.monotonic() - said > REPORT_S:
                said = time.monotonic()
                self.say(said - begun)

    def say(self, elapsed: float) -> None:
        print(
            f"{self.target.name}: {self.executions} executions, {self.executions / elapsed:.0f}/s, "
            f"{self.frames / elapsed:.0f} {self.target.unit}/s, {self.steps} steps between blocks, "
            f"{len(self.corpus)} cases in the corpus, {elapsed:.0f} s",
            flush=True,
        )


def places() -> dict[str, list[int]]:
    """{shared object: addresses in it} of all blocks that have run."""
    loaded = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[1][2] == "x" and "/sanitized/" in fields[5]:
            start, stop = (int(number, 16) for number in fields[0].split("-"))
            loaded.append((start, stop, start - int(fields[2], 16), fields[5]))
    out: dict[str, list[int]] = {}
    for block in cover.blocks():
        for start, stop, base, path in loaded:
            if start <= block < stop:
                out.setdefault(path, []).append(block - base)
    return out


def distil(hunt: Hunt, files: list[Path]) -> list[str]:
    """The fewest files, small ones first, that lead everywhere that all of them lead (beyond the target's seeds)."""
    hunt.sow([])
    best = []
    for path in sorted(files, key=lambda path: path.stat().st_size):
        if hunt.execute(Case.unpack(path.read_bytes(), hunt.target.layout)):
            best.append(str(path))
    return best


def main() -> None:
    order: dict[str, Any] = json.loads(sys.argv[1])
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    with open(order["page"], "r+b") as file:
        page = mmap.mmap(file.fileno(), PAGE_BYTES)
    hunt = Hunt(load([Path(path) for path in order["plugins"]])[order["target"]], page)
    files = [Path(path) for path in order["files"]]
    begun = time.monotonic()
    out: dict[str, Any] = {}
    if order["what"] == "replay":
        for path in files:
            hunt.execute(Case.unpack(path.read_bytes(), hunt.target.layout))
    elif order["what"] == "distil":
        out["files"] = distil(hunt, files)
    else:
        hunt.sow(files)
        hunt.run(order["seed"], order["executions"], order["seconds"], Path(order["keep"]) if order["keep"] else None)
        hunt.say(time.monotonic() - begun)
    out |= {"executions": hunt.executions, "frames": hunt.frames, "blocks": places() if order["blocks"] else {}}
    Path(order["result"]).write_text(json.dumps(out))


if __name__ == "__main__":
    main()
