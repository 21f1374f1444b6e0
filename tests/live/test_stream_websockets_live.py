"""WebSocket over HTTP/2 (RFC 8441) on a live capture: what a client of hypercorn has counted is what events count."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest
from eventually import PATIENCE_S, read_line
from scene import Scene

pytestmark = pytest.mark.root

pytest.importorskip("hypercorn.asyncio")
pytest.importorskip("wsproto")

PORT = 8442
V4 = "192.0.2.1"
COUNTED = ("messages", "text", "binary", "bytes")


def test_events_count_what_the_client_counted(scene: Scene) -> None:
    server = scene.server.python("stream_websocket_server.py", V4, PORT, stdout=subprocess.PIPE, text=True)
    assert read_line(server.stdout) == "ready\n"
    box = scene.capture("--feed", "off", "--metrics", "off", "--workers", "2")
    process = scene.client.python(
        "stream_websocket_client.py", V4, PORT, 20, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    said, wrong = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, wrong
    assert box.stop(signal.SIGTERM) == 143
    events = box.events()
    found = []
    for event in events:
        if event["event"]["dataset"] != "appliance.websocket":
            continue
        own = event["appliance"]["websocket"]
        assert own["client"]["complete"] is own["server"]["complete"] is True
        assert "anomalies" not in event["appliance"]
        assert event["url"]["domain"] == "streams.example"
        sides = {side: {name: own[side][name] for name in COUNTED} for side in ("client", "server")}
        found.append({"path": event["url"]["original"], "code": own["client"]["close_code"], **sides})
    expected = [json.loads(line) for line in said.splitlines()]
    assert sorted(found, key=lambda one: one["path"]) == sorted(expected, key=lambda one: one["path"])
    upgrades = [event for event in events if event["appliance"].get("tunnel") == {"protocol": "websocket"}]
    assert len(upgrades) == 20
    assert {event["http"]["version"] for event in upgrades} == {"2"}
    assert {event["http"]["response"]["status_code"] for event in upgrades} == {200}
    ledger = box.ledger()["L6"]
    assert ledger["websockets.started"] == 20
    assert ledger["http2_streams"] == ledger["http2_streams_ended.reported"] == 20
