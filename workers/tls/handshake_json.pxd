# cython: language_level=3
"""The part of an event that a TLS handshake fills, as JSON."""
from libc.stdint cimport uint8_t

from workers.tls.handshake cimport Handshake


cdef size_t handshake_bound(Handshake handshake) except? 0
cdef uint8_t* put_tls(uint8_t* out, Handshake handshake) except NULL
cdef uint8_t* put_own_tls(uint8_t* out, Handshake handshake) except NULL
