# cython: language_level=3
"""WebSocket: the two sides of a WebSocket connection over any transport, and when its events are due.

The owner of the transport calls it: TCP's application (application.pyx), or a stream of HTTP/2 after an extended CONNECT (RFC
8441). open_websocket() makes one; take(), lose() and close() are all it needs then. Bytes of one side come in order.

An event is due with the first bytes at least events.interval_s after the last event, by the frames' time, and at the end.
"""
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from workers.core.context cimport Context
from workers.core.flow cimport Flow
from workers.websocket.frames cimport BROKEN, FrameReader, frame_reader


@cython.final
@cython.no_gc
cdef class WebSocketRecord:
    """A connection as it was when an event was due; the encoder writes it."""


cdef bint agrees_on_deflate(bytes extensions) except -1:
    """Return whether this value of Sec-WebSocket-Extensions, None if it is unknown, may allow compressed messages."""
    if extensions is None:
        return True
    return any(one.partition(b";")[0].strip().lower() == b"permessage-deflate" for one in extensions.split(b","))


cdef WebSocket open_websocket(Flow flow, uint32_t transaction, bytes target, bytes authority, bytes extensions,
                              uint64_t start_ns, Context cx):
    """Return a WebSocket connection that begins with the next bytes of both sides.

    flow: Transport.flow_of() the side that sent the upgrade. transaction: its number in the flow. target: the request target or
    :path; None: unknown. authority: Host or :authority. extensions: Sec-WebSocket-Extensions of the response, b"" without that
    field, None if it is not known. start_ns: time of the frame with the end of the response's head.
    """
    cdef WebSocket made = WebSocket.__new__(WebSocket)
    cdef bint deflate = agrees_on_deflate(extensions)
    made.client = frame_reader(True, deflate, cx.inflaters)
    made.server = frame_reader(False, deflate, cx.inflaters)
    made.flow = flow
    made.transaction = transaction
    if target is not None and len(target) + len(authority) <= cx.limits.max_url_bytes:
        made.target = target
        made.authority = authority
    made.scheme = b"http"
    made.start_ns = made.last_ns = made.told_ns = start_ns
    made.closed_by = -1
    cx.tally.websockets += 1
    return made


@cython.final
@cython.no_gc
cdef class WebSocket:
    cdef int take(self, int peer, const uint8_t* p, size_t size, uint64_t ts_ns, Context cx) except -1:
        """Take the next bytes of a side. ts_ns: time stamp of their frame."""
        cdef FrameReader reader = self.client if peer == CLIENT else self.server
        if size == 0:
            return 0
        if ts_ns > self.last_ns:
            if ts_ns - self.told_ns >= cx.limits.event_interval_ns:
                self.emit(False, cx)
                self.told_ns = ts_ns
            self.longest_pause_ns = max(self.longest_pause_ns, ts_ns - self.last_ns)
            self.last_ns = ts_ns
        cx.tally.websocket_bytes += size
        reader.read(p, size, cx.tally)
        if self.closed_by < 0 and reader.counts.closed:
            self.closed_by = peer
        return 0

    cdef int lose(self, int peer, int64_t count, Context cx) except -1:
        """Skip bytes of a side that were not captured."""
        cdef FrameReader reader = self.client if peer == CLIENT else self.server
        reader.lose(count, cx.tally)
        if self.closed_by < 0 and reader.counts.closed:
            self.closed_by = peer
        return 0

    cdef int first_to_close(self, bint final) noexcept:
        """Return the peer whose Close frame came first; -1: there was none, or that of the other side may be lost."""
        cdef int peer = self.closed_by
        cdef FrameReader other
        if peer < 0:
            return -1
        other = self.server if peer == CLIENT else self.client
        return peer if other.counts.closed or other.complete(final) else -1

    cdef int lose_place(self, int peer, Context cx) except -1:
        """Note that bytes of a side may be missing, and that it is unknown how many."""
        cdef FrameReader reader = self.client if peer == CLIENT else self.server
        return 0 if reader.state == BROKEN else reader.desync(cx.tally)

    cdef int ignore(self, int peer, int64_t missing, Context cx) except -1:
        """Read no byte of a side, because its first frame is not known to begin with the next byte. missing: bytes before it."""
        cdef FrameReader reader = self.client if peer == CLIENT else self.server
        reader.counts.missing += missing
        return reader.give_up(cx.tally)

    cdef int close(self, Context cx) except -1:
        """End the connection: its last event is due. Further calls do nothing."""
        if self.over:
            return 0
        self.over = True
        cx.tally.websockets_ended += 1
        return self.emit(True, cx)

    cdef int emit(self, bint final, Context cx) except -1:
        """Append a record of what is known now."""
        cdef WebSocketRecord record = WebSocketRecord.__new__(WebSocketRecord)
        record.connection = self
        record.counts[CLIENT] = self.client.counts
        record.counts[SERVER] = self.server.counts
        record.complete[CLIENT] = self.client.complete(final)
        record.complete[SERVER] = self.server.complete(final)
        record.decoded[CLIENT] = self.client.inflaters is not None
        record.decoded[SERVER] = self.server.inflaters is not None
        record.closed_by = self.first_to_close(final)
        record.final = final
        record.number = self.events
        record.end_ns = self.last_ns
        record.longest_pause_ns = self.longest_pause_ns
        self.events += 1
        if final:
            cx.tally.odd_websocket(self.client.counts.anomalies | self.server.counts.anomalies)
        cx.out.append(record)
        return 0
