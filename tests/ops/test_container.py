"""The container file, as far as it can be looked at without building it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from eventually import PATIENCE_S

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "ops" / "container"


def test_the_container_file_has_no_fault() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint is not installed: there is none for this machine")
    done = subprocess.run(
        [hadolint, FOLDER / "Containerfile"], capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_a_fault_would_be_found(tmp_path: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint is not installed: there is none for this machine")
    text = (FOLDER / "Containerfile").read_text().replace("WORKDIR /src", "RUN cd /src")
    (tmp_path / "Containerfile").write_text(text)
    done = subprocess.run(
        [hadolint, tmp_path / "Containerfile"], capture_output=True, text=True, check=False, timeout=60
    )
    assert "DL3003" in done.stdout


def test_what_is_copied_is_there_and_what_runs_is_nobody() -> None:
    text = (FOLDER / "Containerfile").read_text()
    for sources in re.findall(r"^COPY (?!--)(.+) \S+$", text, re.M):
        assert [source for source in sources.split() if not (ROOT / source).exists()] == []
    users = re.findall(r"^USER (\S+)$", text, re.M)
    assert users[-1].split(":")[0] not in ("0", "root")
    assert text.index("USER ") < text.index("ENTRYPOINT")


def test_the_entrypoint_is_a_shell_script() -> None:
    shell = shutil.which("dash") or "/bin/sh"
    subprocess.run([shell, "-n", FOLDER / "entrypoint.sh"], check=True, timeout=PATIENCE_S)


def test_the_sensor_of_the_composition_has_one_capability() -> None:
    text = (FOLDER / "compose.yml").read_text()
    sensor = text[text.index("  appliance:") : text.index("  prometheus:")]
    assert "cap_drop: [ALL]" in sensor
    assert re.findall(r"cap_add: \[(.*)\]", text) == ["NET_RAW"]
    assert "privileged" not in text
