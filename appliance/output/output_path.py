"""The path of an output, which other programs may move while a process is in its sandbox."""

from __future__ import annotations

import errno
import os

CHECK_INTERVAL_S = 1.0  # between two checks of the path


class OutputError(Exception):
    """The output cannot be opened. The text is for a person."""


class OutOfReach(Exception):
    """The path leads to another folder now, where this process may not write; a new process may. The text is for a
    person.
    """


class SandboxedPath:
    """The folder of a path at the time when this process entered its sandbox."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._parts = self._now()

    def _now(self) -> list[object]:
        real = os.path.realpath(self.path)
        return [_inode(name) for name in (os.path.dirname(os.path.abspath(self.path)), os.path.dirname(real), real)]

    def check(self, error: OSError) -> None:
        """Handle a path that cannot be reopened. Raises OutOfReach if a new process may open it."""
        if error.errno in (errno.EACCES, errno.EPERM) and self._now() != self._parts:
            text = f"output.path (-o) {self.path}: it is another file or folder now, which this feed may not write"
            raise OutOfReach(f"{text}; a new feed process retries")


def _inode(folder: str) -> object:
    try:
        about = os.stat(folder)
    except OSError:
        return None
    return about.st_dev, about.st_ino
