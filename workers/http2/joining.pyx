# cython: language_level=3
"""Join a connection in the middle of HTTP/2.

A piece that begins with plausible frame headers makes a connection Joining. It holds the pieces of both sides until a chain of
frame headers shows HTTP/2 and a header block shows which side is the client. Then Http2 reads the pieces again. If the chain
breaks, or the bytes held reach their limit, the application before reads them as if nothing had happened.

The search for a header block starts from the first byte. So it waits until the bytes have grown by a quarter, and makes up for
that before anything but data: the work stays linear, and any split of the bytes gives the same decision.
"""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int64_t, uint8_t

from workers.core.context cimport Context
from workers.core.counts cimport JOINS_GIVEN_UP
from workers.http2.application cimport Http2
from workers.http2.detection cimport CLIENT_SPEAKS, NOT_HTTP2, SERVER_SPEAKS, Speaker, speaker_of
from workers.http2.frame_header cimport DEFAULT_FRAME_SIZE, FRAME_HEADER, JOINS, chain_of_frames
from workers.tcp.application cimport LOW, Application, Transport
from workers.tcp.stream cimport Piece

cdef enum:
    PIECE_BYTES = 192           # of memory for a piece, beside its bytes, which lie here twice


cdef int chain(const uint8_t* p, size_t size) noexcept nogil:
    """Return 1 if bytes begin with a chain of frames, 0 if they do not, -1 if they are too few to tell."""
    cdef size_t decided_at = 0
    return chain_of_frames(p, size, False, 0, DEFAULT_FRAME_SIZE, JOINS, &decided_at)


cdef bint join_http2(Transport transport, Application before, int side, const Piece* piece, Context cx) except -1:
    """Take a connection over at a piece that may begin with frames of HTTP/2; return False if it does not.

    before: its application, which gets the bytes back if they are not HTTP/2.
    """
    cdef Joining application
    if piece.length < FRAME_HEADER or chain(piece.data, piece.length) == 0:
        return False
    application = Joining.__new__(Joining)
    application.before = before
    application.first = side
    application.held = []
    application.low = bytearray()
    application.high = bytearray()
    transport.become(application)
    application.on_data(side, piece, cx)
    return True


@cython.final
@cython.no_gc
cdef class HeldPiece:
    """A piece with bytes of its own."""


@cython.final
@cython.no_gc
cdef class Joining(Application):
    cdef bytearray bytes_of(self, int side):
        return self.low if side == LOW else self.high

    cdef int on_data(self, int side, const Piece* piece, Context cx) except -1:
        cdef HeldPiece kept = HeldPiece.__new__(HeldPiece)
        cdef bytearray held
        if piece.length == 0:
            return 0
        kept.piece = piece[0]
        kept.data = piece.data[:piece.length]
        kept.piece.data = <const uint8_t*>PyBytes_AS_STRING(kept.data)
        kept.side = side
        self.held.append(kept)
        held = self.bytes_of(side)
        held += kept.data                       # the same object
        self.size += piece.length
        self.memory += PIECE_BYTES + 2 * <uint64_t>piece.length
        cx.tally.head_bytes += PIECE_BYTES + 2 * <uint64_t>piece.length
        return self.judge(cx)

    cdef int judge(self, Context cx) except -1:
        """Decide what the held bytes are, if they suffice."""
        cdef bytearray first = self.bytes_of(self.first)
        if chain(<const uint8_t*>first, len(first)) == 0:
            return self.release(cx)
        if self.size > cx.limits.max_join_bytes or cx.tally.head_bytes > cx.limits.max_total_head_bytes:
            if self.decide(cx):
                cx.tally.http2[JOINS_GIVEN_UP] += 1
        elif self.size >= self.look_at:
            self.look_at = self.size + (self.size >> 2)
            self.adopt_known(cx)
        return 0

    cdef bint adopt_known(self, Context cx) except -1:
        """Read the bytes as HTTP/2 if it is certain which side is the client; return whether it is."""
        cdef int client = self.client()
        if client < 0:
            return False
        self.adopt(client, cx)
        return True

    cdef bint decide(self, Context cx) except -1:
        """Decide by the bytes that are here; return whether they are read as before."""
        if self.adopt_known(cx):
            return False
        self.release(cx)
        return True

    cdef int client(self) except -2:
        """Return the side that sends requests; -1: that is not certain yet."""
        cdef int side
        cdef bytearray held
        cdef Speaker speaker
        for side in range(2):
            held = self.bytes_of(side)
            speaker = speaker_of(<const uint8_t*>held, len(held)) if held else NOT_HTTP2
            if speaker == CLIENT_SPEAKS:
                return side
            if speaker == SERVER_SPEAKS:
                return 1 - side
        return -1

    cdef int adopt(self, int client, Context cx) except -1:
        """Read the held pieces as HTTP/2."""
        cdef Transport transport = <Transport>self.transport
        cdef Http2 application = Http2.__new__(Http2)
        self.before.on_close(cx)                # it has found no message, and drops what it has gathered
        transport.become(application)
        application.join(client, cx)
        return self.pass_on(cx)

    cdef int release(self, Context cx) except -1:
        """Return the held pieces to the application before."""
        (<Transport>self.transport).become(self.before)
        return self.pass_on(cx)

    cdef int pass_on(self, Context cx) except -1:
        """Pass the held pieces to the application in place."""
        cdef Transport transport = <Transport>self.transport
        cdef HeldPiece kept
        cx.tally.head_bytes -= self.memory
        self.size = self.memory = 0
        for kept in self.held:
            transport.pass_data(kept.side, &kept.piece, cx)
        self.held = []
        return 0

    cdef int on_gap(self, int side, int64_t count, Context cx) except -1:
        self.decide(cx)
        return (<Transport>self.transport).pass_gap(side, count, cx)

    cdef int on_conflict(self, int side, int64_t start, int64_t stop, int marks, Context cx) except -1:
        cdef Application application
        self.decide(cx)
        application = (<Transport>self.transport).application
        return application.on_conflict(side, start, stop, marks, cx)

    cdef int on_end(self, int side, bint by_fin, Context cx) except -1:
        self.decide(cx)
        return (<Transport>self.transport).pass_end(side, by_fin, cx)

    cdef int on_close(self, Context cx) except -1:
        cdef Application application
        self.decide(cx)
        application = (<Transport>self.transport).application
        return application.on_close(cx)
