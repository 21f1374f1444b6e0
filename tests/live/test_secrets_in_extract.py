"""`appliance packets --event` of a decrypted event: the extract has its secrets if asked for, and tshark reads it."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from box import appliance
from eventually import eventually
from scene import Scene, require
from test_decryption_live import ask, serve, transactions

pytestmark = pytest.mark.root

NO_FEED = ("--feed", "off", "--metrics", "off")


def secrets_in(keylog: Path) -> list[str]:
    """The secrets that open records."""
    return [line.split()[2] for line in keylog.read_text().splitlines() if not line.startswith(("#", "EXPORTER"))]


def read_again(capture: Path) -> dict[str, dict[str, Any]]:
    done = appliance("run", "-q", "-r", capture, "-o", "-")
    assert done.code == 0, done.err
    return {event["event"]["id"]: event for event in map(json.loads, done.out.splitlines())}


def without_sensor(event: dict[str, Any]) -> dict[str, Any]:
    """The event without what names the run: interface, time of the run."""
    return {name: value for name, value in event.items() if name not in ("observer", "agent", "@timestamp")}


@pytest.mark.parametrize("options", [("--http1.1", "--tls-max", "1.2"), ("--http2", "--tlsv1.3")], ids=["1.2", "1.3"])
def test_the_extract_decrypts_to_the_same_event_and_tshark_agrees(scene: Scene, options: tuple[str, ...]) -> None:
    require("nginx", "curl", "openssl", "tshark")
    serve(scene)
    ring, keylog = scene.directory / "ring", scene.directory / "keys.log"
    box = scene.capture(*NO_FEED, "--set", f"tls.keylog={keylog}", "--set", f"record.path={ring}")
    logs = {path: scene.directory / f"keys{path.replace('/', '.')}" for path in ("/one", "/two")}
    for path, mine in logs.items():
        ask(scene, mine, path, *options)
        with keylog.open("a") as out:
            out.write(mine.read_text())
    eventually(lambda: len(transactions(box)) == 2, "both requests are events")
    assert box.stop(signal.SIGTERM) == 143
    (event,) = [event for event in transactions(box) if event["url"]["original"] == "/one"]
    for others in logs.values():
        for secret in secrets_in(others):
            assert secret not in box.output.read_text() + box.errors()

    # The id alone finds it, because the search decrypts, too.
    out = scene.directory / "out.pcapng"
    found = appliance(
        "packets", "--event", event["event"]["id"], "--record", ring, "--keylog", keylog, "--secrets", "-w", out
    )
    assert found.code == 0, found.err
    assert "a run over it gives the same events" in found.err
    content = out.read_bytes()
    assert all(secret.encode() in content for secret in secrets_in(logs["/one"]))
    assert not any(secret.encode() in content for secret in secrets_in(logs["/two"]))
    assert not any(secret in found.err for secret in secrets_in(logs["/one"]))
    assert out.stat().st_mode & 0o077 == 0

    again = read_again(out)[event["event"]["id"]]
    assert without_sensor(again) == without_sensor(event)
    field = "http.request.uri" if "--http1.1" in options else "http2.headers.path"
    shown = scene.server.run("tshark", "-n", "-r", out, "-d", "tcp.port==8443,tls", "-T", "fields", "-e", field)
    assert [line for line in shown.splitlines() if line] == ["/one"]

    # Unasked, it has no secret: a run over it needs the key log, and tshark sees nothing.
    bare = scene.directory / "bare.pcapng"
    words = ("packets", "--event", event["event"]["id"], "--record", ring, "--keylog", keylog, "-w", bare)
    unasked = appliance(*words)
    assert unasked.code == 0, unasked.err
    assert not any(secret.encode() in bare.read_bytes() for secret in secrets_in(keylog))
    assert event["event"]["id"] not in read_again(bare)
