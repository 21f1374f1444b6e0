"""The message of `make test` before it installs anything."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from eventually import PATIENCE_S

ROOT = Path(__file__).parents[2]


def told(path: Path | str) -> str:
    """Return the message with the programs of this path at hand."""
    words = [shutil.which("sh") or "sh", "ops/setup.sh", "tell"]
    environment = {**os.environ, "PATH": str(path)}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return done.stderr


def test_every_missing_package_is_named_and_how_long_it_takes(tmp_path: Path) -> None:
    for program in ("dirname", "id"):
        (tmp_path / program).symlink_to(shutil.which(program) or "")
    said = told(tmp_path)
    missing = next(line for line in said.splitlines() if "Debian packages" in line)
    for package in ("curl", "prometheus", "tshark"):
        assert f" {package}" in missing
    assert "minutes" in said


def commands_of(goal: str) -> list[str]:
    """The commands that make would run."""
    # Inside `make test` a second make would inherit the flags of the first and print its folder first.
    own = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(
        ["make", "-n", goal], cwd=ROOT, env=own, capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    return done.stdout.splitlines()


def test_it_is_the_first_thing_that_a_run_of_the_tests_does() -> None:
    assert commands_of("test")[0].endswith("ops/setup.sh tell")


def test_a_quick_run_installs_no_tools_and_leaves_out_what_needs_them() -> None:
    setup, run = commands_of("test-quick")
    assert setup.endswith("ops/setup.sh quick")
    assert run.endswith('-m "not root and not peer and not slow"')
