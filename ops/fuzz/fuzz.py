"""Fuzzes the compiled rooms under AddressSanitizer and UndefinedBehaviorSanitizer. `make fuzz` runs this.

    python ops/fuzz/fuzz.py                        every target in turn, FUZZ_SECONDS (3600) in all
    python ops/fuzz/fuzz.py --target http --seconds 600
    python ops/fuzz/fuzz.py --replay build/fuzz/findings/http-….case
    python ops/fuzz/fuzz.py --shrink build/fuzz/findings/http-….case
    python ops/fuzz/fuzz.py --distil tests/fuzz/corpus       the smallest part of the corpus that leads everywhere

What was found to lead somewhere new is kept in build/fuzz/corpus/ and is where the next run begins. The first finding
ends the run with status 1: its case and its report then stand in build/fuzz/findings/.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sanitized
from cases import Case, described
from sanitized import HERE, ROOT, SANITIZERS
from targets import files as target_files

OUT = ROOT / "build" / "fuzz"
SEEDS = ROOT / "tests" / "fuzz" / "corpus"
HANG_S = float(os.environ.get("FUZZ_HANG_S", 60))  # of one case: many times what the slowest takes
PAGE_BYTES = 1 << 23

stop = threading.Event()  # something was found: the other targets need not go on


@dataclass
class Result:
    """The result of one process."""

    target: str
    status: int = 0
    text: str = ""  # standard error: the report, if there is one
    case: bytes = b""  # what ran last
    executions: int = 0
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def found(self) -> bool:
        return self.status != 0

    @property
    def kind(self) -> str:
        """In a few words what was found."""
        for pattern in (
            r"ERROR: AddressSanitizer: ([^\n]+)",
            r"runtime error: ([^\n]+)",
            r"\n(\w[\w.]*(?:Error|Exception|Batch|Exit)[^\n]*)\n*$",
        ):
            if match := re.search(pattern, self.text):
                return match[1]
        return f"ended with status {self.status}"


def hunt(
    lib: Path,
    target: str,
    what: str = "hunt",
    *,
    files: Iterable[Path] = (),
    seed: int = 1,
    executions: int = 0,
    seconds: float = 0,
    keep: Path | None = None,
    plugins: Sequence[Path] = (),
    blocks: bool = False,
) -> Result:
    """One process for one target, until it is done, finds something or hangs."""
    with tempfile.TemporaryDirectory() as place:
        page, result, errors = Path(place, "page"), Path(place, "result"), Path(place, "errors")
        with page.open("wb") as file:
            file.truncate(PAGE_BYTES)
        order = {
            "target": target, "what": what, "files": [str(path) for path in files], "seed": seed,
            "executions": executions, "seconds": seconds, "keep": str(keep) if keep else "",
            "plugins": [str(path) for path in plugins],
            "blocks": blocks, "page": str(page), "result": str(result),
        }  # fmt: skip
        with errors.open("wb") as log:
            command = [sys.executable, str(HERE / "hunt.py"), json.dumps(order)]
            process = subprocess.Popen(command, env=sanitized.environment(lib), stderr=log, cwd=ROOT)
            hangs = watch(process, page)
        out = Result(target, process.returncode, errors.read_text(errors="replace"))
        packed = page.read_bytes()
        out.executions = int.from_bytes(packed[:8], "little")
        out.case = packed[16 : 16 + int.from_bytes(packed[8:16], "little")]
        if hangs:
            out.text += f"\nHangError: one case took more than {HANG_S:g} s of processor time\n"
        if result.exists():
            out.data = json.loads(result.read_text())
        return out


def watch(process: subprocess.Popen[bytes], page: Path) -> bool:
    """Waits for the end; True if one case ran for so long that the process had to be ended."""
    last, since = b"", 0.0
    try:
        while True:
            try:
                process.wait(min(5, HANG_S / 4))
                return False
            except subprocess.TimeoutExpired:
                if stop.is_set():
                    process.kill()
                with page.open("rb") as file:
                    now = file.read(8)
                if now != last:
                    last, since = now, worked(process.pid)
                elif worked(process.pid) - since > HANG_S:
                    process.send_signal(signal.SIGUSR1)  # where it is, for the report
                    time.sleep(2)
                    process.kill()
                    process.wait()
                    return True
    except BaseException:
        process.kill()
        process.wait()
        raise


def worked(pid: int) -> float:
    """Seconds of processor time a process has taken: a busy machine is no hang."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def report(result: Result) -> Path:
    """Keeps what was found; says how to see it again."""
    place = OUT / "findings"
    place.mkdir(parents=True, exist_ok=True)
    name = f"{result.target}-{hashlib.sha256(result.case).hexdigest()[:12]}"
    case = place / f"{name}.case"
    case.write_bytes(result.case)
    (place / f"{name}.txt").write_text(result.text)
    print(result.text[-6000:])
    print(f"FOUND in {result.target}, execution {result.executions}: {result.kind}")
    print(f"  report: {place / name}.txt")
    print(f"  again:  {sys.executable} ops/fuzz/fuzz.py --replay {case}", flush=True)
    return case


