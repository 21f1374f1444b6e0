"""Man pages and completions: made from the commands themselves, complete, and without a fault of groff."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from eventually import PATIENCE_S

from appliance.cli.main import main

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(main.commands)


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("share")
    command = [sys.executable, "-P", ROOT / "ops/dist/pages.py", path, "man/man1", "bash", "zsh"]
    subprocess.run([*command, ROOT / "ops/dist/versions.sh"], check=True, timeout=PATIENCE_S)
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_each_option_of_each_command_is_in_its_page(share: Path, command: str) -> None:
    page = (share / f"man/man1/appliance-{command}.1").read_text().replace("\\-", "-")
    for option in main.commands[command].params:
        if isinstance(option, click.Option) and not option.hidden:
            assert all(name in page for name in option.opts), option.opts


def test_the_page_of_the_whole_names_each_command(share: Path) -> None:
    page = (share / "man/man1/appliance.1").read_text()
    assert [command for command in COMMANDS if f".B {command}\n" not in page] == []


def test_the_page_of_the_versions_names_each_of_its_commands(share: Path) -> None:
    page = (share / "man/man8/appliance-versions.8").read_text()
    script = (ROOT / "ops/dist/versions.sh").read_text()
    for command in ("list", "install", "check", "use", "rollback"):
        assert f".B {command}" in page
        assert command in script[script.index("case $command in") :]


def test_groff_has_nothing_to_say(share: Path) -> None:
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("groff is not installed")
    for page in sorted(share.glob("man/*/*")):
        done = subprocess.run(
            [groff, "-man", "-ww", "-Tutf8", "-z", page],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert (done.returncode, done.stderr) == (0, ""), page.name


def test_bash_completes_commands_by_the_installed_script(share: Path, tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    (tmp_path / "appliance").write_text(f'#!/bin/sh\nexec {sys.executable} -P -m appliance "$@"\n')
    (tmp_path / "appliance").chmod(0o755)
    text = f"""
PATH={tmp_path}:$PATH
. {share}/bash/appliance
COMP_WORDS=(appliance ev) COMP_CWORD=1
_appliance_completion appliance
echo "${{COMPREPLY[@]}}"
"""
    done = subprocess.run([bash, "-c", text], capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    assert done.stdout.split() == ["events"]


def test_zsh_gets_its_own_script(share: Path) -> None:
    assert (share / "zsh/_appliance").read_text().startswith("#compdef appliance")
