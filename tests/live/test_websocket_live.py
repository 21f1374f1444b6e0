"""WebSocket on a live capture: what `websockets` has sent and received is what the events count."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import Any

import pytest
from box import Box
from eventually import PATIENCE_S, eventually, read_line
from hosts import environment
from scene import Scene, require
from test_tls_live import make_identity

pytestmark = pytest.mark.root

pytest.importorskip("websockets.asyncio")

WEBSOCKET_PORT = 8765
V4, V6 = "192.0.2.1", "2001:db8::1"
NO_FEED = ("--feed", "off", "--metrics", "off")
COUNTED = ("messages", "text", "binary", "decoded_bytes", "ping")
DECODE = ("--set", "websocket.decode=true")


def serve(scene: Scene, address: str, *words: str) -> None:
    server = scene.server.python(
        "websocket_server.py", address, WEBSOCKET_PORT, *words, stdout=subprocess.PIPE, text=True
    )
    assert read_line(server.stdout) == "ready\n"


def client(scene: Scene, address: str, count: int, *words: str, **how: Any) -> subprocess.Popen[str]:
    how = {"stdout": subprocess.PIPE, "text": True, **how}
    return scene.client.python("websocket_client.py", address, WEBSOCKET_PORT, count, *words, **how)


def websockets_of(box: Box) -> list[dict[str, Any]]:
    """The last event of each connection."""
    events = [event for event in box.events() if event["event"]["dataset"] == "appliance.websocket"]
    return [event for event in events if event["appliance"]["websocket"]["final"]]


def of_event(event: dict[str, Any]) -> dict[str, Any]:
    found = event["appliance"]["websocket"]
    assert found["client"]["complete"] is found["server"]["complete"] is True
    assert "anomalies" not in event["appliance"]
    sides = {side: {name: found[side][name] for name in COUNTED} for side in ("client", "server")}
    sides["server"]["pong"] = found["server"]["pong"]
    code = found["client"].get("close_code")
    return {"port": event["source"]["port"], "path": event["url"]["original"], "code": code, **sides}


@pytest.mark.parametrize("address", [V4, V6], ids=["v4", "v6"])
@pytest.mark.parametrize("words", [(), ("--deflate",)], ids=["plain", "deflate"])
def test_events_count_what_the_clients_counted(scene: Scene, address: str, words: tuple[str, ...]) -> None:
    serve(scene, address, *words)
    box = scene.capture(*NO_FEED, *DECODE, "--workers", "2")
    process = client(scene, address, 12, *words)
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert box.stop(signal.SIGTERM) == 143
    found = websockets_of(box)
    expected = sorted(map(json.loads, said.splitlines()), key=lambda one: one["port"])
    assert sorted(map(of_event, found), key=lambda one: one["port"]) == expected
    assert {event["appliance"]["websocket"]["closed_by"] for event in found} == {"client"}
    assert {event["appliance"]["websocket"]["compressed"] for event in found} == {bool(words)}
    assert box.ledger()["L6"]["websockets.started"] == 12


@pytest.mark.parametrize("words", [(), ("--deflate",)], ids=["plain", "deflate"])
def test_events_count_what_the_clients_of_tls_counted(scene: Scene, words: tuple[str, ...]) -> None:
    require("openssl")
    make_identity(scene)
    serve(scene, V4, *words, "--tls", str(scene.directory))
    keylog = scene.directory / "keys.log"
    box = scene.capture(*NO_FEED, *DECODE, "--workers", "2", "--set", f"tls.keylog={keylog}")
    process = client(scene, V4, 12, *words, "--tls", env={**environment(), "SSLKEYLOGFILE": str(keylog)})
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    eventually(lambda: len(websockets_of(box)) == 12, "each connection has its event")
    assert box.stop(signal.SIGTERM) == 143
    found = websockets_of(box)
    expected = sorted(map(json.loads, said.splitlines()), key=lambda one: one["port"])
    assert sorted(map(of_event, found), key=lambda one: one["port"]) == expected
    assert {event["url"]["scheme"] for event in found} == {"https"}
    terms = box.ledger()
    assert terms["L6"]["websockets.started"] == 12
    assert terms["L10"]["tls_bytes.opened"] > sum(one["client"]["decoded_bytes"] for one in expected) * (not words)


def test_connections_that_are_open_at_the_end_have_their_event(scene: Scene) -> None:
    serve(scene, V4)
    box = scene.capture(*NO_FEED, *DECODE)
    process = client(scene, V4, 5, "--hold")
    said = [json.loads(read_line(process.stdout)) for _ in range(5)]
    assert read_line(process.stdout) == "open\n"
    assert box.stop(signal.SIGTERM) == 143
    process.kill()
    for one in said:
        one["code"] = None
    found = sorted(map(of_event, websockets_of(box)), key=lambda one: one["port"])
    assert found == sorted(said, key=lambda one: one["port"])


def test_a_killed_worker_loses_its_connections_and_the_ledger_closes(scene: Scene) -> None:
    serve(scene, V4)
    box = scene.capture(*NO_FEED, *DECODE, "--workers", "1")
    held = client(scene, V4, 5, "--hold")
    for _ in range(5):
        read_line(held.stdout)
    assert read_line(held.stdout) == "open\n"
    eventually(lambda: len(box.events()) >= 5, "events of five upgrades")
    box.kill("worker-0")
    after = client(scene, V4, 4)
    said, _ = after.communicate(timeout=PATIENCE_S)
    assert after.returncode == 0
    held.kill()
    assert box.stop(signal.SIGTERM) == 143
    found = sorted(map(of_event, websockets_of(box)), key=lambda one: one["port"])
    assert found == sorted(map(json.loads, said.splitlines()), key=lambda one: one["port"])
    terms = box.ledger()["L6"]
    assert terms["websockets.started"] == terms["websockets.ended"] == 9
