# cython: language_level=3
"""FinishedHandshake: the record that an application of TLS or QUIC appends to Context.out."""
cimport cython


@cython.final
@cython.no_gc
cdef class FinishedHandshake:
    """A handshake that is over, with what its event needs beside it."""
