"""A capture file through the data path, and its events in the flat form in which the corpora state what they expect.

`python tests/corpus/flat.py FILE` prints one JSON object for each event: a command for a scorer.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from contract import event_of

from appliance import pcap
from appliance.config import resolve
from appliance.shard import Sharder
from workers.pipeline import Pipeline

STEP = 4096  # frames read between two looks at the batches


def events_of_file(path: Path) -> list[dict[str, Any]]:
    """The events of a capture file, in order of their topics. Raises PcapError if libpcap does not open it."""
    pipeline = Pipeline(resolve(None, {"source.file": str(path)}))
    with pcap.open_offline(path) as handle:
        sharder = Sharder(bytes(range(16)), 1, link_type=handle.link_type)
        more = True
        while more:
            try:
                more = handle.shard(sharder, STEP) >= 0
            except pcap.TruncatedCapture:
                more = False
            for _, _, message in sharder.take():
                pipeline.feed(bytes(message))
                sharder.recycle(message)
        for _, _, message in sharder.end():
            pipeline.feed(bytes(message))
    pipeline.finish()
    return [event_of(line) for _, _, body in pipeline.take() for line in body.splitlines()]


def flat(event: dict[str, Any]) -> dict[str, Any]:
    """The few facts of an event that a scorer compares."""
    request, response = event["http"].get("request", {}), event["http"].get("response", {})
    url = event.get("url", {})
    return {
        "src": event["source"]["ip"],
        "sport": event["source"]["port"],
        "dst": event["destination"]["ip"],
        "dport": event["destination"]["port"],
        "method": request.get("method"),
        "uri": url.get("original"),
        "host": url.get("domain"),
        "version": event["http"]["version"],
        "status": response.get("status_code"),
        "user_agent": event.get("user_agent", {}).get("original"),
        "request_body_len": request.get("body", {}).get("bytes"),
        "response_body_len": response.get("body", {}).get("bytes"),
    }


def in_order(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By connection and place in it."""
    return sorted(events, key=lambda event: (event["event"]["start"], event["appliance"]["transaction"]))


if __name__ == "__main__":
    for found in in_order(events_of_file(Path(sys.argv[1]))):
        print(json.dumps(flat(found)))
