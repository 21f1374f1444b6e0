"""The bench that says what each part of the data path costs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import rooms

ROOT = Path(rooms.__file__).resolve().parents[2]
OUTSIDE = ("libpcap", "libc")
NAMES = sorted({name for parts in (rooms.CAPTURE, rooms.WORKER) for names in parts.values() for name in names})


@pytest.mark.parametrize(
    "name", sorted({name for parts in (rooms.CAPTURE, rooms.WORKER) for at in parts.values() for name in at})
)
def test_a_name_of_the_tables_is_in_the_tree(name):
    place = ROOT / name.replace(".", "/")
    assert name in OUTSIDE or place.is_dir() or place.with_suffix(".pyx").exists()


def test_a_compiled_module_is_known_by_its_place():
    assert (
        rooms.module_of(Path("/a/appliance/b/workers/tcp/stream.cpython-311-x86_64-linux-gnu.so"))
        == "workers.tcp.stream"
    )
    assert rooms.module_of(Path("/usr/lib/libpcap.so.1.10.3")) == "libpcap"


def test_the_longest_name_counts():
    assert rooms.part_of("workers.tcp.segment", rooms.WORKER) == "segment"
    assert rooms.part_of("workers.tcp.stream", rooms.WORKER) == "stream"


def test_a_package_without_a_part_is_one():
    shares = rooms.parts_of(Counter({"workers.http9.reader": 3, "python3": 1}), rooms.WORKER)
    assert shares["http9"] == 0.75
    assert list(shares)[-1] == "objects"
    assert sum(shares.values()) == 1


def test_every_compiled_module_of_a_worker_has_a_part():
    for path in (ROOT / "workers").rglob("*.pyx"):
        module = rooms.module_of(path)
        assert rooms.part_of(module, rooms.WORKER) != "objects", module
