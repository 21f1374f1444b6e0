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
    cdef object failure             # what the callback raised
    cdef int compile(self, str text, void* program) except -1
