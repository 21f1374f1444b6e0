# cython: language_level=3
from libc.stdint cimport uint32_t, uint64_t

from appliance.libpcap cimport pcap_dumper_t

cdef enum:
    BUFFER = 1 << 18            # bytes written at once
    RECORD_HEADER = 16
    MOST_FRAMES = 1 << 14       # that fit the buffer


cdef class PcapWriter:
    cdef readonly str name          # the path, or "-"
    cdef readonly int link_type     # DLT_* value
    cdef readonly int snaplen
    cdef readonly uint64_t frames   # written so far
    cdef uint64_t unit              # ns per unit of the time stamps' fraction
    cdef pcap_dumper_t* dumper      # NULL once closed
    cdef uint64_t flushed           # bytes in the file
    cdef uint32_t waiting           # bytes in the buffer
    cdef uint32_t held              # frames in it
    cdef uint32_t ends[MOST_FRAMES]     # of these frames, from the start of the buffer
    cdef int open(self) except -1
    cdef int check_open(self) except -1
    cdef int pass_on(self) except -1
    cdef int cut_back(self) noexcept
