"""Facts of the host: cores, memory, clock, limits, capabilities, and sandbox features of the kernel.

Read from /proc, /sys and system calls that change nothing. An unavailable fact is None.
"""

from __future__ import annotations

import ctypes
import os
import resource
import socket
import sys
from pathlib import Path
from typing import NamedTuple

STA_UNSYNC = 0x40  # timex.h: the clock is not synchronised
CLOCK_STATUS = 10 * 4  # bytes from the start of struct timex to its status, on 64-bit machines
CLOCK_MAX_ERROR = 24  # … to its maxerror, a long of microseconds
TIMEX_BYTES = 208
LANDLOCK_CREATE_RULESET, LANDLOCK_VERSION = 444, 1


class Clock(NamedTuple):
    """The synchronisation of the clock (NTP, PTP), and its maximum error."""

    synchronised: bool
    max_error_s: float


class Sandbox(NamedTuple):
    """The sandbox features of the kernel; landlock: the version of its interface, 0 without."""

    seccomp: bool
    landlock: int
    namespaces: bool


class Machine(NamedTuple):
    """This host, for this user."""

    cores: int
    available_bytes: int | None  # available memory, of the host or of our control group
    open_files: int
    open_files_hard: int
    may_capture: bool
    clock: Clock | None
    sandbox: Sandbox
    backlog_dropped: int | None  # frames that the kernel dropped before any capture, since boot
    backlog: int | None  # net.core.netdev_max_backlog
    option_bytes: int | None  # net.core.optmem_max
    receive_bytes: int | None  # net.core.rmem_max


def look() -> Machine:
    """Return all facts as they are now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        available_bytes=_available(),
        open_files=soft,
        open_files_hard=hard,
        may_capture=_may_capture(),
        clock=_clock(),
        sandbox=Sandbox(
            seccomp=Path("/proc/sys/kernel/seccomp/actions_avail").exists(),
            landlock=_landlock(),
            namespaces=Path("/proc/self/ns/net").exists(),
        ),
        backlog_dropped=backlog_dropped(),
        backlog=_number("/proc/sys/net/core/netdev_max_backlog"),
        option_bytes=_number("/proc/sys/net/core/optmem_max"),
        receive_bytes=_number("/proc/sys/net/core/rmem_max"),
    )


def taken(address: tuple[str, int]) -> str:
    """Return why a TCP server cannot bind this address now; "" if it can."""
    host, port = address
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("" if host == "*" else host, port))
        except OSError as error:
            return str(error.strerror)
    return ""


def ring_bytes(pid: int, descriptor: int | None = None) -> int:
    """Return the size of the ring (packet(7)) that a process has mapped, of all its packet sockets or of one.

    0: none, or not ours. libpcap silently makes the ring smaller if memory is short.
    """
    wanted = "socket:["
    if descriptor is not None:
        wanted = os.readlink(f"/proc/{pid}/fd/{descriptor}")
    total = 0
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps:
            for line in maps:
                if wanted in line:
                    first, _, last = line.split(" ", 1)[0].partition("-")
                    total += int(last, 16) - int(first, 16)
    except OSError:
        return 0
    return total


def backlog_dropped() -> int | None:
    """Return the second column of /proc/net/softnet_stat, summed over all cores."""
    try:
        lines = Path("/proc/net/softnet_stat").read_text().splitlines()
        return sum(int(line.split()[1], 16) for line in lines)
    except (OSError, ValueError, IndexError):
        return None


def _number(path: str) -> int | None:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return None


def _available() -> int | None:
    """Return the memory that is available, or less if our control group (version 2 or 1) has a limit."""
    found = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
        groups = [line.rsplit(":", 1)[1].strip("/") for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except (OSError, ValueError, IndexError):
        groups = []
    for group in groups:
        for limit, used in (
            (f"{group}/memory.max", f"{group}/memory.current"),
            (f"memory/{group}/memory.limit_in_bytes", f"memory/{group}/memory.usage_in_bytes"),
        ):
            most = _number(f"/sys/fs/cgroup/{limit}")
            if most is not None and most < 1 << 60:
                found.append(max(0, most - (_number(f"/sys/fs/cgroup/{used}") or 0)))
    return min(found, default=None)


def _may_capture() -> bool:
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    except OSError:
        return False
    return True


def _clock() -> Clock | None:
    """Read the clock's status with adjtimex(2), which adjusts nothing here."""
    buffer = ctypes.create_string_buffer(TIMEX_BYTES)
    try:
        if ctypes.CDLL(None, use_errno=True).adjtimex(buffer) < 0:
            return None
    except AttributeError:
        return None
    status = int.from_bytes(buffer.raw[CLOCK_STATUS : CLOCK_STATUS + 4], sys.byteorder)
    error_us = int.from_bytes(buffer.raw[CLOCK_MAX_ERROR : CLOCK_MAX_ERROR + 8], sys.byteorder)
    return Clock(not status & STA_UNSYNC, error_us / 1e6)


def _landlock() -> int:
    """Return the version of landlock(7); the query makes no rule set."""
    answer = int(ctypes.CDLL(None, use_errno=True).syscall(LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_VERSION))
    return max(0, answer)
