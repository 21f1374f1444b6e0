"""Notifications to the service manager: readiness, progress, reloads and the end, a datagram each (sd_notify(3)).

The protocol is lines of text to a socket that the environment names. Without one the module sends nothing.
"""

from __future__ import annotations

import os
import socket
import time

from appliance.native import process_control as oneself

STATUS_INTERVAL_S = 10.0


class Manager:
    """The service manager that started this process, if there is one. Never raises and never waits."""

    def __init__(self) -> None:
        """Take the address out of the environment, so that children cannot notify in our name."""
        address = oneself.take_variable("NOTIFY_SOCKET")
        pid, usec = os.environ.pop("WATCHDOG_PID", ""), os.environ.pop("WATCHDOG_USEC", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if address else None
        if self._socket:
            self._socket.setblocking(False)
        ours = bool(self._socket) and usec.isdigit() and pid in ("", str(os.getpid()))
        self.interval_s = int(usec) / 3e6 if ours else 0.0  # the interval of watchdog messages; 0: no watchdog
        self._fed_at = 0.0
        self._told_at = time.monotonic()

    @property
    def listening(self) -> bool:
        """Return whether there is a service manager."""
        return self._socket is not None

    def ready(self, status: str = "") -> None:
        """Notify that the service runs, for the first time or again after a reload."""
        self._say("READY=1", f"STATUS={status}" if status else "")

    def reloading(self) -> None:
        """Notify that a reload begins; `ready` ends it."""
        self._say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str = "") -> None:
        """Notify that the end has begun."""
        self._say("STOPPING=1", f"STATUS={status}" if status else "")

    def alive(self, now: float) -> None:
        """Notify the watchdog when it is time to. Call it where there is progress, never from a timer."""
        if self.interval_s and now - self._fed_at >= self.interval_s:
            self._fed_at = now
            self._say("WATCHDOG=1")

    def due(self, now: float) -> bool:
        """Return whether the last status is old enough for another."""
        if self._socket is None or now - self._told_at < STATUS_INTERVAL_S:
            return False
        self._told_at = now
        return True

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows."""
        self._say(f"STATUS={text}")

    def _say(self, *lines: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto("\n".join(line for line in lines if line).encode(), self._address)
        except OSError:
            pass  # the service manager is gone or its queue is full