def covered(results: Iterable[Result], show: str = "") -> None:
    """Prints, for each room, how many of its lines that can run have run; of the room `show`, those that have not."""
    hit: dict[str, set[int]] = {}
    for result in results:
        for path, places in result.data.get("blocks", {}).items():
            hit.setdefault(path, set()).update(places)
    for path in sorted(hit):
        room = ".".join(Path(path).parts[-2:]).split(".cpython")[0]
        every = lines_of(path, every_block(path))
        ran = lines_of(path, hit[path])
        source = next((name for name, _ in every if name.endswith(".pyx")), "")
        have = {line for name, line in ran if name == source}
        all_lines = {line for name, line in every if name == source}
        print(f"  {room:24} {len(have & all_lines):4} of {len(all_lines):4} lines, {len(hit[path]):5} blocks")
        if show == room:
            text = (ROOT / source).read_text().splitlines()
            for line in sorted(all_lines - have & set(range(1, len(text) + 1))):
                print(f"    {line:4}  {text[line - 1]}")


def every_block(path: str) -> list[int]:
    """Return the return address of every call at the start of a block."""
    done = subprocess.run(["objdump", "-d", "--no-show-raw-insn", path], capture_output=True, text=True, check=True)
    out, after_call = [], False
    for line in done.stdout.splitlines():
        place, colon, _ = line.partition(":\t")
        if not colon:
            continue
        if after_call:
            out.append(int(place, 16))
        after_call = "<__sanitizer_cov_trace_pc@plt>" in line
    return out


def lines_of(path: str, places: Iterable[int]) -> set[tuple[str, int]]:
    """(source, line) of addresses; one less, so that the call counts and not what follows it."""
    asked = "\n".join(f"{place - 1:x}" for place in places)
    done = subprocess.run(["addr2line", "-e", path], input=asked, capture_output=True, text=True, check=True)
    out = set()
    for line in done.stdout.splitlines():
        name, _, number = line.split(" ")[0].rpartition(":")
        if number.isdigit():
            out.add((str(Path(name).relative_to(ROOT)) if Path(name).is_relative_to(ROOT) else name, int(number)))
    return out


