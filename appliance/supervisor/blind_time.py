"""The blind time of a restart or an upgrade: no run captured in it, neither the old one nor the new one.

A live run notes the moment at which it tells its captures to stop. The next run in the same directory takes the note.
The time until all its captures are ready is the blind time. It is an upper bound: a capture reads on until it hears,
and the kernel keeps frames for one before that is ready. A run that was killed leaves no note. A run directory that the
run made itself goes with it, and the note too.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path

from appliance.native.safe_files import read_strange
from appliance.runtime.paths import STOPPED, Paths
from appliance.runtime.run_directory import RunDirectory

BOOT = Path("/proc/sys/kernel/random/boot_id")
LONGEST_NOTE = 100  # bytes


class BlindTime:
    """The note of the run before, taken from the run directory; and our own, once `stop` writes it."""

    def __init__(self, home: RunDirectory) -> None:
        self._home = home
        self._since: int | None = None
        with suppress(OSError):
            note = read_strange(Paths(home.path).stopped, LONGEST_NOTE)
            os.unlink(STOPPED, dir_fd=home.folder)
            self._since = _moment_in(note, _boot())

    @property
    def awaited(self) -> bool:
        """Return whether the run before left a note, and the time has not ended yet."""
        return self._since is not None

    def end(self) -> int:
        """Return the nanoseconds since the run before stopped, as all captures are ready now."""
        assert self._since is not None
        since, self._since = self._since, None
        return _now() - since

    def stop(self) -> None:
        """Note that the captures stop now, for the next run."""
        with suppress(OSError):
            self._home.write(STOPPED, b"%s %d\n" % (_boot(), _now()))


def _moment_in(note: bytes, boot: bytes) -> int | None:
    """Return the moment in a note; None if it is not of this boot, or none."""
    found = re.fullmatch(rb"(\S+) (\d{1,19})\n", note)
    return int(found[2]) if found and boot and found[1] == boot and int(found[2]) <= _now() else None


def _boot() -> bytes:
    with suppress(OSError):
        return BOOT.read_bytes().strip()
    return b""


def _now() -> int:
    """Return the nanoseconds since the host started, suspended or not."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
