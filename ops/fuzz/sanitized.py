"""The compiled rooms once more, with AddressSanitizer, UndefinedBehaviorSanitizer and a call at every block.

Out of tree, under build/sanitized/: nothing here touches the rooms that the appliance runs with. gcc is all it takes,
and its libasan (Debian: libasan8, which libgcc-12-dev brings). A room is compiled again when its source, a declaration
file or the flags have changed. Messages of the sanitizers name lines of the .pyx files.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PLACE = ROOT / "build" / "sanitized"
PACKAGES = ("appliance", "workers")
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")

COMMON = ["-shared", "-fPIC", "-w", "-DNDEBUG"]
HELPERS = ("builders.py", "capture_file_readers.py")  # of the tests, which targets use too
LIBRARIES = ["-Wl,--as-needed", "-lpcap"]
# Without -fwrapv, which Python's own flags have: an overflow of signed numbers is defined there, but never meant here.
SANITIZERS = [
    "-g1",
    "-Og",  # compiles in half the time of -O1, and runs as fast
    "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=undefined",
    "-fsanitize-coverage=trace-pc",
]


class BuildError(Exception):
    """A failure to build, with the compiler's own words."""


def runtime() -> Path | None:
    """AddressSanitizer's library, to be loaded before anything else; None if gcc or the library is not installed."""
    if shutil.which("gcc") is None:
        return None
    done = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    found = Path(done.stdout.strip())
    return found.resolve() if found.is_absolute() and found.exists() else None


def rooms() -> dict[str, Path]:
    """{module: source} of the compiled rooms that the targets reach, by their imports and those of what they import.

    The rooms around libpcap are not among them: they hand frames to the Sharder, which is where the targets begin.
    """
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"]
    sources = {each["name"]: ROOT / each["sources"][0] for each in listed}
    reached: set[str] = set()
    waiting = [path.read_text() for path in [*HERE.glob("*.py"), *(ROOT / "tests" / name for name in HELPERS)]]
    while waiting:
        for name in _imported(waiting.pop()):
            if name not in reached and name not in PACKAGES:  # the two name the whole library, loaded lazily
                reached.add(name)
                places = [
                    ROOT / (name.replace(".", "/") + suffix) for suffix in (".py", ".pyx", ".pxd", "/__init__.py")
                ]
                waiting += [path.read_text() for path in places if path.exists()]
    return {name: source for name, source in sources.items() if name in reached}


def build(extra: dict[str, Path] | None = None, place: Path = PLACE) -> Path:
    """The directory to import the sanitized rooms from, built as far as it is not; `extra`: more modules, by source."""
    lib = place / sysconfig.get_config_var("SOABI")
    with _alone(place):
        for package in PACKAGES:
            wanted = {path.relative_to(ROOT) for path in (ROOT / package).rglob("*.py")}
            for path in (lib / package).rglob("*.py"):
                if path.relative_to(lib) not in wanted:
                    path.unlink()
            for file in wanted:
                (lib / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / file, lib / file)
        jobs = [(name, source, SANITIZERS) for name, source in {**rooms(), **(extra or {})}.items()]
        jobs.append(("cover", HERE / "cover.pyx", ["-O2"]))
        declared = b"".join(
            path.read_bytes() for package in PACKAGES for path in sorted((ROOT / package).rglob("*.pxd"))
        )
        stale = []
        for name, source, flags in jobs:
            key = hashlib.sha256(
                repr((COMMON, LIBRARIES, flags, sys.version, _compiler())).encode() + declared + source.read_bytes()
            )
            stamp = lib / "stamps" / name
            if not stamp.exists() or stamp.read_text() != key.hexdigest() or not _target(lib, name).exists():
                stale.append((name, source, flags, stamp, key.hexdigest()))
        stale.sort(key=lambda job: -job[1].stat().st_size)  # the longest first: the last one is then a short one
        cores = len(os.sched_getaffinity(0))
        (lib / "c").mkdir(exist_ok=True)
        (lib / "stamps").mkdir(exist_ok=True)
        with ThreadPoolExecutor(cores) as pool:
            list(pool.map(lambda core: _translate(lib, stale[core::cores]), range(cores)))
            list(pool.map(lambda job: _compile(lib, *job), stale))
    return lib


