# cython: language_level=3
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from appliance.ipc.frame_batch cimport Header
from appliance.wire.ip_reassembler cimport Defragmenter, Whole
from appliance.wire.flow_key cimport FlowKey, HashKey
from appliance.pcap.frame_sink cimport FrameSink
from appliance.wire.location cimport VERDICTS_END, Location, Settings
from appliance.capture.shed_flows cimport ShedSet

cdef enum:
    MAX_WORKERS = 256


cdef struct Slot:               # one worker's: its open batch, and what is left out of it
    uint8_t* data               # NULL while none is open
    uint32_t used
    uint32_t capacity
    uint32_t frames
    uint32_t flags              # FLAG_REASSEMBLED, FLAG_CLOCK
    uint64_t clock_ns           # with FLAG_CLOCK: the header's last_ts_ns
    bint behind                 # time stamps have turned back, and the worker may not know the highest one
    uint32_t shed               # share of the new flows of this worker that is left out, in 256ths
    uint32_t shed_most          # the highest that it was since it was 0: below it, flows may be in the set
    uint64_t last_ts_ns
    uint64_t opened_ns          # CLOCK_MONOTONIC of its first frame
    uint64_t turns              # of the time stamps before its first frame


cdef class Sharder(FrameSink):
    cdef readonly int workers
    cdef Settings settings
    cdef bint checksums
    cdef bint one_link          # every batch has frames of one link type
    cdef HashKey key
    cdef Defragmenter defragmenter
    cdef uint32_t batch_bytes
    cdef uint64_t epoch
    cdef int capture
    cdef Slot slots[MAX_WORKERS]
    cdef list buffers           # the bytearray behind each slot
    cdef list spare             # bytearrays to be used again
    cdef list lent              # other memory to be used first: supply()
    cdef list sealed            # (worker, frames, memoryview)
    cdef uint64_t offered[MAX_WORKERS]
    cdef uint64_t rejected[<int>VERDICTS_END]
    cdef uint64_t reassembled   # datagrams made of fragments
    cdef ShedSet shed_set
    cdef readonly uint32_t salt     # of the places of flows
    cdef uint64_t shed_frames
    cdef uint64_t shed_bytes
    cdef uint64_t frames
    cdef uint64_t bytes
    cdef uint64_t wire_bytes
    cdef uint64_t truncated
    cdef uint64_t last_ts_ns
    cdef uint64_t highest_ns    # the highest time stamp before they last turned back
    cdef uint64_t newest_ns     # the highest time stamp since they turned back the last time
    cdef uint64_t turns         # how often they did
    cdef bint leave_out(self, Slot* slot, const FlowKey* flow, uint64_t hash, uint64_t ts_ns,
                        const uint8_t* frame, const Location* found, uint64_t* marks) except -1
    cdef int reassemble(self, uint64_t ts_ns, const uint8_t* frame, Location* place, Whole* whole) except -1
    cdef int tell_clock(self, int worker, uint32_t need) except -1
    cdef int open_slot(self, int worker, uint32_t need) except -1
    cdef int seal_slot(self, int worker, int flags) except -1
