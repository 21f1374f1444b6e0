# cython: language_level=3
"""FinishedHandshake: a handshake whose event can be written."""
from libc.stdint cimport uint64_t

from workers.core.flow cimport Flow
from workers.tls.handshake cimport Handshake


cdef class FinishedHandshake:
    cdef Handshake handshake
    cdef Flow flow
    cdef uint64_t first_ns      # of its first captured byte
    cdef uint64_t last_ns       # of the bytes that ended it
    cdef uint64_t index         # tells it from others of its connection with the same first_ns
