# cython: language_level=3
"""Flow: the part of a connection that its events show, and their use of the backlog."""
cimport cython


@cython.final
@cython.no_gc
cdef class Flow:
    pass
