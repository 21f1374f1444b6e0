# cython: language_level=3
"""QuicConnection: the Initial packets of one connection, to the facts of its handshake."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from workers.core.flow cimport Flow
from workers.quic.context cimport QuicContext
from workers.quic.crypto cimport CryptoStream
from workers.quic.keys cimport InitialKeys
from workers.quic.packet cimport Packet
from workers.tls.handshake cimport Handshake


cdef class QuicConnection:
    cdef QuicContext cx
    cdef readonly Handshake handshake
    cdef readonly object key        # of the table
    cdef Flow flow                  # its endpoints, for events; None: its owner gave none
    cdef readonly int client        # side that opened it; -1: no Initial was opened yet
    cdef readonly bint known        # both hellos were read: facts() are final
    cdef readonly uint32_t version  # of the client's first Initial; 0: not known
    cdef uint64_t first_number      # of its packet; versions follow from the lowest one
    cdef uint32_t again             # as in workers/core/flow.pxd
    cdef readonly uint64_t first_ns  # time stamp of its first Initial
    cdef readonly uint64_t last_ns  # the latest one of its datagrams
    cdef uint64_t since_ns          # clock of the context at its first Initial
    cdef bint retry                 # the server sent a Retry
    cdef bint[2] heard              # by side: it sent a datagram
    cdef uint32_t tries             # Initials that the budget let through
    cdef bint zero_rtt              # the client sent 0-RTT packets
    cdef set ids                    # destination connection ids that the client has used, and the server's own
    cdef InitialKeys client_keys
    cdef InitialKeys server_keys
    cdef CryptoStream client_stream
    cdef CryptoStream server_stream

    cdef bint answered(self) noexcept
    cdef bint datagram(self, int side, const uint8_t* p, uint32_t size, uint64_t ts_ns) except -1
    cdef bint initial(self, int side, const Packet* packet, uint64_t ts_ns) except -1
    cdef bytes open_client(self, int side, const Packet* packet)
    cdef int note_version(self, const Packet* packet) noexcept
    cdef int restart(self, uint32_t version) except -1
    cdef bytes open_server(self, const Packet* packet)
    cdef int frames(self, int side, bytes payload, uint64_t ts_ns) except -1
    cdef int crypto(self, int side, uint64_t offset, const uint8_t* p, uint32_t size, uint64_t ts_ns) except -1
    cdef int release(self) except -1


cdef str version_name(uint32_t version)
