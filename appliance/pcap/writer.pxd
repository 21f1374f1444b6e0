# cython: language_level=3
from libc.stdint cimport uint32_t, uint64_t

from appliance.pcap.libpcap cimport pcap_dumper_t, u_char

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
    cdef int descriptor
    cdef char* buffer               # of the FILE that libpcap writes through
    cdef object failure             # the error of the system call
    cdef bint writing               # a thread is in write(2)
    cdef uint64_t written           # bytes written by the system
    cdef uint64_t flushed           # bytes written at the end of the last complete buffer
    cdef uint32_t waiting           # bytes in the buffer
    cdef uint32_t held              # frames in it
    cdef uint32_t ends[MOST_FRAMES]     # of these frames, from the start of the buffer
    cdef int open(self) except -1
    cdef int check_open(self) except -1
    cdef int append(self, const u_char* frame, Py_ssize_t length, uint64_t ts_ns, wirelen) except -1
    cdef int write_buffer(self) except -1
    cdef int end(self) noexcept
