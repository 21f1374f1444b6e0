# cython: language_level=3
"""RecordReader: the record layer of one direction."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from workers.tls.context cimport TlsContext
from workers.tls.message cimport HandshakeMessages, Source

cdef enum:
    CERTAIN = 11                # bytes from a record's first up to legacy_version of its ClientHello


cdef enum Content:              # RFC 8446, section 5.1
    CHANGE_CIPHER_SPEC = 20
    ALERT = 21
    HANDSHAKE = 22
    APPLICATION_DATA = 23
    HEARTBEAT = 24


cdef enum Step:                 # why step() returned
    NEED_MORE                   # the piece is used up
    MESSAGE                     # a message of the handshake: see RecordReader.messages
    CIPHER_CHANGED              # a ChangeCipherSpec
    ALERTED                     # an alert in the clear: RecordReader.alert
    ENCRYPTED                   # an encrypted record begins: RecordReader.type and .length
    NOT_TLS                     # these bytes are no records


cdef enum RecordState:
    IN_HEADER
    IN_BODY
    LOST                        # behind a gap: where a record begins is not known
    REFUSED                     # no TLS


cdef class RecordReader:
    cdef RecordState state
    cdef uint8_t[5] header
    cdef uint8_t header_size    # bytes of it that are there
    cdef uint8_t type           # of the current record
    cdef uint16_t version
    cdef uint32_t length        # of its body
    cdef uint32_t remaining     # … still to come
    cdef bint hidden            # its body is encrypted
    cdef bint ciphered          # set by the owner: all records from the next one on are encrypted
    cdef bint begun             # a record was read
    cdef bint fresh             # find() has not seen the current piece yet
    cdef uint8_t[2] alert       # level, description
    cdef uint8_t alert_size
    cdef HandshakeMessages messages

    cdef Step step(self, Source* source, TlsContext cx) except *
    cdef bint gap(self, uint64_t count, TlsContext cx) except -1
    cdef bint read_header(self, Source* source) except -1
    cdef int begin_body(self, const uint8_t* p, const uint8_t* end, TlsContext cx) except -1
    cdef bint find(self, Source* source, TlsContext cx) except -1


cdef bint is_record_header(const uint8_t* p, size_t size) noexcept nogil
cdef bint may_begin_hello(const uint8_t* p, size_t size) noexcept nogil
cdef bint begins_hello(const uint8_t* p, size_t size) noexcept nogil
