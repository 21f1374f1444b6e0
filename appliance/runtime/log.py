"""The log of each process: lines on standard error, as text or as JSON.

Each line has a reason of LOG_REASONS, with a dot and a detail if needed ("loss.kernel"). A limit per reason holds the
lines of any second. The log counts suppressed lines in the page of the process, and reports their exact number at the
next free place. Lines hold no bytes of the traffic. If standard error is the journal, every line begins with its
priority (sd-daemon(3)).
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback  # at import: a process inside its sandbox cannot load it later
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType

from appliance.config.schema import Config
from appliance.stats.names import LOG_REASONS
from appliance.stats.page import Page
from appliance.text.terminal import plain

ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6  # syslog(3)
LEVELS = {ERROR: "error", WARNING: "warning", NOTICE: "notice", INFO: "info"}
LINES_S = 10
ERASE = "\r\x1b[K"  # of a terminal: the line in which it is
WINDOW_S = 1.0


class _Reason:
    """The lines of one reason: times of the last ones, and counts of suppressed ones."""

    __slots__ = ("reported", "since", "suppressed", "times", "total")

    def __init__(self, lines: int) -> None:
        self.times: deque[float] = deque(maxlen=lines)  # of the last lines
        self.suppressed = 0  # suppressed lines since the last report of them
        self.since = self.reported = 0.0  # times of the first suppressed line, and of that report
        self.total = 0  # suppressed lines, ever


class Log:
    """The log of one process. Threads may share it."""

    def __init__(
        self,
        process: str = "",
        *,
        form: str = "text",
        lines_per_s: int = LINES_S,
        observer: str = "",
        page: Page | None = None,
        clock: Callable[[], float] = time.monotonic,
        erase: bool = False,
    ) -> None:
        """Make a log.

        page: counts the lines; None: no counts. erase: a progress line of this process or another may be on the
        terminal; the log erases it before each line.
        """
        self.form = form
        self._about: dict[str, object] = {"process": {"name": process, "pid": os.getpid()}}
        if observer:
            self._about["observer"] = {"name": observer}
        self._lines = max(1, lines_per_s)
        self._page = page
        self._clock = clock
        self._reasons: dict[str, _Reason] = {}
        self._lock = threading.RLock()
        self._journal = _is_journal()
        self._erase = ERASE if erase and takes_progress() else ""
        self.pending = False  # whether there are suppressed lines without a report

    def write(self, text: str, *, reason: str = "run", level: int = WARNING, **facts: object) -> None:
        """Write one line, unless the reason has reached its limit. facts: fields of the JSON form."""
        with self._lock:
            if not self._admit(reason):
                return
            self._emit(text, reason, level, facts)

    def write_lines(self, text: str, lines: str, *, reason: str, level: int = INFO, **facts: object) -> None:
        """Write several lines of text, or in JSON one line with facts. They count as one."""
        with self._lock:
            if not self._admit(reason):
                return
            if self.form == "json":
                self._emit(text, reason, level, facts)
            else:
                self._print(lines, level)
                self._count("log_lines", reason, 1)

    def report_suppressed(self, *, last: bool = False) -> None:
        """Report suppressed lines where the limit allows it; `last` ignores the limit."""
        with self._lock:
            now = self._clock()
            for reason, about in self._reasons.items():
                if about.suppressed and (last or self._room(about, now)):
                    self._report(reason, about, now)
            self.pending = any(about.suppressed for about in self._reasons.values())

    def exception(self, kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        """Log an uncaught exception, with the signature of sys.excepthook."""
        lines = "".join(traceback.format_exception(kind, error, trace)).rstrip()
        self.write_lines(f"{kind.__name__}: {error}", lines, reason="bug", level=ERROR, stack_trace=lines)

    # -- rates -------------------------------------------------------------------------------------------------------

    def _admit(self, reason: str) -> bool:
        now = self._clock()
        about = self._reasons.get(reason)
        if about is None:
            about = self._reasons.setdefault(reason, _Reason(self._lines))
        if about.suppressed and now - about.reported >= WINDOW_S and self._room(about, now):
            self._report(reason, about, now)
        if not self._room(about, now):
            if not about.suppressed:
                about.since = now
            about.suppressed += 1
            about.total += 1
            self.pending = True
            self._count("log_suppressed", reason, 1)
            return False
        about.times.append(now)
        return True

    def _room(self, about: _Reason, now: float) -> bool:
        return len(about.times) < self._lines or now - about.times[0] >= WINDOW_S

    def _report(self, reason: str, about: _Reason, now: float) -> None:
        about.times.append(now)
        about.reported = now
        count, seconds = about.suppressed, now - about.since
        about.suppressed = 0
        text = f"{reason}: {count:,} more lines within {seconds:.1f} s were suppressed, {about.total:,} so far"
        self._emit(text, reason, WARNING, {"left_out": count, "left_out_in_all": about.total})

    def _count(self, slot: str, reason: str, amount: int) -> None:
        group = reason.partition(".")[0]
        if self._page is not None and group in LOG_REASONS:
            self._page.add(f"{slot}.{group}", amount)

    # -- lines -------------------------------------------------------------------------------------------------------

    def _emit(self, text: str, reason: str, level: int, facts: dict[str, object]) -> None:
        self._count("log_lines", reason, 1)
        if self.form == "json":
            record = {
                "@timestamp": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
                "log": {"level": LEVELS[level]},
                "message": text,
                "event": {"dataset": "appliance.log", "reason": reason},
                **self._about,
            }
            self._print(json.dumps(record | ({"appliance": facts} if facts else {})), level)
        else:
            self._print(f"appliance: {plain(text)}", level)

    def _print(self, lines: str, level: int) -> None:
        prefix = f"<{level}>" if self._journal else ""
        try:
            sys.stderr.write(self._erase + "".join(f"{prefix}{line}\n" for line in lines.splitlines()))
            sys.stderr.flush()
        except (OSError, ValueError):
            pass  # standard error has no reader; the process continues


def takes_progress() -> bool:
    """Return whether standard error is a terminal that can redraw a line."""
    return os.isatty(2) and os.environ.get("TERM") != "dumb"


def _is_journal() -> bool:
    """Return whether standard error is a stream to the journal (systemd.exec(5), JOURNAL_STREAM)."""
    stream = os.environ.get("JOURNAL_STREAM", "")
    try:
        about = os.fstat(2)
    except OSError:
        return False
    return stream == f"{about.st_dev}:{about.st_ino}"


# -- the log of this process -----------------------------------------------------------------------------------------

_log = Log()


def start(config: Config, process: str, page: Page | None, *, of: int = 1) -> Log:
    """Start the log of this process; uncaught exceptions go there, too.

    of: the number of processes that share the limit of lines per second.
    """
    global _log
    _log = Log(
        process,
        form=config.run.log,
        lines_per_s=config.run.log_lines_per_s // of,
        observer=config.run.observer,
        page=page,
        erase=config.lossless,
    )
    sys.excepthook = _log.exception
    threading.excepthook = lambda bug: current().exception(bug.exc_type, bug.exc_value, bug.exc_traceback)
    return _log


def current() -> Log:
    """Return the log of this process."""
    return _log


_places: set[tuple[str, str, int]] = set()  # of reported bugs: kind, file, line


def bug(text: str, error: BaseException) -> None:
    """Log a bug after which the process continues, once for each place of the code.

    The line names the kind of the exception and its place, not its text, which may hold bytes of the traffic.
    """
    file, line, trace = "?", 0, error.__traceback__
    while trace is not None:
        file, line, trace = os.path.basename(trace.tb_frame.f_code.co_filename), trace.tb_lineno, trace.tb_next
    place = type(error).__name__, file, line
    if place not in _places:
        _places.add(place)
        write(f"{text}: {place[0]} in {file}, line {line}; reported once", reason="bug", level=ERROR)


def warning(text: str, *, reason: str = "run", **facts: object) -> None:
    """Write a warning in the log of this process."""
    _log.write(text, reason=reason, level=WARNING, **facts)


def error(text: str, *, reason: str = "run", **facts: object) -> None:
    """Write an error in the log of this process."""
    _log.write(text, reason=reason, level=ERROR, **facts)


def write(text: str, *, reason: str = "run", level: int, **facts: object) -> None:
    """Write a line of a level in the log of this process."""
    _log.write(text, reason=reason, level=level, **facts)
