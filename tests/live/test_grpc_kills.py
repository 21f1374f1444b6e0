"""gRPC calls around kill -9 of a worker: by the log of the server, a method that was sent once is still known.

The clients are those of C-core. Each has one long-lived connection, sends the path of a method once, then its index.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest
from eventually import PATIENCE_S, eventually, read_line
from scene import Scene

pytestmark = pytest.mark.root

pytest.importorskip("grpc")

V4 = "192.0.2.1"
PORT = 8443
CHANNELS = 6
BETWEEN = 300  # calls between two kills
Call = tuple[int, int]  # the client's port, and the stream


def truth(log: Path) -> dict[Call, str]:
    """The path of each call: those of one connection came one after the other, so their streams are 1, 3, 5 …"""
    found: dict[Call, str] = {}
    calls: Counter[int] = Counter()
    for line in log.read_text().splitlines():
        port, path = line.split()
        found[int(port), 2 * calls[int(port)] + 1] = path
        calls[int(port)] += 1
    return found


def more_calls(log: Path, before: int) -> None:
    """Until more calls were made."""
    eventually(lambda: len(truth(log)) > before + BETWEEN, "calls are made")


@pytest.mark.parametrize("kept", [1024, 0], ids=["kept", "not kept"])
def test_methods_are_known_behind_a_killed_worker(scene: Scene, tmp_path: Path, kept: int) -> None:
    log = tmp_path / "calls.txt"
    server = scene.server.python("grpc_server.py", V4, PORT, log, stdout=subprocess.PIPE)
    assert read_line(server.stdout) == b"ready\n"
    options = ("--set", f"workers.kept_connections={kept}", "--set", "capture.timeout_ms=5")
    box = scene.capture("--feed", "off", "--metrics", "off", "--workers", "1", *options)
    client = scene.client.python("grpc_client.py", V4, PORT, CHANNELS, stdin=subprocess.PIPE)
    seen: set[Call] = set()
    for _ in range(3):
        more_calls(log, len(seen))
        box.kill("worker-0")
        seen = set(truth(log))
    more_calls(log, len(seen))
    client.stdin.close()
    assert client.wait(PATIENCE_S) == 0
    box.wait_quiet()
    assert box.stop() == 143, box.errors()
    box.ledger()

    calls = truth(log)
    known = {}
    for event in box.events():
        if event["event"]["dataset"] == "appliance.http" and "original" in event.get("url", {}):
            call = event["source"]["port"], event["appliance"]["http2"]["stream_id"]
            assert event["url"]["original"] == calls[call]
            service, _, method = calls[call][1:].partition("/")
            assert (event["rpc"]["service"], event["rpc"]["method"]) == (service, method)
            known[call] = event["rpc"].get("response", {}).get("status_code")
    behind = set(calls) - seen
    print(
        f"{len(calls)} calls, {len(known)} known; behind the last kill {len(behind)}, {len(behind & set(known))} known"
    )
    if kept:
        assert len(behind & set(known)) >= 0.98 * len(behind)
        assert Counter(known[call] for call in behind if call in known).keys() == {"OK"}
        assert len(known) >= 0.9 * len(calls)
        assert box.count("worker-0", "http2_kept_outcomes.restored") == 3 * CHANNELS
    else:
        assert not behind & set(known)
