"""Key logs with secrets of other sessions, or with wrong ones, beside a live capture of nginx and curl."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from box import Box
from eventually import eventually
from scene import Scene, require
from test_decryption_live import WAYS, ask, serve, told, transactions

pytestmark = pytest.mark.root


def handshakes(box: Box) -> list[dict[str, Any]]:
    return [event for event in box.events() if event["event"]["dataset"] == "appliance.tls"]


def counted(box: Box, slot: str) -> int:
    return sum(box.count(name, slot) for name in box.names() if name.startswith("worker-"))


def spoil(line: str) -> str:
    """The line with another last byte of its secret."""
    return f"{line[:-2]}{int(line[-2:], 16) ^ 255:02x}"


def write(keylog: Path, lines: list[str]) -> None:
    with keylog.open("a") as out:
        out.write("".join(f"{line}\n" for line in lines))


def test_secrets_of_other_sessions_and_wrong_ones_open_nothing(scene: Scene) -> None:
    require("nginx", "curl", "openssl")
    serve(scene)
    keylog, other = scene.directory / "keys.log", scene.directory / "other.log"
    ask(scene, other, "/before", "--http1.1")  # not captured
    write(keylog, other.read_text().splitlines())
    box = scene.capture("--feed", "off", "--metrics", "off", "--set", f"tls.keylog={keylog}")
    for path, options in WAYS.items():
        mine = scene.directory / f"keys{path.replace('/', '.')}"
        ask(scene, mine, path, *options)
        lines = [line for line in mine.read_text().splitlines() if not line.startswith("#")]
        write(keylog, list(map(spoil, lines)))
    ask(scene, keylog, "/right", "--http1.1")
    eventually(lambda: len(transactions(box)) == 1, "the request with right secrets is an event")
    eventually(lambda: len(handshakes(box)) == len(WAYS) + 1, "every handshake is an event")
    assert counted(box, "tls_records.unverified") >= len(WAYS)
    assert box.stop(signal.SIGTERM) == 143
    assert list(map(told, transactions(box))) == [("https", "/right", 200, "1.1")]
    found = handshakes(box)
    assert [event["appliance"]["tls"]["decrypted"] for event in found].count("no_key") == len(WAYS)
    assert {event["tls"]["client"]["server_name"] for event in found} == {"shop.example"}
    assert sorted(event["tls"]["version"] for event in found) == ["1.2"] * 3 + ["1.3"] * 3
    assert all(event["tls"]["established"] for event in found)
    assert box.ledger()["L10"]["tls_bytes.unverified"] > 0
