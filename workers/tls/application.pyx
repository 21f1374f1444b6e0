# cython: language_level=3
"""Tls: it feeds a Handshake with the bytes of a connection, and counts those behind it.

Its event is written as soon as the handshake is over, or when the connection ends. A side whose first bytes are no TLS goes
back to detection, because a server may answer a hello in clear text.
"""
cimport cython
from libc.stdint cimport int64_t, uint8_t

from workers.core.context cimport Context
from workers.core.counts cimport OTHER, SPEAKS_OTHER
from workers.detect.detector cimport Opaque, opaque
from workers.tcp.application cimport LOW, Application, Transport
from workers.tcp.stream cimport Piece
from workers.tls.context cimport TlsContext
from workers.tls.decryption cimport Decryption
from workers.tls.finished_handshake cimport FinishedHandshake
from workers.tls.handshake cimport KNOWN, NO, UNKNOWN, Handshake, Verdict
from workers.tls.inner_transport cimport InnerTransport
from workers.tls.record cimport is_record_header

cdef enum:
    LEGIBLE = 8                 # bytes that are text with certainty, behind a gap


cdef bint is_text(const uint8_t* p, size_t size) noexcept nogil:
    """Return whether the bytes begin with printable ASCII, which encrypted ones hardly ever do."""
    cdef int i
    if size < LEGIBLE:
        return False
    for i in range(LEGIBLE):
        if not (32 <= p[i] < 127 or 9 <= p[i] <= 13):
            return False
    return True


