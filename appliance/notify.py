"""What a service manager is told: readiness, progress, reloads and the end, a datagram each (sd_notify(3)).

The protocol is a line of text to a socket that the environment names. Without one nothing is said.
"""

from __future__ import annotations

import os
import socket
import time

from appliance import oneself

STATUS_S = 10.0


class Manager:
    """The service manager that started this process, if there is one. Never raises and never waits."""

    def __init__(self) -> None:
        """Takes the address out of the environment: children are not to speak for us."""
        address = oneself.take_variable("NOTIFY_SOCKET")
        pid, usec = os.environ.pop("WATCHDOG_PID", ""), os.environ.pop("WATCHDOG_USEC", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if address else None
        if self._socket:
            self._socket.setblocking(False)
        ours = bool(self._socket) and usec.isdigit() and pid in ("", str(os.getpid()))
        self.interval_s = int(usec) / 3e6 if ours else 0.0  # how often to say that we are alive; 0: nobody asks
        self._fed_at = 0.0
        self._told_at = time.monotonic()

    @property
    def listening(self) -> bool:
        """Whether there is one."""
        return self._socket is not None

    def ready(self, status: str = "") -> None:
        """The service is at work, for the first time or again after a reload."""
        self._say("READY=1", f"STATUS={status}" if status else "")

    def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        self._say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str = "") -> None:
        """The end has begun."""
        self._say("STOPPING=1", f"STATUS={status}" if status else "")

    def alive(self, now: float) -> None:
        """Feeds the watchdog when it is time to. Call it where there is progress, never from a timer."""
        if self.interval_s and now - self._fed_at >= self.interval_s:
            self._fed_at = now
            self._say("WATCHDOG=1")

    def due(self, now: float) -> bool:
        """Whether the last status is old enough for another."""
        if self._socket is None or now - self._told_at < STATUS_S:
            return False
        self._told_at = now
        return True

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._say(f"STATUS={text}")

    def _say(self, *lines: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto("\n".join(line for line in lines if line).encode(), self._address)
        except OSError:
            pass  # it is gone, or does not read: not our loss
