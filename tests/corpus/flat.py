"""A capture file through the data path, and its events in the flat form in which the corpora state what they expect.

`python tests/corpus/flat.py FILE` prints one JSON object for each event: a command for a scorer.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builders import with_flows
from event_contract import event_of

from appliance.capture.sharder import Sharder
from appliance.config.load import resolve
from appliance.keylog.parser import KeyLogParser
from appliance.keylog.secrets import packed
from appliance.pcap import opening as pcap
from workers.pipeline import Pipeline

STEP = 4096  # frames read between two looks at the batches


def events_of_file(path: Path) -> list[dict[str, Any]]:
    """The HTTP/1 events of a capture file, in the order in which they ended."""
    return [event for event in all_events_of(path, {}) if "http" in event and event["http"]["version"] != "2"]


def all_events_of(path: Path, options: Mapping[str, object], keylog: bytes = b"") -> list[dict[str, Any]]:
    """The events of a capture file under these options, in the order in which they ended.

    keylog: the text of a key log, beside those in the capture.
    Flow events are on, too: their sum is the payload (law 10). Raises PcapError if libpcap does not open the file."""
    pipeline = Pipeline(with_flows(resolve(None, {"source.file": str(path), **options})))
    pipeline.add_keys(keys_of(keylog))
    with pcap.open_offline(path, lambda text: pipeline.add_keys(keys_of(text))) as handle:
        sharder = Sharder(bytes(range(16)), 1, link_type=handle.link_type)
        more = True
        while more:
            try:
                more = handle.read_into(sharder, STEP) >= 0
            except pcap.TruncatedCapture:
                more = False
            for _, _, message in sharder.take():
                pipeline.feed(bytes(message))
                sharder.recycle(message)
        for _, _, message in sharder.end():
            pipeline.feed(bytes(message))
    pipeline.finish()
    events = [event_of(line) for _, _, body in pipeline.take() for line in body.splitlines()]
    flows = [event["appliance"]["flow"] for event in events if "flow" in event["appliance"]]
    reported = sum(flow["since_last"]["payload_bytes"] for flow in flows)
    assert reported == pipeline.counts()["payload_bytes"], "law 10"
    return events


def keys_of(text: bytes) -> bytes:
    """The secrets of a key log, as they travel to a worker."""
    parser = KeyLogParser()
    return b"".join(map(packed, parser.feed(text) + parser.finish()))


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
