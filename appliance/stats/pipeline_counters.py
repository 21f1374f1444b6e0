"""The one list of what a pipeline counts: a row names the slots of the worker's page, their metric, HELP and label.

The layout of the page, the gauges that start at 0 in every process, and the metric families follow from it. A row
without a metric belongs to a family that takes more than one slot (metrics/families_*.py). The fields of the data
path's counters follow from it too: after a change, `python ops/counters.py` writes workers/core/counts.pxd and .pyx.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from appliance.stats.names import (
    ANOMALIES,
    BODY_OUTCOMES,
    CHECKSUM_FAULTS,
    DECRYPTED,
    DIRECTIONS,
    FLOW_ENDS,
    FLOW_PAYLOAD,
    HTTP2_CERTAINTIES,
    HTTP2_KEPT,
    HTTP2_SIDES,
    HTTP2_STREAM_OUTCOMES,
    MESSAGE_OUTCOMES,
    METHODS,
    NOT_HTTP,
    PAIRINGS,
    PAYLOAD_OUTCOMES,
    QUIC_OUTCOMES,
    RESPONSE_BUCKETS_S,
    SEGMENT_VERDICTS,
    SPOKEN,
    STATUS_CLASSES,
    TLS_BYTES,
    TLS_CERTIFICATES,
    TLS_HANDSHAKES,
    TLS_KEYS_GONE,
    TLS_LIMITS,
    TOPICS,
    WEBSOCKET_ANOMALIES,
)


class Counter(NamedTuple):
    """One slot, or one for each value: `slot.value`.

    field names its counter in workers/core/counts.pxd, in one of these forms:
        name          a number
        name_{}       a number for each value, with the value in its name
        name[]        an array by the place of the value; name[1:] leaves place 0 to no slot
        name[PLACE]   a place in an array that rows share, and for values as many from there on
        name[X_{}]    a named place for each value
    Without one, a class of the data path returns the slot, because it calculates it or belongs to one protocol.
    """

    slot: str
    metric: str = ""  # without the prefix; each has the label worker
    help: str = ""
    label: str = ""  # of the values
    values: Sequence[object] = ()
    gauge: bool = False  # as of now: it starts at 0 in every process
    field: str = ""

    @property
    def slots(self) -> list[str]:
        """Return the names of its slots in a page."""
        return [f"{self.slot}.{value}" for value in self.values] if self.values else [self.slot]


COUNTERS = (
    Counter("segments", field="segments"),
    Counter("rejected", values=SEGMENT_VERDICTS, field="{}"),
    Counter(
        "duplicate_frames",
        "tcp_duplicate_frames",
        "Identical copies of frames, as from a mirror port that copies both directions.",
        field="duplicate_frames",
    ),
    Counter(
        "checksums",
        "tcp_checksums",
        "Segments with a wrong, offloaded or truncated checksum.",
        label="found",
        values=CHECKSUM_FAULTS,
        field="checksums_{}",
    ),
    Counter(
        "urgent_segments",
        "tcp_urgent_segments",
        "Segments with urgent data, which stays in the stream.",
        field="urgent",
    ),
    Counter(
        "resets_ignored",
        "tcp_resets_ignored",
        "RST segments ignored: out of window, or their sender kept sending.",
        field="resets_ignored",
    ),
    Counter(
        "fins_ignored",
        "tcp_fins_ignored",
        "FIN segments ignored, because their sender sent data behind them.",
        field="fins_ignored",
    ),
    Counter("flows", "tcp_flows", "Connections followed now.", gauge=True, field="flows"),
    Counter("half_open", "tcp_half_open", "Half-open connections followed now.", gauge=True, field="half_open"),
    Counter("flows_opened", "tcp_flows_opened", "Connections opened.", field="flows_opened"),
    Counter(
        "flows_ended",
        "tcp_flows",
        "Connections ended, by the cause of the end.",
        label="end",
        values=FLOW_ENDS,
        field="ended_{}",
    ),
    Counter(
        "flows_one_sided",
        "tcp_flows_one_sided",
        "Ended connections with only one captured direction.",
        field="one_sided",
    ),
    Counter("payload_bytes", "tcp_received_bytes", "Payload bytes received.", field="payload"),
    Counter(
        "payload",
        "tcp_payload_bytes",
        "Payload bytes, by outcome.",
        label="outcome",
        values=PAYLOAD_OUTCOMES,
        field="{}",
    ),
    Counter("pending_bytes", "tcp_buffer_bytes", "Out-of-order bytes in buffers.", gauge=True, field="pending"),
    Counter(
        "flow_payload",
        "flow_payload_bytes",
        "Payload bytes of connections, by their place in flow events.",
        label="outcome",
        values=FLOW_PAYLOAD,
        field="flow_{}",
    ),
    Counter(
        "flow_open_bytes",
        "flow_open_bytes",
        "Payload bytes that the next flow events report.",
        gauge=True,
        field="flow_open",
    ),
    Counter("gaps", "tcp_gaps", "Gaps in streams: bytes declared missing.", field="gaps"),
    Counter("gap_bytes", "tcp_gap_bytes", "Known bytes missing in gaps.", field="gap_bytes"),
    Counter("out_of_order_segments", "tcp_out_of_order_segments", "Out-of-order segments.", field="out_of_order"),
    Counter(
        "ack_unseen",
        "tcp_ack_unseen",
        "Acknowledgements of bytes never captured, as after loss upstream of this machine.",
        field="ack_unseen",
    ),
    Counter(
        "acked_unseen_bytes",
        "tcp_acked_unseen_bytes",
        "Acknowledged bytes never captured; without our own drops, the loss upstream of this machine.",
        field="acked_unseen",
    ),
    Counter("midstream_streams", "tcp_midstream_streams", "Streams captured without their start.", field="midstream"),
    Counter(
        "udp_datagrams",
        "udp_datagrams",
        "UDP datagrams of flow events that open no QUIC connection.",
        field="udp_datagrams",
    ),
    Counter(
        "udp_payload_bytes",
        "udp_received_bytes",
        "Payload bytes of UDP datagrams received for flow events.",
        field="udp_payload",
    ),
    Counter("udp_flows", "udp_flows", "UDP flows followed now.", gauge=True),
    Counter("udp_flows_opened", "udp_flows_opened", "UDP flows that began."),
    Counter("udp_flows_evicted", "udp_flows_evicted", "UDP flows that ended because of events.max_udp_flows."),
    Counter(
        "quic_datagrams",
        "quic_datagrams",
        "UDP datagrams that may open a QUIC connection, by outcome.",
        label="outcome",
        values=QUIC_OUTCOMES,
        field="datagrams[]",
    ),
    Counter(
        "quic_initials",
        "quic_initials",
        "Initial packets of QUIC, by outcome.",
        label="outcome",
        values=("opened", "failed", "over_limit"),
    ),
    Counter("quic_connections", "quic_connections", "QUIC connections in the table now.", gauge=True),
    Counter("quic_connections_opened", "quic_connections_opened", "QUIC connections with an opened Initial packet."),
    Counter(
        "quic_evicted",
        "quic_evicted_connections",
        "QUIC connections evicted before their handshake was known, because the table was full.",
    ),
    Counter("quic_malformed", "quic_malformed_packets", "Opened Initial packets with malformed frames."),
    Counter("quic_crypto_over_limit", "quic_crypto_over_limit", "CRYPTO frames dropped because of a limit of [quic]."),
    Counter("quic_retries", "quic_retries", "Retry packets of servers."),
    Counter("messages.started", "http_messages_started", "Messages started.", field="started"),
    Counter(
        "messages",
        "http_messages",
        "Finished messages, by outcome.",
        label="outcome",
        values=MESSAGE_OUTCOMES,
        field="{}",
    ),
    Counter("messages.open", "http_messages_open", "Messages started and not finished.", gauge=True),
    Counter(
        "head_bytes", "http_head_bytes", "Bytes of incomplete message heads in memory.", gauge=True, field="head_bytes"
    ),
    Counter(
        "waiting_bytes",
        "http_waiting_bytes",
        "Bytes of messages that wait for their request or response.",
        gauge=True,
        field="waiting_bytes",
    ),
    Counter(
        "given_up",
        "http_given_up",
        "Transactions published alone, because the limit of waiting bytes was reached.",
        field="given_up",
    ),
    Counter("requests", "http_requests", "Requests.", label="method", values=METHODS, field="requests[]"),
    Counter(
        "responses", "http_responses", "Responses.", label="status_class", values=STATUS_CLASSES, field="responses[]"
    ),
    Counter(
        "pairing",
        "http_transactions",
        "Transactions, by the method of pairing request and response.",
        label="pairing",
        values=PAIRINGS,
        field="pairings[]",
    ),
    Counter("parse_errors", "http_parse_errors", "Messages that violate the HTTP/1 grammar.", field="parse_errors"),
    Counter(
        "resyncs", "http_resyncs", "Resynchronisations at the next message after a gap or an error.", field="resyncs"
    ),
    Counter(
        "retracted",
        "http_retracted_messages",
        "Complete messages later recognised as text in a body; in no event.",
        field="retracted",
    ),
    Counter(
        "not_http_streams",
        "http_not_http_streams",
        "Streams of another protocol than HTTP, by protocol.",
        label="kind",
        values=NOT_HTTP,
        field="not_http[]",
    ),
    Counter("not_http_bytes"),
    Counter(
        "not_http_bytes",
        "http_not_http_bytes",
        "Bytes of streams of another protocol than HTTP, by protocol.",
        label="kind",
        values=NOT_HTTP,
        field="not_http_bytes[]",
    ),
    Counter(
        "connections",
        "http_connections",
        "Ended connections, by protocol.",
        label="kind",
        values=SPOKEN,
        field="connections[]",
    ),
    Counter(
        "connections_open",
        "http_connections_open",
        "Open connections with payload, by protocol.",
        label="kind",
        values=SPOKEN[1:],
        gauge=True,
        field="speaking[1:]",
    ),
    Counter(
        "skipped_bytes",
        "http_skipped_bytes",
        "Bytes of HTTP connections outside any message, after a gap or an error.",
        field="skipped_bytes",
    ),
    Counter("tunnels", "http_tunnels", "Connections that left HTTP by CONNECT or an upgrade.", field="tunnels"),
    Counter(
        "tunnels_too_deep",
        "http_tunnels_too_deep",
        "CONNECT tunnels not entered, because http.max_connect_depth was reached.",
        field="tunnels_too_deep",
    ),
    Counter(
        "tunnel_bytes",
        "http_tunnel_bytes",
        "Bytes of tunnels and upgrades that no protocol of the worker reads.",
        field="tunnel_bytes",
    ),
    Counter("websockets.started", "websocket_connections_started", "WebSocket connections begun.", field="websockets"),
    Counter("websockets.ended", "websocket_connections", "WebSocket connections ended.", field="websockets_ended"),
    Counter("websockets.open", "websocket_connections_open", "WebSocket connections open now.", gauge=True),
    Counter(
        "websocket_bytes",
        "websocket_bytes",
        "Bytes of WebSocket connections behind their upgrade.",
        field="websocket_bytes",
    ),
    Counter("websocket_frames", "websocket_frames", "WebSocket frames.", field="websocket_frames"),
    Counter("websocket_messages", "websocket_messages", "Whole WebSocket messages.", field="websocket_messages"),
    Counter(
        "websocket_losses",
        "websocket_losses",
        "Sides of WebSocket connections whose next frame header was lost, or has an impossible length.",
        field="websocket_losses",
    ),
    Counter(
        "websocket_resyncs",
        "websocket_resyncs",
        "Resynchronisations at a WebSocket frame header after a loss.",
        field="websocket_resyncs",
    ),
    Counter(
        "websocket_anomalies",
        "websocket_anomalies",
        "Ended WebSocket connections with an anomaly, by its name.",
        label="anomaly",
        values=WEBSOCKET_ANOMALIES,
        field="websocket_anomalies[]",
    ),
    Counter(
        "http2_blocks",
        "http2_header_blocks",
        "Header blocks of HTTP/2, by the certainty of their header table.",
        label="table",
        values=HTTP2_CERTAINTIES,
        field="http2[BLOCKS]",
    ),
    Counter(
        "http2_block_faults",
        "http2_header_block_faults",
        "Header blocks of HTTP/2 that violate RFC 7541.",
        field="http2[BLOCK_FAULTS]",
    ),
    Counter(
        "http2_cut_blocks",
        "http2_header_blocks_cut",
        "Header blocks of HTTP/2 with a part lost or too long.",
        field="http2[CUT_BLOCKS]",
    ),
    Counter("http2_streams", "http2_streams", "Streams of HTTP/2 opened.", field="http2[STREAMS]"),
    Counter(
        "http2_streams_ended",
        "http2_streams_ended",
        "Streams of HTTP/2 ended, by outcome.",
        label="outcome",
        values=HTTP2_STREAM_OUTCOMES,
        field="http2[STREAMS_{}]",
    ),
    Counter(
        "http2_streams_open", "http2_streams_open", "Streams of HTTP/2 open now.", gauge=True, field="streams_open"
    ),
    Counter(
        "http2_streams_given_up",
        "http2_streams_given_up",
        "Streams of HTTP/2 reported as they are, because a limit was reached.",
        field="http2[STREAMS_GIVEN_UP]",
    ),
    Counter(
        "http2_resets",
        "http2_streams_reset",
        "Streams of HTTP/2 ended by RST_STREAM, by its sender.",
        label="side",
        values=HTTP2_SIDES,
        field="http2[RESETS]",
    ),
    Counter(
        "http2_joined",
        "http2_connections_joined",
        "Connections read as HTTP/2 from the middle on.",
        field="http2[JOINED_CONNECTIONS]",
    ),
    Counter(
        "http2_joins_given_up",
        "http2_joins_given_up",
        "Connections that looked like the middle of HTTP/2 until http.max_join_bytes was reached.",
        field="http2[JOINS_GIVEN_UP]",
    ),
    Counter(
        "http2_losses",
        "http2_framing_losses",
        "Losses of the framing of an HTTP/2 direction.",
        field="http2[FRAMING_LOSSES]",
    ),
    Counter(
        "http2_violations",
        "http2_frame_violations",
        "Frames of HTTP/2 that RFC 9113 forbids.",
        field="http2[VIOLATIONS]",
    ),
    Counter(
        "http2_stray_frames",
        "http2_stray_frames",
        "Frames of HTTP/2 streams that are not open.",
        field="http2[STRAY_FRAMES]",
    ),
    Counter(
        "http2_table_bytes",
        "http2_table_bytes",
        "Bytes of HTTP/2 header tables in memory.",
        gauge=True,
        field="table_bytes",
    ),
    Counter(
        "http2_tables_emptied",
        "http2_tables_emptied",
        "HTTP/2 header tables emptied, because http.max_total_table_bytes was reached.",
        field="http2[TABLES_EMPTIED]",
    ),
    Counter(
        "http2_kept", "http2_connections_kept", "HTTP/2 connections kept for a successor of the worker.", gauge=True
    ),
    Counter(
        "http2_kept_outcomes",
        "http2_kept_outcomes",
        "HTTP/2 connections kept for a successor of the worker, by outcome.",
        label="outcome",
        values=HTTP2_KEPT,
    ),
    Counter(
        "anomalies",
        "http_anomalies",
        "Transactions with an anomaly, by its name.",
        label="anomaly",
        values=ANOMALIES,
        field="anomalies[]",
    ),
    Counter(
        "tls_handshakes",
        "tls_handshakes",
        "TLS handshakes with a hello, by outcome.",
        label="outcome",
        values=TLS_HANDSHAKES,
    ),
    Counter("tls_handshakes_open", "tls_handshakes_open", "TLS handshakes in progress.", gauge=True),
    Counter("tls_hellos", "tls_hellos", "Hellos read, by side.", label="side", values=("client", "server")),
    Counter("tls_hellos_incomplete", "tls_hellos_incomplete", "Hellos with missing bytes."),
    Counter("tls_hellos_malformed", "tls_hellos_malformed", "Complete hellos that violate their grammar."),
    Counter(
        "tls_certificates",
        "tls_certificates",
        "Server certificates, by outcome.",
        label="outcome",
        values=TLS_CERTIFICATES,
    ),
    Counter(
        "tls_limits",
        "tls_limits",
        "Times that a limit of [tls] was reached, by limit.",
        label="limit",
        values=TLS_LIMITS,
    ),
    Counter("tls_resyncs", "tls_resyncs", "Directions of TLS resynchronised at a record after a gap."),
    Counter("tls_not_records", "tls_not_records", "Directions of TLS connections whose bytes stopped being records."),
    Counter("tls_buffered_bytes", "tls_buffered_bytes", "Bytes of unfinished handshake messages.", gauge=True),
    Counter(
        "tls_decrypted",
        "tls_decrypted",
        "TLS connections that might be decrypted, by outcome.",
        label="outcome",
        values=DECRYPTED[1:],
    ),
    Counter("tls_seen_bytes", "tls_decryption_input_bytes", "Bytes of TLS connections that might be decrypted."),
    Counter(
        "tls_bytes",
        "tls_decryption_bytes",
        "Bytes of TLS connections that might be decrypted, by outcome.",
        label="outcome",
        values=(*TLS_BYTES, "crash"),
    ),
    Counter(
        "tls_open_bytes",
        "tls_decryption_open_bytes",
        "Bytes of TLS connections that might be decrypted, without an outcome yet.",
        gauge=True,
    ),
    Counter("tls_pending_bytes", "tls_pending_bytes", "Memory of encrypted bytes that wait for secrets.", gauge=True),
    Counter(
        "tls_records",
        "tls_records",
        "Encrypted TLS records, by whether their tag verified.",
        label="outcome",
        values=("opened", "unverified"),
    ),
    Counter("tls_plaintext_bytes", "tls_plaintext_bytes", "Bytes of decrypted application data."),
    Counter("tls_plaintext_lost_bytes", "tls_plaintext_lost_bytes", "Bytes of application data in lost TLS records."),
    Counter("tls_key_updates", "tls_key_updates", "KeyUpdates of TLS 1.3 followed."),
    Counter("tls_keys", "tls_keys", "Secrets of TLS sessions in a worker's memory.", gauge=True),
    Counter("tls_keys_received", "tls_keys_received", "Secrets of TLS sessions received by a worker."),
    Counter(
        "tls_keys_gone",
        "tls_keys_gone",
        "Secrets of TLS sessions dropped by a worker, by reason.",
        label="reason",
        values=TLS_KEYS_GONE,
    ),
    Counter("body_bytes", values=DIRECTIONS, field="body_{}"),
    Counter(
        "bodies",
        "http_bodies",
        "Inspected bodies, by outcome.",
        label="outcome",
        values=BODY_OUTCOMES,
        field="bodies[]",
    ),
    Counter(
        "bodies_out_of_time",
        "http_bodies_out_of_time",
        "Bodies with outcome limit because decoding time ran out.",
        field="out_of_time",
    ),
    Counter("decoded_bytes", "http_decoded_bytes", "Bytes of message bodies after content decoding.", field="decoded"),
    Counter("response_seconds.le", values=RESPONSE_BUCKETS_S, field="response_buckets[]"),
    Counter("response_seconds.sum_ns", field="response_sum_ns"),
)

EVENT_COUNTERS = (  # layout.py has the other slots of a topic beside them
    Counter("made", values=TOPICS, field="made[]"),
    Counter("dropped_share", values=TOPICS, field="over_share[]"),
)
PIPELINE_COUNTERS = tuple(slot for counter in COUNTERS for slot in counter.slots)
PIPELINE_GAUGES = frozenset(slot for counter in COUNTERS if counter.gauge for slot in counter.slots)
