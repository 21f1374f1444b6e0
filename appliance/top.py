"""`appliance top`: a running appliance on a terminal. What is drawn is board.py's; here are the screen, the keys, and
the feed, which is read for the slowest hosts only."""

from __future__ import annotations

import curses
import locale
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from appliance import board, running
from appliance.board import Line, View
from appliance.bus import BusError
from appliance.rundir import Unusable
from appliance.running import Running
from appliance.slowest import HostTimes
from appliance.subscriber import Subscriber
from appliance.summary import Snapshots

DECODED_S = 5000  # events a second that are looked into; the rest is passed over, and said
SLICE_S = 0.1  # how long a key may wait
TOPICS = ["http."]
HTTP_ERROR = 500


class Wanted(NamedTuple):
    """What to show. server_key, key: files for a locked feed, as for `appliance events`."""

    run: Running
    interval_s: float
    once: bool = False
    server_key: str = ""
    key: str = ""


class Stopped(Exception):
    """SIGTERM came."""


# -- hosts -----------------------------------------------------------------------------------------------------------


class _Response(msgspec.Struct, frozen=True):
    status_code: int = 0


class _Http(msgspec.Struct, frozen=True):
    response: _Response | None = None


class _Url(msgspec.Struct, frozen=True):
    domain: str = ""


class _Server(msgspec.Struct, frozen=True):
    ip: str = ""


class _Timing(msgspec.Struct, frozen=True):
    wait_ns: int | None = None


class _Own(msgspec.Struct, frozen=True):
    timing: _Timing | None = None


class _Event(msgspec.Struct, frozen=True):
    http: _Http = _Http()
    url: _Url = _Url()
    destination: _Server = _Server()
    appliance: _Own = _Own()


_event = msgspec.json.Decoder(_Event).decode


class Hosts:
    """Response times by host, from the feed. Looks into a bounded number of events a second."""

    def __init__(self, wanted: Wanted) -> None:
        self.times = HostTimes()
        self.seen = self.read = 0  # events since the last picture; those of them that were looked into
        self._locked = bool(wanted.run.config.feed.curve_key)
        self._feed: Subscriber | None = None
        endpoint = wanted.run.endpoint("feed")
        self.fault = "" if endpoint else "the feed is off: nothing is known of hosts"
        if endpoint:
            try:
                self._feed = Subscriber(endpoint, TOPICS, replay="off", server_key=wanted.server_key, key=wanted.key)
            except BusError as error:
                self.fault = f"the feed cannot be read: {error}"

    def close(self) -> None:
        if self._feed is not None:
            self._feed.close()

    def listen(self, until: float, allowed: int) -> None:
        """Takes what comes until time.monotonic() is there, looking into at most so many events before the picture."""
        while self._feed is not None:
            message = self._feed.receive(max(0.0, until - time.monotonic()))
            now = time.monotonic()
            if message is not None:
                self.seen += len(message.events)
                for event in message.events[: max(0, allowed - self.read)]:
                    self.read += 1
                    self._look(event, now)
            if now >= until:
                return

    def _look(self, event: bytes, now: float) -> None:
        try:
            about = _event(event)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        response, timing = about.http.response, about.appliance.timing
        if response is not None and timing is not None and timing.wait_ns is not None:
            host = about.url.domain or about.destination.ip
            self.times.add(host, timing.wait_ns / 1e9, error=response.status_code >= HTTP_ERROR, now=now)

    def note(self) -> str:
        """What has to be said about them; counts begin again."""
        seen, read, self.seen, self.read = self.seen, self.read, 0, 0
        if self.fault:
            return self.fault
        if self._feed is not None and self._feed.refused:
            way = "this key may not read it" if self._locked and seen else "it is locked; give --server-key and --key"
            return f"the feed refuses us: {way}"
        return f"{100 * read / seen:.0f} % of the events were looked into" if read < seen else ""


# -- pictures --------------------------------------------------------------------------------------------------------


