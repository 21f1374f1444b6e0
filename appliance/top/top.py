"""The `appliance top` command: a running appliance on a terminal.

view.py composes the lines. This module has the screen, the keys, and the subscription to the feed for host latencies.
"""

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

from appliance.ipc.sockets import BusError
from appliance.native.safe_files import Unusable
from appliance.report import running_instance as running
from appliance.report.running_instance import RunningInstance
from appliance.stats.snapshot import Snapshots
from appliance.subscriber.subscriber import Subscriber
from appliance.top import view as board
from appliance.top.host_latency import HostTimes
from appliance.top.view import Sample, ScreenLine

DECODED_S = 5000  # maximum events decoded per second; the note reports the share
SLICE_S = 0.1  # maximum delay of a key
TOPICS = ["http."]
HTTP_ERROR = 500


class TopArgs(NamedTuple):
    """The arguments of the command. server_key, key: files for a locked feed, as for `appliance events`."""

    run: RunningInstance
    interval_s: float
    once: bool = False
    server_key: str = ""
    key: str = ""


class Terminated(Exception):
    """SIGTERM arrived."""


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
    """Response times by host, from the feed. Decodes a bounded number of events a second."""

    def __init__(self, args: TopArgs) -> None:
        self.times = HostTimes()
        self.seen = self.read = 0  # events since the last picture, and how many of them were decoded
        self._locked = bool(args.run.config.feed.curve_key)
        self._feed: Subscriber | None = None
        endpoint = args.run.endpoint("feed")
        self.fault = "" if endpoint else "the feed is off: host latencies are unknown"
        if endpoint:
            try:
                self._feed = Subscriber(endpoint, TOPICS, replay="off", server_key=args.server_key, key=args.key)
            except BusError as error:
                self.fault = f"the feed cannot be read: {error}"

    def close(self) -> None:
        if self._feed is not None:
            self._feed.close()

    def listen(self, until: float, allowed: int) -> None:
        """Receive until time.monotonic() reaches `until`, and decode at most `allowed` events."""
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
        """Return a remark about the latencies, and reset its counts."""
        seen, read, self.seen, self.read = self.seen, self.read, 0, 0
        if self.fault:
            return self.fault
        if self._feed is not None and self._feed.refused:
            way = "this key is not accepted" if self._locked and seen else "it is locked; give --server-key and --key"
            return f"the feed refuses us: {way}"
        return f"{100 * read / seen:.0f} % of the events were decoded" if read < seen else ""


# -- pictures --------------------------------------------------------------------------------------------------------


class Pictures:
    """The sequence of pictures, each over the interval since the one before."""

    def __init__(self, args: TopArgs, hosts: Hosts) -> None:
        self.args = args
        self.hosts = hosts
        self._before = args.run.snapshots()
        self._cpu = self._processors(self._before)
        self._at = time.monotonic()
        self._view: Sample | None = None

    def take(self) -> None:
        """Take the next snapshot."""
        run, now = self.args.run, time.monotonic()
        pages = run.snapshots()
        cpu, seconds = self._processors(pages), max(now - self._at, 1e-9)
        used = {name: (cpu[name] - self._cpu[name]) / seconds for name in cpu if cpu[name] >= self._cpu.get(name, 1e18)}
        self._view = Sample(
            run.config, self._before, pages, seconds, run.uptime_s, datetime.now().strftime("%H:%M:%S"), used,
            self.hosts.times.worst(100, now), self.hosts.note(),
        )  # fmt: skip
        self._before, self._cpu, self._at = pages, cpu, now

    def lines(self, width: int, height: int) -> list[ScreenLine]:
        """Return the picture of the last interval, for a screen of this size."""
        return board.draw(self._view, width, height) if self._view else []

    @staticmethod
    def _processors(pages: Snapshots) -> dict[str, float]:
        named = [(f"worker {w}", page) for w, page in enumerate(pages.workers)]
        return {name: used for name, page in named if (used := running.cpu_s(page["pid"])) is not None}


def top(args: TopArgs) -> int:
    """Show the run until a key, a signal or the end of the appliance. Return the exit code. Raises Unusable."""
    if not args.once and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Unusable("top: this is not a terminal; --once prints one picture")
    with ExitStack() as stack:
        hosts = Hosts(args)
        stack.callback(hosts.close)
        pictures = Pictures(args, hosts)
        if args.once:
            hosts.listen(time.monotonic() + args.interval_s, DECODED_S)
            _wait_without(hosts, args.interval_s)
            pictures.take()
            size = shutil.get_terminal_size((80, 24))
            print("\n".join(line.text for line in pictures.lines(size.columns, size.lines)))
            return 0
        signal.signal(signal.SIGTERM, _stop)
        try:
            return _on_screen(lambda screen: _show(screen, args, hosts, pictures))
        except KeyboardInterrupt:
            return 130
        except Terminated:
            return 143
        except curses.error as error:
            raise Unusable(f"top: TERM={os.environ.get('TERM', '')}: {error}; --once prints one picture") from error


def _stop(*_: object) -> None:
    raise Terminated


def _wait_without(hosts: Hosts, seconds: float) -> None:
    if hosts.fault:
        time.sleep(seconds)


def _on_screen(body: Callable[[Any], int]) -> int:
    """Run the body on a screen of its own, and restore the terminal however it ends."""
    locale.setlocale(locale.LC_ALL, "")
    for name in ("LINES", "COLUMNS"):
        os.environ.pop(name, None)  # with them, curses does not follow the size of the terminal
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
            pass  # a terminal without colours or cursor control
        return body(screen)
    finally:
        screen.keypad(False)
        curses.nocbreak()
        curses.echo()
        curses.endwin()


def _show(screen: Any, args: TopArgs, hosts: Hosts, pictures: Pictures) -> int:
    due = time.monotonic() + min(1.0, args.interval_s)  # the first picture comes early
    while True:
        now = time.monotonic()
        if now >= due:
            pictures.take()
            _paint(screen, pictures)
            due = now + args.interval_s
            if not args.run.alive:
                return 0
        key = screen.getch()
        if key in (ord("q"), ord("Q")):
            return 0
        if key == curses.KEY_RESIZE:
            curses.update_lines_cols()
            _paint(screen, pictures)
        elif key == -1:
            _rest(hosts, min(due, now + SLICE_S), int(DECODED_S * args.interval_s))


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
            pass  # the terminal scrolls after its last cell
    screen.refresh()
