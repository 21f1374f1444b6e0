"""KeyLogFollower: a key log file that is read while it grows, is replaced or begins anew."""

from __future__ import annotations

import os
import stat

from appliance.keylog.parser import KeyLogParser
from appliance.keylog.secrets import Secret

PIECE = 1 << 20  # bytes read at a time
LINE_BYTES = 256  # of the longest usual line
LEAST_TAIL = 1 << 20


class KeyLogFollower:
    """One path. `poll` returns what is new there; a program may write, truncate, replace or remove it at any time.

    max_keys: of a file that is already longer than that many lines, only the end is read.
    """

    def __init__(self, path: str, max_keys: int) -> None:
        self.path = path
        self.parser = KeyLogParser()
        self.fault = ""  # why the file cannot be read now
        self.restarts = 0  # files that replaced the one before, or began anew
        self.bytes_read = 0
        self._tail = max(LEAST_TAIL, max_keys * LINE_BYTES)
        self._file = -1
        self._at = 0

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def poll(self, most: int) -> list[Secret]:
        """Read at most about `most` bytes that are new; return their secrets."""
        found: list[Secret] = []
        try:
            if self._file < 0 and not self._open():
                return found
            while most > 0:
                if os.fstat(self._file).st_size < self._at:
                    self._at = 0
                    self.restarts += 1
                    self.parser.restart()
                piece = os.pread(self._file, min(most, PIECE), self._at)
                if not piece:
                    if not self._is_replaced():
                        break
                    found += self.parser.finish()
                    self.close()
                    self.restarts += 1
                    if not self._open():
                        break
                    continue
                self._at += len(piece)
                self.bytes_read += len(piece)
                most -= len(piece)
                found += self.parser.feed(piece)
            self.fault = ""
        except OSError as error:
            self.close()
            self.fault = error.strerror or "it cannot be read"
        return found

    def _open(self) -> bool:
        """Open the file. Raises OSError."""
        file = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode):
            os.close(file)
            self.fault = "it is no regular file"
            return False
        self._file = file
        self._at = max(0, about.st_size - self._tail)
        self.parser.restart()
        if self._at:
            self.parser.skip_line()
        return True

    def _is_replaced(self) -> bool:
        """Return whether another file has the path now. A path without a file changes nothing."""
        try:
            now = os.stat(self.path)
        except FileNotFoundError:
            return False
        mine = os.fstat(self._file)
        return (now.st_dev, now.st_ino) != (mine.st_dev, mine.st_ino)
