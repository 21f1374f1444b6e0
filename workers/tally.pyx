# cython: language_level=3
"""The Tally's names: those of the worker's stats page (appliance/stats.py, PIPELINE_COUNTERS)."""
from libc.stdint cimport uint64_t

from appliance.stats import ANOMALIES, BODY_OUTCOMES, METHODS, NOT_HTTP, RESPONSE_BUCKETS_S, TOPICS

PAIRINGS = ("ordered", "verified", "uncertain", "request_only", "response_only")
CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")

cdef uint64_t[BUCKETS_END] BOUNDS_NS
for place, bound in enumerate(RESPONSE_BUCKETS_S[:-1]):
    BOUNDS_NS[place] = int(bound * 1e9)
if (len(METHODS), len(RESPONSE_BUCKETS_S), len(TOPICS), len(NOT_HTTP), len(ANOMALIES), len(BODY_OUTCOMES)) != (
        METHODS_END, BUCKETS_END, TOPICS_END, KINDS_END, ANOMALIES_END, BODIES_END):
    raise ImportError("workers/tally.pxd and appliance/stats.py disagree about how many names of a kind there are")


cdef class Tally:
    """Counts of one pipeline since it was made; flows, pending_bytes, head_bytes and messages.open are as of now."""

    cdef void odd(self, uint64_t anomalies) noexcept nogil:
        """A transaction leaves with these anomalies."""
        cdef int bit
        for bit in range(ANOMALIES_END):
            self.anomalies[bit] += anomalies >> bit & 1

    cdef void response_time(self, uint64_t ns) noexcept nogil:
        cdef int bucket = 0
        while bucket < BUCKETS_END - 1 and ns > BOUNDS_NS[bucket]:
            bucket += 1
        self.response_buckets[bucket] += 1
        self.response_sum_ns += ns

    def counts(self):
        """{name: value} for the worker's stats page."""
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
            "parse_errors": self.parse_errors,
            "resyncs": self.resyncs,
            "retracted": self.retracted,
            "not_http_bytes": self.not_http_bytes,
            "skipped_bytes": self.skipped_bytes,
            "tunnels": self.tunnels,
            "tunnel_bytes": self.tunnel_bytes,
            "body_bytes.request": self.body_request,
            "body_bytes.response": self.body_response,
            "decoded_bytes": self.decoded,
            "response_seconds.sum_ns": self.response_sum_ns,
        }
        for i, name in enumerate(METHODS):
            counts[f"requests.{name}"] = self.requests[i]
        for i, name in enumerate(CLASSES):
            counts[f"responses.{name}"] = self.responses[i]
        for i, name in enumerate(ANOMALIES):
            counts[f"anomalies.{name}"] = self.anomalies[i]
        for i, name in enumerate(BODY_OUTCOMES):
            counts[f"bodies.{name}"] = self.bodies[i]
        for i, name in enumerate(NOT_HTTP):
            counts[f"not_http_streams.{name}"] = self.not_http[i]
        for i, name in enumerate(PAIRINGS):
            counts[f"pairing.{name}"] = self.pairings[i]
        for i, bound in enumerate(RESPONSE_BUCKETS_S):
            counts[f"response_seconds.le.{bound}"] = self.response_buckets[i]
        for i, topic in enumerate(TOPICS):
            counts[f"made.{topic}"] = self.made[i]
        return counts
