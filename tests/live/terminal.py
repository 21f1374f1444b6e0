"""A terminal of a given size, and what a program writes on it."""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

from eventually import PATIENCE_S
from hosts import environment


class Pty:
    """`appliance WORDS` with standard output and standard error on a terminal of so many columns."""

    def __init__(self, *words: str | int | Path, columns: int = 80, **how: Any) -> None:
        self._ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        self.written = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "appliance", *map(str, words)],
            **{"stdin": subprocess.DEVNULL, "stdout": theirs, "stderr": theirs, **how},
            env={**environment(), "TERM": "xterm", "NO_COLOR": "1", "LC_ALL": "C.UTF-8"},
        )
        os.close(theirs)

    def read(self) -> bool:
        """Wait for more, with a bound; return False at the end."""
        assert select.select([self._ours], [], [], PATIENCE_S)[0], self.written
        try:
            more = os.read(self._ours, 65536)
        except OSError:  # nobody has the terminal any more
            more = b""
        self.written += more
        return bool(more)

    def until(self, text: bytes) -> None:
        """Reads until it has been written."""
        while text not in self.written:
            assert self.read(), self.written

    def end(self) -> list[str]:
        """The lines that stay on the screen when the program has ended."""
        while self.read():
            pass
        os.close(self._ours)
        self.process.wait(PATIENCE_S)
        return lines(self.written.decode())


def lines(written: str) -> list[str]:
    """Return the lines that stay: an erased line is empty, and colours are no text. No other control is known."""
    screen = []
    for line in written.replace("\r\n", "\n").split("\n"):
        *_, last = re.sub(r"\x1b\[[0-9;]*m", "", line).split("\r\x1b[K")
        assert last.replace("\r", "").isprintable(), repr(last)
        screen.append(last)
    return screen
