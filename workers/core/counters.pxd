# cython: language_level=3
"""Counters of the data path: plain 64-bit integers, read once per batch. counts.pxd has their fields."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from workers.core.counts cimport PipelineCounts


cdef class Tally(PipelineCounts):
    # payload bytes: payload = delivered + duplicate + conflicting + out_of_window +
    #   unacknowledged + late + evicted + past_limit + ignored + pending
    # flow events: payload of TCP and UDP = flow_reported + flow_refused + flow_off + flow_open
    # messages: started = complete + truncated + failed + open
    cdef bint counts_flows              # the dataset is on
    cdef uint64_t off_since             # both payloads when it was turned off
    cdef void spoke(self, uint8_t* before, int what) noexcept nogil
    cdef void spoke_last(self, uint8_t* before, bint any_bytes) noexcept nogil
    cdef void count_flows(self, bint on) noexcept nogil
    cdef void odd(self, uint64_t anomalies) noexcept nogil
    cdef void odd_websocket(self, uint32_t anomalies) noexcept nogil
    cdef void response_time(self, uint64_t ns) noexcept nogil
