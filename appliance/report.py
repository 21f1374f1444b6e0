"""What the supervisor says on standard error during a run and after it. Standard output is not its own."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from appliance import ledger, log, summary
from appliance.config import Config
from appliance.news import News
from appliance.summary import Snapshots

PROGRESS_S = 0.25
STATUS_S = 10.0
LOSSES_S = 1.0  # between two looks at what was lost


class Report:
    """A progress line for a file on a terminal, status lines for live capture when verbose, and the closing summary."""

    def __init__(self, config: Config, *, verbose: bool = False, quiet: bool = False) -> None:
        self.config = config
        self.quiet = quiet
        self._line = config.lossless and not quiet and sys.stderr.isatty()
        self.interval_s = PROGRESS_S if self._line else STATUS_S if verbose and not config.lossless else 0.0
        self._shown = False
        self._news = News()
        self._looked = 0.0
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
        text = f"capturing on {', '.join([*self.config.source.interfaces, *places])}; Ctrl-C ends it"
        self.warn(text, reason="status", level=log.NOTICE)

    def warn(self, text: str, *, reason: str = "run", level: int = log.WARNING, **facts: object) -> None:
        """One line, at once, also when quiet; reason: see log.py."""
        self._clear()
        log.tell(text, reason=reason, level=level, **facts)

    def tick(self, now: float) -> None:
        """Shows how it goes when it is time to; the first loss of each kind within a second."""
        if not self.config.lossless and self._snapshots is not None and now - self._looked >= LOSSES_S:
            self._looked = now
            self._tell_losses(now, self._snapshots())
        if log.current().pending:
            log.current().settle()
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
            self.warn(summary.status(current, self._before, seconds), reason="status", level=log.INFO)
        self._before, self._told = current, now

    def conclude(self, last: Snapshots, identities: ledger.Identities) -> None:
        """The summary, the warnings and the ledger; the ledger's file too when one is wanted."""
        self._clear()
        for kind, text in summary.warnings(last, self.config):
            self.warn(text, reason="run" if kind == "restart" else f"loss.{kind}")
        if not self.quiet:
            self.warn(
                summary.closing(last, time.monotonic() - self._started), reason="status", level=log.INFO,
                frames=last.frames(), events=last.events(),
            )  # fmt: skip
            open_by = ledger.unaccounted(identities)
            words = f"ledger open by {open_by:,}" if open_by else "ledger closed"
            level = log.WARNING if open_by else log.INFO
            log.current().block(words, ledger.render(identities), reason="ledger", level=level, ledger=identities)
        if self.config.run.ledger:
            try:
                ledger.write(self.config.run.ledger, identities)
            except OSError as error:
                self.warn(f"--ledger {self.config.run.ledger}: {error.strerror}", reason="ledger")
        log.current().settle(last=True)

    def _tell_losses(self, now: float, current: Snapshots) -> None:
        for loss, text, fresh in self._news.see(now, summary.losses(current, self.config)):
            self.warn(text, reason=f"loss.{loss.kind}", lost=fresh, lost_in_all=loss.total)

    def _clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            self._shown = False
