"""The packages, and the one table of which may use which. A new file needs no entry; a new package needs a row."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from imports import OURS, imported

ROOT = Path(__file__).parents[2]
SUFFIXES = (".py", ".pyx", ".pxd", ".pyi")

# A package imports itself and the packages of its row, in every kind of file and at every depth of indentation.
MAY_USE = {
    "appliance.native": "",
    "appliance.text": "",
    "appliance.stats": "native",
    "appliance.wire": "native stats",
    "appliance.config": "expression native stats wire",
    "appliance.keylog": "config",
    "appliance.packet": "text wire",
    "appliance.pcap": "native packet",
    "appliance.ipc": "config native runtime",
    "appliance.runtime": "config native stats text",
    "appliance.pubsub": "ipc",
    "appliance.output": "config ipc native runtime stats",
    "appliance.metrics": "config runtime stats",
    "appliance.report": "config native output runtime stats text",
    "appliance.capture": "config ipc keylog native pcap runtime stats wire",
    "appliance.feed": "config ipc native output pubsub runtime stats",
    "appliance.subscriber": "config ipc pubsub",
    "appliance.supervisor": "config ipc keylog metrics native output pcap pubsub report runtime stats text wire",
    "appliance.doctor": "config ipc native packet pcap report runtime stats text",
    "appliance.forward": "config metrics stats subscriber text",
    "appliance.ring": "ipc wire",
    "appliance.recorder": "config ipc native ring runtime stats",
    "appliance.files": "config ipc native runtime stats",
    "appliance.expression": "",
    "appliance.extract": "expression keylog native pcap ring wire",
    "appliance.keeper": "config expression extract ipc native runtime stats",
    "appliance.har": "text",
    "appliance.top": "config ipc native report stats subscriber text",
    "appliance.cli": "config doctor expression extract files forward har ipc keylog native packet pcap pubsub report"
    " ring runtime stats subscriber supervisor text top",
    "appliance": "cli packet pcap subscriber",
    "workers.core": "appliance.config appliance.ipc appliance.native appliance.stats appliance.wire",
    "workers.tcp": "core appliance.ipc appliance.native appliance.wire",
    "workers.detect": "core tcp appliance.stats",
    "workers.http1": "body core detect events http2 tcp websocket appliance.native appliance.stats",
    "workers.websocket": "body core detect events tcp appliance.stats",
    "workers.body": "appliance.config appliance.runtime appliance.stats",
    "workers.events": "body core appliance.ipc appliance.native appliance.stats appliance.wire",
    "workers.flow": "core events tcp appliance.stats appliance.wire",
    "workers.assembly": "core tcp appliance.config appliance.ipc appliance.packet appliance.wire",
    "workers.http2": "core detect events tcp websocket appliance.stats appliance.wire",
    "workers.tls": "core detect events tcp appliance.config appliance.keylog appliance.native appliance.stats",
    "workers.udp": "core tcp appliance.ipc appliance.wire",
    "workers.quic": "core events tls udp appliance.config appliance.ipc appliance.native appliance.wire",
    "workers": "body core detect events flow http1 http2 quic tcp tls websocket appliance.config appliance.ipc"
    " appliance.wire",
    "workers.process": "body quic tls workers appliance.config appliance.ipc appliance.keylog appliance.native"
    " appliance.runtime appliance.stats",
}

# Libraries from elsewhere, and where each may be used. The standard library and Cython's own are free but for SANS_IO.
OUTSIDE = {
    "_sha2": "appliance.native",  # of the standard library since Python 3.12
    "backports": "workers.body",
    "brotli": "workers.body",
    "click": "appliance.cli appliance.runtime",
    "compression": "workers.body",
    "confluent_kafka": "appliance.forward",
    "dpkt": "appliance.packet",
    "cryptography": "appliance.ring workers.quic workers.tls",
    "filetype": "workers.body",
    "msgspec": "appliance.* workers.assembly workers.events",
    "nats": "appliance.forward",
    "prometheus_client": "appliance.metrics",
    "pyarrow": "appliance.output",
    "pylibpcap": "appliance.pcap",
    "rich": "appliance.report appliance.text",
    "typing_extensions": "appliance.* workers workers.*",
    "zmq": "appliance.feed appliance.ipc appliance.pubsub appliance.subscriber",
    "zstandard": "appliance.cli appliance.output",
}
CYTHON = ("cpython", "cython", "libc", "posix")

# Whole packages that work on bytes alone: no socket, file, clock, process or thread.
SANS_IO = (
    "appliance.wire",
    "workers.core",
    "workers.tcp",
    "workers.detect",
    "workers.http1",
    "workers.http2",
    "workers.websocket",
    "workers.tls",
    "workers.quic",
)
FORBIDDEN = (
    *("asyncio", "ctypes", "fcntl", "io", "mmap", "multiprocessing", "os", "pathlib", "posix", "select", "selectors"),
    *("shutil", "signal", "socket", "subprocess", "tempfile", "threading", "time", "zmq"),
)

ALLOWED_AT_THE_ROOT = (
    *("appliance", "workers", "tests", "ops", "pyproject.toml", "Makefile", "LICENSE"),
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"),
)

NAME = re.compile(r"[a-z][a-z0-9_]*")


def packages(root: Path) -> set[str]:
    """Return the dotted names of all our packages below root."""
    return {".".join(path.parent.relative_to(root).parts) for top in OURS for path in (root / top).rglob("__init__.py")}


def sources(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield each source below root with the package that it lies in."""
    for top in OURS:
        for path in sorted((root / top).rglob("*")):
            if path.suffix in SUFFIXES:
                yield path, ".".join(path.parent.relative_to(root).parts)


