"""The shell scripts of ops: a signal ends each, and only an event proves an installation on a bare machine."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from eventually import PATIENCE_S

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(ROOT.glob("ops/**/*.sh"))
TRAP = re.compile(r"^\s*trap\s+(?P<action>'[^']*'|\"[^\"]*\")\s+(?P<signals>[A-Z ]+)$", re.M)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_signal_ends_a_script(script: Path) -> None:
    """The shell goes on behind the action of a trap, unless that exits."""
    for found in TRAP.finditer(script.read_text()):
        if {"INT", "TERM", "HUP"} & set(found["signals"].split()):
            assert "exit" in found["action"], found[0]


@pytest.mark.parametrize("script", [*SCRIPTS, *ROOT.glob("ops/dist/deb/*")], ids=lambda script: script.name)
def test_no_unit_is_disabled_by_a_pattern(script: Path) -> None:
    """systemctl(1) takes patterns of running units, and those that are enabled are files."""
    assert not re.search(r"systemctl[^\n;|&]* disable [^\n;|&]*\*", script.read_text())


@pytest.mark.parametrize(("said", "proved"), [('{"@timestamp":"2026-01-01"}', True), ("", False)])
def test_an_installation_is_proved_by_an_event_alone(said: str, proved: bool, tmp_path: Path) -> None:
    asked = re.search(r"^first='([^']*)'$", (ROOT / "ops/dist/bare.sh").read_text(), re.M)
    assert asked is not None
    script = f"appliance() {{ echo '{said}'; }}; appliance {asked[1].replace('/tmp/', f'{tmp_path}/')}"
    done = subprocess.run(["sh", "-eu", "-c", script], capture_output=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode == 0) == proved
