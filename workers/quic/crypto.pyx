# cython: language_level=3
"""CryptoStream: CRYPTO frames of one side, in any order, to the messages of its handshake (RFC 9000, section 19.6).

Of bytes that come twice the first count. Frames ahead of what is next are copied and wait, within limits of their number and of
how far they reach.
"""
cimport cython
from bisect import bisect_left

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from workers.tls.message cimport HandshakeMessages, Source


@cython.final
cdef class CryptoStream:
    def __cinit__(self):
        self.messages = HandshakeMessages.__new__(HandshakeMessages)

    cdef int add(self, uint64_t offset, const uint8_t* p, uint32_t size, QuicContext cx) except -1:
        """Take a frame. Its bytes must stay valid until take() has returned False."""
        cdef uint64_t known
        self.p = self.end = NULL
        if size == 0 or offset + size <= self.next:
            return 0
        if offset + size > cx.max_crypto_bytes:
            cx.crypto_over_limit += 1
            return 0
        if offset <= self.next:
            known = self.next - offset
            self.p = p + known
            self.end = p + size
            return 0
        if self.held is None:
            self.held = []
        if len(self.held) >= cx.max_crypto_pieces or cx.tls.buffered + size > cx.tls.max_total_bytes:
            cx.crypto_over_limit += 1
            return 0
        entry = (offset, PyBytes_FromStringAndSize(<const char*>p, size))
        place = bisect_left(self.held, entry)
        if place < len(self.held) and self.held[place] == entry:
            return 0
        self.held.insert(place, entry)
        cx.tls.buffered += size
        return 0

    cdef bint take(self, uint64_t ts_ns, QuicContext cx) except -1:
        """Read on; return True with each message. The owner calls it until it returns False."""
        cdef Source source
        cdef bint found
        while True:
            if self.p == self.end and not self.next_held(cx):
                return False
            source.p = self.p
            source.end = self.end
            source.ts_ns = ts_ns
            found = self.messages.take(&source, self.end, cx.tls)
            self.next += source.p - self.p
            self.p = source.p
            if found:
                return True

    cdef bint next_held(self, QuicContext cx) except -1:
        """Continue with the first held frame if it is next."""
        cdef uint64_t offset
        cdef bytes data
        self.reading = None
        while self.held:
            offset, data = self.held[0]
            if offset > self.next:
                return False
            del self.held[0]
            cx.tls.buffered -= PyBytes_GET_SIZE(data)
            if offset + PyBytes_GET_SIZE(data) > self.next:
                self.reading = data
                self.p = <const uint8_t*>PyBytes_AS_STRING(data) + (self.next - offset)
                self.end = <const uint8_t*>PyBytes_AS_STRING(data) + PyBytes_GET_SIZE(data)
                return True
        return False

    cdef int release(self, QuicContext cx) except -1:
        """Free the held frames."""
        self.messages.release(cx.tls)
        for _, data in self.held or ():
            cx.tls.buffered -= PyBytes_GET_SIZE(<bytes>data)
        self.held = None
        self.reading = None
        self.p = self.end = NULL
        return 0
