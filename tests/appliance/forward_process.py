"""A real `appliance forward` beside a feed played by the test, and what its metrics say."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from eventually import PATIENCE_S, eventually, read_all, read_line
from feed_process import ROOT, FeedProcess


def event(number: int, size: int = 0) -> bytes:
    """A line of at least `size` bytes with the id that counts."""
    end = b"2026-11-22T10:00:00.123456789Z"
    return b'{"event":{"id":"%032x","end":"%s"},"text":"%s"}' % (number, end, b"x" * size)


def event_id(number: int) -> str:
    return f"{number:032x}"


class Load:
    """Sends numbered events into a feed, through its first worker."""

    def __init__(self, feed: FeedProcess) -> None:
        self.feed = feed
        self.sent = 0

    def send(self, messages: int, events: int = 10, size: int = 0) -> None:
        """Messages of so many events of together `size` bytes."""
        for _ in range(messages):
            bodies = [event(self.sent + index, size // events) for index in range(events)]
            self.feed.workers[0].send(1, *bodies)
            self.sent += events

    @property
    def ids(self) -> list[str]:
        return [event_id(number) for number in range(self.sent)]


class Forward:
    """`appliance forward` with metrics. A with block ends it, whatever happened."""

    def __init__(self, to: str, feed: str, *options: str, environment: dict[str, str] | None = None) -> None:
        command = [sys.executable, "-m", "appliance", "forward", "--to", to, "--connect", feed]
        self.log = ""
        self.process = subprocess.Popen(
            [*command, "--metrics", "127.0.0.1:0", *options],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        )
        self._port = 0

    def told(self, text: str) -> str:
        """The line of its standard error, up to now or to come, that holds a text."""
        assert self.process.stderr is not None
        while text not in self.log:
            line = read_line(self.process.stderr)
            assert line, f"it ended and never said {text!r}:\n{self.log}"
            self.log += line
        return next(line for line in self.log.splitlines() if text in line)

    def metric(self, name: str) -> float:
        if not self._port:
            self._port = int(self.told("metrics at port").split()[-1])
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=PATIENCE_S) as answer:
            text = answer.read().decode()
        found = re.search(rf"^appliance_forward_{name} (\S+)$", text, re.M)
        assert found, text
        return float(found[1])

    def until(self, name: str, least: float) -> None:
        """Waits until a metric has a value."""
        eventually(lambda: self.metric(name) >= least, f"{name} reaches {least}")

    def stop(self) -> str:
        """As a person stops it; what it says at the end."""
        self.process.send_signal(signal.SIGINT)
        assert self.end() == 130, self.log
        return self.log.splitlines()[-1]

    def end(self) -> int:
        """Its exit code."""
        assert self.process.stderr is not None
        self.log += read_all(self.process.stderr)
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        self.process.kill()
        self.end()

    def __enter__(self) -> Forward:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        if self.process.stderr is not None:
            self.process.stderr.close()
        self.process.wait(PATIENCE_S)


def secret_file(path: Path, text: str, mode: int = 0o600) -> Path:
    """A file of credentials."""
    path.write_text(text)
    path.chmod(mode)
    return path
