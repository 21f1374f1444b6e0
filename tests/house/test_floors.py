"""The house: which file may import which. The process border is the import border."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOORS = {
    "appliance": [
        {
            "config",
            "options",
            "notes",
            "option_bodies",
            "option_capture",
            "option_output",
            "option_run",
            "option_shedding",
            "option_tcp",
            "stats",
            "books",
            "hands",
            "places",
            "station",
            "log",
            "flow",
            "protocols",
            "locate",
            "batch",
            "checksum",
            "endpoints",
            "oneself",
            "eventbatch",
            "cache",
        },
        {"packet", "defragment", "shard", "shedding", "ledger", "metrics"},
        {"sandbox", "notify", "pcap", "bus", "channels", "curve", "exporter", "target", "jetstream", "kafka", "fanout"},
        {"capture", "feed", "subscriber", "forward"},
        {"supervisor", "cli"},
    ],
    "workers": [
        {"segment", "limits", "tally", "history", "context"},
        {"stream", "http1", "start", "message", "decoding", "sniff", "redact", "text", "body"},
        {"connection", "http_connection", "pairer", "transaction", "parties", "encode", "events"},
        {"table", "path", "pipeline", "assembly"},
        {"publish", "quarantine", "worker"},
    ],
}
# Files that are one room cut in two, on the floor of the room.
PXD = ("bpf.pxd", "handle.pxd", "records.pxd", "savefile.pxd")
PACKET = ("walk", "layers", "serial", "dump", "glance", "show")
PCAP = ("libpcap", "pcaperror", "interfaces", "bpf", "pending", "records", "handle", "savefile")
ROOMS = {
    "appliance": {
        **dict.fromkeys(
            ("fragment", "datagram", "shedset", "store", "follower", "where", "window", "columns", "slowest"), 1
        ),
        **dict.fromkeys(PACKET, 1),
        "syscalls": 1,
        **dict.fromkeys((*PCAP, "arena", "confine"), 2),
        **dict.fromkeys(("output", "archive", "parquet", "replay", "inject", "packets", "lookout", "links"), 3),
        **dict.fromkeys(("processes", "rundir", "watch", "report", "news", "reload", "summary", "running"), 4),
        **dict.fromkeys(("nic", "host"), 2),
        **dict.fromkeys(
            ("top", "board", "doctor", "finding", "traffic", "check_interface", "check_host", "check_run"), 4
        ),
    },
    "workers": {"finder": 1, "delivery": 3, "reader_stream": 3},
}
BORDER = {
    "option_bodies",
    "options",
    "config",
    "stats",
    "books",
    "hands",
    "flow",
    "locate",
    "batch",
    "eventbatch",
    "cache",
    "checksum",
    "bus",
    "sandbox",
    "station",
    "log",
    "endpoints",
}  # what workers/ may see of appliance/
SKIPPED = {"__init__", "__main__"}


def every_file():
    for package in FLOORS:
        for path in sorted((ROOT / package).iterdir()):
            if path.suffix in (".py", ".pyx", ".pxd") and path.stem not in SKIPPED:
                yield path


FILES = list(every_file())


def imports(path: Path) -> set[tuple[str, str]]:
    """(package, module) of our own that a file imports or cimports, at any depth of indentation."""
    text = path.read_text()
    found = set(re.findall(r"^\s*from (appliance|workers)\.(\w+) c?import", text, re.M))
    found |= set(re.findall(r"^\s*c?import (appliance|workers)\.(\w+)", text, re.M))
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.module in FLOORS:
                found |= {(node.module, name.name) for name in node.names if name.name != "__version__"}
    return found


def floor(package: str, module: str) -> int:
    if module in ROOMS[package]:
        return ROOMS[package][module]
    for number, rooms in enumerate(FLOORS[package]):
        if module in rooms:
            return number
    raise AssertionError(f"{package}/{module} stands on no floor: give it one in {Path(__file__).name}")


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_file_imports_only_from_its_own_floor_or_below(path):
    package = path.parent.name
    for other, module in imports(path):
        if other == package and module != path.stem:
            assert floor(other, module) <= floor(package, path.stem), f"{path.name} imports upwards: {module}"


def test_no_two_files_import_each_other():
    graph: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for path in FILES:
        name = (path.parent.name, path.stem)
        graph.setdefault(name, set()).update(imports(path) - {name})

    def reaches(start, goal, seen):
        return any(
            step == goal or (step not in seen and not seen.add(step) and reaches(step, goal, seen))
            for step in graph.get(start, ())
        )

    assert [name for name in graph if reaches(name, name, set())] == []


def test_the_appliance_never_imports_the_workers():
    offenders = [path.name for path in FILES if path.parent.name == "appliance" and "workers" in dict(imports(path))]
    assert offenders == []


def test_the_workers_see_of_the_appliance_only_words_and_the_bus():
    for path in FILES:
        if path.parent.name == "workers":
            assert {module for package, module in imports(path) if package == "appliance"} <= BORDER, path.name


@pytest.mark.parametrize(
    "room",
    [
        "segment",
        "stream",
        "http1",
        "finder",
        "start",
        "message",
        "connection",
        "pairer",
        "transaction",
        "table",
        "pipeline",
        "delivery",
        "assembly",
    ],
)
def test_the_core_knows_no_socket_file_or_clock(room):
    text = (ROOT / "workers" / f"{room}.pyx").read_text()
    assert not re.search(
        r"^\s*c?import (socket|os|time|zmq|prometheus_client)|open\(.*[\"']r|clock_gettime", text, re.M
    )


@pytest.mark.parametrize(
    ("module", "only"),
    [
        ("zmq", {"bus.py", "channels.py", "curve.py"}),
        ("prometheus_client", {"exporter.py"}),
        ("nats", {"jetstream.py"}),
        ("confluent_kafka", {"kafka.py"}),
        ("pyarrow", {"parquet.py"}),
        ("pylibpcap", {"libpcap.pxd"}),
        (r"appliance\.libpcap", {f"{room}.pyx" for room in PCAP[2:] if room != "pending"} | {"pcap.pyx", *PXD}),
    ],
)
def test_each_outside_thing_is_known_to_one_room(module, only):
    users = {path.name for path in FILES if re.search(rf"^\s*(from|c?import) {module}\b", path.read_text(), re.M)}
    assert users == only


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_file_has_at_most_600_lines(path):
    assert len(path.read_text().splitlines()) <= 600


def test_every_compiled_room_is_built_and_listed():
    listed = set(re.findall(r'^name = "((?:appliance|workers)\.\w+)"', (ROOT / "pyproject.toml").read_text(), re.M))
    present = {f"{path.parent.name}.{path.stem}" for path in FILES if path.suffix == ".pyx"}
    assert listed == present


def test_nothing_else_stands_at_the_root():
    allowed = {
        "pyproject.toml",
        "appliance",
        "workers",
        "tests",
        "ops",
        "Makefile",
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
    }
    present = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert present - allowed - {"build", "dist"} - {name for name in present if name.endswith(".egg-info")} == set()
