"""An installation by `make install` into an empty tree: it works from there, and `make uninstall` removes all of it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from eventually import PATIENCE_S
from traffic import write_sample

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
OUTSIDE = Path("/run/netns/outside")
UNREACHABLE = r"No matching distribution|Connection|Temporary failure|Network is unreachable"


def script(*words: str, tree: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """ops/install.sh, as make calls it, with the network outside a worker's namespaces (tests/in_namespaces.sh)."""
    told = {**os.environ, "DESTDIR": str(tree), **more}
    enter = ["nsenter", f"--net={OUTSIDE}"] if OUTSIDE.exists() else []
    return subprocess.run(
        [*enter, "sh", ROOT / "ops" / "install.sh", *words],
        capture_output=True,
        text=True,
        env=told,
        check=False,
        timeout=20 * PATIENCE_S,  # it may compile everything, beside other tests
    )


def everything_in(tree: Path) -> list[Path]:
    return sorted(path.relative_to(tree) for path in tree.rglob("*"))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with the appliance in it."""
    path = tmp_path_factory.mktemp("tree")
    if not (ROOT / ".venv" / "bin" / "python").exists():
        pytest.skip("not set up by make: there is no .venv")
    done = script("install", tree=path)
    if done.returncode and re.search(UNREACHABLE, done.stderr):
        pytest.skip("the packages that the appliance needs cannot be had here")
    assert done.returncode == 0, done.stderr
    return path


def installed(tree: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """The installed command, in a foreign folder and with nothing of ours in the environment."""
    bare = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    words = (tree / "usr/local/bin/appliance", *words)
    return subprocess.run(words, capture_output=True, text=True, env=bare, cwd="/", check=False, timeout=PATIENCE_S)


def test_the_installed_command_reads_a_capture(tree: Path, tmp_path: Path) -> None:
    from appliance import __version__

    assert installed(tree, "--version").stdout == f"appliance, version {__version__}\n"
    sample, events = tmp_path / "sample.pcap", tmp_path / "events.jsonl"
    figures = write_sample(sample)
    done = installed(tree, "run", "-r", sample, "-o", events, "--feed", "off", "--metrics", "off")
    assert done.returncode == 0, done.stderr
    assert "ledger closed" in done.stderr
    assert len(events.read_text().splitlines()) >= figures["transactions"] * 0.9
    code = installed(tree, "config").stdout
    assert (tree / "etc/capture-appliance/appliance.toml").read_text() == code
    assert "ok" in installed(tree, "check", tree / "etc/capture-appliance/appliance.toml").stdout


def test_it_is_the_installed_package_that_runs(tree: Path) -> None:
    python = tree / "usr/local/lib/capture-appliance/current/bin/python"
    words = [python, "-P", "-c", "import appliance, workers.pipeline as p; print(appliance.__file__, p.__file__)"]
    said = subprocess.run(
        words, capture_output=True, text=True, check=True, cwd=ROOT, env={}, timeout=PATIENCE_S
    ).stdout
    assert all(str(tree) in path for path in said.split()), said


def test_nothing_names_the_tree_it_was_made_in(tree: Path) -> None:
    named = [
        path
        for path in tree.rglob("*")
        if path.is_file() and not path.is_symlink() and str(tree).encode() in path.read_bytes()
    ]
    assert named == []


def test_units_start_what_was_installed(tree: Path) -> None:
    unit = (tree / "usr/local/lib/systemd/system/capture-appliance@.service").read_text()
    command = re.search(r"^ExecStart=(\S+) run -c (\S+)", unit, re.M)
    assert command
    for path in command.groups():
        assert (tree / path.lstrip("/")).exists()
    page = re.search(r"^Documentation=file:(\S+)", unit, re.M)
    assert page
    assert (tree / page[1].lstrip("/")).exists()


def test_uninstalling_leaves_nothing(tree: Path) -> None:
    """The last one: the others need the tree."""
    own = tree / "etc/capture-appliance/appliance.toml"
    changed = own.read_text() + "# ours\n"
    own.write_text(changed)
    done = script("uninstall", tree=tree)
    assert done.returncode == 0, done.stderr
    assert str(own) in done.stderr
    assert own.read_text() == changed
    own.unlink()
    assert script("uninstall", tree=tree).returncode == 0
    assert everything_in(tree) == []


def test_a_prefix_that_is_no_path_is_refused(tmp_path: Path) -> None:
    done = script("install", tree=tmp_path, PREFIX="local")
    assert done.returncode == 2
    assert "PREFIX=local" in done.stderr
    assert everything_in(tmp_path) == []
