# cython: language_level=3
"""Datagrams: the way of one UDP datagram from its record to the facts of a QUIC handshake."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from appliance.ipc.frame_batch cimport Record
from appliance.wire.flow_key cimport FlowKey
from workers.core.context cimport Context
from workers.quic.connection cimport QuicConnection
from workers.quic.table cimport QuicTable
from workers.udp.flows cimport UdpFlows


cdef class EarlyDatagram:
    cdef int side
    cdef bytes payload
    cdef uint64_t ts_ns
    cdef uint64_t since_ns      # clock
    cdef uint32_t refused       # Initials in it that the budget left out


cdef class Datagrams:
    cdef Context cx
    cdef QuicTable table
    cdef UdpFlows flows
    cdef bint has_flows         # all UDP datagrams come
    cdef bint halves            # several captures see the traffic
    cdef object early           # {key of the table: [EarlyDatagram]}, the longest waiting flow first
    cdef uint32_t waiting       # datagrams in it
    cdef uint64_t next_look     # clock of the next call of look()

    cdef int receive(self, const uint8_t* frame, const Record* record, int capture) except -1
    cdef QuicConnection open(self, bytes name, const FlowKey* key, int side, const uint8_t* payload, uint32_t size,
                             const Record* record, int capture)
    cdef bint take(self, bytes name, int side, const uint8_t* payload, uint32_t size, uint64_t ts_ns, bint may_wait) except -1
    cdef int describe(self, const FlowKey* key, const Record* record, int capture) except -1
    cdef int keep(self, bytes name, int side, const uint8_t* payload, uint32_t size, uint64_t ts_ns, uint32_t refused) except -1
    cdef int take_waiting(self, bytes name, const FlowKey* key, const Record* record, int capture) except -1
    cdef int give_up_oldest(self) except -1
    cdef int expire_early(self, uint64_t since_ns) except -1
    cdef int look(self) except -1
    cdef int release_ended(self) except -1