def shrink(lib: Path, path: Path) -> None:
    """Drops items and bytes for as long as the case is found for the same reason; writes it beside itself."""
    packed = path.read_bytes()
    target, layout = described(packed)
    case = Case.unpack(packed, layout)
    with tempfile.TemporaryDirectory() as place:
        trial = Path(place, "trial.case")

        def kind(tried: Case) -> str:
            trial.write_bytes(tried.pack(target, layout))
            result = hunt(lib, target, "replay", files=[trial])
            return re.sub(r"[0-9a-fx]{6,}|\d+", "", result.kind) if result.found else ""

        want = kind(case)
        if not want:
            sys.exit(f"{path} is not found again: nothing to shrink")
        size = max(1, len(case.items) // 2)
        while size:
            start = 0
            while start < len(case.items):
                tried = Case(case.knobs, case.items[:start] + case.items[start + size :])
                if kind(tried) == want:
                    case = tried
                else:
                    start += size
            size //= 2
        for number, (numbers, data) in enumerate(case.items):
            cut = len(data)
            while cut:
                at = 0
                while at < len(data):
                    shorter = data[:at] + data[at + cut :]
                    tried = Case(case.knobs, [*case.items[:number], (numbers, shorter), *case.items[number + 1 :]])
                    if kind(tried) == want:
                        case, data = tried, shorter
                    else:
                        at += cut
                cut = cut // 2 if cut > 16 else 0
    out = path.with_suffix(".small.case")
    out.write_bytes(case.pack(target, layout))
    print(f"{len(case.items)} items, {sum(len(data) for _, data in case.items)} bytes: {out}")
    for numbers, data in case.items:
        print(f"  {numbers} {data[:200]!r}")


def distil(lib: Path, place: Path) -> None:
    """Fills `place` with the smallest part of build/fuzz/corpus and of itself that leads everywhere, by target."""
    for target in target_files():
        here = place / target
        here.mkdir(parents=True, exist_ok=True)
        kept = {path.name: path for path in [*(OUT / "corpus" / target).glob("*.case"), *here.glob("*.case")]}
        result = hunt(lib, target, "distil", files=kept.values())
        if result.found:
            report(result)
            sys.exit(1)
        with tempfile.TemporaryDirectory() as aside:
            for path in result.data["files"]:
                shutil.copy(path, aside)
            for path in here.glob("*.case"):
                path.unlink()
            for path in Path(aside).iterdir():
                shutil.copy(path, here)
        print(f"{target}: {len(result.data['files'])} of {len(kept)} cases")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--target", action="append", choices=list(target_files()), help="only this one; may be repeated"
    )
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("FUZZ_SECONDS", 3600)), help="in all")
    parser.add_argument("--go-on", action="store_true", help="a finding ends its own target only, not the run")
    parser.add_argument("--jobs", type=int, default=int(os.environ.get("FUZZ_JOBS", 1)), help="targets at a time; 1")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the mutations; default: the time")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run one case again")
    parser.add_argument("--shrink", type=Path, metavar="FILE", help="make a case that was found smaller")
    parser.add_argument("--distil", type=Path, metavar="DIR", help="keep what is needed of the corpus there")
    parser.add_argument(
        "--uncovered",
        default="",
        metavar="ROOM",
        help="print its lines that never ran, as workers.http1.message",
    )
    given = parser.parse_args()
    print("building the sanitized rooms", " ".join(SANITIZERS), flush=True)
    try:
        lib = sanitized.build()
        sanitized.environment(lib)
    except sanitized.BuildError as error:
        sys.exit(f"fuzz: {error}")
    if given.replay:
        result = hunt(lib, described(given.replay.read_bytes())[0], "replay", files=[given.replay])
        print(result.text)
        print(f"found again: {result.kind}" if result.found else "not found: the case runs to its end")
        sys.exit(1 if result.found else 0)
    if given.shrink:
        shrink(lib, given.shrink)
        return
    if given.distil:
        distil(lib, given.distil)
        return
    wanted = given.target or (os.environ.get("FUZZ_TARGETS") or "").split() or list(target_files())
    seconds = max(1.0, given.seconds * given.jobs / len(wanted))

    def one(target: str) -> Result | None:
        if stop.is_set():
            return None
        keep = OUT / "corpus" / target
        keep.mkdir(parents=True, exist_ok=True)
        files = [*sorted((SEEDS / target).glob("*.case")), *sorted(keep.glob("*.case"))]
        result = hunt(lib, target, files=files, seed=given.seed, seconds=seconds, keep=keep, blocks=True)
        if result.found and not stop.is_set():
            if not given.go_on:
                stop.set()
            report(result)
        return result

    with ThreadPoolExecutor(given.jobs) as pool:
        results = [result for result in pool.map(one, wanted) if result is not None]
    if stop.is_set():
        sys.exit(1)
    found = [result.target for result in results if result.found]
    covered(results, given.uncovered)
    print("executions:", ", ".join(f"{result.target} {result.executions}" for result in results))
    print(f"found something in: {', '.join(found)}" if found else "nothing found")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
