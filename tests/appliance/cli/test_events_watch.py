"""`appliance events` against a feed that the test plays."""

from __future__ import annotations

import json
import os
import pty
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
import zmq
from eventually import PATIENCE_S, eventually, read_line
from feed_process import FeedProcess, feed_config

from appliance.cli.event_choice import moment as since
from appliance.cli.events import HEARTBEAT_TIMEOUT_S

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
EVENT = {"url": {"original": "/a\u001b[31m", "domain": "a.example"}, "http": {"response": {"status_code": 200}}}


class Stage:
    """A publisher, and the command that subscribes to it."""

    def __init__(self) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.XPUB)
        self.socket.linger = 0
        self.port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        self.processes: list[subprocess.Popen[str]] = []

    def events(self, *arguments: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
        """Starts the command and waits until it has subscribed."""
        known = os.environ.get("PYTHONPATH")
        process = subprocess.Popen(
            [sys.executable, "-m", "appliance", "events", "--connect", f"tcp://127.0.0.1:{self.port}", *arguments],
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{known}" if known else str(ROOT)},
        )
        self.processes.append(process)
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if self.socket.poll(100) and self.socket.recv() == b"\x01heartbeat.":
                return process
        raise AssertionError("it did not subscribe")

    def publish(self, sequence: int, *events: object, topic: str = "http.2xx.") -> None:
        body = b"\n".join(json.dumps(event).encode() for event in events)
        self.socket.send_multipart([topic.encode(), struct.pack(">QQQ", 7, sequence, len(events)), body])

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate(timeout=PATIENCE_S)
        self.context.destroy(linger=0)


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.close()


def test_a_line_per_transaction_until_there_are_enough(stage: Stage) -> None:
    process = stage.events("-n", "3")
    stage.publish(1, EVENT, EVENT)
    stage.publish(2, EVENT, EVENT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert len(out.splitlines()) == 3
    assert "a.example/a\\x1b[31m" in out
    assert "\x1b" not in out
    assert err == "appliance: 3 events shown, 4 received, 0 messages recovered, 0 messages lost\n"


@pytest.mark.parametrize("body", [b"no JSON \x1b[31m", b"[" * 100_000, b"7"])
def test_an_event_that_is_none_is_shown_as_it_came(stage: Stage, body: bytes) -> None:
    process = stage.events("-n", "1")
    stage.socket.send_multipart([b"http.2xx.", struct.pack(">QQQ", 7, 1, 1), body])
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert "Traceback" not in err
    assert body.decode().replace("\x1b", "\\x1b") in out


def test_json_is_passed_on_as_it_is(stage: Stage) -> None:
    process = stage.events("--json", "-n", "1")
    stage.publish(1, EVENT)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert json.loads(out) == EVENT


def test_gaps_are_reported(stage: Stage) -> None:
    process = stage.events("-n", "2", "--replay", "off")
    stage.publish(5, EVENT)
    stage.publish(9, EVENT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert "missed 3 messages of http.2xx. (6 to 8)" in err
    assert "3 messages lost" in err


def test_only_wanted_topics(stage: Stage) -> None:
    process = stage.events("--topic", "status.", "-n", "1")
    stage.publish(1, EVENT)
    stage.publish(1, {"state": "ready\u001b"}, topic="status.")
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert out == 'status. {"state": "ready\\\\u001b"}\n'


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_the_final_line(stage: Stage, number: signal.Signals, code: int) -> None:
    process = stage.events()
    stage.publish(1, EVENT)
    assert process.stdout is not None
    assert read_line(process.stdout)
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code
    assert "1 events shown" in err
    assert "Traceback" not in err


def test_a_reader_that_leaves_is_no_error(stage: Stage) -> None:
    process = stage.events()
    assert process.stdout is not None
    process.stdout.close()
    sequences = count(1)
    eventually(lambda: (stage.publish(next(sequences), EVENT), process.poll())[1] is not None, "it notices")
    process.stdout = None
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert "Traceback" not in err


def test_nothing_there_is_said_once(stage: Stage) -> None:
    process = stage.events()
    assert process.stderr is not None
    assert "no message from" in read_line(process.stderr)
    time.sleep(1.2 * HEARTBEAT_TIMEOUT_S)  # it would be said again
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert "no message from" not in err


def test_only_events_that_are_asked_for(stage: Stage) -> None:
    process = stage.events("--json", "-n", "1", "--where", "host = b.example")
    stage.publish(1, EVENT, {**EVENT, "url": {"domain": "b.example"}})
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert [json.loads(line)["url"]["domain"] for line in out.splitlines()] == ["b.example"]


def test_events_of_the_past_come_from_the_store(tmp_path: Path) -> None:
    def event(time: str) -> bytes:
        return json.dumps({**EVENT, "@timestamp": f"2026-11-22T{time}.000000000Z"}).encode()

    with FeedProcess(tmp_path, feed_config()) as feed:
        feed.workers[0].send(1, event("09:00:00"), event("10:00:00"))
        feed.workers[0].send(1, event("11:00:00"))
        eventually(lambda: feed.published() == 3, "three events")
        done = appliance("events", "--connect", feed.endpoint, "--since", "2026-11-22T10:00", "--json", "-n", "2")
    assert [json.loads(line)["@timestamp"][11:13] for line in done.stdout.splitlines()] == ["10", "11"]
    assert done.stderr.endswith(
        "2 events shown, 3 received, 2 stored messages, 0 messages recovered, 0 messages lost\n"
    )


def test_colours_and_headings_are_for_terminals(stage: Stage) -> None:
    ours, theirs = pty.openpty()
    process = stage.events("-n", "1", stdout=theirs)
    os.close(theirs)
    stage.publish(1, EVENT)
    assert process.wait(PATIENCE_S) == 0
    shown = os.read(ours, 65536).decode().splitlines()
    os.close(ours)
    assert shown[0].split()[0] == "time"
    assert "\x1b[32m   200\x1b[0m" in shown[1]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90s", "2026-11-22T09:58:30.000000000Z"),
        ("10m", "2026-11-22T09:50:00.000000000Z"),
        ("2h", "2026-11-22T08:00:00.000000000Z"),
        ("1d", "2026-11-21T10:00:00.000000000Z"),
        ("2026-11-22T09:30", "2026-11-22T09:30:00.000000000Z"),
        ("2026-11-22T09:30:00.5+01:00", "2026-11-22T08:30:00.500000000Z"),
    ],
)
def test_since_is_a_time_or_how_long_ago(text: str, moment: str) -> None:
    assert since(text, datetime(2026, 11, 22, 10, tzinfo=UTC)) == moment


@pytest.mark.parametrize("arguments", [["--since", "yesterday"], ["--since", "9999999d"], ["--where", "color = red"]])
def test_what_is_not_understood_is_said(arguments: list[str]) -> None:
    done = appliance("events", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"appliance: {arguments[0]} ")
    assert "Traceback" not in done.stderr


def appliance(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "appliance", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S)


def test_an_impossible_endpoint() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "appliance", "events", "--connect", "nonsense"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 2
    assert "--connect" in done.stderr
    assert "Traceback" not in done.stderr
