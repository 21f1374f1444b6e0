"""The waits that every other test uses: they end, and pass on what the call did."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from eventually import bounded, open_pipe, read_all, read_exactly, read_line, read_lines

LINES = "import sys; print('one'); print('two'); sys.stdout.flush(); print('three', end='')"


def program(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_the_output_of_a_process_is_read_by_line_by_size_and_to_its_end() -> None:
    with program(LINES) as process:
        assert read_line(process.stdout) == "one\n"
        assert read_exactly(process.stdout, 2) == "tw"
        assert read_all(process.stdout) == "o\nthree"
        assert read_line(process.stdout) == ""


def test_lines_end_with_the_output() -> None:
    with program(LINES) as process:
        assert list(read_lines(process.stdout)) == ["one\n", "two\n", "three"]


def test_a_call_that_never_returns_fails_the_test() -> None:
    never = threading.Event()
    with pytest.raises(pytest.fail.Exception, match="never happened: the event is set"):
        bounded(lambda: never.wait(timeout=None), "the event is set", patience_s=0.01)
    never.set()


def test_an_error_of_the_call_arrives() -> None:
    with pytest.raises(FileNotFoundError):
        open_pipe(Path("/nonexistent/pipe"))


def test_a_named_pipe_is_opened_with_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with program(f"open({str(path)!r}, 'w').write('text')"), open_pipe(path) as reader:
        assert read_all(reader) == b"text"
