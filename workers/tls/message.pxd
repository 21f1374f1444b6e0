# cython: language_level=3
"""HandshakeMessages: the messages in one direction's handshake bytes."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from workers.tls.context cimport TlsContext


cdef enum HandshakeType:        # RFC 8446, section 4, and RFC 5246, section 7.4
    CLIENT_HELLO = 1
    SERVER_HELLO = 2
    NEW_SESSION_TICKET = 4
    ENCRYPTED_EXTENSIONS = 8
    CERTIFICATE = 11
    SERVER_KEY_EXCHANGE = 12
    CERTIFICATE_REQUEST = 13
    SERVER_HELLO_DONE = 14
    CERTIFICATE_VERIFY = 15
    CLIENT_KEY_EXCHANGE = 16
    FINISHED = 20
    CERTIFICATE_STATUS = 22


cdef struct Source:             # what is left of a piece
    const uint8_t* p
    const uint8_t* end
    uint64_t ts_ns


cdef class HandshakeMessages:
    cdef uint8_t[4] header
    cdef uint8_t header_size    # bytes of it that are there; 4: inside a message
    cdef uint8_t type           # of the current message, or of the last one
    cdef uint32_t length        # of its body
    cdef uint32_t passed        # bytes of its body that are read, skipped or missing
    cdef uint32_t want          # bytes of its body that take() gathers
    cdef uint32_t missing       # bytes of its body that were never captured
    cdef bint ready             # take() or gap() has returned it
    cdef bint cut               # a limit left out some of `want`
    cdef bint lost              # where the next message begins is not known
    cdef bytearray held         # what is gathered; None: nothing
    cdef uint64_t started_ns    # time stamp of the message's first byte
    cdef const uint8_t* body    # body of the ready message: valid until the next call
    cdef uint32_t size

    cdef bint take(self, Source* source, const uint8_t* stop, TlsContext cx) except -1
    cdef bint gap(self, uint64_t count, TlsContext cx) except -1
    cdef bint whole(self) noexcept
    cdef int restart(self, TlsContext cx) except -1
    cdef int release(self, TlsContext cx) except -1
    cdef int start(self, TlsContext cx) except -1
    cdef bint more_of_certificate(self, const uint8_t* six, TlsContext cx) except -1
    cdef bint hold(self, const uint8_t* p, uint32_t count, TlsContext cx) except -1
    cdef int hand_out(self, const uint8_t* p, uint32_t size) except -1
