# cython: language_level=3
"""The Tally: the counters of one data path, with those that need more than an addition."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from workers.core.counts cimport (
    ANOMALIES_END, BUCKETS_END, KINDS_END, SILENT, SPEAKS_HTTP, SPEAKS_OTHER, WEBSOCKET_ANOMALIES_END, PipelineCounts,
)

from appliance.stats.names import RESPONSE_BUCKETS_S


cdef uint64_t[BUCKETS_END] BOUNDS_NS
for place, bound in enumerate(RESPONSE_BUCKETS_S[:-1]):
    BOUNDS_NS[place] = int(bound * 1e9)


cdef class Tally(PipelineCounts):
    """The counters of one pipeline since it was made; stats.PIPELINE_GAUGES are as of now."""

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
        """Return {slot of the worker's stats page: value}."""
        cdef int kind
        cdef uint64_t not_http = 0
        for kind in range(KINDS_END):
            not_http += self.not_http_bytes[kind]
        counts = PipelineCounts.counts(self)
        if not self.counts_flows:
            counts["flow_payload.off"] += self.payload + self.udp_payload - self.off_since
        counts["not_http_bytes"] = not_http
        counts["messages.open"] = self.started - self.complete - self.truncated - self.failed
        counts["websockets.open"] = self.websockets - self.websockets_ended
        return counts
