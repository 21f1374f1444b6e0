"""Hosts for live scenes: network namespaces, the cables between them, and processes in them.

Traffic stays inside the namespaces that a test made: their only addresses are documentation ones, and nothing routes
from there to anywhere else.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eventually import PATIENCE_S

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

_numbers = itertools.count()


class Unavailable(Exception):
    """This machine, or this user, cannot have network namespaces. The text says why."""


def environment() -> dict[str, str]:
    """Ours, with the tree under test first on the path of Python."""
    known = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{known}" if known else str(ROOT)}


def administer(*words: str | int) -> None:
    """One command of iproute2. Raises Unavailable when there is none or it is refused."""
    tool = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if tool is None:
        raise Unavailable("the program ip is missing (Debian package iproute2)")
    done = subprocess.run([tool, *map(str, words)], capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    if done.returncode:
        raise Unavailable(f"ip {' '.join(map(str, words))}: {done.stderr.strip()}")


class Host:
    """A host for processes: a network namespace, or with no name the one of the test."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self._running: list[subprocess.Popen[Any]] = []

    def argv(self, words: Sequence[str | int | Path]) -> list[str]:
        """The command line that runs these words here; the process itself keeps its number (`ip` execs it)."""
        prefix = ["ip", "netns", "exec", self.name] if self.name else []
        return prefix + [str(word) for word in words]

    def start(self, *words: str | int | Path, **how: Any) -> subprocess.Popen[Any]:
        """A process that `close` ends at the latest."""
        process = subprocess.Popen(self.argv(words), **{"env": environment(), "stdin": subprocess.DEVNULL, **how})
        self._running.append(process)
        return process

    def python(self, script: str, *words: str | int | Path, **how: Any) -> subprocess.Popen[Any]:
        """One of the scripts beside this file."""
        return self.start(sys.executable, HERE / script, *words, **how)

    def run(self, *words: str | int | Path, **how: Any) -> str:
        """Run a command and return its standard output; it has to succeed within two minutes."""
        how = {"env": environment(), "stdin": subprocess.DEVNULL, "timeout": 120, **how}
        done = subprocess.run(self.argv(words), capture_output=True, text=True, check=False, **how)
        assert done.returncode == 0, f"{' '.join(map(str, words))} ended with {done.returncode}:\n{done.stderr}"
        return done.stdout

    def fetch(self, url: str) -> tuple[int, str]:
        """Status (0: no answer) and body of a GET from here; any certificate will do."""
        words = ["curl", "--silent", "--insecure", "--max-time", 60, "--globoff", "--write-out", "\n%{http_code}", url]
        done = subprocess.run(self.argv(words), capture_output=True, text=True, check=False, timeout=PATIENCE_S)
        body, _, status = done.stdout.rpartition("\n")
        return int(status or 0), body

    def close(self) -> None:
        """Ends what still runs."""
        for process in self._running:
            if process.poll() is None:
                process.kill()
            process.wait(PATIENCE_S)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()


class Network:
    """Two hosts and as many cables between them as asked for: interface s0, s1 … at the server, c0, c1 … at the client.

    Cable n has 192.0.2.(16n+1) and 2001:db8:n::1 at the server, …2 and …::2 at the client."""

    def __init__(self, cables: int = 1) -> None:
        number = f"{os.getpid()}-{next(_numbers)}"
        self.server = Host(f"live-{number}-s")
        self.client = Host(f"live-{number}-c")
        self._made: list[Host] = []
        try:
            for host in (self.server, self.client):
                administer("netns", "add", host.name)
                self._made.append(host)
                administer("-n", host.name, "link", "set", "lo", "up")
            for cable in range(cables):
                self._connect(cable)
        except Unavailable:
            self.close()
            raise

    def _connect(self, cable: int) -> None:
        here, there = ("name", f"s{cable}", "netns", self.server.name), ("name", f"c{cable}", "netns", self.client.name)
        administer("link", "add", *here, "type", "veth", "peer", *there)
        self.plug(f"s{cable}", f"c{cable}", f"192.0.2.{16 * cable + 1}/28", f"192.0.2.{16 * cable + 2}/28")
        self.plug(f"s{cable}", f"c{cable}", f"2001:db8:{cable:x}::1/64", f"2001:db8:{cable:x}::2/64")

    def plug(self, served: str, used: str, server: str, client: str) -> None:
        """Gives the two ends of a cable their addresses."""
        for host, interface, address in ((self.server, served, server), (self.client, used, client)):
            known = ("nodad",) if ":" in address else ()
            administer("-n", host.name, "address", "add", address, "dev", interface, *known)
            administer("-n", host.name, "link", "set", interface, "up")

    def tag(self, vlan: int) -> str:
        """A VLAN on the first cable; the address of the server in it. Raises Unavailable where the kernel has none."""
        for host, interface in ((self.server, "s0"), (self.client, "c0")):
            named = ("name", f"{interface}.{vlan}", "type", "vlan", "id", vlan)
            administer("-n", host.name, "link", "add", "link", interface, *named)
        self.plug(f"s0.{vlan}", f"c0.{vlan}", "192.0.2.129/28", "192.0.2.130/28")
        return "192.0.2.129"

    def close(self) -> None:
        """Ends every process started here and takes the namespaces away; their interfaces go with them."""
        for host in self._made:
            host.close()
        for host in self._made:
            subprocess.run(["ip", "netns", "delete", host.name], capture_output=True, check=False, timeout=PATIENCE_S)
        self._made = []
