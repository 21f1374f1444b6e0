"""The columns of a Parquet file of events: names, places in the event, kinds.

A column is named as its field, with _ for . and without @: `http.request.method` is http_request_method. What is the
same in every event (ecs.version, event.kind, …) has none. The kinds are words; parquet.py knows what they are in Arrow.
"""

from __future__ import annotations

from typing import NamedTuple

TEXT, INT, FLOAT, BOOL, TEXTS, INTS, TIME, NANOSECONDS, FRAMINGS, JSON = (
    "text",
    "int",
    "float",
    "bool",
    "texts",
    "ints",
    "time",  # microseconds: nanoseconds are more than Spark reads
    "nanoseconds",  # since 1970, as a number: the same time exactly
    "framings",
    "json",  # text: names that traffic chose cannot be columns
)


class Column(NamedTuple):
    """name: in the file. path: of the field in the event."""

    name: str
    path: str
    kind: str


_FIELDS = [
    ("@timestamp", TIME),
    ("event.id", TEXT),
    ("event.start", TIME),
    ("event.end", TIME),
    ("event.duration", INT),
    ("event.outcome", TEXT),
    ("observer.name", TEXT),
    ("observer.ingress.interface.name", TEXT),
    ("network.type", TEXT),
    ("network.community_id", TEXT),
    ("network.vlan.id", TEXT),
    ("network.inner.vlan.id", TEXT),
    ("source.ip", TEXT),
    ("source.port", INT),
    ("destination.ip", TEXT),
    ("destination.port", INT),
    ("url.original", TEXT),
    ("url.domain", TEXT),
    ("url.path", TEXT),
    ("url.query", TEXT),
    ("url.port", INT),
    ("user_agent.original", TEXT),
    ("http.version", TEXT),
    ("http.request.method", TEXT),
    ("http.request.referrer", TEXT),
    ("http.request.mime_type", TEXT),
    ("http.request.bytes", INT),
    ("http.request.body.bytes", INT),
    ("http.request.body.content", TEXT),
    ("http.request.headers", JSON),
    ("http.response.status_code", INT),
    ("http.response.reason", TEXT),
    ("http.response.mime_type", TEXT),
    ("http.response.bytes", INT),
    ("http.response.body.bytes", INT),
    ("http.response.body.content", TEXT),
    ("http.response.headers", JSON),
    ("appliance.transaction", INT),
    ("appliance.pairing", TEXT),
    ("appliance.request.complete", BOOL),
    ("appliance.request.missing_bytes", INT),
    ("appliance.request.framing", TEXT),
    ("appliance.request.other_framings", FRAMINGS),
    ("appliance.request.body.decoded_bytes", INT),
    ("appliance.request.body.codings", TEXTS),
    ("appliance.request.body.sha256", TEXT),
    ("appliance.request.body.md5", TEXT),
    ("appliance.request.body.content_base64", TEXT),
    ("appliance.response.complete", BOOL),
    ("appliance.response.missing_bytes", INT),
    ("appliance.response.framing", TEXT),
    ("appliance.response.other_framings", FRAMINGS),
    ("appliance.response.body.decoded_bytes", INT),
    ("appliance.response.body.codings", TEXTS),
    ("appliance.response.body.sha256", TEXT),
    ("appliance.response.body.md5", TEXT),
    ("appliance.response.body.content_base64", TEXT),
    ("appliance.timing.send_ns", INT),
    ("appliance.timing.wait_ns", INT),
    ("appliance.timing.receive_ns", INT),
    ("appliance.tunnel.protocol", TEXT),
    ("appliance.midstream", BOOL),
    ("appliance.sampling", FLOAT),
    ("appliance.anomalies", TEXTS),
    ("appliance.informational", INTS),
]


def _name(path: str) -> str:
    return path.removeprefix("@").replace(".", "_")


COLUMNS = [
    Column("timestamp", "@timestamp", TIME),
    Column("timestamp_ns", "@timestamp", NANOSECONDS),
    *(Column(_name(path), path, kind) for path, kind in _FIELDS[1:]),
]
