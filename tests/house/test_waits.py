"""A test that waits for another process has a bound: one that does not end takes a whole run with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from waits import unbounded

TESTS = Path(__file__).parents[1]


def test_every_wait_of_a_test_has_a_bound() -> None:
    found = {
        f"{path.relative_to(TESTS)}:{line}": call
        for path in sorted(TESTS.rglob("*.py"))
        if path.name != "eventually.py"
        for line, call in unbounded(path)
    }
    assert found == {}, "use read_line, read_all, join or PATIENCE_S of tests/eventually.py"


@pytest.mark.parametrize(
    "call",
    [
        "process.stdout.readline()",
        "self.process.stderr.read()",
        "stdout.read(20)",
        "[line for line in process.stdout]",
        "process.communicate()",
        "process.communicate(b'input')",
        "process.wait()",
        "finished.wait()",
        "thread.join()",
        "subprocess.run(words, check=True)",
        "subprocess.check_output(words)",
    ],
)
def test_a_wait_without_a_bound_is_found(call: str, tmp_path: Path) -> None:
    file = tmp_path / "test_it.py"
    file.write_text(f"def test_it():\n    {call}\n")
    assert [line for line, _ in unbounded(file)] == [2]


@pytest.mark.parametrize(
    "call",
    [
        "read_line(process.stdout)",
        "process.wait(PATIENCE_S)",
        "process.communicate(timeout=PATIENCE_S)",
        "subprocess.run(words, timeout=PATIENCE_S)",
        "subprocess.run(words, **how)",
        "', '.join(words)",
    ],
)
def test_a_wait_with_a_bound_passes(call: str, tmp_path: Path) -> None:
    file = tmp_path / "test_it.py"
    file.write_text(f"def test_it():\n    {call}\n")
    assert unbounded(file) == []
