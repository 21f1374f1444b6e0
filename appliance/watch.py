"""The `appliance events` command: subscribes to a feed and shows its transactions until told to stop."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from appliance.show import heading, line, safe
from appliance.subscriber import Gap, Subscriber
from appliance.where import Test, facts

SILENCE_S = 3.0  # three heartbeats
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Stopped(Exception):
    """SIGTERM came."""


class Wanted(NamedTuple):
    """What to show, and how. since: as `since` gives it; where: on the events of HTTP topics; "" and None: all."""

    endpoint: str
    topics: Sequence[str]
    replay: str = ""
    server_key: str = ""
    key: str = ""
    as_json: bool = False
    limit: int | None = None
    since: str = ""
    where: Test | None = None


def since(text: str, now: datetime) -> str:
    """ "90s", "10m", "2h", "1d" before now, or a time in ISO 8601 (UTC unless it says otherwise), as events write it.

    Raises ValueError."""
    ago = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if ago:
        moment = now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    else:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=moment.tzinfo or UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


def watch(wanted: Wanted) -> int:
    """Shows events on standard output and what was missed on standard error; the exit code. Raises BusError."""

    def on_gap(gap: Gap) -> None:
        tell(f"missed {gap.last - gap.first + 1} messages of {gap.topic} ({gap.first} to {gap.last})")

    def on_term(*_: object) -> None:
        raise Stopped

    signal.signal(signal.SIGTERM, on_term)
    shown, code, warned, limit = 0, 0, False, wanted.limit
    topics = list(wanted.topics) or ["http."]
    screen = Screen(as_json=wanted.as_json)
    feed = Subscriber(
        wanted.endpoint,
        topics,
        on_gap=on_gap,
        replay=wanted.replay,
        backfill=bool(wanted.since),
        server_key=wanted.server_key,
        key=wanted.key,
    )
    with feed:
        try:
            while limit is None or shown < limit:
                message = feed.receive(SILENCE_S)
                if message is not None:
                    events = _chosen(message.topic, message.events, wanted)
                    events = events if limit is None else events[: limit - shown]
                    shown += len(events)  # first: a signal may come while they are written
                    screen.show(message.topic, events)
                elif feed.heartbeats == 0 and not warned:
                    tell(_silence(wanted, feed.refused))
                    warned = True
        except KeyboardInterrupt:
            code = 130
        except Stopped:
            code = 143
        except BrokenPipeError:  # the reader has seen enough; nothing may be flushed to it at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if feed.cut:
        tell(f"{feed.cut} runs of the feed ended without a last word: what they published last may be missing")
    tell(
        f"{shown:,} events shown, {feed.received:,} received, "
        f"{feed.recovered:,} messages recovered, {feed.lost:,} messages lost"
    )
    return code


def _silence(wanted: Wanted, refused: int) -> str:
    if not refused:
        return f"nothing heard from {wanted.endpoint} yet; is an appliance running there? waiting"
    reason = "it does not let this key in" if wanted.key else "it is locked (give --server-key and --key), or no feed"
    return f"{wanted.endpoint} refuses us: {reason}; trying again"


def _chosen(topic: str, events: list[bytes], wanted: Wanted) -> list[bytes]:
    if not topic.startswith("http.") or not (wanted.since or wanted.where):
        return events
    return [event for event in events if _is_wanted(event, wanted)]


def _is_wanted(event: bytes, wanted: Wanted) -> bool:
    try:
        about = facts(event)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return about.timestamp >= wanted.since and (wanted.where is None or wanted.where(about))


class Screen:
    """Standard output: lines of JSON or of columns; these with headings and colours if a person looks at them."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        terminal = sys.stdout.isatty() and not as_json
        self.colours = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self.headed = not terminal

    def show(self, topic: str, events: list[bytes]) -> None:
        """Writes some events of a topic."""
        if self.as_json:
            sys.stdout.buffer.write(b"".join(event + b"\n" for event in events))
        for event in () if self.as_json else events:
            if not self.headed:
                self.headed = True
                sys.stdout.write(f"{heading()}\n")
            sys.stdout.write(f"{self._line(topic, event)}\n")
        sys.stdout.flush()

    def _line(self, topic: str, event: bytes) -> str:
        decoded = json.loads(event)
        if isinstance(decoded, dict) and topic.startswith("http."):
            return line(decoded, colours=self.colours)
        return f"{topic} {safe(json.dumps(decoded, ensure_ascii=False))}"


def tell(text: str) -> None:
    """One line for a person."""
    print(f"appliance: {text}", file=sys.stderr, flush=True)
