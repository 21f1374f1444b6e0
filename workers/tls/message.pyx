# cython: language_level=3
"""HandshakeMessages: handshake bytes of one direction, in order, to its messages (RFC 8446, section 4).

A message is ready as soon as the wanted bytes of its body have come: a whole hello, the first certificate of a chain, the name of
the curve of a key exchange, none of any other message. The rest is skipped by length. A message that lies whole in one piece is
not copied.

Length proof: every function reads p[i] only for i < stop - p; the body of a ready message is `size` bytes long.
"""
cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    HEADER_SIZE = 4
    BEFORE_LEAF = 6             # bytes of a Certificate's body before its first certificate
    CURVE = 3                   # bytes of a ServerKeyExchange that name its curve


@cython.final
cdef class HandshakeMessages:
    cdef bint take(self, Source* source, const uint8_t* stop, TlsContext cx) except -1:
        """Read up to `stop`, or until a message is ready: then return True."""
        cdef uint32_t available, count
        while True:
            if self.lost:
                source.p = stop
                return False
            if self.header_size < HEADER_SIZE:
                if source.p == stop:
                    return False
                if self.header_size == 0:
                    self.started_ns = source.ts_ns
                while self.header_size < HEADER_SIZE and source.p < stop:
                    self.header[self.header_size] = source.p[0]
                    self.header_size += 1
                    source.p += 1
                if self.header_size < HEADER_SIZE:
                    return False
                self.start(cx)
            available = <uint32_t>min(<uint64_t>(stop - source.p), <uint64_t>(self.length - self.passed))
            if not self.ready:
                count = self.want - self.passed
                if available < count:
                    if not self.hold(source.p, available, cx):
                        return True
                    source.p += available
                    self.passed += available
                    return False
                if self.held is not None:
                    if not self.hold(source.p, count, cx):
                        return True
                    self.hand_out(<const uint8_t*>PyByteArray_AS_STRING(self.held), self.want)
                else:
                    self.hand_out(source.p, self.want)
                source.p += count
                self.passed += count
                if self.type == CERTIFICATE and self.want == BEFORE_LEAF and self.more_of_certificate(self.body, cx):
                    if self.held is None and not self.hold(self.body, BEFORE_LEAF, cx):
                        return True
                    self.ready = False
                    continue
                return True
            source.p += available
            self.passed += available
            if self.passed < self.length:
                return False
            self.release(cx)
            self.header_size = 0

    cdef int start(self, TlsContext cx) except -1:
        """Decide how much of a body is wanted, once its header is complete."""
        self.type = self.header[0]
        self.length = self.header[1] << 16 | self.header[2] << 8 | self.header[3]
        self.passed = self.missing = 0
        self.ready = self.cut = False
        self.want = 0
        if self.type == CLIENT_HELLO or self.type == SERVER_HELLO:
            self.want = self.length
            if self.length > cx.max_hello_bytes:
                self.want = cx.max_hello_bytes
                self.cut = True
                cx.hellos_over_limit += 1
        elif self.type == CERTIFICATE and cx.certificates is not None:
            self.want = min(self.length, <uint32_t>BEFORE_LEAF)
        elif self.type == SERVER_KEY_EXCHANGE:
            self.want = min(self.length, <uint32_t>CURVE)
        return 0

    cdef bint more_of_certificate(self, const uint8_t* six, TlsContext cx) except -1:
        """Return whether to read on to the end of the first certificate, by the first six bytes of a Certificate."""
        cdef uint32_t leaf = six[3] << 16 | six[4] << 8 | six[5]
        if self.length < BEFORE_LEAF or leaf == 0 or leaf > self.length - BEFORE_LEAF:
            return False
        if leaf > cx.max_certificate_bytes:
            cx.certificates_over_limit += 1
            self.cut = True
            return False
        self.want = BEFORE_LEAF + leaf
        return True

    cdef bint hold(self, const uint8_t* p, uint32_t count, TlsContext cx) except -1:
        """Keep `count` bytes. False: the limit of all connections is reached, and the message is ready without them."""
        cdef Py_ssize_t before
        if cx.buffered + count > cx.max_total_bytes:
            cx.abandoned_messages += 1
            self.cut = True
            if self.held is None:
                self.hand_out(NULL, 0)
            else:
                self.hand_out(<const uint8_t*>PyByteArray_AS_STRING(self.held), <uint32_t>PyByteArray_GET_SIZE(self.held))
            return False
        if self.held is None:
            self.held = bytearray()
        before = PyByteArray_GET_SIZE(self.held)
        PyByteArray_Resize(self.held, before + count)
        if count:
            memcpy(PyByteArray_AS_STRING(self.held) + before, p, count)
        cx.buffered += count
        return True

    cdef int hand_out(self, const uint8_t* p, uint32_t size) except -1:
        self.body = p
        self.size = size
        self.ready = True
        return 0

    cdef bint whole(self) noexcept:
        """Return whether the ready message has all its wanted bytes."""
        return not self.cut and self.missing == 0 and self.size == self.want

    cdef bint gap(self, uint64_t count, TlsContext cx) except -1:
        """Skip `count` missing bytes; return whether the beginning of a message becomes ready by that."""
        cdef uint32_t inside
        cdef bint begun = False
        if self.lost:
            return False
        if self.header_size < HEADER_SIZE or self.passed == self.length:
            self.lost = True
            return False
        inside = <uint32_t>min(count, <uint64_t>(self.length - self.passed))
        self.missing += inside
        self.passed += inside
        if not self.ready:
            begun = True
            if self.held is None:
                self.hand_out(NULL, 0)
            else:
                self.hand_out(<const uint8_t*>PyByteArray_AS_STRING(self.held), <uint32_t>PyByteArray_GET_SIZE(self.held))
        if count > inside:
            self.lost = True
        return begun

    cdef int restart(self, TlsContext cx) except -1:
        """Start a message with the next byte."""
        self.release(cx)
        self.lost = False
        self.header_size = 0
        return 0

    cdef int release(self, TlsContext cx) except -1:
        """Free the gathered bytes; `body` becomes invalid."""
        self.body = NULL
        self.size = 0
        if self.held is not None:
            cx.buffered -= PyByteArray_GET_SIZE(self.held)
            self.held = None
        return 0
