# cython: language_level=3
from libc.stdint cimport uint32_t, uint64_t


cdef enum:                      # Limits.checksums
    CHECKSUMS_OFF
    CHECKSUMS_COUNT
    CHECKSUMS_DROP


cdef class Limits:
    cdef readonly uint64_t max_connections
    cdef readonly uint64_t idle_timeout_ns
    cdef readonly uint64_t closed_linger_ns
    cdef readonly uint64_t gap_timeout_ns
    cdef readonly uint64_t settle_ns
    cdef readonly uint64_t half_open_timeout_ns
    cdef readonly uint64_t max_half_open
    cdef readonly bint last_wins        # of bytes that came in two versions
    cdef readonly int checksums         # place in options.CHECKSUMS
    cdef readonly uint64_t max_pending_bytes
    cdef readonly uint64_t max_total_pending_bytes
    cdef readonly uint32_t max_pending_segments
    cdef readonly uint32_t max_head_bytes
    cdef readonly uint64_t max_total_head_bytes
    cdef readonly uint32_t max_headers
    cdef readonly uint64_t max_total_waiting_bytes
    cdef readonly uint32_t max_streams
    cdef readonly uint64_t max_streams_bytes
    cdef readonly uint64_t max_total_table_bytes
    cdef readonly uint64_t max_join_bytes
    cdef readonly int max_connect_depth
    cdef readonly uint64_t event_interval_ns
    cdef readonly uint32_t max_url_bytes
    cdef readonly bint flows            # connections have flow events
    cdef readonly uint64_t udp_timeout_ns
    cdef readonly uint64_t max_udp_flows
