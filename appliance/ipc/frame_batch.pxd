# cython: language_level=3
"""The layout of a batch of frames between a capture and a worker.

    one message = Header (64 bytes)  Record frame  Record frame  …        all numbers little-endian
                                     |40|    |caplen, padded to 8|

A Record carries the capture's results for its frame, so that the worker does not compute them again. BatchReader checks
a Record against the length of the message before a byte of the frame is read.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    HEADER_BYTES = 64
    RECORD_BYTES = 40
    VERSION = 1
    KEPT = 16                   # batches that a worker keeps behind the one it reads: workers/core/delivered_bytes.pyx
    FLAG_END = 1                # the capture is done: nothing follows on this link
    FLAG_REASSEMBLED = 2        # a frame of the batch has RECORD_REASSEMBLED
    FLAG_CLOCK = 4              # last_ts_ns is the highest time stamp of the capture before the batch's frames
    MOST_TURNS = 31             # of the capture's time stamps within a batch
    DISORDER_NS = 100_000_000   # of frames that came over several queues or interfaces: no turn of the time stamps


cdef extern from *:
    """
    #define RECORD_REASSEMBLED ((uint64_t)1 << 46)
    #define VLAN_BITS ((((uint64_t)1 << 48) - 1) ^ RECORD_REASSEMBLED)
    #define RECORD_UDP ((uint64_t)1 << 12)
    #define RECORD_AMBIGUOUS ((uint64_t)1 << 48)
    #define RECORD_CHECKSUM 49
    #define RECORD_TURNS 51
    #define RECORD_SHED 56
    """
    const uint64_t VLAN_BITS            # of Record.vlans: the tags
    const uint64_t RECORD_UDP           # of Record.vlans, where an id has no bit: UDP_FLOW of flow_key.pxd
    const uint64_t RECORD_REASSEMBLED   # of Record.vlans, where an id has no bit: a datagram put together from fragments
    const uint64_t RECORD_AMBIGUOUS     # of Record.vlans: a datagram put together from fragments that contradict each other
    const int RECORD_CHECKSUM           # bits below two that are a Checksum (checksum.pxd)
    const int RECORD_TURNS              # bits below five: how often the time stamps have turned back since the batch began
    const int RECORD_SHED               # bits below the share of new flows shed, in 256ths, at the start of this flow


cdef struct Header:
    uint8_t magic[4]            # "HCB1"
    uint16_t capture            # which capture process (index of its interface)
    uint16_t flags
    uint64_t epoch              # start of the capture process, ns
    uint64_t sequence           # of this batch on its link, from 0 in each epoch
    uint64_t cumulative         # frames sent on this link before this batch, over all epochs of a run
    uint32_t frames
    uint32_t length             # bytes of the whole message
    uint64_t sealed_ns          # CLOCK_MONOTONIC when the batch was closed
    uint64_t last_ts_ns         # time stamp of its last frame; with FLAG_END or FLAG_CLOCK the highest one of the capture
    uint32_t turns              # how often the capture's time stamps had turned back when the batch began
    uint32_t link_type          # of the frames, in libpcap's numbers; where frames are recorded, all have the same


cdef struct Record:
    uint64_t ts_ns              # since the epoch of 1970
    uint64_t hash               # keyed flow hash
    uint64_t vlans              # location.pxd, below VLAN_BITS; above it RECORD_…
    uint32_t caplen
    uint32_t wirelen
    uint32_t tcp_length
    uint16_t net                # offsets from the start of the frame, proven by locate: at least 20 bytes at tcp
    uint16_t tcp


cdef class BatchReader:
    cdef Py_buffer message      # of the open message; a typed memoryview costs 20,000 lines of C in each room that reads batches
    cdef const uint8_t* data    # the message's first byte
    cdef Header header
    cdef uint32_t at
    cdef uint32_t left          # records not yet read
    cdef uint32_t ahead_at      # peek() is here
    cdef uint32_t ahead_left
    cdef int open(self, message) except -1
    cdef int close(self) noexcept
    cdef uint64_t peek(self) noexcept nogil
    cdef const uint8_t* next(self, Record* out) except? NULL
