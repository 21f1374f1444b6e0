"""Reading a file on a terminal of 80, 100 and 200 columns, in a pipe, and beside another run."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from box import appliance
from eventually import PATIENCE_S, eventually, read_all, read_line
from hosts import ROOT, environment
from terminal import Pty

from appliance.report import event_lines as show

WIDTHS = [80, 100, 200]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "sample.pcap"
    subprocess.run(
        [sys.executable, str(ROOT / "ops/bench/traffic.py"), "sample", str(path)], check=True, timeout=PATIENCE_S
    )
    return path


@pytest.fixture(scope="module")
def events(sample: Path) -> list[Any]:
    return [json.loads(line) for line in appliance("run", "-r", sample, "-o", "-").out.splitlines()]


@pytest.mark.parametrize("columns", WIDTHS)
def test_every_number_of_the_table_is_whole(sample: Path, events: list[Any], columns: int) -> None:
    screen = Pty("run", "-r", sample, columns=columns).end()
    assert max(map(len, screen)) <= columns
    names = screen[0].split()
    rows = [dict(zip(names, line.split(), strict=False)) for line in screen[1 : 1 + len(events)]]
    assert {"status", "bytes", "ms"} <= set(names)
    numbers = [tuple(row[name] for name in ("status", "bytes", "ms")) for row in rows]
    assert sorted(numbers) == sorted(show.cells(event)[5:] for event in events)


@pytest.mark.parametrize("columns", WIDTHS)
def test_a_run_that_went_well_says_one_line_after_its_table(sample: Path, events: list[Any], columns: int) -> None:
    *table, closing, rest = Pty("run", "-r", sample, columns=columns).end()
    assert len(table) == 1 + len(events)
    assert rest == ""
    assert closing.startswith("appliance: ")
    assert "ledger closed" in closing


@pytest.mark.parametrize("columns", [40, *WIDTHS])
def test_a_message_of_any_process_begins_on_a_line_of_its_own(sample: Path, columns: int) -> None:
    reader, writer = os.pipe()
    pty = Pty("run", "-r", "-", "-o", "/dev/null", columns=columns, stdin=reader)
    os.close(reader)
    frames = sample.read_bytes()
    os.write(writer, frames[:40_000])  # a pipe holds 64 KiB
    pty.until(b"events")  # the progress line stands there
    os.close(writer)  # in the middle of a frame: the capture says so
    screen = pty.end()
    (told,) = [line for line in screen if "truncated" in line]
    assert told.startswith("appliance: ")
    assert [line for line in screen if " so far" in line] == []


def test_a_pipe_gets_a_line_for_each_transaction(sample: Path, events: list[Any]) -> None:
    done = appliance("run", "-r", sample)
    assert done.code == 0
    assert sorted(done.out.splitlines()) == sorted(show.line(event) for event in events)
    assert len(done.err.splitlines()) == 1


def test_what_comes_from_a_pipe_is_shown_as_it_comes(sample: Path) -> None:
    words = [sys.executable, "-m", "appliance", "run", "-r", "-"]
    run = subprocess.Popen(words, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL, cwd=ROOT)
    assert run.stdin is not None
    assert run.stdout is not None
    run.stdin.write(sample.read_bytes()[:1_000_000])
    run.stdin.flush()
    assert b" > " in read_line(run.stdout)  # while the other end is still there
    run.stdin.close()
    with run.stdout:
        read_all(run.stdout)
    assert run.wait(PATIENCE_S) == 0


def test_a_table_that_cannot_be_written_is_no_success(sample: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "appliance", "run", "-r", str(sample)],
            stdout=full,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            timeout=PATIENCE_S,
        )
    assert done.returncode == 1
    assert b"standard output: No space left on device" in done.stderr


def test_a_reader_of_lines_may_leave(sample: Path) -> None:
    text = f"{sys.executable} -m appliance run -r {sample} | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", text], capture_output=True, cwd=ROOT, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_two_runs_work_side_by_side(sample: Path) -> None:
    words = [sys.executable, "-m", "appliance", "run", "-r", "-"]
    first = subprocess.Popen(words, stdin=-1, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT)
    assert appliance("run", "-r", sample).code == 0
    _, told = first.communicate(sample.read_bytes(), timeout=PATIENCE_S)
    assert first.returncode == 0, told


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("how", ["option", "set", "toml"])
def test_metrics_of_a_file_are_served_where_they_are_asked_for(how: str, tmp_path: Path) -> None:
    where = f"127.0.0.1:{free_port()}"
    (tmp_path / "a.toml").write_text(f'[metrics]\nbind = "{where}"\n')
    words = {"option": ["--metrics", where], "set": ["--set", f"metrics.bind={where}"]}.get(how, ["-c", "a.toml"])
    run = subprocess.Popen(
        [sys.executable, "-m", "appliance", "run", "-r", "-", *words],
        stdin=-1, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path, env=environment(),
    )  # fmt: skip

    def served() -> bool:
        try:
            return b"appliance_" in urllib.request.urlopen(f"http://{where}/metrics").read()
        except OSError:
            return False

    eventually(served, "metrics")
    run.communicate(timeout=PATIENCE_S)