def _imported(text: str) -> set[str]:
    """Return the dotted names of our modules, and of what is taken from our packages, that a source imports."""
    ours = r"((?:appliance|workers)[\w.]*)"
    found = set(re.findall(rf"^\s*(?:from|c?import) {ours}", text, re.M))
    for package, names in re.findall(rf"^\s*from {ours} c?import (\([^)]*\)|[^\n(]+)$", text, re.M):
        plain = re.sub(r"#.*", "", names).strip("() \n").split(",")
        found |= {f"{package}.{name.split(' as ')[0].strip()}" for name in plain}
    return found


def environment(lib: Path, paths: Sequence[Path] = ()) -> dict[str, str]:
    """Return the environment that a Python process needs to run the sanitized rooms."""
    found = runtime()
    if found is None:
        raise BuildError("libasan.so is missing: install gcc's library (Debian: libasan8, in libgcc-12-dev)")
    places = [lib, HERE, ROOT / "ops" / "bench", ROOT / "tests", *paths]
    return {
        **os.environ,
        "LD_PRELOAD": str(found),
        # Python's own allocator cuts small objects from large pieces: an overrun would stay inside a piece, unseen.
        "PYTHONMALLOC": "malloc",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join(map(str, places)),
        "PYTHONDONTWRITEBYTECODE": "1",
        # Python never frees what lives as long as it does, hence no leaks; what grows is found by the limit on memory.
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=1:hard_rss_limit_mb=2048:quarantine_size_mb=32:"
        "malloc_context_size=6:exitcode=99",
        "UBSAN_OPTIONS": "print_stacktrace=1:exitcode=99",
    }


def _target(lib: Path, name: str) -> Path:
    return lib.joinpath(*name.split(".")).with_name(name.rpartition(".")[2] + SUFFIX)


def _compiler() -> str:
    return subprocess.run(["gcc", "--version"], capture_output=True, text=True, check=True).stdout


# Cython over several files in one process: to load it takes as long as a file of middling size.
TRANSLATOR = """
import json, sys
from Cython.Compiler.Main import CompilationOptions, compile_single, default_options
for name, source, made in json.loads(sys.argv[1]):
    options = CompilationOptions(default_options, output_file=made, emit_linenums=True, language_level=3)
    if compile_single(source, options, name).num_errors:
        sys.exit(1)
"""


def _translate(lib: Path, jobs: Sequence[tuple[str, Path, list[str], Path, str]]) -> None:
    """Cython to C, with the lines of the .pyx files in it; their stamps go first."""
    order = []
    for name, source, _, stamp, _ in jobs:
        stamp.unlink(missing_ok=True)
        place = source.relative_to(ROOT) if source.is_relative_to(ROOT) else source
        order.append((name, str(place), str(lib / "c" / f"{name}.c")))
    if order:
        _run([sys.executable, "-c", TRANSLATOR, json.dumps(order)])


def _compile(lib: Path, name: str, source: Path, flags: list[str], stamp: Path, key: str) -> None:
    """C to a shared object, and only then its stamp."""
    headers = sorted({sysconfig.get_path("include"), sysconfig.get_path("platinclude")})
    made = str(lib / "c" / f"{name}.c")
    _run(
        [
            "gcc",
            *COMMON,
            *flags,
            *(f"-I{header}" for header in headers),
            made,
            "-o",
            str(_target(lib, name)),
            *LIBRARIES,
        ]
    )
    stamp.write_text(key)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise BuildError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """One build at a time in a place."""
    place.mkdir(parents=True, exist_ok=True)
    with (place / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    print(build())
