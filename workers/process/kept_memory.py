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
    """The memory of some connections, mapped. bytes_of: the bytes for a number of them. Raises OSError."""

    def __init__(self, path: Path, connections: int, bytes_of: Callable[[int], int]) -> None:
        size = bytes_of(connections)
        self._bytes_of = bytes_of
        self._most = connections
        self._given = -1  # slots that have room
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | STRANGE, 0o600)
        try:
            if os.fstat(self._file).st_size != size:  # also if it is new
                os.ftruncate(self._file, 0)
                os.ftruncate(self._file, size)
            self.memory = mmap.mmap(self._file, size)
        except BaseException:
            os.close(self._file)
            raise

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
