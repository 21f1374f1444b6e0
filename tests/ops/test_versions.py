"""appliance-versions: a new version becomes current in one rename, whatever ends the installation around it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from eventually import PATIENCE_S, read_line
from wheel_folder import make_release

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
# Programs that change something, or that a version is tried and unpacked with.
STEPS = ("ln", "mv", "rm", "mkdir", "sync", "flock", "readlink", "python3")
# Kills the whole installation instead of running the program, when its turn has come.
KILLER = """\
#!/bin/sh
turn=$(cat {count})
echo $((turn + 1)) >{count}
[ "$turn" != "$DIES_AT" ] || kill -9 0
exec {program} "$@"
"""


class Place:
    """A folder where versions are installed, as make install and the package lay it out."""

    def __init__(self, path: Path) -> None:
        self.home = path / "lib" / "capture-appliance"
        (self.home / "tools").mkdir(parents=True)
        for name in ("bin", "sbin", "killers"):
            (path / name).mkdir()
        self.path = path
        for source, target in (
            ("unpack.py", "lib/capture-appliance/tools/unpack.py"),
            ("versions.sh", "sbin/appliance-versions"),
            ("appliance.sh", "bin/appliance"),
        ):
            (path / target).write_bytes((ROOT / "ops" / "dist" / source).read_bytes())
            (path / target).chmod(0o755)
        # The real trial reads a capture; here a version passes it that has no file named `bad`.
        (self.home / "tools" / "trial.py").write_text("import appliance, os, sys; sys.exit(hasattr(appliance, 'bad'))")
        self.count = path / "count"
        for step in STEPS:
            real = sys.executable if step == "python3" else f"/usr/bin/{step}"
            (path / "killers" / step).write_text(KILLER.format(count=self.count, program=real))
            (path / "killers" / step).chmod(0o755)

    def versions(self, *words: str | Path, dies_at: int | None = None) -> subprocess.CompletedProcess[str]:
        """Run it; dies_at: the number of the step before which everything is killed."""
        self.count.write_text("0")
        environment = {"PATH": os.environ["PATH"], "CONFIGURATION": "", "PYTHON": sys.executable, "DIES_AT": "none"}
        if dies_at is not None:
            environment |= {"PATH": f"{self.path / 'killers'}:{os.environ['PATH']}", "DIES_AT": str(dies_at)}
            environment["PYTHON"] = str(self.path / "killers" / "python3")
        return subprocess.run(
            ["sh", self.path / "sbin/appliance-versions", *words],
            capture_output=True, text=True, env=environment, check=False, timeout=PATIENCE_S, start_new_session=True,
        )  # fmt: skip

    def current(self) -> str:
        """Return the version that the appliance's own command prints."""
        said = subprocess.run(
            [self.path / "bin/appliance"], capture_output=True, text=True, check=True, timeout=PATIENCE_S
        )
        return said.stdout.removeprefix("appliance ").strip()

    def listed(self) -> list[list[str]]:
        return [line.split() for line in self.versions("list").stdout.splitlines()]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "usr")


@pytest.fixture
def release(tmp_path: Path) -> Callable[[str], Path]:
    return lambda version: make_release(tmp_path / version, version)


def test_the_new_version_is_current_and_the_one_before_is_kept(place: Place, release: Callable[[str], Path]) -> None:
    for version in ("1", "2", "3"):
        done = place.versions("install", release(version))
        assert done.returncode == 0, done.stderr
        assert place.current() == version
    assert [line[1:] for line in place.listed()] == [["previous"], ["current"]]
    assert place.versions("rollback").returncode == 0
    assert place.current() == "2"
    assert place.versions("rollback").returncode == 0
    assert place.current() == "3"


def test_an_installation_killed_before_any_of_its_steps_leaves_a_working_version(
    place: Place, release: Callable[[str], Path]
) -> None:
    assert place.versions("install", release("1")).returncode == 0
    old, new, kills = "1", "2", 0
    for number in range(200):
        done = place.versions("install", release(new), dies_at=number)
        assert place.current() in (old, new), f"killed before step {number}"
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        kills += 1
        if place.current() == new:
            old, new = new, str(int(new) + 1)
    assert kills >= 10, "each step is one that it can be killed before"
    assert place.versions("install", release("99")).returncode == 0
    assert place.current() == "99"
    left = [path.name for path in (place.home / "versions").iterdir()]
    assert len(left) == 2, f"what killed installations left is gone: {left}"


def test_a_version_that_fails_its_trial_is_not_used(place: Place, release: Callable[[str], Path]) -> None:
    from wheel_folder import TAG, make_wheel

    assert place.versions("install", release("1")).returncode == 0
    bad = release("2").parent / "bad"
    make_wheel(bad, "capture_appliance", "2", TAG, {"appliance/__init__.py": "bad = 1", "appliance/__main__.py": ""})
    done = place.versions("install", bad)
    assert done.returncode == 1
    assert "did not pass its trial" in done.stderr
    assert place.current() == "1"


def test_a_version_that_runs_is_not_removed(place: Place, release: Callable[[str], Path]) -> None:
    assert place.versions("install", release("1")).returncode == 0
    here = (place.home / "current").resolve()
    (file,) = here.rglob("__main__.py")
    text = f"import mmap; f = open({str(file)!r}); m = mmap.mmap(f.fileno(), 0, prot=1); print(1, flush=True); input()"
    python = here / "bin" / "python"
    with subprocess.Popen([python, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        read_line(running.stdout)
        for version in ("2", "3", "4"):
            assert place.versions("install", release(version)).returncode == 0
        assert [line for line in place.listed() if "running" in line]
        running.communicate("\n", timeout=PATIENCE_S)
    assert place.versions("install", release("5")).returncode == 0
    assert len(place.listed()) == 2


def test_what_does_not_exist_is_refused(place: Place, release: Callable[[str], Path]) -> None:
    assert place.versions("rollback").returncode == 1
    assert place.versions("use", "7").returncode == 1
    assert place.versions("install", place.path).returncode == 1
    assert place.versions("nonsense").returncode == 2
