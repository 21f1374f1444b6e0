# cython: language_level=3
from libc.stdint cimport uint64_t

from pylibpcap.base cimport BasePcap

from appliance.shard cimport Sharder


cdef class Handle(BasePcap):
    cdef readonly str source        # interface name, path, or "-"
    cdef readonly bint live
    cdef readonly int link_type     # DLT_* value
    cdef readonly bint precision_ns  # the source's time stamps have nanoseconds
    cdef readonly str warning       # what libpcap had to say although it opened the source, or ""
    cdef uint64_t scale             # ns per unit of the time stamp's fraction
    cdef uint64_t received          # pcap_stats, carried over 2**32
    cdef uint64_t dropped
    cdef uint64_t if_dropped
    cdef unsigned int last[3]
    cdef bint begun                 # frames have been read
    cdef int timeout_ms
    cdef Sharder sharder            # while shard() runs: where the callback puts frames
    cdef object failure             # what a callback raised
    cdef int pipe                   # descriptor of a stream that is read in pieces
    cdef object idle                # called when the stream has nothing, and from time to time
    cdef uint64_t idle_ns           # how long at most between two such calls
    cdef uint64_t idle_at           # CLOCK_MONOTONIC of the last one
    cdef int compile(self, str text, void* program) except -1
