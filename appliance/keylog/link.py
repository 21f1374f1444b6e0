"""The links of secrets: from a capture to the supervisor, and from there to each worker.

Each is a pair of sockets between two processes that no other process can use. A message is a number, with the
descriptor of a sealed memory file. No secret is in a file of any file system.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from contextlib import suppress
from functools import cache
from typing import NamedTuple

from appliance.config.handover import SEALS, sealed
from appliance.keylog.ring import KeyRing

VARIABLE = "APPLIANCE_SECRETS"  # in the environment of a child: the number of its descriptor
NUMBER = struct.Struct("=Q")
LONGEST = 64 << 20  # bytes of a message


class SecretMessage(NamedTuple):
    """Secrets with their number: of the last one, or of the message."""

    number: int
    content: bytes


class SecretLink:
    """One end of a link. Nothing blocks."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._socket.setblocking(False)
        self.ended = False

    def fileno(self) -> int:
        """Return the descriptor, to be polled."""
        return self._socket.fileno()

    def send(self, number: int, content: bytes) -> bool:
        """Send a message; return False if the link has no room, or its other end is gone."""
        file = sealed(content)
        try:
            socket.send_fds(self._socket, [NUMBER.pack(number)], [file])
        except OSError:
            return False
        finally:
            os.close(file)
        return True

    def receive(self) -> list[SecretMessage]:
        """Return what has come. Sets `ended` if nothing more can come."""
        found: list[SecretMessage] = []
        while not self.ended:
            try:
                header, files, _, _ = socket.recv_fds(self._socket, NUMBER.size, 1)
            except BlockingIOError:
                break
            except OSError:
                header, files = b"", []
            self.ended = not header
            for file in files:
                with suppress(OSError, struct.error):
                    found.append(SecretMessage(NUMBER.unpack(header)[0], _content(file)))
                os.close(file)
        return found

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


def _content(file: int) -> bytes:
    """Return the content of a sealed memory file; b"" if it is none, or too long. Raises OSError."""
    if fcntl.fcntl(file, fcntl.F_GET_SEALS) & SEALS != SEALS or os.fstat(file).st_size > LONGEST:
        return b""
    return os.pread(file, LONGEST, 0)


class ChildSecretLink:
    """The supervisor's end of the link to one life of a child. `theirs` is the child's end."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.link = SecretLink(ours)
        self._sent = 0  # number of the last secret that was sent

    def supply(self, ring: KeyRing) -> None:
        """Send the secrets of a ring that the child does not have yet, until the link is full."""
        while self._sent < ring.added:
            number, content = ring.since(self._sent)
            if content and not self.link.send(number, content):
                return
            self._sent = number

    def started(self) -> None:
        """Close the child's end in this process, once the child has it."""
        self.theirs.close()

    def close(self) -> None:
        """Close the link."""
        self.link.close()
        self.theirs.close()


@cache
def child_link() -> SecretLink | None:
    """Return this process's end; None if no supervisor passed one."""
    number = os.environ.pop(VARIABLE, "")
    return SecretLink(socket.socket(fileno=int(number))) if number.isdigit() else None
