"""A child process and its supervisor: the state and the progress in its page, and its two ways to end.

SIGTERM asks the child to finish. End of file means that the supervisor is dead, and the child exits at once. The file
is standard input, a pipe that only the supervisor holds open, or the configuration link (config/handover.py). A child
whose standard input is its source of frames also checks its parent process. The kernel kills a child with its parent if
libpcap may block it or a signal may stop it.
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

from appliance.config import handover
from appliance.config.errors import ConfigError
from appliance.config.handover import ConfigUpdate
from appliance.config.schema import Config
from appliance.native import process_control as oneself
from appliance.runtime import log
from appliance.runtime.log import current
from appliance.runtime.resolved_config import decoded, load_resolved
from appliance.stats.names import STARTING
from appliance.stats.page import Page


def exit_now(code: int) -> NoReturn:
    """Exit at once, after the caller has closed its files. Finalising the interpreter would cost 10 ms more."""
    current().report_suppressed(last=True)
    try:
        sys.stdout.flush()
    except OSError as fault:
        log.warning(f"standard output: {fault.strerror}")
        code = code or 1
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(code)


def configuration(run_dir: Path, page: Page) -> Config:
    """Return the configuration in force, received over the link; the page records its generation.

    Without a supervisor the run directory holds it. Raises as load_resolved.
    """
    link = handover.receiver()
    if link is None:
        page["generation"] = page["wanted_generation"]  # first, so that `poll_config` notices a later generation
        return load_resolved(run_dir)
    update = link.receive()
    if update is None:
        raise ConfigError(["the supervisor sent no configuration"])
    return _apply(update, page)


def _apply(update: ConfigUpdate, page: Page) -> Config:
    page["generation"] = update.generation
    return decoded(update.text, "the supervisor's configuration")


class ChildRuntime:
    """The runtime of a child process: its state, its heartbeat, and its end on a signal or with its supervisor.

    Owns SIGTERM, which only sets `stopping`, and SIGHUP, which only sets `called`. Ignores SIGINT, which the supervisor
    handles.
    """

    def __init__(self, page: Page, *, watch_stdin: bool = True, live: bool = False) -> None:
        self.page = page
        self.log = current()  # reports suppressed lines as soon as the limit allows it
        self.stopping = False
        self.called = False  # SIGHUP came; its handler clears it
        self._link = handover.receiver()
        self._update: ConfigUpdate | None = None  # received, and not in force yet
        self._watches_stdin = watch_stdin
        self._parent = os.getppid()
        self._ends = select.poll()
        if watch_stdin:
            self._ends.register(0, select.POLLIN)
        if self._link:
            self._ends.register(self._link, select.POLLIN)
        oneself.keep_memory()
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGHUP, self._call)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if live or not watch_stdin:
            oneself.die_with_parent()
        if not live:  # without a live source no latency counts: a waking process then does not preempt a running one
            with suppress(OSError):  # refused in some containers
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        page["pid"] = os.getpid()
        page.add("starts", 1)
        page["state"] = STARTING
        self.heartbeat()

    def _stop(self, _number: int, _frame: object) -> None:
        self.stopping = True

    def _call(self, _number: int, _frame: object) -> None:
        self.called = True

    def heartbeat(self) -> None:
        """Send the heartbeat and poll the supervisor; every turn of every loop calls it.

        Raises SystemExit(1) when the supervisor is gone.
        """
        self.page["progress_ns"] = time.monotonic_ns()
        if self.log.pending:
            self.log.report_suppressed()
        for descriptor, _ in self._ends.poll(0):
            if descriptor == 0 and not os.read(0, 4096):
                sys.exit(1)
            if descriptor != 0:
                self._hear()
        if not self._watches_stdin and os.getppid() != self._parent:
            sys.exit(1)

    def _hear(self) -> None:
        if self._link is None:
            return
        self._update = self._link.receive() or self._update
        if self._link.ended:
            sys.exit(1)

    def poll_config(self, run_dir: Path) -> Config | None:
        """Return a configuration newer than the one in force, once; else None."""
        page, update, self._update = self.page, self._update, None
        if self._link is None:
            if page["wanted_generation"] == page["generation"]:
                return None
        elif update is None or update.generation == page["generation"]:
            return None
        page["config_error"] = 0
        try:
            return _apply(update, page) if update else configuration(run_dir, page)
        except (OSError, ConfigError) as error:
            self.reject_config(str(error))
            return None

    def reject_config(self, reason: str) -> None:
        """Report that a new configuration cannot be applied; the one in force stays."""
        self.page["config_error"] = 1
        log.warning(f"the new configuration: {reason}", reason="config")

    def state(self, state: int) -> None:
        """Set the state: STARTING, READY, DRAINING or DONE."""
        self.page["state"] = state

    def fail(self, text: str, *, reason: str) -> int:
        """Report that the process cannot do its work, and return its exit code."""
        log.error(text, reason=reason)
        self.page["error"] = 1
        return 2

    def heartbeat_until(self, deadline: float | None) -> bool:
        """Send a heartbeat, and return whether time.monotonic() is before the deadline (None: no deadline)."""
        self.heartbeat()
        return deadline is None or time.monotonic() < deadline
