"""A real browser on a live capture: events say what its page counted, and what its server answered."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from eventually import read_line
from scene import Scene, require
from transactions import Event

pytestmark = pytest.mark.root

pytest.importorskip("websockets.asyncio")

ADDRESS, SITE_PORT, WEBSOCKET_PORT = "192.0.2.1", 8090, 8765
CHROMIUM = (
    "chromium",
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
    "--ignore-certificate-errors",
)


def visit(scene: Scene, url: str, *identity: str | Path) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Let a browser read the site; return what the server answered, and what the page counted."""
    words = (SITE_PORT, WEBSOCKET_PORT, *identity)
    site = scene.server.python("browser_site.py", *words, stdout=subprocess.PIPE, text=True)
    assert read_line(site.stdout) == "ready\n"
    profile = f"--user-data-dir={scene.directory / 'profile'}"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    browser = scene.client.start(*CHROMIUM, profile, url, **quiet)
    answered = [json.loads(read_line(site.stdout)) for _ in range(8)]
    counted = json.loads(read_line(site.stdout))
    browser.kill()
    browser.wait(60)
    return answered, counted


def of_dataset(events: list[Event], name: str) -> list[Event]:
    return [event for event in events if event["event"]["dataset"] == f"appliance.{name}"]


def exchange(event: Event) -> dict[str, Any]:
    size = event["http"]["response"]["body"]["bytes"]
    method, path = event["http"]["request"]["method"], event["url"]["original"]
    return {"method": method, "path": path, "bytes": size, "port": event["source"]["port"]}


def test_a_page_and_its_websocket(scene: Scene) -> None:
    require("chromium")
    server = scene.server.python(
        "websocket_server.py", ADDRESS, WEBSOCKET_PORT, "--deflate", stdout=subprocess.PIPE, text=True
    )
    assert read_line(server.stdout) == "ready\n"
    box = scene.capture("--feed", "off", "--metrics", "off", "--set", "websocket.decode=true")
    answered, counted = visit(scene, f"http://{ADDRESS}:{SITE_PORT}/")
    assert box.stop(signal.SIGTERM) == 143
    transactions = [event for event in of_dataset(box.events(), "http") if event["destination"]["port"] == SITE_PORT]
    assert [exchange(event) for event in transactions] == answered
    (talk,) = of_dataset(box.events(), "websocket")
    sides = talk["appliance"]["websocket"]
    for side in ("client", "server"):
        seen = {name: sides[side][name] for name in ("messages", "text", "binary")}
        assert {**seen, "bytes": sides[side]["decoded_bytes"], "code": 1000} == counted
    assert sides["client"]["close_code"] == 1000
    assert sides["compressed"] is True
    box.ledger()


def test_a_page_over_tls(scene: Scene) -> None:
    require("chromium", "openssl")
    identity = (scene.directory / "cert.pem", scene.directory / "key.pem")
    name = ("-subj", "/CN=shop.example", "-addext", "subjectAltName=DNS:shop.example")
    files = ("-keyout", identity[1], "-out", identity[0])
    scene.server.run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 9, *name, *files)
    box = scene.capture("--feed", "off", "--metrics", "off")
    visit(scene, f"https://{ADDRESS}:{SITE_PORT}/", *identity)
    assert box.stop(signal.SIGTERM) == 143
    handshakes = of_dataset(box.events(), "tls")
    assert handshakes
    for event in handshakes:
        assert (event["tls"]["version"], event["tls"]["version_protocol"]) == ("1.3", "tls")
        assert event["appliance"]["tls"]["alpn_offered"] == ["h2", "http/1.1"]
        assert event["appliance"]["tls"]["ja4"].startswith("t13i")  # an address instead of a name: no SNI
        assert event["appliance"]["tls"]["client_hello"]["complete"] is True
    box.ledger()
