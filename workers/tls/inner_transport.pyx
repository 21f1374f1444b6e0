# cython: language_level=3
"""InnerTransport: the plaintext of a TLS connection, as a transport whose applications are those of any stream.

Its offsets count plaintext. An acknowledgement of the stream below becomes an offset of the plaintext by the ends of the last
records: a host has read no part of a record whose end it has not acknowledged. So messages are paired by the same rules.
"""
cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memmove, memset

from workers.core.context cimport Context
from workers.core.counts cimport SPEAKS_HTTP
from workers.core.flow cimport Flow
from workers.tcp.application cimport Application, Transport
from workers.tcp.stream cimport ORIGIN, Piece, Stream

cdef enum:
    MOST_PLACES = 1024          # of a side: more than the records of a usual window


cdef InnerTransport inner_transport(Transport outer):
    cdef InnerTransport made = InnerTransport.__new__(InnerTransport)
    made.outer = <PyObject*>outer
    made.key = outer.key
    made.applications = outer.applications
    made.begun_ns = outer.begun_ns
    made.turns = outer.turns
    made.again = outer.again
    made.capture = outer.capture
    made.shed = outer.shed
    made.opener = outer.opener
    made.depth = outer.depth
    made.spoken = SPEAKS_HTTP           # the connection has been counted by its outermost protocol
    for side in range(2):
        made.streams[side].seen = made.streams[side].anchored = made.streams[side].known = True
        made.streams[side].next = made.streams[side].edge = ORIGIN
    return made


@cython.final
@cython.no_gc
cdef class InnerTransport(Transport):
    def __dealloc__(self):
        free(self.places[0].at)
        free(self.places[1].at)

    cdef Flow flow_of(self, bint client_low):
        """Return the Flow of events; all events of the connection below are numbered together."""
        cdef Transport outer = <Transport>self.outer
        cdef Flow flow = outer.flow_of(client_low)
        if not flow.secure:
            if flow.transactions:           # events in the clear came before, as of a CONNECT
                flow = outer.flow_anew(client_low)
            flow.secure = True
        return flow

    cdef int enter(self, int side, const unsigned char* data, uint32_t size, uint64_t ts_ns, int64_t outer_ack,
                   Context cx) except -1:
        """Deliver plaintext. outer_ack: acknowledgement of the record's frame, in the stream below; -1: unknown."""
        cdef Piece piece
        cdef Stream* stream = &self.streams[side]
        cdef Application application = self.application
        if size == 0 or self.ended[side]:
            return 0
        memset(&piece, 0, sizeof(Piece))
        piece.data = data
        piece.length = size
        piece.offset = stream.next
        piece.ts_ns = ts_ns
        piece.peer_ack = self.offset_of(1 - side, outer_ack)
        piece.marked_from = piece.offset
        piece.marked_to = piece.offset + size
        stream.next += size
        stream.edge = stream.next
        if piece.peer_ack > self.heard[side]:
            self.turn[side] = piece.offset
        application.on_data(side, &piece, cx)
        if piece.peer_ack > self.heard[side]:
            self.heard[side] = piece.peer_ack
        return self.request_timeouts()

    cdef int lose(self, int side, int64_t count, Context cx) except -1:
        """Report `count` bytes of plaintext as lost."""
        if count <= 0 or self.ended[side]:
            return 0
        self.streams[side].next += count
        self.streams[side].edge = self.streams[side].next
        self.pass_gap(side, count, cx)
        return self.request_timeouts()

    cdef int finish_side(self, int side, Context cx) except -1:
        """End a side, once."""
        if self.ended[side]:
            return 0
        self.ended[side] = True
        self.streams[side].finished = True
        self.streams[side].next += 1
        self.pass_end(side, True, cx)
        return self.request_timeouts()

    cdef int close(self, Context cx) except -1:
        cdef Application application
        for side in range(2):
            if not self.ended[side]:            # its end is not known
                self.ended[side] = True
                self.pass_end(side, False, cx)
        application = self.application
        self.application = Application.__new__(Application)     # it ignores what may still come
        self.unsettled = False
        return application.on_close(cx)

    cdef int request_timeouts(self) noexcept:
        """Let the connection below ask for timeouts."""
        if self.unsettled:
            (<Transport>self.outer).unsettled = True
        return 0

    cdef int note(self, int side, int64_t outer) except -1:
        """Note that a record ends at this offset of the stream below."""
        cdef Places* places = &self.places[side]
        cdef void* grown
        if places.count and places.at[places.count - 1].inner == self.streams[side].next - self.ended[side]:
            return 0                        # a record without plaintext: the one before it tells as much
        if places.count == places.room:
            if places.room >= MOST_PLACES:
                memmove(places.at, places.at + MOST_PLACES // 2, (MOST_PLACES // 2) * sizeof(Place))
                places.count = MOST_PLACES // 2
                places.forgotten = True
            else:
                grown = realloc(places.at, max(<uint32_t>16, 2 * places.room) * sizeof(Place))
                if grown == NULL:
                    raise MemoryError
                places.at = <Place*>grown
                places.room = max(<uint32_t>16, 2 * places.room)
        places.at[places.count].outer = outer
        places.at[places.count].inner = self.streams[side].next - self.ended[side]
        places.count += 1
        return 0

    cdef int64_t offset_of(self, int side, int64_t outer) noexcept:
        """Return the offset in the plaintext of a side behind its records that end at or before this one; -1: unknown."""
        cdef Places* places = &self.places[side]
        cdef uint32_t low = 0, high = places.count, middle
        if outer < 0:
            return -1
        while low < high:
            middle = (low + high) // 2
            if places.at[middle].outer <= outer:
                low = middle + 1
            else:
                high = middle
        if low == 0:
            return -1 if places.forgotten else <int64_t>ORIGIN
        return places.at[low - 1].inner
