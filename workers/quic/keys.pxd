# cython: language_level=3
"""InitialKeys: the keys of one side's Initial packets."""
from libc.stdint cimport uint32_t, uint64_t

from workers.quic.packet cimport Packet


cdef class InitialKeys:
    cdef readonly uint32_t version
    cdef readonly bytes connection_id   # that they are derived from
    cdef bint server
    cdef object aead                    # None: not derived
    cdef object header_cipher
    cdef bytes iv
    cdef uint64_t largest               # packet number that was opened
    cdef uint64_t number                # … of the last one

    cdef int derive(self) except -1
    cdef int forget(self) except -1
    cdef bytes open(self, const Packet* packet)


cpdef int load_ciphers() except -1
cdef InitialKeys initial_keys(uint32_t version, bytes connection_id, bint server)
