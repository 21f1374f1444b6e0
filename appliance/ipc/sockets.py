"""Sockets of ZeroMQ: one context a process, options that every socket needs, and waiting for several."""

from __future__ import annotations

import errno
import math
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from appliance.config.address import LONGEST_SOCKET_PATH

RECONNECT_MS = 10  # a restarted process is back on its link at once; both ends are on this machine
HANDSHAKE_MS = 3000  # a silent peer holds a descriptor no longer than this
Socket = zmq.Socket[bytes]


def library_version() -> str:
    """Return the version of ZeroMQ's library."""
    return zmq.zmq_version()


class BusError(Exception):
    """A socket cannot be opened as configured. The text is for a person and says what to change."""


def ipc_address(path: Path) -> str:
    length = len(os.fsencode(path))
    if length > LONGEST_SOCKET_PATH:
        raise BusError(
            f"{path}: {length} bytes are too long for a socket, at most {LONGEST_SOCKET_PATH}; "
            "choose a shorter run directory"
        )
    return f"ipc://{path}"


def private_ipc_address(path: Path) -> str:
    """Return the address to bind, in a directory that is ours alone: its permissions are those of the socket.

    The run directory must be ours, too, unless it is root's and our group may read it (run.user).
    """
    for folder in (path.parent.parent, path.parent):
        about = folder.stat()
        ours = about.st_uid == os.geteuid()
        if stat.S_IMODE(about.st_mode) & 0o077 if ours else folder == path.parent:
            raise BusError(f"{folder}: a run directory belongs to its user alone; do: chmod 0700 {folder}")
    return ipc_address(path)


class Bus:
    """The sockets of one process, with one I/O thread. Close it last; see `close` for what that waits for."""

    def __init__(self) -> None:
        self._context = zmq.Context(io_threads=1)
        self._sockets: list[Socket] = []
        self._enders: list[Callable[[], None]] = []

    def before_close(self, end: Callable[[], None]) -> None:
        """Have `end` called first at `close`: it stops another thread that uses a socket."""
        self._enders.append(end)

    def socket(self, kind: int, **options: int | bytes) -> Socket:
        """Return a socket with the options that every socket here needs, and `options` by their ZeroMQ names."""
        made = self._context.socket(kind)
        made.setsockopt(zmq.LINGER, 0)
        made.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        made.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        for name, value in options.items():
            made.setsockopt(getattr(zmq, name.upper()), value)
        self._sockets.append(made)
        return made

    def drop(self, socket: Socket) -> None:
        """Close one socket before the others."""
        self._sockets.remove(socket)
        socket.close(linger=0)

    def close(self, linger_s: float = 0.0) -> None:
        """Close every socket; their queues have linger_s seconds to leave."""
        for end in self._enders:
            end()
        for made in self._sockets:
            made.close(linger=round(linger_s * 1000))
        self._context.term()


class Waiter:
    """Waits for any of several sockets and file descriptors."""

    def __init__(self) -> None:
        self._poller = zmq.Poller()

    def watch(
        self, thing: zmq.Socket[Any] | int, *, read: bool = False, write: bool = False, broken: bool = False
    ) -> None:
        """Add or change an entry: readable, writable, or (descriptors only) the other end gone."""
        self._poller.register(thing, read * zmq.POLLIN | write * zmq.POLLOUT | broken * zmq.POLLERR)

    def forget(self, thing: zmq.Socket[Any] | int) -> None:
        """Remove an entry, if there is one."""
        if thing in self._poller:
            self._poller.unregister(thing)

    def wait(self, timeout_s: float | None) -> set[zmq.Socket[Any] | int]:
        """Return the ready ones, after at most timeout_s (None: no limit).

        A descriptor whose other end is gone is ready.
        """
        return {thing for thing, _ in self._poller.poll(None if timeout_s is None else math.ceil(timeout_s * 1000))}


def bind(bound: Socket, endpoint: str, where: str) -> None:
    try:
        bound.bind(endpoint)
    except zmq.ZMQError as error:
        advice = "; another program, or another run of this one, has it" if error.errno == errno.EADDRINUSE else ""
        raise BusError(f"{where}: cannot open {endpoint}: {error.strerror}{advice}") from error
