"""`appliance files`: each new file is named or given to a command, and leaves the queue when that has worked."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from eventually import PATIENCE_S, eventually
from test_command_line import appliance, start

NAMES = ["a" * 64, "b" * 64, "c" * 64]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "files"
    (made / "new").mkdir(parents=True)
    for name in NAMES:
        (made / name).write_text(f"content of {name[0]}")
        (made / "new" / name).touch()
    return made


def queue(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "new").iterdir())


def test_new_files_are_named_and_leave_the_queue(folder: Path) -> None:
    (folder / "new" / "notes").touch()
    (folder / NAMES[2]).unlink()
    done = appliance("files", folder, "--once")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.split()) == [str(folder / name) for name in NAMES[:2]]
    assert queue(folder) == ["notes"]


def test_a_command_gets_each_file_and_one_that_fails_stays(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "scan.sh"
    script.write_text(f'#!/bin/sh\necho "$1:$(cat "$2")" >> {tmp_path}/log\ncase "$2" in *b) exit 2; esac\n')
    script.chmod(0o700)
    done = appliance("files", folder, "--once", "--exec", f"{script} 'a word'")
    assert done.returncode == 1
    assert f"{NAMES[1]}: exit code 2" in done.stderr
    assert "2 files done, 1 commands failed" in done.stderr
    assert sorted((tmp_path / "log").read_text().split("\n")) == ["", *(f"a word:content of {c}" for c in "abc")]
    assert queue(folder) == [NAMES[1]]
    done = appliance("files", folder, "--once", "--exec", f"{script} word {{}}", "--done", 0, "--done", 2)
    assert (done.returncode, queue(folder)) == (0, [])


def test_a_command_that_hangs_is_killed_and_its_file_stays(folder: Path, tmp_path: Path) -> None:
    done = appliance("files", folder, "--once", "--timeout", 0.2, "--jobs", 3, "--exec", "sh -c 'sleep 1000' {}")
    assert done.returncode == 1
    assert done.stderr.count("no end after 0.2 s (--timeout)") == 3
    assert queue(folder) == NAMES


def test_a_file_that_failed_has_its_turn_again(folder: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    command = f"sh -c 'test -e {first} || {{ touch {first}; kill -9 $$; }}' {{}}"
    with start("files", folder, "--exec", command, stderr=subprocess.PIPE) as process:
        eventually(lambda: queue(folder) == [], "the queue is empty")
        late = "d" * 64
        (folder / late).write_text("late")
        (folder / "new" / late).touch()
        eventually(lambda: queue(folder) == [], "a file that comes later has its turn")
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 143
    assert "signal 9; again in 1 s" in said
    assert "4 files done, 1 commands failed" in said


def test_a_signal_kills_commands_and_leaves_their_files(folder: Path, tmp_path: Path) -> None:
    began = tmp_path / "began"
    with start("files", folder, "--exec", f"sh -c 'echo $$ > {began}; sleep 1000'") as process:
        eventually(lambda: began.exists() and began.read_text(), "the command runs")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert queue(folder) == NAMES
    assert not Path(f"/proc/{began.read_text().strip()}").exists()


def test_what_cannot_work_says_why(tmp_path: Path, folder: Path) -> None:
    done = appliance("files", tmp_path, "--once")
    assert done.returncode == 2
    assert "files.announce = true makes the queue" in done.stderr
    assert appliance("files", folder, "--exec", "'").returncode == 2
    assert appliance("files", folder, "--done", 1).returncode == 2
    done = appliance("files", folder, "--once", "--exec", "/no/such/program")
    assert done.returncode == 1
    assert "/no/such/program: No such file or directory" in done.stderr
    assert queue(folder) == NAMES
