# cython: language_level=3
"""RecordReader: in-order bytes of one direction to what its TLS records contain (RFC 8446, section 5.1).

Handshake messages may lie in any number of records; encrypted records are skipped by their length, at no cost a byte. A gap is
counted off the record that it lies in. A gap that holds the end of a record leaves the reader LOST: it then looks for a record
header at the start of each piece, and believes one whose length leads to another header or past the end of the piece.

Length proof: every function reads p[i] only for i < end - p.
"""
cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from workers.tls.message cimport (
    CERTIFICATE, CERTIFICATE_REQUEST, CERTIFICATE_STATUS, CLIENT_HELLO, CLIENT_KEY_EXCHANGE, NEW_SESSION_TICKET, SERVER_HELLO,
    SERVER_HELLO_DONE, SERVER_KEY_EXCHANGE,
)

cdef enum:
    HEADER_SIZE = 5
    LONGEST = 16384 + 2048      # of a record's body (RFC 5246, section 6.2.3)
    MAJOR = 3                   # of every version from SSL 3.0 on
    EVERYTHING = 1 << 30        # longer than any message
    LEAST_HELLO = 2 + 32 + 1 + 2 + 1        # of a hello's body: version, random, no session id, a suite, a compression method
    SESSION_AT = 5 + 4 + 2 + 32     # from the record's first byte to the length of the session id


cdef bint is_record_header(const uint8_t* p, size_t size) noexcept nogil:
    """Return whether these bytes are the header of a record or the beginning of one."""
    if size >= 1 and not CHANGE_CIPHER_SPEC <= p[0] <= HEARTBEAT:
        return False
    if size >= 2 and p[1] != MAJOR:
        return False
    if size >= 3 and p[2] > 4:
        return False
    return size < HEADER_SIZE or p[3] << 8 | p[4] <= LONGEST


cdef bint may_begin_hello(const uint8_t* p, size_t size) noexcept nogil:
    """Return whether these bytes begin a record with a ClientHello or ServerHello; few bytes may begin one."""
    if not is_record_header(p, size) or (size >= 1 and p[0] != HANDSHAKE):
        return False
    if size >= 5 and p[3] == 0 and p[4] == 0:
        return False
    return (size < 6 or p[5] == CLIENT_HELLO or p[5] == SERVER_HELLO) and (size < 7 or p[6] <= 1)


cdef bint begins_hello(const uint8_t* p, size_t size) noexcept nogil:
    """Return whether these bytes begin a hello with near certainty, in the middle of any other bytes.

    That takes a record header, and a message whose length suffices for its parts and agrees with the record's. A ServerHello
    may share its record with other messages.
    """
    cdef uint32_t record, message
    if size < CERTAIN or p[0] != HANDSHAKE or p[1] != MAJOR or p[2] > 4 or p[9] != MAJOR or p[10] > 4:
        return False
    record = p[3] << 8 | p[4]
    message = p[6] << 16 | p[7] << 8 | p[8]
    if record > LONGEST or message < LEAST_HELLO or (size > SESSION_AT and p[SESSION_AT] > 32):
        return False
    return (p[5] == CLIENT_HELLO and p[6] <= 1 and 4 < record <= message + 4) or (p[5] == SERVER_HELLO and message + 4 <= record)


cdef bint is_clear_message(const uint8_t* p, size_t size, uint32_t record) noexcept nogil:
    """Return whether a clear message begins a record of this length, behind a gap. Encrypted bytes must hardly ever pass."""
    cdef uint32_t length
    if size < 7:
        return False
    length = p[1] << 16 | p[2] << 8 | p[3]
    if p[0] == CERTIFICATE:
        return length >= 3 and <uint32_t>(p[4] << 16 | p[5] << 8 | p[6]) == length - 3
    if p[0] not in (CLIENT_HELLO, SERVER_HELLO, NEW_SESSION_TICKET, SERVER_KEY_EXCHANGE, CERTIFICATE_REQUEST,
                    SERVER_HELLO_DONE, CLIENT_KEY_EXCHANGE, CERTIFICATE_STATUS):
        return False
    return length + 4 <= record


