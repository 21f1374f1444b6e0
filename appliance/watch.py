"""The `appliance events` command: subscribes to a feed and shows its transactions until told to stop."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence

from appliance.show import line, safe
from appliance.subscriber import Gap, Subscriber

SILENCE_S = 3.0  # three heartbeats


class Stopped(Exception):
    """SIGTERM came."""


def watch(endpoint: str, topics: Sequence[str], *, as_json: bool, limit: int | None) -> int:
    """Shows events on standard output and what was missed on standard error; the exit code. Raises BusError."""

    def on_gap(gap: Gap) -> None:
        tell(f"missed {gap.last - gap.first + 1} messages of {gap.topic} ({gap.first} to {gap.last})")

    def on_term(*_: object) -> None:
        raise Stopped

    signal.signal(signal.SIGTERM, on_term)
    shown, code, warned = 0, 0, False
    with Subscriber(endpoint, list(topics) or ["http."], on_gap=on_gap) as feed:
        try:
            while limit is None or shown < limit:
                message = feed.receive(SILENCE_S)
                if message is not None:
                    events = message.events if limit is None else message.events[: limit - shown]
                    shown += len(events)  # first: a signal may come while they are written
                    _show(message.topic, events, as_json)
                elif feed.heartbeats == 0 and not warned:
                    tell(f"nothing heard from {endpoint} yet; is an appliance running there? waiting")
                    warned = True
        except KeyboardInterrupt:
            code = 130
        except Stopped:
            code = 143
        except BrokenPipeError:  # the reader has seen enough; nothing may be flushed to it at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    tell(f"{shown:,} events shown, {feed.received:,} received, {feed.lost:,} messages lost")
    return code


def _show(topic: str, events: list[bytes], as_json: bool) -> None:
    if as_json:
        sys.stdout.buffer.write(b"".join(event + b"\n" for event in events))
    else:
        for event in events:
            decoded = json.loads(event)
            known = isinstance(decoded, dict) and topic.startswith("http.")
            text = line(decoded) if known else f"{topic} {safe(json.dumps(decoded, ensure_ascii=False))}"
            sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def tell(text: str) -> None:
    """One line for a person."""
    print(f"appliance: {text}", file=sys.stderr, flush=True)