def row(package: str) -> set[str]:
    """Return the packages that a package may use; a short name is of its own half."""
    half = package.split(".")[0]
    named = MAY_USE.get(package, "").split()
    return {name if name.startswith(OURS) else f"{half}.{name}" for name in named}


def fits(package: str, pattern: str) -> bool:
    """Return whether a package is one of a list such as `appliance.* workers.http1`."""
    return any(package == one or (one.endswith(".*") and package.startswith(one[:-1])) for one in pattern.split())


def home(name: str, known: set[str]) -> str:
    """Return the package that an imported dotted name lies in."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name


def faults(root: Path) -> list[str]:
    """Return what is against the tables, a line each: file, what it imports."""
    known = packages(root)
    found = [f"{package}: no row in MAY_USE" for package in sorted(known - set(MAY_USE))]
    for path, package in sources(root):
        for name in sorted(imported(path, package)):
            first = name.split(".")[0]
            if first in OURS:
                used = home(name, known)
                if used != package and used not in row(package) and name != "appliance.__version__":
                    found.append(f"{path.relative_to(root)}: {name}")
            elif package in SANS_IO and first in FORBIDDEN:
                found.append(f"{path.relative_to(root)}: {name}, but the package works on bytes alone")
            elif first not in (*sys.stdlib_module_names, *CYTHON) and not fits(package, OUTSIDE.get(first, "")):
                found.append(f"{path.relative_to(root)}: {name}")
    return found


def test_every_package_uses_only_those_of_its_row() -> None:
    assert faults(ROOT) == []


def test_only_the_list_of_protocols_names_one() -> None:
    """The pipeline is at the root of its half, where the list is too: it learns the protocols from there."""
    fast = {row_of for row_of in MAY_USE if "workers.detect" in row(row_of) and row_of != "workers"}
    named = {
        path.name: {name for name in imported(path, package) if any(name.startswith(f"{one}.") for one in fast)}
        for path, package in sources(ROOT)
        if package == "workers"
    }
    assert [name for name, names in named.items() if names] == ["protocols.py"]


def test_the_rows_have_no_cycle() -> None:
    below: dict[str, int] = {}

    def depth(package: str, way: tuple[str, ...] = ()) -> int:
        assert package not in way, f"a cycle: {' -> '.join((*way, package))}"
        if package not in below:
            below[package] = 1 + max((depth(used, (*way, package)) for used in row(package)), default=-1)
        return below[package]

    for package in MAY_USE:
        depth(package)


def test_no_row_names_what_is_not_used() -> None:
    known = packages(ROOT)
    used: dict[str, set[str]] = {package: set() for package in MAY_USE}
    for path, package in sources(ROOT):
        used[package] |= {home(name, known) for name in imported(path, package) if name.split(".")[0] in OURS}
    assert {package: row(package) - used[package] for package in MAY_USE if row(package) - used[package]} == {}


MUTATIONS = {
    "a process in a reader of bytes": ("workers/core/x.py", "from appliance import supervisor"),
    "a process by its module": ("workers/tcp/x.pyx", "from appliance.supervisor.supervisor import Supervisor"),
    "a package in a function": ("appliance/wire/x.py", "def f():\n    import appliance.feed.process"),
    "a package in a declaration": ("appliance/pcap/x.pxd", "from appliance.capture.sharder cimport Sharder"),
    "a cimport of a module": ("appliance/pcap/x.pyx", "cimport appliance.capture.sharder as s"),
    "a list in brackets": ("appliance/feed/x.py", "from appliance import (  # both\n    cli,\n    capture,\n)"),
    "the second of two": ("appliance/text/x.py", "import re, appliance.stats.names"),
    "behind a semicolon": ("appliance/text/x.py", "import re; from appliance.stats.names import names"),
    "by import_module": (
        "appliance/text/x.py",
        'from importlib import import_module\nimport_module("appliance.top.top")',
    ),
    "by __import__": ("appliance/text/x.py", '__import__("appliance.top.top")'),
    "a relative import": ("appliance/text/x.py", "from ..stats import names"),
    "in a stub": ("appliance/pcap/x.pyi", "from appliance.feed.process import Feed"),
    "os and socket in compiled bytes": ("workers/http1/x.pyx", "import os, socket"),
    "a clock of the C library": ("workers/core/x.pyx", "from posix.time cimport clock_gettime"),
    "threads in a declaration": ("workers/tcp/x.pxd", "import threading"),
    "sockets of ZeroMQ": ("appliance/output/x.py", "import zmq"),
    "a server's client": ("appliance/feed/x.py", "from nats.aio.client import Client"),
    "a library of no row": ("appliance/feed/x.py", "import requests"),
    "libpcap's declarations": ("appliance/capture/x.pyx", "from pylibpcap cimport pcap"),
    "a protocol in TCP": ("workers/tcp/x.pyx", "from workers.http1.message cimport Message"),
    "a protocol in detection": ("workers/detect/x.pyx", "from workers.http1.protocol cimport Http1Protocol"),
    "a package without a row": ("workers/smtp/__init__.py", '"""SMTP."""'),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_each_kind_of_fault_is_found(tmp_path: Path, name: str) -> None:
    for package in packages(ROOT):
        folder = tmp_path.joinpath(*package.split("."))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").touch()
    assert faults(tmp_path) == []
    path, text = MUTATIONS[name]
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(f"{text}\n")
    assert len(faults(tmp_path)) >= 1


def test_no_two_files_import_each_other() -> None:
    known = packages(ROOT)
    modules: dict[str, set[str]] = {}
    for path, package in sources(ROOT):
        if path.suffix != ".pyi":
            name = package if path.stem == "__init__" else f"{package}.{path.stem}"
            modules.setdefault(name, set()).update(imported(path, package))
    graph = {
        name: {found for one in used for found in (one, one.rpartition(".")[0]) if found in modules} - {name} - known
        for name, used in modules.items()
        if name not in known
    }

    def reaches(start: str, goal: str, seen: set[str]) -> bool:
        for step in graph[start] - seen:
            seen.add(step)
            if step == goal or reaches(step, goal, seen):
                return True
        return False

    assert [name for name in graph if reaches(name, name, set())] == []


@pytest.mark.parametrize("package", sorted(packages(ROOT)))
def test_a_package_says_in_a_sentence_what_it_is_for(package: str) -> None:
    text = (ROOT.joinpath(*package.split(".")) / "__init__.py").read_text()
    assert re.match(r'"""[A-Za-z`][^"]+\.', text), package


@pytest.mark.parametrize("path", [path for path, _ in sources(ROOT)], ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_has_a_plain_name_and_at_most_600_lines(path: Path) -> None:
    assert NAME.fullmatch(path.stem) or path.stem in ("__init__", "__main__")
    assert len(path.read_text().splitlines()) <= 600


def test_every_compiled_module_is_built() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    listed = set(re.findall(r'^name = "((?:appliance|workers)[.\w]*)"', text, re.M))
    present = {f"{package}.{path.stem}" for path, package in sources(ROOT) if path.suffix == ".pyx"}
    assert listed == present
    modules = re.findall(r'^name = "([\w.]+)"\nsources = \["([^"]+)"\](?:\nlibraries = (\S+))?', text, re.M)
    for name, source, libraries in modules:
        assert source == f"{name.replace('.', '/')}.pyx"
        assert libraries in ("", '["pcap"]')
        assert not libraries or name.startswith("appliance.pcap.")


def test_every_package_is_installed() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    listed = re.findall(r"^packages = \[([^\]]*)\]", text, re.M)[0]
    assert set(re.findall(r'"([\w.]+)"', listed)) == packages(ROOT)


def test_nothing_else_stands_at_the_root() -> None:
    allowed = set(ALLOWED_AT_THE_ROOT)
    present = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert present - allowed - {"build", "dist"} - {name for name in present if name.endswith(".egg-info")} == set()


def test_no_text_installs_a_package_that_is_not_published() -> None:
    """A name on a public index that is not ours could be registered by anybody, for all who follow our texts."""
    texts = [
        *ROOT.glob("*.md"),
        *(ROOT / "ops").rglob("*.md"),
        *(path for path, _ in sources(ROOT) if path.suffix == ".py"),
    ]
    named = re.compile(r"(pip3?|uv|pipx) (tool )?(install|run) ['\"]?capture-appliance")
    assert [path.name for path in texts if named.search(path.read_text())] == []
