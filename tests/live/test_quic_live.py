"""QUIC on a live capture: what aioquic's clients were told is what the events say; forged Initials change nothing."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import Any

import pytest
from box import Box, appliance
from eventually import PATIENCE_S, read_line
from scene import Scene

from appliance.pcap.opening import open_offline

pytestmark = pytest.mark.root

pytest.importorskip("aioquic.asyncio")

QUIC_PORT = 4433
V4, V6 = "192.0.2.1", "2001:db8::1"
NO_FEED = ("--feed", "off", "--metrics", "off")


def serve(scene: Scene, address: str, *words: str) -> subprocess.Popen[str]:
    server = scene.server.python("quic_server.py", address, QUIC_PORT, *words, stdout=subprocess.PIPE, text=True)
    assert read_line(server.stdout) == "ready\n"
    return server


def connect(scene: Scene, address: str, count: int) -> list[dict[str, Any]]:
    """Connections of aioquic, and what each was told."""
    client = scene.client.python("quic_client.py", address, QUIC_PORT, count, stdout=subprocess.PIPE, text=True)
    out, _ = client.communicate(timeout=PATIENCE_S)
    assert client.returncode == 0
    return [json.loads(line) for line in out.splitlines()]


def told(box: Box) -> list[dict[str, Any]]:
    """The same from the events."""
    found = []
    for event in box.events():
        assert event["network"]["protocol"] == "quic"
        assert event["destination"]["port"] == QUIC_PORT
        assert event["tls"]["version"] == "1.3"
        found.append(
            {
                "port": event["source"]["port"],
                "server_name": event["tls"]["client"]["server_name"],
                "alpn": event["appliance"]["tls"]["alpn_offered"],
                "cipher": event["tls"]["cipher"],
                "version": event["appliance"]["quic"]["version"],
            }
        )
    return sorted(found, key=lambda one: one["server_name"])


@pytest.mark.parametrize(("address", "words"), [(V4, ()), (V6, ()), (V4, ("--retry",))], ids=["v4", "v6", "retry"])
def test_events_say_what_aioquic_was_told(scene: Scene, address: str, words: tuple[str, ...]) -> None:
    server = serve(scene, address, *words)
    box = scene.capture(*NO_FEED, "--workers", "2")
    said = connect(scene, address, 12)
    assert box.stop(signal.SIGTERM) == 143
    server.kill()
    assert told(box) == sorted(said, key=lambda one: one["server_name"])
    assert all(event["appliance"]["quic"].get("retry", False) is bool(words) for event in box.events())
    ledger = box.ledger()
    assert ledger["L4"]["quic_datagrams.opened"] >= 2 * len(said)
    assert ledger["L2"]["rejected.not_tcp"] > 0  # all later packets


def test_forged_initials_are_bounded_and_counted_beside_a_real_one(scene: Scene) -> None:
    serve(scene, V4)
    box = scene.capture(*NO_FEED, "--set", "quic.max_initials_per_second=500", "-f", "udp port 4433 or udp port 9")
    flood = scene.client.python("quic_flood.py", V4, 9, 20_000, stdout=subprocess.PIPE, text=True)
    sent = int(flood.communicate(timeout=PATIENCE_S)[0])
    assert box.stop(signal.SIGTERM) == 143
    ledger = box.ledger()
    names = ("opened", "followed", "unopened", "over_limit")
    outcomes = {name: ledger["L4"][f"quic_datagrams.{name}"] for name in names}
    assert sent == 20_000
    assert outcomes["over_limit"] > 0
    assert outcomes["opened"] == outcomes["followed"] == 0
    assert sum(outcomes.values()) == ledger["L4"]["received"]
    assert box.events() == []


def test_flows_have_every_datagram_and_lead_to_their_handshakes(scene: Scene) -> None:
    server = serve(scene, V4)
    ring = scene.directory / "ring"
    words = ("--dataset", "tls", "--dataset", "flow", "--set", "events.udp_flows=true", "--set", f"record.path={ring}")
    box = scene.capture(*NO_FEED, "--workers", "2", *words)
    connections = connect(scene, V4, 5)
    assert box.stop() == 143
    server.kill()
    flows = [event for event in box.events() if event["event"]["dataset"] == "appliance.flow"]
    quic = {event["source"]["port"]: event for event in flows if event["network"].get("protocol") == "quic"}
    shakes = [event for event in box.events() if event["event"]["dataset"] == "appliance.tls"]
    assert sorted(quic) == sorted(one["port"] for one in connections)
    for event in shakes:
        assert quic[event["source"]["port"]]["appliance"]["connection"] == event["appliance"]["connection"]
    ledger = box.ledger()
    assert ledger["L8"]["udp_payload_bytes"] == sum(
        event["appliance"]["flow"]["since_last"]["payload_bytes"]
        for event in flows
        if event["network"]["transport"] == "udp"
    )
    out = scene.directory / "out.pcapng"
    flow = scene.directory / "flow.jsonl"
    flow.write_text(json.dumps(quic[shakes[0]["source"]["port"]]))
    done = appliance("packets", "--event", flow, "--record", ring, "-w", out)
    assert done.code == 0, done.err
    with open_offline(str(out)) as handle:
        assert sum(1 for _ in handle.packets()) == quic[shakes[0]["source"]["port"]]["network"]["packets"]
