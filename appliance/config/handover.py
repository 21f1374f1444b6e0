"""Transfer of configurations from the supervisor to a child, by a link that no other process can write to.

A message is a number, the generation, with the descriptor of a sealed memory file: the whole configuration, of any
length, which no process can change. The link is a pair of sockets for each child; its end means that the supervisor has
ended. The run directory would not do: other processes that work there may be compromised.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from contextlib import suppress
from functools import cache
from typing import NamedTuple

from appliance.native.safe_files import write_all

VARIABLE = "APPLIANCE_ORDERS"  # in the environment of a child: the number of its descriptor
GENERATION = struct.Struct("=Q")
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
LONGEST = 64 << 20  # bytes of a configuration


class ConfigUpdate(NamedTuple):
    """A configuration with its generation."""

    generation: int
    text: bytes


class ConfigSender:
    """The supervisor's end of the link to one process of a child. `theirs` is the child's end."""

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self._ours.shutdown(socket.SHUT_RD)  # a child sends nothing here
        self._unsent: ConfigUpdate | None = None  # the link had no room for it

    def send(self, update: ConfigUpdate) -> None:
        """Send an update to the child without blocking. An update without room is sent by `retry`, unless a newer one
        replaces it.
        """
        self._unsent = None
        file = sealed(update.text)
        try:
            socket.send_fds(self._ours, [GENERATION.pack(update.generation)], [file])
        except BlockingIOError:
            self._unsent = update
        except OSError:
            pass  # the child has ended: the next one gets the update at its start
        finally:
            os.close(file)

    def retry(self) -> None:
        """Send the pending update."""
        if self._unsent:
            self.send(self._unsent)

    def started(self) -> None:
        """Close the child's end in this process, once the child has it."""
        self.theirs.close()

    def close(self) -> None:
        """Close the link."""
        self._ours.close()
        self.theirs.close()


class ConfigReceiver:
    """A child's end."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self.ended = False

    def fileno(self) -> int:
        """Return the descriptor, to be polled."""
        return self._socket.fileno()

    def receive(self) -> ConfigUpdate | None:
        """Return the newest update, None if there is none. Sets `ended` if no further one can come."""
        newest = None
        while not self.ended:
            try:
                header, files, _, _ = socket.recv_fds(self._socket, GENERATION.size, 1)
            except BlockingIOError:
                break
            except OSError:
                header, files = b"", []
            self.ended = not header
            for file in files:
                with suppress(OSError):
                    (generation,) = GENERATION.unpack(header)
                    newest = ConfigUpdate(generation, os.pread(file, LONGEST, 0))
                os.close(file)
        return newest


@cache
def receiver() -> ConfigReceiver | None:
    """Return this process's end; None if no supervisor passed one."""
    number = os.environ.pop(VARIABLE, "")
    return ConfigReceiver(int(number)) if number.isdigit() else None


def sealed(content: bytes) -> int:
    """Return the descriptor of a sealed memory file with this content. Raises OSError."""
    file = os.memfd_create("configuration", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        write_all(file, content)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, SEALS)
    except BaseException:
        os.close(file)
        raise
    return file
