"""The wheels of a folder that are unpacked: none that is damaged or leads out of its folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from eventually import PATIENCE_S
from wheel_folder import TAG, make_release, make_wheel

ROOT = Path(__file__).parents[2]
OTHER = TAG.replace(f"cp3{sys.version_info.minor}", "cp310")


def unpack(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "ops/dist/unpack.py", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)


def test_what_is_unpacked_runs(tmp_path: Path) -> None:
    done = unpack(make_release(tmp_path / "wheels", "1.0"), tmp_path / "target")
    assert (done.returncode, done.stderr) == (0, "")
    said = subprocess.run(
        [tmp_path / "target/bin/appliance"], capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    assert said.stdout == "appliance 1.0\n"


@pytest.mark.parametrize("tag", [OTHER, TAG.replace("x86_64", "riscv64"), TAG.replace("linux", "manylinux_2_999")])
def test_a_release_for_another_system_is_refused_by_name(tmp_path: Path, tag: str) -> None:
    make_wheel(tmp_path, "capture_appliance", "1.0", tag, {})
    done = unpack(tmp_path, tmp_path / "target")
    assert done.returncode == 1
    assert "no wheel of the appliance" in done.stderr
    assert not (tmp_path / "target").exists()


def test_a_missing_dependency_is_named(tmp_path: Path) -> None:
    make_release(tmp_path, "1.0")
    make_wheel(tmp_path, "msgspec", "1.0", OTHER, {})
    done = unpack("--id", tmp_path)
    assert done.returncode == 1
    assert "msgspec" in done.stderr


def test_the_best_wheel_of_several_is_taken(tmp_path: Path) -> None:
    make_release(tmp_path, "1.0")
    make_wheel(tmp_path, "zmq", "1.0", "py3-none-any", {"zmq.py": "kind = 'plain'"})
    make_wheel(tmp_path, "zmq", "1.0", TAG, {"zmq.py": "kind = 'compiled'"})
    make_wheel(tmp_path, "zmq", "1.0", "cp38-abi3-linux_x86_64", {"zmq.py": "kind = 'stable'"})
    assert unpack(tmp_path, tmp_path / "target").returncode == 0
    (file,) = (tmp_path / "target").rglob("zmq.py")
    assert file.read_text() == "kind = 'compiled'"


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    make_release(tmp_path, "1.0")
    make_wheel(tmp_path, "dpkt", "1.0", "py3-none-any", {"dpkt.py": "good = True"}, digest="0" * 43)
    done = unpack(tmp_path, tmp_path / "target")
    assert done.returncode == 1
    assert "dpkt.py is damaged" in done.stderr


@pytest.mark.parametrize("path", ["../outside.py", "/outside.py", "appliance/../../outside.py"])
def test_a_path_that_leads_out_is_refused(tmp_path: Path, path: str) -> None:
    make_release(tmp_path, "1.0")
    make_wheel(tmp_path, "evil", "1.0", "py3-none-any", {path: ""})
    done = unpack(tmp_path, tmp_path / "target")
    assert done.returncode == 1
    assert "leads out of its folder" in done.stderr


def test_the_name_of_a_release_follows_its_contents(tmp_path: Path) -> None:
    first, second = make_release(tmp_path / "a", "1.0"), make_release(tmp_path / "b", "1.0")
    assert unpack("--id", first).stdout == unpack("--id", second).stdout
    make_wheel(second, "dpkt", "2.0", "py3-none-any", {"dpkt.py": ""})
    assert unpack("--id", first).stdout != unpack("--id", second).stdout
