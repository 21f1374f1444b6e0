"""The closed lists of names: topics, reasons, outcomes.

Slots of the stats pages and label values of the metrics are made of them."""

from __future__ import annotations

STARTING, READY, DRAINING, DONE = range(1, 5)  # of the slot "state"; 0: there is no process

DATASETS = {  # a dataset is appliance.NAME in event.dataset; the places of all their topics are those of counters
    "http": ("http.1xx.", "http.2xx.", "http.3xx.", "http.4xx.", "http.5xx.", "http.none."),
    "websocket": ("websocket.",),
    "tls": ("tls.",),
    "flow": ("flow.",),
}
TOPICS = tuple(topic for topics in DATASETS.values() for topic in topics)
STORED_TOPICS = (*TOPICS, "status.")  # the feed numbers these topics and stores them for replay
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "other")
STATUS_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
RESPONSE_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, "inf")  # upper bounds

# Why something ended, or did not go on; each value counts once.
BLIND = ("down", "gone", "restart", "filter")  # a capture that could see nothing of its interface
FRAGMENT_OUTCOMES = (  # the order of appliance.wire.ip_fragment.Outcome; the last is for the books of a killed capture
    "merged",
    "timeout",
    "evicted",
    "too_short",
    "too_long",
    "truncated",
    "overlapping",
    "inconsistent",
    "too_many",
    "crash",
)
SEGMENT_VERDICTS = ("bad_header", "no_connection", "bad_checksum")
QUIC_OUTCOMES = ("opened", "followed", "unopened", "over_limit")  # of a datagram that may open a QUIC connection
LINK_DROPS = ("dropped_backlog", "dropped_memory", "dropped_stopping", "dropped_crash")
RECORD_LEFT_OUT = ("behind", "disk")  # why frames that the recorder got are not in the ring
KEEP_LEFT_OUT = ("not_in_ring", "disk", "size")  # why the frames of an event that matches record.only are not kept
FILES_LEFT_OUT = (  # why a worker gave up a body of a wanted type
    "missing",
    "undecoded",
    "limit",
    "part",
    "parts",
    "small",
    "large",
    "open",
    "link",
    "crash",
)
FILES_REFUSED = ("budget", "disk", "mismatch")  # why the files process did not keep one
FILES_REMOVED = ("budget", "age")
EVENT_DROPS = ("dropped_backlog", "dropped_memory", "dropped_share", "dropped_crash")
FLOW_ENDS = ("fin", "rst", "timeout", "evicted", "half_open", "reused", "shutdown")
FLOW_STATES = ("open", "fin", "rst", "idle", "evicted", "reused", "shutdown")  # appliance.flow.state
FLOW_PAYLOAD = ("reported", "refused", "crash", "off")
PAYLOAD_OUTCOMES = (
    "delivered",
    "duplicate",
    "conflicting",
    "out_of_window",
    "unacknowledged",
    "late",
    "evicted",
    "past_limit",
    "ignored",
)
CHECKSUM_FAULTS = ("bad", "offloaded", "unverified")
MESSAGE_OUTCOMES = ("complete", "truncated", "failed")
PAIRINGS = ("ordered", "verified", "uncertain", "request_only", "response_only")
DIRECTIONS = ("request", "response")
BODY_OUTCOMES = ("plain", "decoded", "incomplete", "failed", "unknown", "limit")
TLS_HANDSHAKES = ("unknown", "not_established", "established")  # the order of workers.tls.handshake.Truth
DECRYPTED = ("undecided", "no_key", "key", "unsupported")  # the order of workers.tls.decryption.Outcome
TLS_BYTES = (  # outcomes of the bytes of a TLS connection, in the order of the fates of workers.tls.decryption
    "clear",
    "opened",
    "no_key",
    "unsupported",
    "unverified",
    "incomplete",
    "abandoned",
)
TLS_CERTIFICATES = ("parsed", "cached", "failed", "skipped")
TLS_LIMITS = ("hello_bytes", "certificate_bytes", "total_bytes", "values", "pending_bytes")
KEYLOG_LINES = ("secret", "ignored", "junk")
TLS_KEYS_GONE = ("used", "age", "limit")
NOT_HTTP = ("other", "tls", "ssh", "smtp", "http2")
SPOKEN = ("silent", "http", *NOT_HTTP)  # by a connection; silent: no byte of payload
HTTP2_CERTAINTIES = ("exact", "joined", "inferred")  # of a header block
HTTP2_SIDES = ("client", "server")
HTTP2_KEPT = ("restored", "refused", "evicted", "no_room")  # of connections kept for the successor of a worker
HTTP2_STREAM_OUTCOMES = ("reported", "dropped", "crash")
HTTP2_ANOMALIES = (
    "rapid_reset",
    "authority_and_host_differ",
    "frame_on_stream_0",
    "header_block_split",
    "hpack_unknown_index",
    "bad_header_block",
    "crlf_in_header",
    "bad_pseudo_header",
    "uppercase_in_header",
    "connection_header",
    "length_and_data_differ",
)
ANOMALIES = (
    "length_and_chunked",
    "lengths_differ",
    "bad_length",
    "bad_chunk",
    "bare_lf",
    "folded_header",
    "space_before_colon",
    "bad_header_line",
    "head_too_long",
    "chunked_not_last",
    "unknown_coding",
    "spaces_in_target",
    "body_cut",
    "overlap_conflict",
    "fragment_conflict",
    "missing_version",
    "odd_version",
    "odd_request_line",
    "odd_status_line",
    "unknown_method",
    "blank_lines",
    "bare_cr",
    "control_in_head",
    "host_missing",
    "hosts_differ",
    "too_many_headers",
    "length_repeated",
    "length_leading_zeros",
    "chunked_repeated",
    "chunked_in_http10",
    "odd_chunk",
    "chunk_section_too_long",
    "extra_bytes",
    "resynchronised",
    "early_response",
    "odd_target",
    "length_not_allowed",
    "body_coding_failed",
    "body_coding_unknown",
    "body_limit",
    "body_left_out",
    *HTTP2_ANOMALIES,
)
WEBSOCKET_ANOMALIES = (  # the order of workers.websocket.frames.Anomaly
    "reserved_bits",
    "reserved_opcode",
    "masked_wrong",
    "length_not_minimal",
    "length_invalid",
    "control_too_long",
    "control_fragmented",
    "continuation_alone",
    "message_interrupted",
    "bad_close_code",
    "frame_after_close",
    "decoding_failed",
    "decoding_limit",
)
# Of peers: a key that is not allowed; no complete handshake; more data than the limit; no free place.
REFUSALS = ("key", "handshake", "greedy", "crowded")
RELOADS = ("applied", "refused")
REPLAY_RESULTS = ("served", "gone", "invalid", "refused", "abandoned")

LOG_REASONS = (
    "run",
    "loss",
    "source",
    "link",
    "feed",
    "output",
    "keys",
    "config",
    "sandbox",
    "status",
    "ledger",
    "bug",
)  # of log.py
FENCES = ("capabilities", "no_new_privileges", "undumpable", "seccomp", "landlock", "network", "network_namespace")
FENCES_OF = {
    "supervisor": FENCES[:4],
    "capture": FENCES[:5],
    "worker": FENCES,
    "feed": FENCES[:5],
    "recorder": FENCES,
    "keeper": FENCES,
    "files": FENCES,
}
