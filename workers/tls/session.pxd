# cython: language_level=3
"""Session: the secrets of a TLS connection, and the keys of its directions."""
from workers.tls.direction cimport Direction
from workers.tls.handshake cimport Handshake


cdef enum Supply:
    MISSING                     # a secret has not come yet
    READY
    WRONG                       # the secret is none of this cipher suite


cdef class Session:
    cdef Handshake handshake
    cdef object store           # KeyStore
    cdef object secrets         # Secrets; None: not found yet
    cdef bytes random           # of the client; None: not known yet
    cdef bint has_hellos        # enough of the handshake is known to look for secrets
    cdef bint modern            # TLS 1.3
    cdef bint awaits_answer     # the client's early data wait for the server's answer to them
    cdef bint answered          # … which has come
    cdef bint early             # … and accepts them

    cdef Supply supply(self, int side, Direction low, Direction high, object owner) except *
    cdef Supply old_keys(self, Direction low, Direction high) except *
    cdef bytes open_otherwise(self, int side, Direction one)
    cdef int close(self, object owner) except -1
