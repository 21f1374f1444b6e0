"""Wait for what other processes do. How long it takes is no matter of a test, so every wait has the same bound."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, AnyStr, BinaryIO, TypeVar

import pytest

PATIENCE_S = 120.0  # before something that did not happen is called a failure: it only ends a test that would hang

T = TypeVar("T")


def eventually(true: Callable[[], T], what: str | Callable[[], str]) -> T:
    """Return the first truthy value of `true`; without one, fail the test with `what` or what it returns."""
    end = time.monotonic() + PATIENCE_S
    while not (value := true()):
        if time.monotonic() > end:
            pytest.fail(f"never happened: {what if isinstance(what, str) else what()}")
        time.sleep(0.005)
    return value


def bounded(call: Callable[[], T], what: str, patience_s: float = PATIENCE_S) -> T:
    """Return what a blocking call returns, or raise what it raises; fail the test when it does not end in time.

    The call runs in a thread of its own, which stays behind when the test fails: a daemon, so that it keeps no process.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(patience_s)
    if errors:
        raise errors[0]
    if not results:
        pytest.fail(f"never happened: {what}")
    return results[0]


def read_line(stream: IO[AnyStr] | None) -> AnyStr:
    """Return the next line of a process; an empty one at the end of its output."""
    assert stream is not None, "Popen was not given a pipe"
    return bounded(stream.readline, "the process writes a line or closes its output")


def read_exactly(stream: IO[AnyStr] | None, size: int) -> AnyStr:
    """Return the next `size` bytes or characters of a process; fewer at the end of its output."""
    assert stream is not None, "Popen was not given a pipe"
    return bounded(lambda: stream.read(size), f"the process writes {size} bytes or closes its output")


def read_lines(stream: IO[AnyStr] | None) -> Iterator[AnyStr]:
    """Yield the lines of a process until the end of its output."""
    while line := read_line(stream):
        yield line


def read_all(stream: IO[AnyStr] | None) -> AnyStr:
    """Return everything that a process still writes, until the end of its output."""
    assert stream is not None, "Popen was not given a pipe"
    return bounded(stream.read, "the process closes its output")


def open_pipe(path: Path) -> BinaryIO:
    """Open a named pipe for reading, once a process has opened it for writing."""
    return bounded(lambda: path.open("rb"), f"a process opens {path}")


def join(thread: threading.Thread) -> None:
    """Wait until a thread has ended."""
    thread.join(PATIENCE_S)
    assert not thread.is_alive(), f"{thread.name} never ended"