@cython.final
cdef class RecordReader:
    def __cinit__(self):
        self.messages = HandshakeMessages.__new__(HandshakeMessages)
        self.fresh = True

    cdef Step step(self, Source* source, TlsContext cx) except *:
        """Read on in a piece until something is found. After each piece the owner sets `fresh`."""
        cdef const uint8_t* start
        cdef const uint8_t* stop
        cdef Step found
        while True:
            if self.state == REFUSED:
                source.p = source.end
                return NOT_TLS
            if self.state == LOST and not self.find(source, cx):
                source.p = source.end
                return NEED_MORE
            if self.state == IN_HEADER:
                if source.p == source.end:
                    return NEED_MORE
                if not self.read_header(source):
                    if self.state != REFUSED:
                        return NEED_MORE
                    self.messages.release(cx)
                    cx.not_tls += 1
                    continue
                self.begin_body(source.p, source.end, cx)
                if self.hidden:
                    return ENCRYPTED
                if self.type == CHANGE_CIPHER_SPEC:
                    return CIPHER_CHANGED
            if self.remaining <= <uint64_t>(source.end - source.p):
                stop = source.p + self.remaining
            else:
                stop = source.end
            start = source.p
            found = NEED_MORE
            if self.hidden:
                source.p = stop
            elif self.type == HANDSHAKE:
                if self.messages.take(source, stop, cx):
                    found = MESSAGE
            elif self.type == ALERT and self.alert_size < 2:
                while self.alert_size < 2 and source.p < stop:
                    self.alert[self.alert_size] = source.p[0]
                    self.alert_size += 1
                    source.p += 1
                if self.alert_size == 2:
                    found = ALERTED
            else:
                source.p = stop
            self.remaining -= <uint32_t>(source.p - start)
            if self.remaining == 0:
                self.state = IN_HEADER
                self.header_size = 0
            if found != NEED_MORE:
                return found
            if self.state == IN_BODY and source.p == source.end:
                return NEED_MORE

    cdef bint read_header(self, Source* source) except -1:
        """Gather the header of a record. False: more is needed, or it is none and the reader is REFUSED."""
        while self.header_size < HEADER_SIZE and source.p < source.end:
            self.header[self.header_size] = source.p[0]
            self.header_size += 1
            source.p += 1
            if not is_record_header(self.header, self.header_size):
                self.state = REFUSED
                return False
        return self.header_size == HEADER_SIZE

    cdef int begin_body(self, const uint8_t* p, const uint8_t* end, TlsContext cx) except -1:
        """Begin the body of a record. `p`: its first bytes in this piece."""
        self.type = self.header[0]
        self.version = self.header[1] << 8 | self.header[2]
        self.length = self.remaining = self.header[3] << 8 | self.header[4]
        self.hidden = self.type == APPLICATION_DATA or (self.ciphered and self.type != CHANGE_CIPHER_SPEC)
        self.state = IN_BODY
        self.begun = True
        self.alert_size = 0
        if self.type == ALERT and self.length != 2:
            self.hidden = True              # several alerts in one record are not sent: this one is encrypted
        elif self.type == HANDSHAKE and not self.hidden and self.messages.lost \
                and is_clear_message(p, end - p, self.length):
            self.messages.restart(cx)
        return 0

    cdef bint find(self, Source* source, TlsContext cx) except -1:
        """Return whether a record begins with this piece, while LOST."""
        cdef size_t size = source.end - source.p
        cdef size_t length
        if not self.fresh or size < HEADER_SIZE:
            return False
        self.fresh = False
        if not is_record_header(source.p, size):
            return False
        length = HEADER_SIZE + (source.p[3] << 8 | source.p[4])
        if length == HEADER_SIZE or (length < size and not is_record_header(source.p + length, size - length)):
            return False
        self.state = IN_HEADER
        self.header_size = 0
        cx.resynchronised += 1
        return True

    cdef bint gap(self, uint64_t count, TlsContext cx) except -1:
        """Skip `count` missing bytes; return whether the beginning of a message becomes ready by that."""
        if self.state == LOST or self.state == REFUSED or count == 0:
            return False
        if self.state == IN_BODY and count <= self.remaining:
            self.remaining -= <uint32_t>count
            if self.remaining == 0:
                self.state = IN_HEADER
                self.header_size = 0
            return self.type == HANDSHAKE and not self.hidden and self.messages.gap(count, cx)
        # The gap holds record headers, so that where a message goes on is not known: its rest counts as missing.
        self.state = LOST
        return self.messages.gap(EVERYTHING, cx)


def hello_may_begin(bytes data not None):
    """Return whether these bytes begin a record with a ClientHello or ServerHello; fewer than 7 only may."""
    return may_begin_hello(<const uint8_t*><char*>data, len(data))
