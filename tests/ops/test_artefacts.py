"""The artefacts of `make dist`: alike from two builds, and an upgrade that is killed leaves a working sensor.

Long: `make test-dist` runs it. It needs dist/wheels, or the folder DIST with the like.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from eventually import PATIENCE_S, eventually, read_all
from traffic import write_sample

ROOT = Path(__file__).parents[2]
DIST = Path(os.environ.get("DIST", ROOT / "dist"))
WHEELS = DIST / "wheels"
BUILD_S = 3600.0  # for wheels or a package from nothing, on a busy machine
KILLS = int(os.environ.get("APPLIANCE_UPGRADES", "50"))

pytestmark = [pytest.mark.skipif("APPLIANCE_DIST" not in os.environ, reason="make test-dist runs it"), pytest.mark.slow]


def built_python() -> str:
    """An interpreter that the wheels of dist were built for."""
    pythons = subprocess.run(
        ["sh", ROOT / "ops/dist/pythons.sh"], capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    return pythons.stdout.split()[0]


class Installed:
    """A tree with the appliance installed, as ops/install.sh and the package lay it out."""

    def __init__(self, path: Path) -> None:
        self.path, self.home = path, path / "lib/capture-appliance"
        for source, target, mode in (
            ("unpack.py", "lib/capture-appliance/tools/unpack.py", 0o644),
            ("trial.py", "lib/capture-appliance/tools/trial.py", 0o644),
            ("versions.sh", "sbin/appliance-versions", 0o755),
            ("appliance.sh", "bin/appliance", 0o755),
        ):
            file = path / target
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / "ops/dist" / source, file)
            file.chmod(mode)
        self.environment = {**os.environ, "PYTHON": built_python(), "CONFIGURATION": ""}

    def start(self, wheels: Path) -> subprocess.Popen[bytes]:
        """Begin an installation in a process group of its own."""
        words = [self.path / "sbin/appliance-versions", "install", wheels]
        return subprocess.Popen(words, env=self.environment, stderr=subprocess.PIPE, start_new_session=True)

    def install(self, wheels: Path) -> float:
        """Install to the end and return how many seconds it took."""
        begun = time.monotonic()
        process = self.start(wheels)
        said = process.communicate(timeout=PATIENCE_S)[1]
        assert process.returncode == 0, said.decode()
        return time.monotonic() - begun

    def current(self) -> str:
        return os.readlink(self.home / "current").removeprefix("versions/")

    def appliance(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        command = [self.path / "bin/appliance", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders of wheels that differ in one file."""
    if not WHEELS.is_dir():
        pytest.skip("there are no artefacts: make dist")
    other = tmp_path_factory.mktemp("other") / "wheels"
    shutil.copytree(WHEELS, other)
    (other.parent / "note").write_text("another build")
    for wheel in other.glob("capture_appliance-*.whl"):
        added = f"appliance/note.txt={other.parent / 'note'}"
        subprocess.run(
            [sys.executable, ROOT / "ops/dist/bundle.py", "--add", added, wheel], check=True, timeout=PATIENCE_S
        )
    return WHEELS, other


@pytest.fixture
def installed(tmp_path: Path, releases: tuple[Path, Path]) -> Installed:
    place = Installed(tmp_path / "usr")
    place.install(releases[0])
    return place


def test_a_killed_upgrade_leaves_a_working_sensor(
    installed: Installed, releases: tuple[Path, Path], tmp_path: Path
) -> None:
    sample = tmp_path / "sample.pcap"
    figures = write_sample(sample)
    ids = [installed.current()]
    took = installed.install(releases[1])
    ids.append(installed.current())
    chance = random.Random(17)
    killed = switched = 0
    for number in range(KILLS):
        before = installed.current()
        for path in (installed.home / "versions").iterdir():
            if path.name != before:  # so that each upgrade has all to do
                shutil.rmtree(path)
        upgrade = installed.start(releases[ids.index(before) - 1])
        try:
            upgrade.communicate(timeout=chance.uniform(0, took))
        except subprocess.TimeoutExpired:
            os.killpg(upgrade.pid, signal.SIGKILL)
            upgrade.communicate(timeout=PATIENCE_S)
            killed += 1
        switched += installed.current() != before
        events = tmp_path / "events.jsonl"
        done = installed.appliance("run", "-r", sample, "-o", events, "--feed", "off", "--metrics", "off")
        assert done.returncode == 0, f"after kill {number}: {done.stderr}"
        assert "ledger closed" in done.stderr
        assert len(events.read_text().splitlines()) >= figures["transactions"] * 0.9
    print(f"{killed} of {KILLS} upgrades were killed, {switched} had become current; a whole one takes {took:.1f} s")
    assert killed >= KILLS / 2
    installed.install(releases[0])
    assert len(list((installed.home / "versions").iterdir())) <= 2


