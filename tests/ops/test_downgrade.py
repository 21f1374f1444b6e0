"""An older version starts among the files that a newer one left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from eventually import PATIENCE_S
from traffic import write_sample

from appliance import __version__
from appliance.config.load import resolve
from appliance.native.safe_files import Unusable
from appliance.report.running_instance import RunningInstance
from appliance.runtime.resolved_config import encoded
from appliance.stats.page import Page

NEWER = "9.9.9"


def appliance(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "appliance", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run directory that a newer version left: keys, a format of pages, and files that this one does not know."""
    home = tmp_path / "run"
    home.mkdir(mode=0o700)
    config = json.loads(encoded(resolve(None, {"source.interfaces": ["lo"], "workers.count": 1})))
    (home / "config.json").write_text(json.dumps(config | {"telepathy": {"range_m": 10}}))
    (home / "version").write_text(NEWER)
    for name in ("capture-0", "worker-0", "feed", "supervisor", "telepath-0"):
        Page.create(home / f"{name}.stats", ["state", "thoughts"])
        written = bytearray((home / f"{name}.stats").read_bytes())
        written[8:12] = (9).to_bytes(4, sys.byteorder)
        (home / f"{name}.stats").write_bytes(written)
    for folder in ("worker-0", "feed", "telepath-0"):
        (home / folder).mkdir(mode=0o700)
        (home / folder / "thoughts-1").write_text("of another version")
    return home


def test_a_run_starts_in_the_run_directory_of_a_newer_version(run_dir: Path, tmp_path: Path) -> None:
    figures = write_sample(tmp_path / "sample.pcap")
    events = tmp_path / "events.jsonl"
    done = appliance("run", "-r", tmp_path / "sample.pcap", "-o", events, "--workers", "1", "--run-dir", run_dir)
    assert done.returncode == 0, done.stderr
    assert "ledger closed" in done.stderr
    assert len(events.read_text().splitlines()) >= figures["transactions"] * 0.9
    assert (run_dir / "version").read_text() == __version__


def test_a_reader_of_a_newer_run_names_its_version(run_dir: Path) -> None:
    with pytest.raises(Unusable, match=NEWER):
        RunningInstance(run_dir)


def test_a_key_of_a_newer_version_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "appliance.toml"
    file.write_text("[tcp]\ngap_timeout_s = 2.0\ntelepathy = true\n\n[telepathy]\nrange_m = 10\n")
    done = appliance("check", file)
    assert done.returncode == 2
    assert ":3: tcp.telepathy" in done.stdout + done.stderr
    assert ":5: " in done.stdout + done.stderr
