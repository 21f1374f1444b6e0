"""`appliance packets` on an interface: what is on the wire is what it shows, and it counts what it lost."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from eventually import PATIENCE_S, eventually, read_all
from hosts import administer
from scene import Scene

pytestmark = pytest.mark.root


def start(scene: Scene, out: Path, *words: str) -> subprocess.Popen[str]:
    """The command on the server's interface, showing into a file: a pipe would make it wait for its reader."""
    command = [sys.executable, "-m", "appliance", "packets", "-i", "s0", "-f", "tcp port 8080", *words]
    with out.open("w") as file:
        return scene.server.start(*command, stdout=file, stderr=subprocess.PIPE, text=True)


def request(scene: Scene) -> bool:
    """Some requests from the client."""
    scene.load("--connections", 1, "--requests", 2).communicate(timeout=PATIENCE_S)
    return True


def test_frames_of_an_interface_until_a_limit(scene: Scene, tmp_path: Path) -> None:
    out = tmp_path / "frames.jsonl"
    process = start(scene, out, "-n", "20", "--json", "--no-promiscuous")
    eventually(lambda: request(scene) and process.poll() is not None, "twenty frames were seen")
    shown = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(shown) == 20
    assert {one["interface"] for one in shown} == {"s0"}
    assert all(8080 in (layer.get("sport"), layer.get("dport")) for one in shown for layer in one["layers"][2:3])
    assert read_all(process.stderr) == "appliance: 20 frames, 0 dropped by the kernel\n"
    assert process.returncode == 0


def test_an_interrupt_ends_it_with_a_count(scene: Scene, tmp_path: Path) -> None:
    out, copy = tmp_path / "frames.txt", tmp_path / "frames.pcap"
    process = start(scene, out, "-w", str(copy), "--layers")
    eventually(lambda: request(scene) and "= Request {" in out.read_text(), "a request was seen")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    frames = out.read_text().count("PACKET: ")
    assert said == f"appliance: {frames:,} frames, 0 dropped by the kernel\n"
    again = scene.server.run(sys.executable, "-m", "appliance", "packets", "-r", copy)
    assert len(again.splitlines()) == frames


def test_an_interface_that_disappears_is_a_failure_with_a_count(scene: Scene, tmp_path: Path) -> None:
    out = tmp_path / "frames.txt"
    process = start(scene, out)
    eventually(lambda: request(scene) and out.read_text(), "a frame was seen")
    administer("-n", scene.server.name, "link", "delete", "s0")
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "s0" in said.splitlines()[0]
    assert " frames" in said.splitlines()[-1]
    assert "Traceback" not in said
