"""The columns of a Parquet file of events: names, paths in the event, kinds.

A column is named as its field, with _ for . and without @: `http.request.method` is http_request_method. Fields that
are the same in every event (ecs.version, event.kind, …) have none. Kinds are words; parquet.py maps them to Arrow
types.
"""

from __future__ import annotations

from typing import NamedTuple

TEXT, INT, FLOAT, BOOL, TEXTS, INTS, TIME, NANOSECONDS, FRAMINGS, PARTS, JSON = (
    "text",
    "int",
    "float",
    "bool",
    "texts",
    "ints",
    "time",  # microseconds: Spark reads no nanoseconds
    "nanoseconds",  # since 1970, as a number: the same time exactly
    "framings",
    "parts",
    "json",  # text: names chosen by the traffic cannot be columns
)


class Column(NamedTuple):
    """name: in the file. path: of the field in the event."""

    name: str
    path: str
    kind: str


_OF_A_SIDE = (
    *("messages", "text", "binary", "ping", "pong", "fragments", "bytes", "decoded_bytes", "masked_wrong"),
    *("close_code", "complete", "missing_bytes"),
)
_FIELDS = [
    ("@timestamp", TIME),
    ("event.dataset", TEXT),
    ("event.id", TEXT),
    ("event.start", TIME),
    ("event.end", TIME),
    ("event.duration", INT),
    ("event.outcome", TEXT),
    ("observer.name", TEXT),
    ("observer.ingress.interface.name", TEXT),
    ("network.type", TEXT),
    ("network.transport", TEXT),
    ("network.protocol", TEXT),
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
    ("url.scheme", TEXT),
    ("url.port", INT),
    ("user_agent.original", TEXT),
    ("rpc.system", TEXT),
    ("rpc.service", TEXT),
    ("rpc.method", TEXT),
    ("rpc.response.status_code", TEXT),
    ("file.hash.sha256", TEXT),
    ("file.size", INT),
    ("file.path", TEXT),
    ("file.mime_type", TEXT),
    ("http.version", TEXT),
    ("http.request.method", TEXT),
    ("http.request.referrer", TEXT),
    ("http.request.mime_type", TEXT),
    ("http.request.bytes", INT),
    ("http.request.body.bytes", INT),
    ("http.request.body.content", TEXT),
    ("http.request.headers", JSON),
    ("http.request.trailers", JSON),
    ("http.response.status_code", INT),
    ("http.response.reason", TEXT),
    ("http.response.mime_type", TEXT),
    ("http.response.bytes", INT),
    ("http.response.body.bytes", INT),
    ("http.response.body.content", TEXT),
    ("http.response.headers", JSON),
    ("http.response.trailers", JSON),
    ("appliance.connection", TEXT),
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
    ("appliance.http2.stream_id", INT),
    ("appliance.http2.headers", TEXT),
    ("appliance.http2.unknown_headers", INT),
    ("appliance.http2.path_ref", TEXT),
    ("appliance.http2.reset.error", TEXT),
    ("appliance.http2.reset.by", TEXT),
    ("appliance.http2.pushed", BOOL),
    ("appliance.http2.upgraded", BOOL),
    ("appliance.grpc.request.messages", INT),
    ("appliance.grpc.request.bytes", INT),
    ("appliance.grpc.response.messages", INT),
    ("appliance.grpc.response.bytes", INT),
    ("appliance.grpc.message", TEXT),
    ("appliance.tunnel.protocol", TEXT),
    ("appliance.file.direction", TEXT),
    ("appliance.file.complete", BOOL),
    ("appliance.file.reason", TEXT),
    ("appliance.file.parts", PARTS),
    *(
        (f"appliance.file.{side}.{name}", kind)
        for side in ("request", "response")
        for name, kind in (
            ("complete", BOOL),
            ("reason", TEXT),
            ("hash.sha256", TEXT),
            ("size", INT),
            ("parts", PARTS),
        )
    ),
    ("appliance.websocket.index", INT),
    ("appliance.websocket.final", BOOL),
    *(
        (f"appliance.websocket.{side}.{name}", BOOL if name == "complete" else INT)
        for side in ("client", "server")
        for name in _OF_A_SIDE
    ),
    ("appliance.websocket.compressed", BOOL),
    ("appliance.websocket.closed_by", TEXT),
    ("appliance.websocket.longest_pause_ns", INT),
    ("appliance.midstream", BOOL),
    ("appliance.sampling", FLOAT),
    ("appliance.anomalies", TEXTS),
    ("appliance.informational", INTS),
    ("tls.version", TEXT),
    ("tls.version_protocol", TEXT),
    ("tls.cipher", TEXT),
    ("tls.curve", TEXT),
    ("tls.next_protocol", TEXT),
    ("tls.resumed", BOOL),
    ("tls.established", BOOL),
    ("tls.client.server_name", TEXT),
    ("tls.client.ja3", TEXT),
    ("tls.server.hash.sha256", TEXT),
    ("tls.server.subject", TEXT),
    ("tls.server.issuer", TEXT),
    ("tls.server.not_before", TEXT),
    ("tls.server.not_after", TEXT),
    ("tls.server.x509.alternative_names", TEXTS),
    ("appliance.tls.ja4", TEXT),
    ("appliance.tls.alpn_offered", TEXTS),
    ("appliance.tls.versions_offered", TEXTS),
    ("appliance.tls.ech_offered", BOOL),
    ("appliance.tls.hello_retry", BOOL),
    ("appliance.tls.client_hello.complete", BOOL),
    ("appliance.tls.client_hello.missing_bytes", INT),
    ("appliance.tls.server_hello.complete", BOOL),
    ("appliance.tls.server_hello.missing_bytes", INT),
    ("appliance.tls.alert.level", TEXT),
    ("appliance.tls.alert.description", TEXT),
    ("appliance.tls.alert.by", TEXT),
    ("appliance.tls.handshake_ns", INT),
    ("appliance.tls.decrypted", TEXT),
    ("appliance.tls.bytes.client", INT),
    ("appliance.tls.bytes.server", INT),
    ("appliance.quic.version", TEXT),
    ("appliance.quic.retry", BOOL),
    ("appliance.quic.zero_rtt", BOOL),
    ("network.bytes", INT),
    ("network.packets", INT),
    ("source.bytes", INT),
    ("source.packets", INT),
    ("destination.bytes", INT),
    ("destination.packets", INT),
    ("appliance.flow.state", TEXT),
    ("appliance.flow.final", BOOL),
    ("appliance.flow.index", INT),
    ("appliance.flow.application", TEXT),
    ("appliance.flow.totals.payload_bytes", INT),
    ("appliance.flow.totals.packets", INT),
    ("appliance.flow.totals.bytes", INT),
    ("appliance.flow.since_last.payload_bytes", INT),
    ("appliance.flow.since_last.packets", INT),
    ("appliance.flow.since_last.bytes", INT),
    ("appliance.flow.since_last.transactions", INT),
    ("appliance.flow.transactions", INT),
    ("appliance.flow.payload_bytes.client", INT),
    ("appliance.flow.payload_bytes.server", INT),
    ("appliance.flow.retransmitted_bytes.client", INT),
    ("appliance.flow.retransmitted_bytes.server", INT),
    ("appliance.flow.missing_bytes.client", INT),
    ("appliance.flow.missing_bytes.server", INT),
    ("appliance.flow.handshake_ns", INT),
    ("appliance.flow.one_sided", BOOL),
]


def _name(path: str) -> str:
    return path.removeprefix("@").replace(".", "_")


COLUMNS = [
    Column("timestamp", "@timestamp", TIME),
    Column("timestamp_ns", "@timestamp", NANOSECONDS),
    *(Column(_name(path), path, kind) for path, kind in _FIELDS[1:]),
]
