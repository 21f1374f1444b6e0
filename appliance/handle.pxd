# cython: language_level=3
from libc.stdint cimport uint64_t

from appliance.libpcap cimport BasePcap
from appliance.pending cimport Pending
from appliance.records cimport Records, frame_taker
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
    cdef bint begun                 # frames have been read, or a filter is set
    cdef bint packet_socket         # the descriptor is one of packet(7)
    cdef bint direct                # filters go to the kernel without libpcap
    cdef bint mirror                # where frames pass twice and libpcap drops one of two
    cdef int timeout_ms
    cdef uint64_t skip              # frames still to come out of the ring that came in before the first filter
    cdef Sharder sharder            # while shard() runs: where the callback puts frames
    cdef Pending pending            # read for packets(), not yet taken
    cdef object failure             # what a callback raised
    cdef object broken              # how the source ended, to be raised once nothing is pending
    cdef int pipe                   # descriptor of a stream that is read in pieces, or -1
    cdef bint pipe_is_ours
    cdef char* buffer               # of the FILE that libpcap reads through, or NULL (live)
    cdef Records records            # of a plain file, which are read without libpcap; None: libpcap reads
    cdef object idle                # called when the stream has nothing, and from time to time; None: wait for it
    cdef uint64_t idle_ns           # how long at most between two such calls
    cdef uint64_t idle_at           # CLOCK_MONOTONIC of the last one
    cdef int wake                   # eventfd that ends a wait, or -1
    cdef bint stopping
    cdef bint closing
    cdef bint reading               # a thread is in pcap_dispatch()
    cdef int busy                   # threads that are inside libpcap or wait: while there are any, nothing is closed
    cdef int discard_waiting(self) except -1
    cdef int check_open(self) except -1
    cdef int leave(self) noexcept
    cdef int release(self) noexcept
    cdef int wait(self, int descriptor, short events, uint64_t wait_ns) except -1
    cdef ssize_t read_piece(self, char* buffer, size_t size) except -1
    cdef int hand_over(self) except -1
    cdef int read_some(self, int limit, frame_taker taker) except -2
    cdef int fill(self, int limit, uint64_t idle_ns) except -2
    cdef object next_packet(self)
