"""What this machine gives a sensor: cores, memory, clock, limits, rights, and what the kernel has to lock processes in.

Read from /proc, /sys and system calls that change nothing. A fact that cannot be had is None."""

from __future__ import annotations

import ctypes
import os
import resource
import socket
import sys
from pathlib import Path
from typing import NamedTuple

STA_UNSYNC = 0x40  # timex.h: nobody keeps the clock
CLOCK_STATUS = 10 * 4  # bytes from the start of struct timex to its status, on machines of 64 bits
CLOCK_MAX_ERROR = 24  # … to its maxerror, a long of microseconds
TIMEX_BYTES = 208
LANDLOCK_CREATE_RULESET, LANDLOCK_VERSION = 444, 1


class Clock(NamedTuple):
    """Whether something keeps the clock (NTP, PTP), and by how much it may be wrong at most."""

    synchronised: bool
    max_error_s: float


class Sandbox(NamedTuple):
    """What the kernel has to lock a process in; landlock: the version of its interface, 0 without."""

    seccomp: bool
    landlock: int
    namespaces: bool


class Machine(NamedTuple):
    """This machine, for this user."""

    cores: int
    available_bytes: int | None  # memory that can be had, of the machine or of our control group
    open_files: int
    open_files_hard: int
    may_capture: bool
    clock: Clock | None
    sandbox: Sandbox
    backlog_dropped: int | None  # frames that the kernel had no room for before any capture, since the start
    backlog: int | None  # net.core.netdev_max_backlog
    option_bytes: int | None  # net.core.optmem_max
    receive_bytes: int | None  # net.core.rmem_max


def look() -> Machine:
    """All of it, now."""
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


def free_bytes(path: Path) -> int | None:
    """Room on the file system of a directory, or of the nearest parent that exists."""
    for place in (path, *path.parents):
        try:
            about = os.statvfs(place)
        except OSError:
            continue
        return about.f_bavail * about.f_frsize
    return None


def in_memory(path: Path) -> bool:
    """Whether a directory, or the nearest parent that exists, lies on a file system that is no disk."""
    place = os.path.realpath(path)
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="replace") as mounts:
            kinds = {fields[1]: fields[2] for fields in (line.split(" ", 3) for line in mounts)}
    except OSError:
        return False
    nearest = max((mount for mount in kinds if f"{place}/".startswith(f"{mount.rstrip('/')}/")), key=len, default="/")
    return kinds.get(nearest) in ("tmpfs", "ramfs")


def taken(address: tuple[str, int]) -> str:
    """Why a TCP server cannot have this address now; "" when it can."""
    host, port = address
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("" if host == "*" else host, port))
        except OSError as error:
            return str(error.strerror)
    return ""


def ring_bytes(pid: int, descriptor: int | None = None) -> int:
    """Size of the ring (packet(7)) that a process has mapped, of all its packet sockets or one; 0: none, or not ours.

    libpcap makes the ring smaller where memory is short, and tells nobody."""
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
    """The second column of /proc/net/softnet_stat, of all cores."""
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
    """What the machine can still give, or less where our control group (version 2 or 1) has a limit."""
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
    """adjtimex(2) with nothing to adjust."""
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
    """landlock(7): asking for the version makes no rule set."""
    answer = int(ctypes.CDLL(None, use_errno=True).syscall(LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_VERSION))
    return max(0, answer)
