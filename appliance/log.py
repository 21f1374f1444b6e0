"""The one way in which a process of a run says something: a line on standard error, as text or as JSON.

Each line has a reason of LOG_REASONS, with a dot and a detail where it needs one ("loss.kernel"). Of a reason there are
at most so many lines in any second; what is left out is counted in the page of the process and said when there is room
again, with the exact number. Lines hold no bytes of the traffic. Where standard error is the journal, every line begins
with its priority (sd-daemon(3))."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback  # now: a process that is fenced in cannot load it when it needs it
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType

from appliance.options import Config
from appliance.stats import LOG_REASONS, Page

ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6  # syslog(3)
LEVELS = {ERROR: "error", WARNING: "warning", NOTICE: "notice", INFO: "info"}
LINES_S = 10
WINDOW_S = 1.0


class _Reason:
    """How much was said, and left out, for one reason."""

    __slots__ = ("left_out", "since", "times", "told", "total")

    def __init__(self, lines: int) -> None:
        self.times: deque[float] = deque(maxlen=lines)  # of the last lines
        self.left_out = 0  # since the last word about that
        self.since = self.told = 0.0  # its first line; that word
        self.total = 0  # left out, ever


class Log:
    """What one process says. Threads may share it."""

    def __init__(
        self,
        process: str = "",
        *,
        form: str = "text",
        lines_per_s: int = LINES_S,
        observer: str = "",
        page: Page | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """page: where lines are counted; None: nowhere."""
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
        self.pending = False  # whether something was left out and not yet said

    def say(self, text: str, *, reason: str = "run", level: int = WARNING, **facts: object) -> None:
        """One line, unless there were too many of its reason. facts: for who reads JSON."""
        with self._lock:
            if not self._admit(reason):
                return
            self._write(text, reason, level, facts)

    def block(self, text: str, lines: str, *, reason: str, level: int = INFO, **facts: object) -> None:
        """Several lines for a person, which are one text with facts in JSON. They count as one."""
        with self._lock:
            if not self._admit(reason):
                return
            if self.form == "json":
                self._write(text, reason, level, facts)
            else:
                self._print(lines, level)
                self._count("log_lines", reason, 1)

    def settle(self, *, last: bool = False) -> None:
        """Says what was left out, as far as there is room for it, or in any case the last time."""
        with self._lock:
            now = self._clock()
            for reason, about in self._reasons.items():
                if about.left_out and (last or self._room(about, now)):
                    self._tell_left_out(reason, about, now)
            self.pending = any(about.left_out for about in self._reasons.values())

    def exception(self, kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        """A bug of ours, as sys.excepthook gets it."""
        lines = "".join(traceback.format_exception(kind, error, trace)).rstrip()
        self.block(f"{kind.__name__}: {error}", lines, reason="bug", level=ERROR, stack_trace=lines)

    # -- rates -------------------------------------------------------------------------------------------------------

    def _admit(self, reason: str) -> bool:
        now = self._clock()
        about = self._reasons.get(reason)
        if about is None:
            about = self._reasons.setdefault(reason, _Reason(self._lines))
        if about.left_out and now - about.told >= WINDOW_S and self._room(about, now):
            self._tell_left_out(reason, about, now)
        if not self._room(about, now):
            if not about.left_out:
                about.since = now
            about.left_out += 1
            about.total += 1
            self.pending = True
            self._count("log_suppressed", reason, 1)
            return False
        about.times.append(now)
        return True

    def _room(self, about: _Reason, now: float) -> bool:
        return len(about.times) < self._lines or now - about.times[0] >= WINDOW_S

    def _tell_left_out(self, reason: str, about: _Reason, now: float) -> None:
        about.times.append(now)
        about.told = now
        count, seconds = about.left_out, now - about.since
        about.left_out = 0
        text = f"{reason}: {count:,} more lines within {seconds:.1f} s were left out, {about.total:,} so far"
        self._write(text, reason, WARNING, {"left_out": count, "left_out_in_all": about.total})

    def _count(self, slot: str, reason: str, amount: int) -> None:
        group = reason.partition(".")[0]
        if self._page is not None and group in LOG_REASONS:
            self._page.add(f"{slot}.{group}", amount)

    # -- lines -------------------------------------------------------------------------------------------------------

    def _write(self, text: str, reason: str, level: int, facts: dict[str, object]) -> None:
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
            self._print(f"appliance: {_plain(text)}", level)

    def _print(self, lines: str, level: int) -> None:
        prefix = f"<{level}>" if self._journal else ""
        try:
            sys.stderr.write("".join(f"{prefix}{line}\n" for line in lines.splitlines()))
            sys.stderr.flush()
        except (OSError, ValueError):
            pass  # nobody listens any more: no reason to end


def _plain(text: str) -> str:
    """One line that no terminal acts on: names of files and interfaces may hold anything."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _is_journal() -> bool:
    """Whether standard error is a stream to the journal (systemd.exec(5), JOURNAL_STREAM)."""
    stream = os.environ.get("JOURNAL_STREAM", "")
    try:
        about = os.fstat(2)
    except OSError:
        return False
    return stream == f"{about.st_dev}:{about.st_ino}"


# -- the log of this process -----------------------------------------------------------------------------------------

_log = Log()


def start(config: Config, process: str, page: Page | None, *, of: int = 1) -> Log:
    """The log of this process from now on; bugs go there, too. of: processes that share the lines of a second."""
    global _log
    _log = Log(
        process,
        form=config.run.log,
        lines_per_s=config.run.log_lines_per_s // of,
        observer=config.run.observer,
        page=page,
    )
    sys.excepthook = _log.exception
    threading.excepthook = lambda bug: current().exception(bug.exc_type, bug.exc_value, bug.exc_traceback)
    return _log


def current() -> Log:
    """The log of this process."""
    return _log


def tell(text: str, *, reason: str = "run", level: int = WARNING, **facts: object) -> None:
    """One line in the log of this process."""
    _log.say(text, reason=reason, level=level, **facts)
