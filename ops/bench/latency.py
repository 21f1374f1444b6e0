"""A subscriber that measures:  latency.py ENDPOINT OUT.json

How long after the frame with its last byte (event.end, a time stamp of the kernel) each event is in the hands of a
subscriber in Python. Writes the quantiles in ms when the feed says that it is done. Says "ready" once it is heard.
"""

from __future__ import annotations

import json
import re
import sys
import time
from array import array
from calendar import timegm
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from appliance.subscriber.subscriber import Subscriber

QUANTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
_END = re.compile(rb'"end":"([^".]+)\.(\d{9})Z"')
_seconds: dict[bytes, int] = {}  # of the date and time up to the second


def ended_ns(event: bytes) -> int:
    """event.end of an event, in ns since the epoch. Raises ValueError when it has none."""
    found = _END.search(event)
    if found is None:
        raise ValueError(f"no event.end in {event[:200]!r}")
    text, nanos = found.groups()
    if (seconds := _seconds.get(text)) is None:
        seconds = _seconds[text] = timegm(time.strptime(text.decode(), "%Y-%m-%dT%H:%M:%S"))
    return seconds * 1_000_000_000 + int(nanos)


def quantiles(delays: Sequence[int]) -> dict[str, float]:
    """In ms, of delays in ns, by nearest rank; and their number."""
    ordered = sorted(delays)
    last = len(ordered) - 1
    found = {name: ordered[min(last, int(share * len(ordered)))] / 1e6 for name, share in QUANTILES.items() if ordered}
    return {**found, "events": len(ordered)}


def main() -> None:
    """The command."""
    delays = array("q")
    with Subscriber(sys.argv[1]) as feed:
        told = False
        while not told:
            told = feed.receive(0.1) is not None or feed.heartbeats > 0
        print("ready", flush=True)
        for message in feed:
            now = time.time_ns()
            if message.topic.startswith("http."):
                delays.extend(now - ended_ns(event) for event in message.events)
            elif any(b'"done"' in event for event in message.events):
                break
        lost = feed.lost
    Path(sys.argv[2]).write_text(json.dumps({**quantiles(delays), "messages lost": lost}) + "\n")


if __name__ == "__main__":
    main()