@cython.final
@cython.no_gc
cdef class Tls(Application):
    """The application of a connection whose first bytes are a hello, or that turned to TLS later."""

    cdef int on_data(self, int side, const Piece* piece, Context cx) except -1:
        if piece.length == 0:                       # only missing bytes, which follow by on_gap()
            return 0
        if not self.speaks[side] and not self.first_bytes(side, piece, cx):
            return 0
        cx.tally.not_http_bytes[self.kind] += piece.length
        return self.read(side, piece, cx)

    cdef int recall(self, int side, const Piece* piece, Context cx) except -1:
        if not self.first_bytes(side, piece, cx):
            return 0
        return self.read(side, piece, cx)

    cdef int read(self, int side, const Piece* piece, Context cx) except -1:
        """Read the next bytes of a side that speaks TLS."""
        cdef Verdict verdict
        if self.handshake is not None and not self.known:
            self.last_ns = piece.ts_ns
            verdict = self.handshake.data(side, piece.data, piece.length, piece.ts_ns)
            self.known = verdict == KNOWN
            if self.decryption is None:
                return self.write(cx) if self.known else 0
        if self.decryption is None:
            return 0
        self.decryption.data(side, piece)
        return self.write_when_known(cx)

    cdef int write_when_known(self, Context cx) except -1:
        """Write the event of a handshake that is over, once it is known what becomes of the encrypted data."""
        if self.known and self.handshake is not None and self.decryption.settled():
            return self.write(cx)
        return 0

    def keys_came(self):
        """Read on with new secrets. The KeyStore's owner calls it."""
        cdef Decryption decryption = self.decryption
        if decryption is not None:
            decryption.look_again()
            self.write_when_known(decryption.context)
            if self.kept is not None and not decryption.lacks_keys():
                self.finish(decryption.context)

    def expire(self):
        """End the wait of a connection that has ended. The KeyStore's owner calls it."""
        if self.decryption is not None:
            self.finish(self.decryption.context)

    cdef bint first_bytes(self, int side, const Piece* piece, Context cx) except -1:
        """Judge the first bytes of a side. Return False if another application has taken them, or none reads them."""
        cdef Transport transport = <Transport>self.transport
        cdef TlsContext context
        if not self.begun:
            self.begun = True
            self.first_ns = piece.ts_ns
            context = <TlsContext>cx.states.get("tls")
            if context is not None and context.on:
                self.handshake = Handshake(context)
                context.open += 1
                if transport.flow is not None:
                    self.index = transport.flow.transactions
                if context.keys is not None and context.keys.opens():
                    self.decryption = Decryption(transport, self, self.handshake, cx)
        elif self.lost[side]:
            if is_text(piece.data, piece.length):
                self.yield_side(side, piece, cx)
                return False
        elif not is_record_header(piece.data, piece.length):
            if not self.late:
                self.yield_side(side, piece, cx)
                return False
            cx.tally.not_http_bytes[self.kind] += piece.length  # the rest of the protocol before, of this side
            return False
        self.speaks[side] = True
        self.starts[side] = piece.offset
        cx.tally.not_http[self.kind] += 1
        cx.tally.spoke(&transport.spoken, SPEAKS_OTHER + self.kind)
        return True

    cdef int yield_side(self, int side, const Piece* piece, Context cx) except -1:
        """Give a side back to detection: its first bytes are no TLS."""
        cdef Transport transport = <Transport>self.transport
        cdef Opaque other
        if self.handshake is not None and not self.lost[side] and self.handshake.established == UNKNOWN:
            self.handshake.established = NO
        self.finish(cx)
        other = opaque(OTHER, OTHER)
        for each in range(2):
            if self.speaks[each]:
                other.kinds[each] = self.kind
                other.starts[each] = self.starts[each]
        transport.become(other)
        if self.lost[side]:
            transport.pass_gap(side, self.lost[side], cx)
        return transport.pass_data(side, piece, cx)

    cdef int on_gap(self, int side, int64_t count, Context cx) except -1:
        if not self.speaks[side]:
            self.lost[side] += count
        if self.handshake is not None and not self.known:
            self.handshake.skip(side, count, self.last_ns)
        if self.decryption is not None:
            self.decryption.gap(side, count)
            return self.write_when_known(cx)
        return 0

    cdef int on_end(self, int side, bint by_fin, Context cx) except -1:
        if self.decryption is not None and by_fin:
            self.decryption.end(side)
        return 0

    cdef int on_time(self, Context cx) except -1:
        if self.decryption is None:
            return 0
        self.decryption.on_time()
        return self.write_when_known(cx)

    cdef bint waits(self) noexcept:
        return self.decryption is not None and self.decryption.waits()

    cdef bint awaits_end(self, int side) noexcept:
        return self.decryption is not None and self.decryption.awaits_end(side)

    cdef int on_close(self, Context cx) except -1:
        cdef Decryption decryption = self.decryption
        if decryption is not None and decryption.cx.keys.lingers and decryption.lacks_keys() \
                and (<Transport>self.transport).depth == 0 \
                and not isinstance(<Transport>self.transport, InnerTransport):      # it needs the one below it
            # A short connection may end before its secrets arrive.
            self.kept = <Transport>self.transport
            decryption.cx.keys.linger(self, cx.now + decryption.cx.key_wait_ns)
            return 0
        return self.finish(cx)

    cdef int finish(self, Context cx) except -1:
        """End the decryption and the handshake."""
        cdef Decryption decryption = self.decryption
        if decryption is not None:
            decryption.close()
        self.write(cx)
        if self.kept is not None:
            decryption.cx.keys.linger_no_more(self)
            self.decryption = None
            self.kept = None                # the last: with it the memory of the transport may go
        self.decryption = None
        return 0

    cdef int write(self, Context cx) except -1:
        """Append the handshake to the finished records, if it has a hello."""
        cdef Handshake handshake = self.handshake
        cdef FinishedHandshake finished
        if handshake is None:
            return 0
        self.handshake = None
        for side in range(2):
            # Acknowledged, but never captured: no gap says so at the end of a side. A FIN counts as a byte.
            if self.streams[side].seen and self.streams[side].acked > self.streams[side].next + 1:
                handshake.gapped[side] = True
        handshake.finish_now()
        handshake.cx.open -= 1
        if self.decryption is not None and handshake.final_hello:
            handshake.decrypted = self.decryption.outcome
            handshake.cx.outcomes[handshake.decrypted] += 1
        if not handshake.any_hello():
            return 0
        finished = FinishedHandshake.__new__(FinishedHandshake)
        finished.handshake = handshake
        finished.flow = (<Transport>self.transport).flow_of((handshake.client == LOW))
        finished.first_ns = self.first_ns
        finished.last_ns = self.last_ns
        finished.index = self.index
        cx.out.append(finished)
        return 0
