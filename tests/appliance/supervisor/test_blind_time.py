"""The time without capture between two runs in one run directory."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from eventually import PATIENCE_S, eventually, read_all, read_line

from appliance.runtime.run_directory import RunDirectory
from appliance.supervisor.blind_time import BOOT, BlindTime


@contextmanager
def home(path: Path) -> Iterator[RunDirectory]:
    path.mkdir(mode=0o700, exist_ok=True)  # else it would go with the run that made it
    made = RunDirectory.open(str(path))
    yield made
    made.close()


def test_the_next_run_in_the_directory_learns_when_the_run_before_stopped(tmp_path: Path) -> None:
    with home(tmp_path / "run") as first:
        before = BlindTime(first)
        assert not before.awaited
        before.stop()
    with home(tmp_path / "run") as second:
        after = BlindTime(second)
        assert after.awaited
        assert after.end() > 0
        assert not after.awaited
    with home(tmp_path / "run") as third:
        assert not BlindTime(third).awaited, "a note is for one run"


BOOTED = BOOT.read_text().strip()


@pytest.mark.parametrize(
    "note", ["", "x", f"another-boot {10**9}\n", f"{BOOTED} {10**18}\n", f"{BOOTED} -1\n", f"{BOOTED} {'9' * 90}\n"]
)
def test_a_note_of_another_boot_of_the_future_or_damaged_counts_for_nothing(tmp_path: Path, note: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/stopped").write_text(note)
    with home(tmp_path / "run") as run:
        assert not BlindTime(run).awaited
        assert not (tmp_path / "run/stopped").exists()


def run_live(run_dir: Path, ledger: Path) -> tuple[str, str]:
    """Run on the loopback interface until it captures, stop it; return its messages and its metrics then."""
    words = ["run", "-i", "lo", "-o", "/dev/null", "--workers", "1", "--ring", "8M", "--feed", "off"]
    words += ["--metrics", "127.0.0.1:0", "--run-dir", run_dir, "--ledger", ledger]
    command = [sys.executable, "-m", "appliance", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = read_line(process.stderr)
        while "capturing on" not in said.splitlines()[-1]:
            said += read_line(process.stderr)
        metrics = ""
        where = run_dir / "metrics.endpoint"

        def asked() -> bool:
            nonlocal metrics
            try:
                metrics = urllib.request.urlopen(f"http://{where.read_text()}/metrics").read().decode()
            except (OSError, urllib.error.URLError):
                return False
            return True

        eventually(asked, "the metrics can be read")
        process.send_signal(signal.SIGTERM)
        said += read_all(process.stderr)
        assert process.wait(PATIENCE_S) == 143
    return said, metrics


@pytest.mark.root
def test_a_restart_says_what_it_cost(tmp_path: Path) -> None:
    run_dir, ledger = tmp_path / "run", tmp_path / "ledger.json"
    run_dir.mkdir()
    said, metrics = run_live(run_dir, ledger)
    assert "no frame was captured" not in said
    assert "appliance_blind_seconds 0.0" in metrics
    assert "blind_ms" not in json.loads(ledger.read_text())
    said, metrics = run_live(run_dir, ledger)
    assert "ms, since the run before stopped" in said
    blind_ms = json.loads(ledger.read_text())["blind_ms"]
    assert blind_ms > 0
    (shown,) = [line.split()[1] for line in metrics.splitlines() if line.startswith("appliance_blind_seconds ")]
    assert float(shown) * 1000 == pytest.approx(blind_ms, rel=0.01)
    print(f"blind for {blind_ms} ms")
