# cython: language_level=3
"""The Tally's names: those of the worker's stats page (appliance/stats/pipeline_counters.py)."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from appliance.stats.names import (
    ANOMALIES, BODY_OUTCOMES, HTTP2_CERTAINTIES, HTTP2_SIDES, METHODS, NOT_HTTP, PAIRINGS, QUIC_OUTCOMES, RESPONSE_BUCKETS_S,
    SPOKEN, STATUS_CLASSES, TOPICS, WEBSOCKET_ANOMALIES,
)


cdef uint64_t[BUCKETS_END] BOUNDS_NS
for place, bound in enumerate(RESPONSE_BUCKETS_S[:-1]):
    BOUNDS_NS[place] = int(bound * 1e9)
NAMES = (METHODS, STATUS_CLASSES, PAIRINGS, RESPONSE_BUCKETS_S, TOPICS, NOT_HTTP, SPOKEN, ANOMALIES, BODY_OUTCOMES,
         QUIC_OUTCOMES, WEBSOCKET_ANOMALIES)
cdef dict HTTP2_PLACES = {
    **{BLOCKS + place: f"http2_blocks.{certainty}" for place, certainty in enumerate(HTTP2_CERTAINTIES)},
    BLOCK_FAULTS: "http2_block_faults",
    CUT_BLOCKS: "http2_cut_blocks",
    STREAMS: "http2_streams",
    STREAMS_REPORTED: "http2_streams_ended.reported",
    STREAMS_DROPPED: "http2_streams_ended.dropped",
    STREAMS_GIVEN_UP: "http2_streams_given_up",
    **{RESETS + place: f"http2_resets.{side}" for place, side in enumerate(HTTP2_SIDES)},
    JOINED_CONNECTIONS: "http2_joined",
    FRAMING_LOSSES: "http2_losses",
    VIOLATIONS: "http2_violations",
    STRAY_FRAMES: "http2_stray_frames",
    TABLES_EMPTIED: "http2_tables_emptied",
    JOINS_GIVEN_UP: "http2_joins_given_up",
}
cdef tuple HTTP2_NAMES = tuple([HTTP2_PLACES[place] for place in range(HTTP2_COUNTS)])
if tuple(map(len, NAMES)) != (METHODS_END, CLASSES_END, PAIRINGS_END, BUCKETS_END, TOPICS_END, KINDS_END, SPOKEN_END,
                              ANOMALIES_END, BODIES_END, DATAGRAMS_END, WEBSOCKET_ANOMALIES_END):
    raise ImportError("workers/core/counters.pxd and appliance/stats/names.py disagree about how many names of a kind there are")


def slots(str slot, names):
    """Return the slot names of a counter, made once: a worker stores all counts with each body of events."""
    return tuple([f"{slot}.{name}" for name in names])


cdef tuple QUIC_SLOTS = slots("quic_datagrams", QUIC_OUTCOMES)
cdef tuple REQUEST_SLOTS = slots("requests", METHODS)
cdef tuple RESPONSE_SLOTS = slots("responses", STATUS_CLASSES)
cdef tuple ANOMALY_SLOTS = slots("anomalies", ANOMALIES)
cdef tuple WEBSOCKET_ANOMALY_SLOTS = slots("websocket_anomalies", WEBSOCKET_ANOMALIES)
cdef tuple BODY_SLOTS = slots("bodies", BODY_OUTCOMES)
cdef tuple STREAM_KIND_SLOTS = slots("not_http_streams", NOT_HTTP)
cdef tuple BYTE_KIND_SLOTS = slots("not_http_bytes", NOT_HTTP)
cdef tuple SPOKEN_SLOTS = slots("connections", SPOKEN)
cdef tuple SPEAKING_SLOTS = slots("connections_open", SPOKEN)
cdef tuple PAIRING_SLOTS = slots("pairing", PAIRINGS)
cdef tuple BUCKET_SLOTS = slots("response_seconds.le", RESPONSE_BUCKETS_S)
cdef tuple MADE_SLOTS = slots("made", TOPICS)
cdef tuple OVER_SHARE_SLOTS = slots("dropped_share", TOPICS)


cdef class Tally:
    """Counts of one pipeline since it was made; stats.PIPELINE_GAUGES are as of now."""

    cdef void spoke(self, uint8_t* before, int what) noexcept nogil:
        """Record a connection's protocol. before: its protocol so far. HTTP overrules every other, and `other` overrules none."""
        if before[0] == SPEAKS_HTTP or before[0] == what or (what == SPEAKS_OTHER and before[0] != SILENT):
            return
        if before[0] != SILENT:
            self.speaking[before[0]] -= 1
        self.speaking[what] += 1
        before[0] = <uint8_t>what

    cdef void spoke_last(self, uint8_t* before, bint any_bytes) noexcept nogil:
        """Count the protocol of a connection that ends. any_bytes: it sent bytes, perhaps too few to identify a protocol."""
        if any_bytes:
            self.spoke(before, SPEAKS_OTHER)
        if before[0] != SILENT:
            self.speaking[before[0]] -= 1
        self.connections[before[0]] += 1
        before[0] = SPEAKS_HTTP                     # and never another

    cdef void count_flows(self, bint on) noexcept nogil:
        """Turn the counts for flow events on or off; they begin off."""
        if on and not self.counts_flows:
            self.flow_off += self.payload + self.udp_payload - self.off_since
        elif self.counts_flows and not on:
            self.off_since = self.payload + self.udp_payload
        self.counts_flows = on

    cdef void odd(self, uint64_t anomalies) noexcept nogil:
        """Count the anomalies of a finished transaction, given by their bits."""
        cdef int bit
        for bit in range(ANOMALIES_END):
            self.anomalies[bit] += anomalies >> bit & 1

    cdef void odd_websocket(self, uint32_t anomalies) noexcept nogil:
        """Count the anomalies of a WebSocket connection that has ended, given by their bits."""
        cdef int bit
        for bit in range(WEBSOCKET_ANOMALIES_END):
            self.websocket_anomalies[bit] += anomalies >> bit & 1

    cdef void response_time(self, uint64_t ns) noexcept nogil:
        cdef int bucket = 0
        while bucket < BUCKETS_END - 1 and ns > BOUNDS_NS[bucket]:
            bucket += 1
        self.response_buckets[bucket] += 1
        self.response_sum_ns += ns

    def counts(self):
        """Return {name: value} for the worker's stats page."""
        cdef int i
        counts = {
            "segments": self.segments,
            "rejected.bad_header": self.bad_header,
            "rejected.no_connection": self.no_connection,
            "rejected.bad_checksum": self.bad_checksum,
            "duplicate_frames": self.duplicate_frames,
            "checksums.bad": self.checksums_bad,
            "checksums.offloaded": self.checksums_offloaded,
            "checksums.unverified": self.checksums_unverified,
            "urgent_segments": self.urgent,
            "resets_ignored": self.resets_ignored,
            "fins_ignored": self.fins_ignored,
            "flows": self.flows,
            "half_open": self.half_open,
            "flows_opened": self.flows_opened,
            "flows_ended.fin": self.ended_fin,
            "flows_ended.rst": self.ended_rst,
            "flows_ended.timeout": self.ended_timeout,
            "flows_ended.evicted": self.ended_evicted,
            "flows_ended.half_open": self.ended_half_open,
            "flows_ended.reused": self.ended_reused,
            "flows_ended.shutdown": self.ended_shutdown,
            "flows_one_sided": self.one_sided,
            "payload_bytes": self.payload,
            "payload.delivered": self.delivered,
            "payload.duplicate": self.duplicate,
            "payload.conflicting": self.conflicting,
            "payload.out_of_window": self.out_of_window,
            "payload.unacknowledged": self.unacknowledged,
            "payload.late": self.late,
            "payload.evicted": self.evicted,
            "payload.past_limit": self.past_limit,
            "payload.ignored": self.ignored,
            "pending_bytes": self.pending,
            "flow_payload.reported": self.flow_reported,
            "flow_payload.refused": self.flow_refused,
            "flow_payload.crash": 0,
            "flow_payload.off": self.flow_off + (
                0 if self.counts_flows else self.payload + self.udp_payload - self.off_since),
            "flow_open_bytes": self.flow_open,
            "udp_datagrams": self.udp_datagrams,
            "udp_payload_bytes": self.udp_payload,
            "gaps": self.gaps,
            "gap_bytes": self.gap_bytes,
            "out_of_order_segments": self.out_of_order,
            "ack_unseen": self.ack_unseen,
            "acked_unseen_bytes": self.acked_unseen,
            "midstream_streams": self.midstream,
            "messages.started": self.started,
            "messages.complete": self.complete,
            "messages.truncated": self.truncated,
            "messages.failed": self.failed,
            "messages.open": self.started - self.complete - self.truncated - self.failed,
            "head_bytes": self.head_bytes,
            "waiting_bytes": self.waiting_bytes,
            "given_up": self.given_up,
            "parse_errors": self.parse_errors,
            "resyncs": self.resyncs,
            "retracted": self.retracted,
            "not_http_bytes": sum([self.not_http_bytes[i] for i in range(KINDS_END)]),
            "skipped_bytes": self.skipped_bytes,
            "tunnels": self.tunnels,
            "tunnels_too_deep": self.tunnels_too_deep,
            "tunnel_bytes": self.tunnel_bytes,
            "websockets.started": self.websockets,
            "websockets.ended": self.websockets_ended,
            "websockets.open": self.websockets - self.websockets_ended,
            "websocket_bytes": self.websocket_bytes,
            "websocket_frames": self.websocket_frames,
            "websocket_messages": self.websocket_messages,
            "websocket_losses": self.websocket_losses,
            "websocket_resyncs": self.websocket_resyncs,
            "http2_streams_ended.crash": 0,
            "http2_streams_open": self.streams_open,
            "http2_table_bytes": self.table_bytes,
            "body_bytes.request": self.body_request,
            "body_bytes.response": self.body_response,
            "bodies_out_of_time": self.out_of_time,
            "decoded_bytes": self.decoded,
            "response_seconds.sum_ns": self.response_sum_ns,
        }
        for i in range(DATAGRAMS_END):
            counts[QUIC_SLOTS[i]] = self.datagrams[i]
        for i in range(HTTP2_COUNTS):
            counts[HTTP2_NAMES[i]] = self.http2[i]
        for i in range(METHODS_END):
            counts[REQUEST_SLOTS[i]] = self.requests[i]
        for i in range(CLASSES_END):
            counts[RESPONSE_SLOTS[i]] = self.responses[i]
        for i in range(ANOMALIES_END):
            counts[ANOMALY_SLOTS[i]] = self.anomalies[i]
        for i in range(WEBSOCKET_ANOMALIES_END):
            counts[WEBSOCKET_ANOMALY_SLOTS[i]] = self.websocket_anomalies[i]
        for i in range(BODIES_END):
            counts[BODY_SLOTS[i]] = self.bodies[i]
        for i in range(KINDS_END):
            counts[STREAM_KIND_SLOTS[i]] = self.not_http[i]
            counts[BYTE_KIND_SLOTS[i]] = self.not_http_bytes[i]
        for i in range(SPOKEN_END):
            counts[SPOKEN_SLOTS[i]] = self.connections[i]
            if i != SILENT:
                counts[SPEAKING_SLOTS[i]] = self.speaking[i]
        for i in range(PAIRINGS_END):
            counts[PAIRING_SLOTS[i]] = self.pairings[i]
        for i in range(BUCKETS_END):
            counts[BUCKET_SLOTS[i]] = self.response_buckets[i]
        for i in range(TOPICS_END):
            counts[MADE_SLOTS[i]] = self.made[i]
            counts[OVER_SHARE_SLOTS[i]] = self.over_share[i]
        return counts
