"""Changes of a process to its own name and environment, seen from outside: each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from eventually import PATIENCE_S

ROOT = Path(__file__).parents[3]
PRELUDE = (
    "from appliance.native import process_control as oneself\n"
    "read = lambda name: open(f'/proc/self/{name}', 'rb').read()\n"
)


def said(program: str, **variables: str) -> list[str]:
    """Return the lines that a Python process prints."""
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", **variables}
    ran = subprocess.run(
        [sys.executable, "-c", PRELUDE + program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    return ran.stdout.splitlines()


def test_a_process_is_called_by_its_name_and_words() -> None:
    assert said(
        "oneself.be_called('worker 7', ['python', '-m', 'workers.process.worker', '/run/x', '7'])\n"
        "print(read('comm').decode().strip()); print(read('cmdline').split(b'\\0')[:5])"
    ) == ["worker 7", "[b'python', b'-m', b'workers.process.worker', b'/run/x', b'7']"]


def test_words_without_room_are_left_out_whole_and_nothing_behind_them_is_touched() -> None:
    assert said(
        "before, line = read('environ'), read('cmdline')\n"
        "oneself.be_called('a name that is too long', ['word' * 10] * 1000)\n"
        "kept = read('cmdline').rstrip(b'\\0').split(b'\\0')\n"
        "print(read('comm').decode().strip(), set(kept), len(kept) == len(line) // 41, read('environ') == before)"
    ) == [f"a name that is {{b'{'word' * 10}'}} True True"]


def test_a_variable_that_was_taken_is_nowhere() -> None:
    assert said(
        "import os, subprocess\n"
        "print(oneself.take_variable('SECRET_PLACE'), oneself.take_variable('NEVER_SET') == '')\n"
        "left = read('environ')\n"
        "print(b'SECRET' in left, b'OTHER=1' in left, os.environ['OTHER'], os.getenv('SECRET_PLACE'))\n"
        "print(b'SECRET' in subprocess.run(['env'], capture_output=True).stdout)",
        SECRET_PLACE="/there",
        OTHER="1",
    ) == ["/there True", "False True 1 None", "False"]
