# cython: language_level=3
"""UdpFlows: UDP datagrams to the records of their flows."""
from libc.stdint cimport uint32_t, uint64_t

from appliance.ipc.frame_batch cimport Record
from appliance.wire.flow_key cimport FlowKey
from workers.core.context cimport Context
from workers.core.flow cimport Flow
from workers.tcp.flow_counts cimport Counts, Past
from workers.tcp.flow_record cimport FlowState


cdef class UdpFlow:
    cdef Flow flow              # the endpoints for events
    cdef Flow quic              # of the QUIC connection in it; None: there is none
    cdef int client             # side of the client
    cdef uint64_t begun_ns      # time stamps of its frames
    cdef uint64_t newest_ns
    cdef uint64_t seen_ns       # clock of the last one
    cdef uint64_t due_ns        # clock of the next event
    cdef Counts[2] counts
    cdef Past* past


cdef class UdpFlows:
    cdef Context cx
    cdef object flows           # {key: UdpFlow}, the one that was silent longest first
    cdef uint64_t opened
    cdef uint64_t evicted

    cdef int take(self, bytes name, const FlowKey* key, int side, uint32_t size, const Record* record, int capture,
                  Flow quic, int client) except -1
    cdef UdpFlow begin(self, const FlowKey* key, int side, const Record* record, int capture)
    cdef int report(self, UdpFlow flow, FlowState state) except -1
    cdef int end(self, bytes name, UdpFlow flow, FlowState state) except -1
    cdef int end_oldest(self, FlowState state) except -1
    cdef int expire(self) except -1
    cdef int end_before(self, uint64_t now) except -1
    cdef int discard(self) except -1
    cdef int finish(self) except -1
