"""A process that can open no further file or connection goes on with what it has, and takes up the rest later."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys

import pytest
from box import Box
from eventually import PATIENCE_S, eventually, read_line
from load import Load
from scene import Metrics, Scene

pytestmark = pytest.mark.root
STRANGERS = """
import socket, sys
held = [socket.socket() for _ in range(200)]
for one in held:
    one.setblocking(False)
    one.connect_ex(("127.0.0.1", int(sys.argv[1])))
print("connected", flush=True)
sys.stdin.read()
"""


def limit(box: Box, name: str, spare: int) -> int:
    """From now on it may have so many descriptors more than it has; how many that is."""
    pid = box.process.pid if name == "supervisor" else box.count(name, "pid")
    most = len(os.listdir(f"/proc/{pid}/fd")) + spare
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, 4096))
    return most


def open_files(box: Box, name: str) -> int:
    return len(os.listdir(f"/proc/{box.process.pid if name == 'supervisor' else box.count(name, 'pid')}/fd"))


@pytest.mark.parametrize(("name", "port"), [("feed", 5556), ("feed", 5557), ("supervisor", 9470)])
def test_strangers_that_take_every_descriptor_cost_nobody_else_anything(scene: Scene, name: str, port: int) -> None:
    box = scene.capture("--workers", 1)
    eventually(lambda: scene.server.fetch("http://127.0.0.1:9470/healthz")[0] == 200, "the supervisor serves")
    listener = scene.listen()
    load = Load(scene)
    eventually(lambda: box.count("feed", "written_events") > 50, "events are written")
    most = limit(box, name, 8)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    strangers = scene.server.start(sys.executable, "-c", STRANGERS, port, text=True, **pipes)
    assert read_line(strangers.stdout) == "connected\n"
    eventually(lambda: open_files(box, name) >= most - 1, f"{name} has no descriptor left")
    before = box.count("feed", "written_events")
    eventually(lambda: box.count("feed", "written_events") > before + 100, "events are written")
    strangers.communicate(timeout=PATIENCE_S)
    eventually(lambda: open_files(box, name) < most - 4, "the descriptors are free again")
    Metrics(scene.server)
    other = scene.listen()
    done = load.stop()
    box.wait_quiet()
    assert box.stop() == 143
    box.ledger()
    heard = [json.loads(one.communicate(timeout=PATIENCE_S)[0]) for one in (listener, other)]
    assert [one["done"] for one in heard] == [True, True]
    assert len(heard[0]["events"]) == len(done)
    assert {box.count(child, "starts") for child in box.names()} == {1}


def test_a_killed_worker_comes_back_once_the_supervisor_can_start_it(scene: Scene) -> None:
    box = scene.capture("--workers", 1, "--feed", "off", "--metrics", "off")
    resource.prlimit(box.process.pid, resource.RLIMIT_NOFILE, (3, 4096))
    box.send("worker-0", 9)
    eventually(lambda: "worker 0 cannot be started: " in box.errors(), "it cannot be started")
    resource.prlimit(box.process.pid, resource.RLIMIT_NOFILE, (1024, 4096))
    eventually(lambda: box.count("worker-0", "starts") == 2, "it is started")
    load = Load(scene)
    eventually(lambda: box.count("feed", "written_events") > 50, "events are written")
    load.stop()
    assert box.stop() == 143
    box.ledger()
