# cython: language_level=3
"""QuicEncoder: the events of QUIC handshakes."""
from workers.tls.encoder cimport HandshakeEncoder


cdef class QuicEncoder(HandshakeEncoder):
    pass
