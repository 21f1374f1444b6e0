"""The `appliance events` command: subscribes to a feed and shows its transactions until a signal stops it."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from appliance.expression.event_filter import Test, decode_fields
from appliance.report.event_lines import heading, line
from appliance.runtime.standard_streams import quiet, settle
from appliance.stats.names import DATASETS
from appliance.subscriber.subscriber import Gap, Subscriber
from appliance.text.terminal import safe, stderr_line

HEARTBEAT_TIMEOUT_S = 3.0  # three heartbeats
OF_TRAFFIC = tuple(f"{dataset}." for dataset in DATASETS)  # topics to which --since and --where apply
SHOWN = ("http.", "websocket.", "tls.", "flow.")  # topics whose events have a line of columns


class SignalStop(Exception):
    """A signal arrived."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class EventsArgs(NamedTuple):
    """The arguments of the command. since: a time as events write it; where: a test for events of traffic.

    "" and None select everything.
    """

    endpoint: str
    topics: Sequence[str]
    replay: str = ""
    server_key: str = ""
    key: str = ""
    as_json: bool = False
    limit: int | None = None
    since: str = ""
    where: Test | None = None


def show_events(args: EventsArgs) -> int:
    """Show events on standard output and gaps on standard error. Return the exit code. Raises BusError."""

    def on_gap(gap: Gap) -> None:
        stderr_line(f"missed {gap.last - gap.first + 1} messages of {gap.topic} ({gap.first} to {gap.last})")

    def on_signal(number: int, _: object) -> None:
        settle()  # the next signal kills the process
        raise SignalStop(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, on_signal)
    shown, code, warned, limit = 0, 0, False, args.limit
    topics = list(args.topics) or ["http."]
    screen = Screen(as_json=args.as_json)
    feed = Subscriber(
        args.endpoint,
        topics,
        on_gap=on_gap,
        replay=args.replay,
        backfill=bool(args.since),
        server_key=args.server_key,
        key=args.key,
    )
    with feed:
        try:
            while limit is None or shown < limit:
                message = feed.receive(HEARTBEAT_TIMEOUT_S)
                if message is not None:
                    events = _chosen(message.topic, message.events, args)
                    events = events if limit is None else events[: limit - shown]
                    shown += len(events)  # before writing, because a signal may interrupt it
                    screen.show(message.topic, events)
                elif feed.heartbeats == 0 and not warned:
                    stderr_line(_silence(args, feed.refused))
                    warned = True
        except SignalStop as stop:
            code = stop.code
        except BrokenPipeError:  # the reader closed the pipe
            quiet()
        except OSError as fault:
            quiet()
            stderr_line(f"standard output: {fault.strerror}")
            code = 1
        finally:
            settle()
    if feed.cut:
        stderr_line(f"{feed.cut} runs of the feed ended without an end message: their last events may be missing")
    stored = f"{feed.backfilled:,} stored messages, " if args.since else ""
    stderr_line(
        f"{shown:,} events shown, {feed.received:,} received, {stored}"
        f"{feed.recovered:,} messages recovered, {feed.lost:,} messages lost"
    )
    return code


def _silence(args: EventsArgs, refused: int) -> str:
    if not refused:
        return f"no message from {args.endpoint} yet; is an appliance running there? waiting"
    reason = (
        "the feed does not accept this key"
        if args.key
        else "it is locked (give --server-key and --key), or this is no feed"
    )
    return f"{args.endpoint} refuses us: {reason}; trying again"


def _chosen(topic: str, events: list[bytes], args: EventsArgs) -> list[bytes]:
    if not topic.startswith(OF_TRAFFIC) or not (args.since or args.where):
        return events
    return [event for event in events if _is_wanted(event, args)]


def _is_wanted(event: bytes, args: EventsArgs) -> bool:
    try:
        fields = decode_fields(event)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return fields.timestamp >= args.since and (args.where is None or args.where(fields))


class Screen:
    """Standard output: lines of JSON, or columns. On a terminal, columns have headings and colours."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        terminal = sys.stdout.isatty() and not as_json
        self.colours = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self.headed = not terminal

    def show(self, topic: str, events: list[bytes]) -> None:
        """Write events of one topic."""
        if self.as_json:
            sys.stdout.buffer.write(b"".join(event + b"\n" for event in events))
        for event in () if self.as_json else events:
            if not self.headed:
                self.headed = True
                sys.stdout.write(f"{heading()}\n")
            sys.stdout.write(f"{self._line(topic, event)}\n")
        sys.stdout.flush()

    def _line(self, topic: str, event: bytes) -> str:
        try:
            decoded = json.loads(event)
        except (ValueError, RecursionError):  # the peer is not a feed of this appliance
            return f"{topic} {safe(event.decode(errors='replace'))}"
        if isinstance(decoded, dict) and topic.startswith(SHOWN):
            return line(decoded, colours=self.colours)
        return f"{topic} {safe(json.dumps(decoded, ensure_ascii=False))}"
