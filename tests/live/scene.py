"""A network with a web server on one side, the appliance beside it, and clients on the other."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from box import Box
from eventually import read_line
from hosts import Host, Network, Unavailable
from prometheus_client.parser import text_string_to_metric_families

PORT = 8080


def require(*programs: str) -> None:
    """Skips the test where one of these is not installed."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"the program {program} is not installed")


class Metrics:
    """Metrics of the appliance at /metrics, read once."""

    def __init__(self, host: Host, endpoint: str = "127.0.0.1:9470") -> None:
        status, self.text = host.fetch(f"http://{endpoint}/metrics")
        assert status == 200, self.text
        self._samples = [sample for family in text_string_to_metric_families(self.text) for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name that have these labels, and others; there has to be one."""
        found = [s.value for s in self._samples if s.name == name and labels.items() <= s.labels.items()]
        assert found, f"there is no {name} {labels}"
        return sum(found)


def make_network(cables: int = 1) -> Network:
    """Two hosts with cables between them; skips the test where that cannot be."""
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces and packet sockets")
    try:
        return Network(cables)
    except Unavailable as reason:
        pytest.skip(f"no network namespaces here: {reason}")


class Scene:
    """A network with a web server on one side, the appliance beside it, and clients on the other."""

    def __init__(self, network: Network, directory: Path) -> None:
        self.network = network
        self.server = network.server
        self.client = network.client
        self.directory = directory
        self._boxes: list[Box] = []
        web = self.server.python("web_server.py", PORT, stdout=subprocess.PIPE)
        assert read_line(web.stdout) == b"ready\n"

    def capture(self, *words: str | int, interface: str = "s0") -> Box:
        """The appliance at work on an interface of the server."""
        box = Box(self.server, self.directory, "-i", interface, *words)
        self._boxes.append(box)
        return box.wait_ready()

    def load(self, *words: str | int, address: str = "192.0.2.1", **how: Any) -> subprocess.Popen[str]:
        """web_client.py, running."""
        how = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, **how}
        return self.client.python("web_client.py", address, PORT, *words, **how)

    def listen(self) -> subprocess.Popen[str]:
        """listener.py, subscribed to the feed of the appliance."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process = self.server.python("listener.py", "tcp://127.0.0.1:5556", text=True, **pipes)
        assert read_line(process.stdout) == "ready\n"
        return process

    def close(self) -> None:
        for box in self._boxes:
            box.close()
        self.network.close()
