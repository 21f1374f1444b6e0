# cython: language_level=3
from libc.stdint cimport uint64_t

from appliance.pcap.pcapng_blocks cimport PcapngReader
from appliance.pcap.bpf cimport LinkFilters
from appliance.pcap.libpcap cimport bpf_program, pcap_t
from appliance.pcap.packet_queue cimport PacketQueue
from appliance.pcap.savefile_reader cimport SavefileReader, frame_taker
from appliance.pcap.frame_sink cimport FrameSink


cdef class Handle:
    cdef pcap_t* handler            # owned: release() closes it; NULL once closed
    cdef char errbuf[256]           # PCAP_ERRBUF_SIZE: libpcap's message after a failure
    cdef readonly str source        # interface name, path, or "-"
    cdef readonly bint live
    cdef readonly int link_type     # DLT_* value
    cdef readonly bint precision_ns  # the source's time stamps have nanoseconds
    cdef readonly str warning       # libpcap's warning from opening the source, or ""
    cdef uint64_t scale             # ns per unit of the time stamp's fraction
    cdef uint64_t received          # pcap_stats, carried over 2**32
    cdef uint64_t dropped
    cdef uint64_t if_dropped
    cdef unsigned int last[3]
    cdef bint begun                 # frames have been read, or a filter is set
    cdef bint packet_socket         # the descriptor is a packet(7) socket
    cdef dict parts                 # compiled parts of the filter in force: a change compiles only new ones
    cdef dict parts_here            # the same for `here`
    cdef bytes here                 # instructions of a filter that runs here, not in the kernel; None: there is none
    cdef bpf_program here_program
    cdef uint64_t refused           # frames that `here` refused
    cdef bint direct                # filters go to the kernel without libpcap
    cdef bint mirror                # frames pass twice and libpcap drops one of two
    cdef int timeout_ms
    cdef uint64_t skip              # frames in the ring from before the first filter, still to be skipped
    cdef FrameSink sink             # while read_into() runs: the target of the callback
    cdef PacketQueue pending            # read for packets(), not yet returned
    cdef object failure             # exception of a callback
    cdef object broken              # the exception that ended the source, to be raised once nothing is pending
    cdef int pipe                   # descriptor of a stream that is read in pieces, or -1
    cdef bint pipe_is_ours
    cdef char* buffer               # of the FILE that libpcap reads through, or NULL (live)
    cdef SavefileReader records            # of a plain file, which is read without libpcap; None: libpcap reads
    cdef PcapngReader blocks              # of a pcapng capture, which is read without libpcap
    cdef int frame_link_type        # of the frame that a callback has
    cdef LinkFilters filters        # of such a capture; None: every frame passes
    cdef bytes first                # of a stream: the bytes read to detect its format, before libpcap reads
    cdef object idle                # called while the stream is empty, and periodically; None: block
    cdef uint64_t idle_ns           # longest time between two such calls
    cdef uint64_t idle_at           # CLOCK_MONOTONIC of the last one
    cdef int wake                   # eventfd that ends a wait, or -1
    cdef bint stopping
    cdef bint closing
    cdef bint reading               # a thread is in pcap_dispatch()
    cdef int busy                   # threads inside libpcap or waiting: while there are any, nothing is closed
    cdef int discard_waiting(self) except -1
    cdef bytes compiled_here(self, str text, bint vlan_aware)
    cdef int apply_here(self, bytes instructions) except -1
    cdef str filter_directly(self, str text, bint vlan_aware, str only)
    cdef int check_open(self) except -1
    cdef int leave(self) noexcept
    cdef int release(self) noexcept
    cdef int wait(self, int descriptor, short events, uint64_t wait_ns) except -1
    cdef int send(self, const void* frame, Py_ssize_t size) except -1
    cdef ssize_t read_piece(self, char* buffer, size_t size) except -1
    cdef int hand_over(self) except -1
    cdef int read_some(self, int limit, frame_taker taker) except -2
    cdef int fill(self, int limit, uint64_t idle_ns) except -2
    cdef object next_packet(self)