class Pictures:
    """Makes one picture after the other, each from the moment of the one before."""

    def __init__(self, wanted: Wanted, hosts: Hosts) -> None:
        self.wanted = wanted
        self.hosts = hosts
        self._before = wanted.run.snapshots()
        self._cpu = self._processors(self._before)
        self._at = time.monotonic()
        self._view: View | None = None

    def take(self) -> None:
        """The next moment."""
        run, now = self.wanted.run, time.monotonic()
        pages = run.snapshots()
        cpu, seconds = self._processors(pages), max(now - self._at, 1e-9)
        used = {name: (cpu[name] - self._cpu[name]) / seconds for name in cpu if cpu[name] >= self._cpu.get(name, 1e18)}
        self._view = View(
            run.config, self._before, pages, seconds, run.uptime_s, datetime.now().strftime("%H:%M:%S"), used,
            self.hosts.times.worst(100, now), self.hosts.note(),
        )  # fmt: skip
        self._before, self._cpu, self._at = pages, cpu, now

    def lines(self, width: int, height: int) -> list[Line]:
        """The last moment that was taken, for a screen of this size."""
        return board.draw(self._view, width, height) if self._view else []

    @staticmethod
    def _processors(pages: Snapshots) -> dict[str, float]:
        named = [(f"worker {w}", page) for w, page in enumerate(pages.workers)]
        return {name: used for name, page in named if (used := running.cpu_s(page["pid"])) is not None}


def top(wanted: Wanted) -> int:
    """Shows it until it is told to end, or the appliance ends; the exit code. Raises Unusable."""
    if not wanted.once and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Unusable("top: this is not a terminal; --once prints one picture")
    with ExitStack() as stack:
        hosts = Hosts(wanted)
        stack.callback(hosts.close)
        pictures = Pictures(wanted, hosts)
        if wanted.once:
            hosts.listen(time.monotonic() + wanted.interval_s, DECODED_S)
            _wait_without(hosts, wanted.interval_s)
            pictures.take()
            size = shutil.get_terminal_size((80, 24))
            print("\n".join(line.text for line in pictures.lines(size.columns, size.lines)))
            return 0
        signal.signal(signal.SIGTERM, _stop)
        try:
            return _on_screen(lambda screen: _show(screen, wanted, hosts, pictures))
        except KeyboardInterrupt:
            return 130
        except Stopped:
            return 143
        except curses.error as error:
            raise Unusable(f"top: TERM={os.environ.get('TERM', '')}: {error}; --once prints one picture") from error


def _stop(*_: object) -> None:
    raise Stopped


def _wait_without(hosts: Hosts, seconds: float) -> None:
    if hosts.fault:
        time.sleep(seconds)


def _on_screen(body: Callable[[Any], int]) -> int:
    """The body on a screen of its own; the terminal is as before after it, however it ends."""
    locale.setlocale(locale.LC_ALL, "")
    screen = curses.initscr()
    try:
        curses.noecho()
        curses.cbreak()
        screen.keypad(True)
        screen.nodelay(True)
        try:
            curses.curs_set(0)
            curses.start_color()
            curses.use_default_colors()
            curses.init_pair(1, curses.COLOR_YELLOW, -1)
            curses.init_pair(2, curses.COLOR_RED, -1)
        except curses.error:
            pass  # a terminal without colours, or whose cursor stays
        return body(screen)
    finally:
        screen.keypad(False)
        curses.nocbreak()
        curses.echo()
        curses.endwin()


def _show(screen: Any, wanted: Wanted, hosts: Hosts, pictures: Pictures) -> int:
    due = time.monotonic() + min(1.0, wanted.interval_s)  # the first picture comes early
    while True:
        now = time.monotonic()
        if now >= due:
            pictures.take()
            _paint(screen, pictures)
            due = now + wanted.interval_s
            if not wanted.run.alive:
                return 0
        key = screen.getch()
        if key in (ord("q"), ord("Q")):
            return 0
        if key == curses.KEY_RESIZE:
            curses.update_lines_cols()
            _paint(screen, pictures)
        elif key == -1:
            _rest(hosts, min(due, now + SLICE_S), int(DECODED_S * wanted.interval_s))


def _rest(hosts: Hosts, until: float, allowed: int) -> None:
    if hosts.fault:
        select.select([sys.stdin], [], [], max(0.0, until - time.monotonic()))
    else:
        hosts.listen(until, allowed)


def _paint(screen: Any, pictures: Pictures) -> None:
    height, width = screen.getmaxyx()
    tones = {board.HEAD: curses.A_BOLD}
    if curses.has_colors() and not os.environ.get("NO_COLOR"):
        tones |= {board.NOTE: curses.color_pair(1), board.ALARM: curses.color_pair(2) | curses.A_BOLD}
    else:
        tones |= {board.NOTE: curses.A_NORMAL, board.ALARM: curses.A_REVERSE}
    screen.erase()
    for row, line in enumerate(pictures.lines(width, height)):
        try:
            screen.addnstr(row, 0, line.text, width, tones.get(line.tone, curses.A_NORMAL))
        except curses.error:
            pass  # the last cell of the last line moves the cursor out
    screen.refresh()
