"""Messages of the supervisor on standard error, during a run and after it. Standard output belongs to the feed."""

from __future__ import annotations

import os
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

from appliance.config.schema import Config
from appliance.output import output_file as outfile
from appliance.report import losses
from appliance.report import no_events as reasons
from appliance.report import status_lines as summary
from appliance.report.loss_notices import LossNotifier
from appliance.runtime import log
from appliance.runtime.paths import endpoint_in
from appliance.stats import ledger
from appliance.stats.snapshot import Snapshots

PROGRESS_INTERVAL_S = 0.25
STATUS_INTERVAL_S = 10.0
LOSS_CHECK_INTERVAL_S = 1.0  # between two checks for losses


class Report:
    """A progress line for a file on a terminal, status lines for live capture when verbose, and the closing summary."""

    def __init__(self, config: Config, *, verbose: bool = False, quiet: bool = False) -> None:
        self.config = config
        self.quiet = quiet
        self.user: tuple[int, int] | None = None  # (uid, gid) of the children, if they run as another user
        self.verbose = verbose
        self._line = config.lossless and not quiet and log.takes_progress()
        self.interval_s = (
            PROGRESS_INTERVAL_S if self._line else STATUS_INTERVAL_S if verbose and not config.lossless else 0.0
        )
        self._shown = False
        self._notifier = LossNotifier()
        self._looked = 0.0
        self._snapshots: Callable[[], Snapshots] | None = None
        self._before: Snapshots | None = None
        self._started = self._told = time.monotonic()

    def watch(self, snapshots: Callable[[], Snapshots]) -> None:
        """Report on these snapshots from now on."""
        self._snapshots = snapshots
        self._before = snapshots()

    def ready(self, home: Path) -> None:
        """Report that live capture has begun; the run directory has the addresses of the sockets."""
        if self.quiet:
            return
        places = []
        for name, text in (("feed", "feed {}"), ("metrics", "metrics http://{}/metrics")):
            try:
                places.append(text.format(endpoint_in(home, name)))
            except OSError:
                pass
        text = f"capturing on {', '.join([*self.config.source.interfaces, *places])}; Ctrl-C ends it"
        self.warn(text, reason="status", level=log.NOTICE)

    def blind(self, nanoseconds: int) -> None:
        """Report the time without capture since the run before stopped."""
        text = f"no frame was captured for {nanoseconds * 1e-6:,.0f} ms, since the run before stopped"
        self.warn(text, reason="status", level=log.NOTICE, blind_ms=round(nanoseconds * 1e-6, 3))

    def warn(self, text: str, *, reason: str = "run", level: int = log.WARNING, **facts: object) -> None:
        """Log one warning at once, even with --quiet. reason: see log.py."""
        self.clear()
        log.write(text, reason=reason, level=level, **facts)

    def tick(self, now: float) -> None:
        """Show the progress or status when it is due, and the first loss of each kind within a second."""
        if not self.config.lossless and self._snapshots is not None and now - self._looked >= LOSS_CHECK_INTERVAL_S:
            self._looked = now
            self._tell_losses(now, self._snapshots())
        if log.current().pending:
            log.current().report_suppressed()
        seconds = now - self._told
        if not self.interval_s or seconds < self.interval_s or self._snapshots is None or self._before is None:
            return
        current = self._snapshots()
        if self._line:
            text = summary.progress(current, self._before, seconds, now - self._started, _width() - 1)
            sys.stderr.write(f"{log.ERASE}{text}")
            sys.stderr.flush()
            self._shown = True
        else:
            self.warn(summary.status(current, self._before, seconds), reason="status", level=log.INFO)
        self._before, self._told = current, now

    def conclude(self, last: Snapshots, identities: ledger.Identities) -> bool:
        """Print the warnings and a summary; the ledger too if verbose or if it is open. Write its file if one is
        configured.

        Return whether everything was delivered.
        """
        delivered = not losses.undelivered(last, self.config, identities)
        self.clear()
        for kind, text in losses.warnings(last, self.config):
            self.warn(text, reason="run" if kind == "restart" else f"loss.{kind}")
        open_by = ledger.unaccounted(identities)
        words = f"ledger open by {open_by:,}" if open_by else summary.CLOSED
        as_text = self.config.run.log == "text"
        if not self.quiet:
            seconds = time.monotonic() - self._started
            width = _width() - len("appliance: ") if as_text and sys.stderr.isatty() else summary.UNLIMITED
            self.warn(
                summary.closing(last, seconds, width, words if as_text else ""), reason="status", level=log.INFO,
                frames=last.frames(), events=last.events(),
            )  # fmt: skip
            if why := reasons.no_event(last, self.config, width):
                for line in filter(None, (why.text, why.note)):
                    self.warn(line, reason="status", level=log.NOTICE)
        if open_by or (not self.quiet and (self.verbose or not as_text)):
            level = log.WARNING if open_by else log.INFO
            lines = ledger.render(identities)
            if as_text and sys.stderr.isatty():
                lines = _wrapped(lines, _width())
            log.current().write_lines(words, lines, reason="ledger", level=level, ledger=identities)
        if self.config.run.ledger:
            try:
                document = ledger.to_json(identities, last.supervisor["blind_ns"])
                outfile.replace(self.config.run.ledger, document, self.user)
            except OSError as error:
                self.warn(f"--ledger {self.config.run.ledger}: {error.strerror}", reason="ledger", level=log.ERROR)
                delivered = False
        log.current().report_suppressed(last=True)
        return delivered

    def _tell_losses(self, now: float, current: Snapshots) -> None:
        for loss, text, fresh in self._notifier.update(now, losses.losses(current, self.config)):
            self.warn(text, reason=f"loss.{loss.kind}", lost=fresh, lost_in_all=loss.total)

    def clear(self) -> None:
        """Take the progress line off the terminal."""
        if self._shown:
            sys.stderr.write(log.ERASE)
            sys.stderr.flush()
            self._shown = False


def _wrapped(text: str, width: int) -> str:
    """Return the text in lines of this width; no word and no number is broken up."""
    return "\n".join(
        part
        for line in text.splitlines()
        for part in textwrap.wrap(
            line, width, subsequent_indent=" " * 5, break_long_words=False, break_on_hyphens=False, expand_tabs=False
        )
    )


def _width() -> int:
    """Return the columns of the terminal that is standard error."""
    try:
        return os.get_terminal_size(2).columns or 80
    except OSError:
        return 80
