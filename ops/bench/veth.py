"""Two network namespaces and a cable between them. Traffic stays inside: neither end has an address or a route."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from types import TracebackType
from typing import Self

SENDING, SENSING = "out0", "in0"  # the interfaces at the two ends
MTU = 1500


class Unavailable(Exception):
    """This machine or this user cannot have namespaces; the text says why."""


def ip(*words: str | int) -> None:
    """One command of iproute2. Raises Unavailable when it is missing or refused."""
    tool = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if tool is None:
        raise Unavailable("the program ip is missing (Debian package iproute2)")
    done = subprocess.run([tool, *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"ip {' '.join(map(str, words))}: {done.stderr.strip()}")


class Cable:
    """A veth pair, each end in a namespace of its own; `with` makes it and takes it away.

    longest: of the frames to come, with their Ethernet header; the MTU is made to fit. Offloads play no part: a packet
    socket sends each frame as it is, and veth's GRO is off unless somebody switches it on.
    """

    def __init__(self, longest: int = 0) -> None:
        self.mtu = max(MTU, longest - 14)
        self.sender = f"bench-{os.getpid()}-out"
        self.sensor = f"bench-{os.getpid()}-in"

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            raise Unavailable("needs root: network namespaces and packet sockets")
        try:
            for name in (self.sender, self.sensor):
                ip("netns", "add", name)
                ip("-n", name, "link", "set", "lo", "up")
            there = ("peer", "name", SENSING, "mtu", self.mtu, "netns", self.sensor)
            ip("link", "add", SENDING, "mtu", self.mtu, "netns", self.sender, "type", "veth", *there)
            for name, interface in ((self.sender, SENDING), (self.sensor, SENSING)):
                # No link-local address: the kernel itself has nothing to say on this cable.
                ip("-n", name, "link", "set", interface, "addrgenmode", "none", "arp", "off", "up")
        except Unavailable:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        for name in (self.sender, self.sensor):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)

    def at_sender(self, words: Sequence[str]) -> list[str]:
        """The command line that runs these words where frames are sent; the process keeps its number."""
        return ["ip", "netns", "exec", self.sender, *words]

    def at_sensor(self, words: Sequence[str]) -> list[str]:
        """The same where they arrive."""
        return ["ip", "netns", "exec", self.sensor, *words]
