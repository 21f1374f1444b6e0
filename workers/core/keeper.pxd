# cython: language_level=3
"""Keeper: keeps what a protocol knows of its connections in memory that outlives the process."""
from workers.core.context cimport Context


cdef class Keeper:
    cdef int flush(self, Context cx) except -1
    cdef int commit(self) noexcept
