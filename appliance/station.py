"""A child process and its supervisor: the state in its page, its progress, and the two ways in which it is told to end.

SIGTERM asks it to finish. The end of standard input, a pipe that the supervisor alone holds open, means that the
supervisor is dead: the process leaves at once. A child whose standard input is its source of frames watches its parent.
One that may be waiting in libpcap for the rest of a frame, or be stopped, the kernel ends with its parent in any case.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from appliance import oneself
from appliance.config import ConfigError, is_entrusted, load_resolved
from appliance.log import current, tell
from appliance.options import Config
from appliance.stats import STARTING, Page


def leave(code: int) -> NoReturn:
    """Ends a process that has closed what it must: to take the interpreter apart as well costs 10 ms."""
    current().settle(last=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def configuration(run_dir: Path, page: Page) -> Config:
    """What the supervisor wants to be in force now; the page says which generation that is. As load_resolved."""
    if not is_entrusted():  # else the supervisor has said so
        page["generation"] = page["wanted_generation"]  # first: what is newer than that will be noticed as news
    return load_resolved(run_dir)


class Station:
    """What every child process owes the supervisor: its state, a sign of progress, and to end when told or orphaned.

    Owns SIGTERM: `stopping` becomes true, nothing else happens. Ignores SIGINT, which is the supervisor's to handle.
    """

    def __init__(self, page: Page, *, watch_stdin: bool = True, live: bool = False) -> None:
        self.page = page
        self.log = current()  # what it left out is said as soon as there is room
        self.stopping = False
        self._stdin = select.poll() if watch_stdin else None
        self._parent = os.getppid()
        if self._stdin:
            self._stdin.register(0, select.POLLIN)
        oneself.keep_memory()
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if live or not watch_stdin:
            oneself.die_with_parent()
        if not live:  # nobody waits: who wakes up does not take the core, and its caches, from one at work
            with suppress(OSError):  # refused in some containers
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        page["pid"] = os.getpid()
        page.add("starts", 1)
        page["state"] = STARTING
        self.turn()

    def _stop(self, _number: int, _frame: object) -> None:
        self.stopping = True

    def turn(self) -> None:
        """Call it in every turn of every loop. Raises SystemExit(1) when the supervisor is gone."""
        self.page["progress_ns"] = time.monotonic_ns()
        if self.log.pending:
            self.log.settle()
        if self._stdin is None:
            if os.getppid() != self._parent:
                sys.exit(1)
        elif self._stdin.poll(0) and not os.read(0, 4096):
            sys.exit(1)

    def news(self, run_dir: Path) -> Config | None:
        """A configuration that came after the one in force, once."""
        page = self.page
        if page["wanted_generation"] == page["generation"]:
            return None
        page["config_error"] = 0
        try:
            return configuration(run_dir, page)
        except (OSError, ConfigError) as error:
            self.cannot_follow(str(error))
            return None

    def cannot_follow(self, reason: str) -> None:
        """Something of a new configuration cannot be had; what was in force before stays."""
        self.page["config_error"] = 1
        tell(f"the new configuration: {reason}", reason="config")

    def state(self, state: int) -> None:
        """STARTING, READY, DRAINING or DONE."""
        self.page["state"] = state

    def until(self, deadline: float | None) -> bool:
        """A turn while waiting; whether time.monotonic() is still before the deadline (None: there is none)."""
        self.turn()
        return deadline is None or time.monotonic() < deadline
