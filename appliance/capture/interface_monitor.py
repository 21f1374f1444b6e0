"""The state of a live capture's interface, and the time for which the capture was blind.

A capture is blind while its link is down, its interface is gone (unplugged, renamed, or made anew), it restarts after a
crash, or a filter change makes the kernel refuse frames. No counter has the frames of that time, so the page counts the
time while it passes. The kernel binds a capture to the index of an interface. The configuration and the events have its
name, which another interface may get a moment later.
"""

from __future__ import annotations

import fcntl
import struct
import time
from collections.abc import Callable
from typing import TypeVar

from appliance.pcap.devices import bound_index
from appliance.pcap.errors import Absent, NoSuchDevice
from appliance.runtime.child import ChildRuntime
from appliance.stats.page import Page

SIOCGIFNAME, SIOCGIFFLAGS, SIOCGIFINDEX = 0x8910, 0x8913, 0x8933
IFF_UP, IFF_RUNNING = 1, 0x40
FLAGS = struct.Struct("16sH22x")  # struct ifreq (netdevice(7)) with flags,
INDEX = struct.Struct("16si20x")  # with an index
CHECK_INTERVAL_S = 0.1
RETRY_INTERVAL_S = 0.2  # between two attempts to open a missing interface

T = TypeVar("T")


class InterfaceMonitor:
    """For one capture. Owns the slots blind_ns.… and link_down of its page."""

    def __init__(self, page: Page, interface: str, last_turn_ns: int) -> None:
        """Make it. last_turn_ns: time.monotonic_ns() of the last heartbeat of a predecessor; 0 if there was none."""
        self.page = page
        self.interface = interface
        self.next_look = 0.0
        self._last_turn_ns = last_turn_ns if page["opened"] else 0
        self._looked_ns = 0

    def open(self, attempt: Callable[[], T], runtime: ChildRuntime, say: Callable[[str], None]) -> T:
        """Return the result of `attempt`, repeated while it raises Absent if this run had the interface open before.

        Raises other exceptions of `attempt`, and Absent after a stop.
        """
        reason = "restart"
        while True:
            try:
                made = attempt()
            except Absent as fault:
                if not self.page["opened"]:
                    raise
                why = "gone" if isinstance(fault, NoSuchDevice) else "down"
                if reason != why:
                    reason = why
                    self.page["link_down"] = 1
                    say(f"{fault}; waiting for it")
                self._count_until(time.monotonic_ns(), why)
                runtime.heartbeat_until(None)
                if runtime.stopping:
                    raise
                time.sleep(RETRY_INTERVAL_S)
                continue
            now = time.monotonic_ns()
            self._count_until(now, reason)
            if reason != "restart":
                say(f"{self.interface} is there again")
            self.page["link_down"] = 0
            self.page.add("opened", 1)
            self._looked_ns = now
            return made

    def _count_until(self, now_ns: int, reason: str) -> None:
        """Count the time since the last turn or count as blind."""
        if self._last_turn_ns:
            self.page.add(f"blind_ns.{reason}", max(0, now_ns - self._last_turn_ns))
            self._last_turn_ns = now_ns

    def look(self, now: float, descriptor: int) -> str:
        """Check the link, and return a text if the interface is not the one of the configuration any more, else "".

        descriptor: of the capture's socket. An interface without a link state is up.
        """
        self.next_look = now + CHECK_INTERVAL_S
        now_ns = time.monotonic_ns()
        down = False
        bound = bound_index(descriptor)
        if bound:
            try:
                index = self._ask(descriptor, SIOCGIFINDEX, INDEX, 0)[1]
            except OSError:
                index = -1  # no interface has the name
            if index != bound or bound < 0:
                self.page["link_down"] = 1
                return self._strayed(descriptor, bound, index)
            try:
                flags = self._ask(descriptor, SIOCGIFFLAGS, FLAGS, 0)[1]
                down = flags & (IFF_UP | IFF_RUNNING) != IFF_UP | IFF_RUNNING
            except OSError:
                pass  # it is gone since; the next check finds that
        if down and self.page["link_down"]:
            self.page.add("blind_ns.down", now_ns - self._looked_ns)
        self.page["link_down"] = int(down)
        self._looked_ns = now_ns
        return ""

    def _ask(self, descriptor: int, number: int, request: struct.Struct, value: int) -> tuple[bytes, int]:
        """Send one request about the interface of our name to the kernel. Raises OSError."""
        name = self.interface.encode(errors="surrogateescape")[:15]
        answer = request.unpack(fcntl.ioctl(descriptor, number, request.pack(name, value)))
        return answer[0], answer[1]

    def _strayed(self, descriptor: int, bound: int, index: int) -> str:
        """Return a text about the interface that the capture is bound to. index: of the interface with its name,
        or -1.
        """
        now = "no interface has its name now"
        if index > 0:
            now = f"another interface has its name now (index {index}, not {bound})"
        try:
            asked = fcntl.ioctl(descriptor, SIOCGIFNAME, INDEX.pack(b"", bound))
        except OSError:
            return f"{self.interface}: the interface is gone; {now}"
        name = INDEX.unpack(asked)[0].rstrip(b"\0").decode(errors="replace")
        return f"{self.interface}: the interface was renamed to {name}; {now}"

    def blind(self, began_ns: int) -> None:
        """Count the time since then (time.monotonic_ns()) as blind, because a filter change refused frames."""
        self.page.add("blind_ns.filter", time.monotonic_ns() - began_ns)
