# cython: language_level=3
"""Session: an Http2Connection with what the worker knows beside it: counters, limits, the Flow of its events.

Header sections of open streams are waiting bytes, as messages of HTTP/1 are that wait for their other half: over the limit of
all connections, one of those that hold most gives its oldest stream up.
"""
cimport cython
from libc.stdint cimport int64_t, uint64_t

from workers.core.context cimport Context
from workers.core.counters cimport Tally
from workers.core.counts cimport CLASSES_END, METHODS_END, STREAMS_DROPPED, STREAMS_REPORTED, TABLES_EMPTIED
from workers.core.waiting_budget cimport Holder
from workers.http2.anomalies cimport OVERLAP_CONFLICT
from workers.http2.body cimport count_body
from workers.http2.connection cimport Http2Connection
from workers.http2.exchange cimport CLIENT, SERVER, Exchange, Half, is_timed
from workers.http2.frames cimport NEED_MORE
from workers.http2.header_list cimport METHOD
from workers.tcp.stream cimport Piece

from appliance.stats.names import METHODS, PAIRINGS

cdef enum:
    OBJECTS = 700               # bytes of an exchange with its sections' objects
    VERIFIED = 1                # places in stats.PAIRINGS
    REQUEST_ONLY = 3
    RESPONSE_ONLY = 4

if (PAIRINGS[VERIFIED], PAIRINGS[REQUEST_ONLY], PAIRINGS[RESPONSE_ONLY]) != ("verified", "request_only", "response_only"):
    raise ImportError("workers/http2/session.pyx and appliance/stats/names.py disagree about pairings")

cdef dict METHOD_PLACES = {name.encode(): place for place, name in enumerate(METHODS)}


cdef int pairing_of(Exchange exchange) noexcept:
    """Return the place in stats.PAIRINGS: the stream id pairs."""
    if exchange.response is None:
        return REQUEST_ONLY
    return RESPONSE_ONLY if exchange.request is None else VERIFIED


