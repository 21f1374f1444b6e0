# cython: language_level=3
"""What the hot rooms count: plain 64-bit integers, read once per batch."""
from libc.stdint cimport uint64_t

cdef enum:
    METHODS_END = 10
    CLASSES_END = 5
    PAIRINGS_END = 5
    BUCKETS_END = 14
    TOPICS_END = 6
    KINDS_END = 5
    BODIES_END = 6
    ANOMALIES_END = 40


cdef class Tally:
    # frames
    cdef uint64_t segments
    cdef uint64_t bad_header
    cdef uint64_t no_connection
    cdef uint64_t bad_checksum          # dropped for it
    cdef uint64_t duplicate_frames
    cdef uint64_t checksums_bad
    cdef uint64_t checksums_offloaded
    cdef uint64_t checksums_unverified
    cdef uint64_t urgent
    cdef uint64_t resets_ignored
    # connections
    cdef uint64_t flows                 # now
    cdef uint64_t half_open             # of these, attempts that nothing has proven yet
    cdef uint64_t flows_opened
    cdef uint64_t one_sided             # ended, and one direction was never seen
    cdef uint64_t ended_fin
    cdef uint64_t ended_rst
    cdef uint64_t ended_timeout
    cdef uint64_t ended_evicted
    cdef uint64_t ended_half_open
    cdef uint64_t ended_reused
    cdef uint64_t ended_shutdown
    # payload bytes: payload = delivered + duplicate + conflicting + out_of_window +
    #   unacknowledged + late + evicted + past_limit + ignored + pending
    cdef uint64_t payload
    cdef uint64_t delivered
    cdef uint64_t duplicate
    cdef uint64_t conflicting
    cdef uint64_t out_of_window
    cdef uint64_t unacknowledged
    cdef uint64_t late
    cdef uint64_t evicted
    cdef uint64_t past_limit
    cdef uint64_t ignored
    cdef uint64_t pending               # now
    # loss
    cdef uint64_t gaps
    cdef uint64_t gap_bytes
    cdef uint64_t out_of_order
    cdef uint64_t ack_unseen
    cdef uint64_t acked_unseen          # bytes that a receiver acknowledged and that were never captured
    cdef uint64_t midstream
    # messages: started = complete + truncated + failed + open
    cdef uint64_t started
    cdef uint64_t complete
    cdef uint64_t truncated
    cdef uint64_t failed
    cdef uint64_t head_bytes            # gathered of heads that are not whole, now
    cdef uint64_t requests[METHODS_END]
    cdef uint64_t responses[CLASSES_END]
    cdef uint64_t pairings[PAIRINGS_END]
    cdef uint64_t parse_errors
    cdef uint64_t[ANOMALIES_END] anomalies  # transactions that have one, by its bit
    cdef uint64_t resyncs
    cdef uint64_t retracted             # complete messages that were text in a body, and are in no event
    cdef uint64_t[KINDS_END] not_http   # streams, by start.pxd's Kind
    cdef uint64_t not_http_bytes        # of these streams
    cdef uint64_t skipped_bytes         # of HTTP streams, outside every message
    cdef uint64_t tunnels
    cdef uint64_t tunnel_bytes
    cdef uint64_t body_request
    cdef uint64_t body_response
    cdef uint64_t[BODIES_END] bodies    # that were looked into, by stats.BODY_OUTCOMES
    cdef uint64_t decoded               # bytes that their codings were undone to
    cdef uint64_t response_buckets[BUCKETS_END]
    cdef uint64_t response_sum_ns
    cdef uint64_t made[TOPICS_END]
    cdef void odd(self, uint64_t anomalies) noexcept nogil
    cdef void response_time(self, uint64_t ns) noexcept nogil
