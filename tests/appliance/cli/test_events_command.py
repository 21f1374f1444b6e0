"""`appliance events` as a process: signals that come twice, an output that takes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from eventually import PATIENCE_S, eventually, read_line
from feed_process import ROOT, FakeFeed

pytestmark = pytest.mark.slow

EVENT = b'{"@timestamp":"2026-11-22T10:00:00.000000000Z","http":{"response":{"status_code":200}}}'


class Reader:
    """`appliance events`, which has shown an event."""

    def __init__(self, *words: str, stdout: int = subprocess.PIPE) -> None:
        self.feed = FakeFeed()
        argv = [sys.executable, "-m", "appliance", "events", "--connect", self.feed.endpoint, "--json", *words]
        known = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(argv, stdout=stdout, stderr=subprocess.PIPE, env=known, text=True)
        self.feed.subscribed()

    def end(self) -> tuple[int, str]:
        """Its exit code and what it said."""
        _, said = self.process.communicate(timeout=PATIENCE_S)
        self.feed.close()
        return self.process.returncode, said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("pause", [0, 200_000])
def test_a_second_signal_is_no_traceback(number: int, pause: int) -> None:
    reader = Reader()
    reader.feed.say("http.2xx.", 1, EVENT)
    assert reader.process.stdout is not None
    assert read_line(reader.process.stdout)
    for _ in range(3):
        reader.process.send_signal(number)
        for _ in range(pause):
            pass
    code, said = reader.end()
    assert code in (-number, 128 + number)
    assert "Traceback" not in said


def test_events_that_cannot_be_shown_are_a_failure() -> None:
    with open("/dev/full", "wb") as full:
        reader = Reader(stdout=full.fileno())
        eventually(lambda: (reader.feed.say("http.2xx.", 1, EVENT), reader.process.poll())[1] is not None, "it ends")
        code, said = reader.end()
    assert code == 1
    assert "standard output: No space left on device" in said
    assert "Traceback" not in said
