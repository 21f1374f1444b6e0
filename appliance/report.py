"""What the supervisor says on standard error during a run and after it. Standard output is not its own."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from appliance import ledger, summary
from appliance.config import Config
from appliance.summary import Snapshots

PROGRESS_S = 0.25
STATUS_S = 10.0


class Report:
    """A progress line for a file on a terminal, status lines for live capture when verbose, and the closing summary."""

    def __init__(self, config: Config, *, verbose: bool = False, quiet: bool = False) -> None:
        self.config = config
        self.quiet = quiet
        self._line = config.lossless and not quiet and sys.stderr.isatty()
        self.interval_s = PROGRESS_S if self._line else STATUS_S if verbose and not config.lossless else 0.0
        self._shown = False
        self._snapshots: Callable[[], Snapshots] | None = None
        self._before: Snapshots | None = None
        self._started = self._told = time.monotonic()

    def watch(self, snapshots: Callable[[], Snapshots]) -> None:
        """From now on `tick` reports on these."""
        self._snapshots = snapshots
        self._before = snapshots()

    def ready(self, home: Path) -> None:
        """Live capture has begun; the run directory says where the sockets are."""
        if self.quiet:
            return
        places = []
        for name, text in (("feed", "feed {}"), ("metrics", "metrics http://{}/metrics")):
            try:
                places.append(text.format((home / f"{name}.endpoint").read_text()))
            except OSError:
                pass
        self.warn(f"capturing on {', '.join([*self.config.interface_names, *places])}; Ctrl-C ends it")

    def warn(self, text: str) -> None:
        """One line, at once, also when quiet."""
        self._clear()
        try:
            print(f"appliance: {text}", file=sys.stderr, flush=True)
        except OSError:
            pass  # the terminal, or whoever read it, is gone; the run is not

    def tick(self, now: float) -> None:
        """Shows how it goes when it is time to."""
        seconds = now - self._told
        if not self.interval_s or seconds < self.interval_s or self._snapshots is None or self._before is None:
            return
        current = self._snapshots()
        if self._line:
            text = summary.progress(current, self._before, seconds, now - self._started)
            width = os.get_terminal_size(2).columns or 80
            sys.stderr.write(f"\r\x1b[K{text[: width - 1]}")
            sys.stderr.flush()
            self._shown = True
        else:
            self.warn(summary.status(current, self._before, seconds))
        self._before, self._told = current, now

    def conclude(self, last: Snapshots, identities: ledger.Identities) -> None:
        """The summary, the warnings and the ledger; the ledger's file too when one is wanted."""
        self._clear()
        for text in summary.warnings(last, self.config):
            self.warn(text)
        if not self.quiet:
            self.warn(summary.closing(last, time.monotonic() - self._started))
            print(ledger.render(identities), file=sys.stderr, flush=True)
        if self.config.run.ledger:
            try:
                ledger.write(self.config.run.ledger, identities)
            except OSError as error:
                self.warn(f"--ledger {self.config.run.ledger}: {error.strerror}")

    def _clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            self._shown = False
