# cython: language_level=3
"""HandshakeEncoder: writes the events of TLS handshakes."""
from libc.stdint cimport uint8_t, uint64_t

from workers.core.flow cimport Flow
from workers.events.record_encoder cimport RecordEncoder
from workers.tls.handshake cimport Handshake


cdef class HandshakeEncoder(RecordEncoder):
    cdef size_t handshake_room(self, Flow flow, Handshake handshake) except 0
    cdef uint8_t* put_handshake(self, uint8_t* out, Flow flow, Handshake handshake, uint64_t first_ns, uint64_t last_ns,
                                uint64_t index) except NULL
