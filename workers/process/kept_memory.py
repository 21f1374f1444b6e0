"""The memory in which a worker keeps connections for its successor: a file in its folder, which outlives it.

A slot gets its room in the file system when it is first needed: a write to a page without room ends the process.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from pathlib import Path

from appliance.native.safe_files import STRANGE

AT_ONCE = 8  # slots that get their room together


class KeptMemory:
    """The memory of some connections, mapped: as a predecessor has left it, or new.

    connections: how many new memory holds at most. bytes_of: the bytes for a number of them. spare: bytes of the file
    system that it leaves to others; sharers: how many such memories share the rest. Raises OSError.
    """

    def __init__(
        self, path: Path, connections: int, bytes_of: Callable[[int], int], *, spare: int = 0, sharers: int = 1
    ) -> None:
        self._bytes_of = bytes_of
        self._given = -1  # slots that have room
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | STRANGE, 0o600)
        try:
            size = os.fstat(self._file).st_size
            if not bytes_of(0) <= size <= bytes_of(connections):  # new, or not made here
                os.ftruncate(self._file, 0)
                about = os.statvfs(self._file)
                room = (about.f_bavail * about.f_frsize - spare) // sharers - bytes_of(0)
                size = bytes_of(max(0, min(connections, room // self._slot_bytes)))
                os.ftruncate(self._file, size)
            self._most = (size - bytes_of(0)) // self._slot_bytes
            self.memory = mmap.mmap(self._file, size)
        except BaseException:
            os.close(self._file)
            raise

    @property
    def _slot_bytes(self) -> int:
        return self._bytes_of(1) - self._bytes_of(0)

    def allocate(self, slots: int) -> bool:
        """Give the header and this many slots room, and return whether there was enough."""
        if slots > self._given:
            wanted = min(-(-slots // AT_ONCE) * AT_ONCE, self._most)
            start = self._bytes_of(self._given) if self._given >= 0 else 0
            try:
                os.posix_fallocate(self._file, start, self._bytes_of(wanted) - start)
            except OSError:
                return False
            self._given = wanted
        return True