@cython.final
@cython.no_gc
cdef class Session(Holder):
    """connection: it begins now. Its exchanges leave to Context.out, in the order in which they end."""

    def __init__(self, Http2Connection connection not None, Tally tally not None):
        self.connection = connection
        connection.totals = tally.http2

    cdef int take(self, int side, const Piece* piece, Context cx) except -1:
        """Read the next bytes of a side: CLIENT or SERVER."""
        cdef uint64_t first, last
        self.connection.bodies = cx.bodies
        self.seen_ns[side] = piece.ts_ns
        self.connection.peer_ack = piece.peer_ack
        if piece.marks:
            first = <uint64_t>min(max(piece.marked_from - piece.offset, 0), <int64_t>piece.length)
            last = <uint64_t>min(max(piece.marked_to - piece.offset, <int64_t>first), <int64_t>piece.length)
            self.take_part(side, piece, 0, first)
            self.connection.marks = OVERLAP_CONFLICT * <uint64_t>piece.marks
            self.connection.marks_of_piece = piece.marks
            self.take_part(side, piece, first, last)
            self.connection.marks = 0
            self.connection.marks_of_piece = 0
            self.take_part(side, piece, last, piece.length)
        else:
            self.take_part(side, piece, 0, piece.length)
        return self.report_ended(cx)

    cdef int take_part(self, int side, const Piece* piece, uint64_t start, uint64_t stop) except -1:
        """Read a part of a piece."""
        if start < stop:
            self.connection.offset = piece.offset + <int64_t>start
            self.connection.on_data(side, piece.data + start, stop - start, piece.ts_ns)
        return 0

    cdef int skip(self, int side, uint64_t count, Context cx) except -1:
        """Skip lost bytes of a side; count: how many."""
        # The clock depends on the frames of other connections of the worker.
        self.connection.on_gap(side, count, self.seen_ns[side])
        return self.report_ended(cx)

    cdef int close(self, int side, Context cx) except -1:
        """End a side."""
        self.connection.on_close(side, self.seen_ns[side])
        return self.report_ended(cx)

    cdef int mark(self, int side, int64_t start, int64_t stop, int marks) except -1:
        """Mark the open exchanges whose frames of a side lie around these bytes. marks: as in a Piece."""
        cdef Exchange exchange
        cdef Half* half
        for exchange in list(self.connection.streams.values()):
            half = &exchange.halves[side]
            if half.first_ns and half.first_at < stop and start < half.last_at:
                exchange.anomalies |= OVERLAP_CONFLICT * <uint64_t>marks
                if exchange.tunnel is not None:
                    exchange.tunnel.mark(side, start, stop, marks)
        return 0

    cdef bint give_up(self, Tally tally, list out) except -1:
        """End the oldest exchange. Return False if there is only one, or a tunnel in one of them is reading."""
        if self.inside or len(self.connection.streams) < 2 or not self.connection.evict(None):
            return False
        tally.given_up += 1
        self.count(tally)
        self.hand_out(tally, out)
        return True

    cdef int report_ended(self, Context cx) except -1:
        """Return ended exchanges to the context, count, and keep to the limits of all connections."""
        cdef Tally tally = cx.tally
        if self.connection.out:
            self.hand_out(tally, cx.out)
        self.count(tally)
        if tally.head_bytes > cx.limits.max_total_head_bytes and self.partial:
            self.forget_partial(max(self.seen_ns[CLIENT], self.seen_ns[SERVER]))
            self.count(tally)
        if tally.table_bytes > cx.limits.max_total_table_bytes and self.tables:
            self.connection.client_decoder.empty()  # references to their entries are unknown from now on
            self.connection.server_decoder.empty()
            tally.http2[TABLES_EMPTIED] += 1
            self.count(tally)
        if self.held >= self.file_at:
            cx.in_flight.file(self)
        if tally.waiting_bytes > cx.limits.max_total_waiting_bytes:
            cx.in_flight.make_room(cx.limits.max_total_waiting_bytes, tally, cx.out)
        return 0

    cdef int forget_partial(self, uint64_t ts_ns) except -1:
        """Drop the bytes of unfinished header blocks and searches."""
        cdef int side
        for side in range(2):
            step = self.connection.reader(side).forget()
            if step != NEED_MORE:
                self.connection.handle(side, step, ts_ns)
        return 0

    cdef int count(self, Tally tally) except -1:
        """Count what has changed since the last call."""
        cdef Http2Connection connection = self.connection
        cdef uint64_t streams = <uint64_t>(len(connection.streams) + len(connection.out))
        cdef uint64_t held = connection.held + OBJECTS * <uint64_t>len(connection.streams)
        cdef uint64_t skipped = connection.client_reader.skipped_bytes + connection.server_reader.skipped_bytes
        cdef uint64_t partial = connection.client_reader.allocated() + connection.server_reader.allocated()
        cdef uint64_t tables = connection.client_decoder.allocated() + connection.server_decoder.allocated()
        tally.started += connection.begun - self.begun
        self.begun = connection.begun
        tally.streams_open += streams - self.streams
        self.streams = streams
        tally.waiting_bytes += held - self.held
        self.held = held
        tally.skipped_bytes += skipped - self.skipped
        self.skipped = skipped
        tally.head_bytes += partial - self.partial
        self.partial = partial
        tally.table_bytes += tables - self.tables
        self.tables = tables
        return 0

    cdef int hand_out(self, Tally tally, list out) except -1:
        """Append the ended exchanges to the finished records."""
        cdef Exchange exchange
        cdef list ended = self.connection.out
        self.connection.out = []
        for exchange in ended:
            self.count_exchange(exchange, tally)
            if exchange.request is None and exchange.response is None:
                tally.http2[STREAMS_DROPPED] += 1   # informational responses alone
                continue
            tally.http2[STREAMS_REPORTED] += 1
            exchange.pairing = pairing_of(exchange)
            tally.pairings[exchange.pairing] += 1
            out.append(exchange)
        return 0

    cdef int count_exchange(self, Exchange exchange, Tally tally) except -1:
        """Count the messages of an ended exchange."""
        cdef int side, status
        cdef Half* half
        for side in range(2):
            half = &exchange.halves[side]
            if not half.begun:
                continue
            if half.whole and not half.loss:
                tally.complete += 1
            else:
                tally.truncated += 1
        if exchange.halves[CLIENT].begun:
            tally.body_request += exchange.halves[CLIENT].body_bytes
            value = exchange.request.value(METHOD)
            tally.requests[<int>METHOD_PLACES.get(value, METHODS_END - 1)] += 1
        if exchange.response is not None:
            tally.body_response += exchange.halves[SERVER].body_bytes
            status = exchange.response.status()
            if 1 <= status // 100 <= CLASSES_END:
                tally.responses[status // 100 - 1] += 1
            half = &exchange.halves[CLIENT]
            if is_timed(half) and not exchange.halves[SERVER].begin_lost \
                    and exchange.halves[SERVER].first_ns >= half.last_ns:
                tally.response_time(exchange.halves[SERVER].first_ns - half.last_ns)
        for facts in (exchange.request_body, exchange.response_body):
            if facts is not None:
                count_body(facts.facts, tally)
        return 0

    cdef int finish(self, Context cx) except -1:
        """End the connection."""
        self.connection.done()
        self.report_ended(cx)
        cx.in_flight.leave(self)
        return self.leave(cx.tally)

    cdef int abandon(self, Context cx) except -1:
        """End a connection that was none of HTTP/2: it makes no events."""
        cdef Exchange exchange
        cdef int side
        self.connection.done()
        for exchange in self.connection.out:
            for side in range(2):
                cx.tally.failed += exchange.halves[side].begun
        cx.tally.http2[STREAMS_DROPPED] += <uint64_t>len(self.connection.out)
        self.connection.out = []
        self.count(cx.tally)
        cx.in_flight.leave(self)
        return self.leave(cx.tally)

    cdef int leave(self, Tally tally) noexcept:
        """Take the memory of the connection out of the gauges."""
        tally.streams_open -= self.streams
        tally.waiting_bytes -= self.held
        tally.head_bytes -= self.partial
        tally.table_bytes -= self.tables
        self.held = self.partial = self.tables = self.streams = 0
        self.connection.readers = None          # they refer to the session
        return 0