def test_a_rollback_names_a_key_that_the_version_before_does_not_know(
    installed: Installed, releases: tuple[Path, Path], tmp_path: Path
) -> None:
    before = installed.current()
    installed.install(releases[1])
    newer = installed.current()
    configuration = tmp_path / "appliance.toml"
    configuration.write_text("[tcp]\ngap_timeout_s = 2.0\ntelepathy = true\n")

    def rollback() -> subprocess.CompletedProcess[str]:
        command = [installed.path / "sbin/appliance-versions", "rollback"]
        environment = installed.environment | {"CONFIGURATION": str(configuration)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S)

    refused = rollback()
    assert refused.returncode == 1
    assert f"{configuration}:3: tcp.telepathy" in refused.stderr
    assert installed.current() == newer, "nothing was changed"
    configuration.write_text("[tcp]\ngap_timeout_s = 2.0\n")
    done = rollback()
    assert done.returncode == 0, done.stderr
    assert installed.current() == before
    assert installed.appliance("check", configuration).returncode == 0
    rollback()
    assert installed.current() == newer, "repeated, it returns"


@pytest.fixture
def sensor(installed: Installed, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A sensor on the loopback interface, by the installed command."""
    if os.geteuid() != 0:
        pytest.skip("needs root: a capture on the loopback interface")
    run = tmp_path / "run"
    words = ["run", "-i", "lo", "-o", tmp_path / "live.jsonl", "--workers", "1", "--run-dir", run, "--ring", "8M"]
    command = [
        installed.path / "bin/appliance",
        *words,
        "--feed",
        "off",
        "--metrics",
        "off",
        "--ledger",
        tmp_path / "l",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        yield process
        if process.poll() is None:
            process.kill()


def children(process: int) -> set[int]:
    """Return the direct children of a process."""
    tasks = Path(f"/proc/{process}/task").iterdir()
    return {int(child) for task in tasks for child in (task / "children").read_text().split()}


def mapped(process: int) -> list[str]:
    """Return what each child of a process has mapped."""
    return [Path(f"/proc/{child}/maps").read_text() for child in children(process)]


def test_a_running_sensor_goes_on_with_its_version(
    sensor: subprocess.Popen[str], installed: Installed, releases: tuple[Path, Path], tmp_path: Path
) -> None:
    old = installed.current()
    eventually(lambda: len(children(sensor.pid)) >= 3, "the sensor has its processes")
    installed.install(releases[1])
    installed.install(releases[0])
    installed.install(releases[1])
    assert installed.current() != old
    first = children(sensor.pid)
    for child in first:
        os.kill(child, signal.SIGKILL)
    eventually(lambda: len(children(sensor.pid) - first) >= 3, "the killed processes are replaced")
    eventually(lambda: all(f"versions/{old}/" in maps for maps in mapped(sensor.pid)), "they are of the old version")
    assert not any(f"versions/{installed.current()}/" in maps for maps in mapped(sensor.pid))
    sensor.terminate()
    assert sensor.stderr is not None
    assert "ledger closed" in read_all(sensor.stderr)
    assert sensor.wait(PATIENCE_S) in (0, 143)


def test_two_builds_give_the_same_bytes(tmp_path: Path) -> None:
    sums = []
    epoch = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=PATIENCE_S,
    )
    trees = (tmp_path / "one", tmp_path / "two/deeper")
    for file in filter(lambda name: (ROOT / name).is_file(), listed.stdout.decode().split("\0")[:-1]):
        (trees[0] / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, trees[0] / file)
    shutil.copytree(trees[0], trees[1])
    for tree, habits in zip(trees, ({}, {"TZ": "Asia/Tokyo", "LC_ALL": "C"}), strict=True):
        environment = {key: value for key, value in os.environ.items() if key not in ("DIST", "DIST_WORK")}
        environment |= {"PYTHONS": built_python(), "SOURCE_DATE_EPOCH": epoch.stdout.strip()} | habits
        for script in ("wheels.sh", "deb.sh"):
            subprocess.run(["sh", tree / "ops/dist" / script], cwd=tree, env=environment, check=True, timeout=BUILD_S)
        listing = subprocess.run(
            "sha256sum wheels/* *.deb",
            shell=True,
            cwd=tree / "dist",
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE_S,
        )
        sums.append(listing.stdout)
        print(listing.stdout)
    assert sums[0] == sums[1]


def test_the_bill_of_materials_lists_each_wheel() -> None:
    if not (DIST / "sbom.json").exists():
        pytest.skip("there are no artefacts: make dist")
    text = (DIST / "sbom.json").read_text()
    json.loads(text)
    assert [wheel.name for wheel in WHEELS.iterdir() if wheel.name not in text] == []


def test_the_checksums_are_true() -> None:
    if not (DIST / "SHA256SUMS").exists():
        pytest.skip("there are no artefacts: make dist")
    subprocess.run(
        ["sha256sum", "--check", "--quiet", "--strict", "SHA256SUMS"], cwd=DIST, check=True, timeout=PATIENCE_S
    )
