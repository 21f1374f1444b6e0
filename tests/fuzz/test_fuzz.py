"""The rooms under AddressSanitizer and UndefinedBehaviorSanitizer: a short, fixed run of each target.

`make fuzz` is the long one. The rooms are built once, under build/sanitized/, and again only when their sources change.
"""

from __future__ import annotations

import os
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "ops" / "fuzz"))

import fuzz  # noqa: E402
import sanitized  # noqa: E402
from cases import BadCase, Case, Mutator, described  # noqa: E402
from targets import files  # noqa: E402

pytestmark = pytest.mark.skipif(
    sanitized.runtime() is None, reason="no gcc or no libasan here (Debian: gcc brings libasan8 in libgcc-12-dev)"
)

EXECUTIONS = {
    "locate": 2000,
    "batch": 600,
    "http": 400,
    "segment": 800,
    "shard": 600,
    "encode": 200,
    "pairing": 400,
    "http2_kept": 150,
}
PLUGIN = HERE / "target_broken.py"
FAULTS = {
    "a byte read past a buffer": (1, "heap-buffer-overflow", "broken.pyx:9"),
    "an overflow of a signed number": (2, "signed integer overflow", "broken.pyx:14"),
    "an oracle that says no": (3, "AssertionError: the ledger does not close", "target_broken.py"),
}


@pytest.fixture(scope="session")
def lib():
    """Build the sanitized rooms, the broken one among them, and return their folder."""
    return sanitized.build({"broken": HERE / "broken.pyx"})


def corpus(target):
    """The cases kept for a target: what was found once, and what leads where its seeds do not."""
    return sorted((HERE / "corpus" / target).glob("*.case"))


def planned(target):
    return len(corpus(target)) + EXECUTIONS.get(target, 500)


@pytest.fixture(scope="session")
def runs(lib):
    """{target: the result to come} of a short run of each, side by side on all cores."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        yield {
            target: pool.submit(fuzz.hunt, lib, target, files=corpus(target), seed=1, executions=planned(target))
            for target in files()
        }


@pytest.mark.parametrize("target", files())
def test_a_short_run_finds_nothing(runs, target):
    result = runs[target].result()
    assert not result.found, f"{result.kind}; its case: {fuzz.report(result)}"
    assert result.executions >= planned(target)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_net_catches(lib, fault, tmp_path):
    number, kind, place = FAULTS[fault]
    case = tmp_path / "broken.case"
    case.write_bytes(Case([], [((number,), b"12345678")]).pack("broken", struct.Struct("<B")))
    result = fuzz.hunt(lib, "broken", "replay", files=[case], plugins=[PLUGIN])
    assert result.found
    assert kind in result.kind
    assert place in result.text
    assert result.case == case.read_bytes()


def test_the_net_lets_go_what_is_no_fault(lib, tmp_path):
    case = tmp_path / "broken.case"
    case.write_bytes(Case([], [((0,), b"12345678")]).pack("broken", struct.Struct("<B")))
    assert not fuzz.hunt(lib, "broken", "replay", files=[case], plugins=[PLUGIN]).found


def test_a_fault_behind_mutations_is_found(lib):
    result = fuzz.hunt(lib, "broken", seed=1, executions=5000, plugins=[PLUGIN])
    assert result.found
    assert 1 < result.executions < 5000


def test_the_rooms_that_run_are_the_sanitized_ones(lib):
    result = fuzz.hunt(lib, "segment", seed=1, executions=1, blocks=True)
    rooms = {Path(path).relative_to(lib).as_posix().split(".")[0] for path, hit in result.data["blocks"].items() if hit}
    assert rooms >= {name.replace(".", "/") for name in sanitized.rooms()}


def test_a_case_comes_back_from_its_file():
    layout = struct.Struct("<Bq")
    case = Case([3, 4], [((1, -5), b"abc"), ((0, 2**62), b"")])
    packed = case.pack("some", layout)
    assert Case.unpack(packed, layout) == case
    assert described(packed)[0] == "some"


def test_a_file_of_another_layout_is_refused():
    with pytest.raises(BadCase, match="older layout"):
        Case.unpack(Case([], []).pack("some", struct.Struct("<B")), struct.Struct("<BB"))


def test_a_seed_fixes_every_mutation():
    layout = struct.Struct("<BIq")
    case = Case([1, 2], [((1, 2, 3), b"GET / HTTP/1.1\r\n\r\n")] * 5)

    def some(seed):
        mutator = Mutator(seed, layout, [b"\r\n"])
        made = [mutator.mutated(case, case) for _ in range(200)]
        return [each.pack("some", layout) for each in made]

    assert some(7) == some(7) != some(8)
