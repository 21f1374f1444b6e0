# cython: language_level=3
"""Read an HTTP/2 connection: bytes, gaps and ends of its two directions in, exchanges out (RFC 9113).

It knows no socket, no clock and no TCP. Its owner calls on_data(), on_gap() and on_close() for each side, CLIENT or SERVER,
and done() at the end; exchanges that have ended are in `out`, in that order.

A frame with a captured header ends by its length, even if parts of it are missing. Behind a gap that may hide frame headers
the reader resumes at a chain of them; the decoder of that direction learns the largest number of missing bytes of header
blocks. Streams, the bytes of their header sections and the bytes of unfinished blocks are bounded; the oldest stream gives way.
"""
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from workers.core.counts cimport (
    BLOCKS, BLOCK_FAULTS, CUT_BLOCKS, FRAMING_LOSSES, RESETS, STRAY_FRAMES, STREAMS, STREAMS_GIVEN_UP, VIOLATIONS,
)
from workers.core.flow cimport Flow
from workers.http2.anomalies cimport (
    BAD_HEADER_BLOCK, EARLY_RESPONSE, FRAME_ON_STREAM_0, HEADER_BLOCK_SPLIT, HEAD_TOO_LONG, HPACK_UNKNOWN_INDEX, RAPID_RESET,
    field_anomalies, length_differs,
)
from workers.http2.body cimport begin_body, end_body, take_data
from workers.http2.exchange cimport CLIENT, NO_GRPC, NOT_RESET, SERVER, Exchange, Half, HeaderSection, section_of
from workers.http2.frame_header cimport GOAWAY, SETTINGS
from workers.http2.frames cimport (
    BLOCK, BLOCK_LOST, BODY, CONTROL, NEED_MORE, PASSED, RESUMED, SEARCHING, FrameReader, FrameStep, Input,
)
from workers.http2.grpc cimport decide, recognize
from workers.http2.header_list cimport (
    BAD_INDEX, FROM_CLIENT, FROM_SERVER, JOINED, REQUEST_SECTION, RESPONSE_SECTION, SOUND, TRAILER_SECTION, Fault, HeaderList,
    Section,
)
from workers.http2.header_table cimport MAX_TABLE_BYTES, NAME_UNKNOWN
from workers.http2.hpack cimport HpackDecoder
from workers.http2.recent_resets cimport RecentResets

cdef enum:
    SETTINGS_HEADER_TABLE_SIZE = 1      # RFC 9113 section 6.5.2
    SETTINGS_MAX_FRAME_SIZE = 5
    LARGEST_FRAME_SIZE = (1 << 24) - 1
    ACK_FLAG = 1
    ASSUMED_STREAMS = 100       # that may be open at a join: the least that RFC 9113 section 6.5.2 recommends to allow
    ANSWERED_AFTER = 64         # requests later, lost ones are taken to be answered
    MOST_INFORMATIONAL = 16     # 1xx status codes kept of a stream

cdef HeaderList scratch = HeaderList()  # each block is decoded here; one thread reads all connections
cdef HeaderList nothing = HeaderList()  # the fields of a header section of which nothing is known


@cython.final
@cython.no_gc
cdef class Http2Connection:
    """An HTTP/2 connection. joined_client, joined_server: on_data() does not begin with the first byte of that side.

    preface: the client's side begins with the connection preface, also behind an upgrade from HTTP/1.1.
    """

    def __init__(self, bint joined_client=False, bint joined_server=False, *, bint preface=True, uint32_t stream_limit=1024,
                 size_t block_limit=1 << 16, size_t held_limit=1 << 20):
        self.totals = self.own
        self.client_reader = FrameReader(True, block_limit)
        self.server_reader = FrameReader(False, block_limit)
        self.client_decoder = HpackDecoder(joined_client)
        self.server_decoder = HpackDecoder(joined_server)
        self.joined[CLIENT] = joined_client
        self.joined[SERVER] = joined_server
        if joined_client:
            self.client_reader.join()
            self.missing_requests = ASSUMED_STREAMS
            self.server_decoder.announced = MAX_TABLE_BYTES
        else:
            self.client_reader.start(preface)
        if joined_server:
            self.server_reader.join()
            self.client_decoder.announced = MAX_TABLE_BYTES
        self.searches[CLIENT] = self.client_reader.searches
        self.searches[SERVER] = self.server_reader.searches
        self.resets = RecentResets()
        self.flow = Flow.__new__(Flow)
        self.peer_ack = -1
        self.streams = {}
        self.out = []
        self.max_streams = max(stream_limit, <uint32_t>1)
        self.max_held = held_limit
        self.goaway = -1

    cdef FrameReader reader(self, int side):
        return self.client_reader if side == CLIENT else self.server_reader

    cdef HpackDecoder decoder(self, int side):
        return self.client_decoder if side == CLIENT else self.server_decoder

    cdef bint lossy(self) noexcept:
        """Return whether requests or responses may have been missed."""
        return self.losses[CLIENT] or self.losses[SERVER] or self.joined[CLIENT] or self.joined[SERVER]

    cdef int on_data(self, int side, const uint8_t* p, size_t size, uint64_t ts_ns) except -1:
        """Take in-order bytes of a side."""
        cdef FrameReader reader = self.reader(side)
        cdef Input source
        cdef FrameStep step
        if self.resets.done < self.resets.count:
            self.on_time(ts_ns)
        source.p = p
        source.end = p + size
        source.ts_ns = ts_ns
        self.in_gap = False
        self.offset_end = self.offset + <int64_t>size
        self.bytes = p
        while True:
            step = reader.step(&source)
            if reader.searches != self.searches[side]:
                self.note_loss(side)
            # Ahead of handle(), so that a frame on stream 0 marks the same exchange however the bytes are split.
            if reader.violations != self.violations[side]:
                self.note_violations(side, reader)
            if step == NEED_MORE:
                break
            self.handle(side, step, reader.at_ns)
        return 0

    cdef int note_violations(self, int side, FrameReader reader) noexcept:
        """Count the frames that RFC 9113 forbids since the last call."""
        self.totals[VIOLATIONS] += reader.violations - self.violations[side]
        self.violations[side] = reader.violations
        if reader.on_stream_0:
            reader.on_stream_0 = False
            self.anomalies |= FRAME_ON_STREAM_0
        return 0

    cdef int on_gap(self, int side, uint64_t count, uint64_t ts_ns) except -1:
        """Note a gap in the bytes of a side; count: its length."""
        cdef FrameReader reader = self.reader(side)
        cdef FrameStep step
        if count == 0:
            return 0
        step = reader.gap(count)
        if reader.searches != self.searches[side]:
            self.note_loss(side)
        if step != NEED_MORE:
            self.in_gap = True
            self.handle(side, step, ts_ns)
        return 0

    cdef int note_loss(self, int side) except -1:
        """Note that a side's frames cannot be followed for a while."""
        self.searches[side] = self.reader(side).searches
        self.losses[side] += 1
        self.totals[FRAMING_LOSSES] += 1
        if self.tunnels:
            for exchange in list(self.streams.values()):
                if (<Exchange>exchange).tunnel is not None:
                    (<Exchange>exchange).tunnel.lose_place(side)
        # The lost bytes may have held SETTINGS that allow the other side a larger table.
        self.decoder(1 - side).announced = max(self.decoder(1 - side).announced, <size_t>MAX_TABLE_BYTES)
        return 0

    cdef int on_close(self, int side, uint64_t ts_ns) except -1:
        """Note the end of a side."""
        cdef FrameStep step = self.reader(side).close()
        if step != NEED_MORE:
            self.handle(side, step, ts_ns)
        return 0

    cdef int done(self) except -1:
        """Note the end of the connection: what is open ends as it is, oldest first."""
        for exchange in list(self.streams.values()):
            self.finish(exchange)
        return 0

    cdef int handle(self, int side, FrameStep step, uint64_t ts_ns) except -1:
        """Handle a step of a reader."""
        cdef FrameReader reader = self.reader(side)
        cdef Exchange exchange
        if step == BODY:
            exchange = self.streams.get(reader.stream)
            if exchange is None:
                self.totals[STRAY_FRAMES] += 1
                reader.wire_bytes = 0
                return 0
            self.count(side, exchange, ts_ns)
            if (exchange.response if side == SERVER else exchange.request) is None and not (side == CLIENT and exchange.upgraded):
                exchange.halves[side].loss = True       # a header section stands before DATA
            self.keep(exchange, take_data(exchange, side, reader, ts_ns))
            if reader.stream_ends:
                exchange.halves[side].whole = True
                self.end_half(side, exchange, self.in_gap)
        elif step == BLOCK:
            self.read_block(side, ts_ns)
        elif step == BLOCK_LOST:
            exchange = self.streams.get(reader.block_of)
            self.count(side, exchange, ts_ns)
            if self.lost[side]:
                self.lost[side] += reader.missing
            else:
                self.decoder(side).lose(reader.missing, -1)
            if reader.stream_ends and exchange is not None:
                exchange.halves[side].whole = True
                self.end_half(side, exchange, True)
        elif step == CONTROL:
            self.control(side, ts_ns)
        elif step == PASSED:
            self.count(side, self.streams.get(reader.stream), ts_ns)
        elif step == RESUMED:
            self.lost[side] += reader.lost_bytes
        return 0

    cdef int count(self, int side, Exchange exchange, uint64_t ts_ns) except -1:
        """Count the frames that a reader has read since the last call to an exchange; None: to none."""
        cdef FrameReader reader = self.reader(side)
        cdef Half* half
        if exchange is not None:
            half = &exchange.halves[side]
            if half.first_ns == 0:
                half.first_ns = reader.frame_ns
                half.first_at = self.offset
            if not half.ended:                  # WINDOW_UPDATE and the like may follow
                half.last_ns = max(half.last_ns, ts_ns)
                half.last_at = self.offset_end
            half.bytes += reader.wire_bytes
            exchange.anomalies |= self.marks
        reader.wire_bytes = 0
        return 0

    cdef int read_block(self, int side, uint64_t ts_ns) except -1:
        """Decode a header block, and give it to its exchange."""
        cdef FrameReader reader = self.reader(side)
        cdef HpackDecoder decoder = self.decoder(side)
        cdef Exchange exchange = self.streams.get(reader.block_of)
        cdef bint whole = reader.block_whole
        cdef Fault fault
        cdef uint64_t anomalies = 0
        if self.lost[side]:
            decoder.lose(self.lost[side], self.lost_blocks(side))
            self.lost[side] = 0
        scratch.clear()
        scratch.limit = reader.limit
        fault = decoder.decode(reader.block, reader.block_size, self.section(side, exchange), whole, scratch)
        self.totals[BLOCKS + <int>scratch.certainty] += 1
        if fault != SOUND:
            self.totals[BLOCK_FAULTS] += 1
            anomalies |= <uint64_t>HPACK_UNKNOWN_INDEX if fault == BAD_INDEX else <uint64_t>BAD_HEADER_BLOCK
        if not whole:
            self.totals[CUT_BLOCKS] += 1
            scratch.left_out += 1
            scratch.unknown += 1                # what is cut off, whatever it was
            scratch.certainty = max(scratch.certainty, JOINED)
            decoder.lose(reader.missing, -1)
        if reader.split:
            anomalies |= HEADER_BLOCK_SPLIT
        if scratch.left_out and (whole or reader.too_long):
            anomalies |= HEAD_TOO_LONG
        exchange = self.place(side, exchange, scratch)
        if exchange is None:
            self.totals[STRAY_FRAMES] += 1
            reader.wire_bytes = 0
            return 0
        exchange.anomalies |= anomalies | field_anomalies(scratch)
        self.count(side, exchange, ts_ns)
        if exchange.connects and side == SERVER and not exchange.granted and self.readers is not None:
            self.readers.grant(exchange)
        if reader.stream_ends:
            exchange.halves[side].whole = True
            self.end_half(side, exchange, not whole)
        return 0

    cdef int begin_message(self, int side, Exchange exchange, HeaderSection section, HeaderList fields) except -1:
        """Begin the request or final response of an exchange: its header section was read."""
        cdef Half* half = &exchange.halves[side]
        half.first_ns = self.reader(side).block_ns      # frames before it are of the stream, or informational responses
        half.first_at = self.offset
        if not half.begun:
            half.begun = True
            self.begun += 1
        if side == SERVER and exchange.halves[CLIENT].begun and not exchange.halves[CLIENT].ended \
                and not exchange.connects and exchange.losses[CLIENT] == self.losses[CLIENT]:
            exchange.anomalies |= EARLY_RESPONSE
        recognize(exchange, fields)
        if side == CLIENT:
            exchange.connects = section.is_connect()
        if self.bodies is not None and not exchange.connects and not fields.unknown and not fields.left_out \
                and not self.reader(side).block_ends_stream:
            begin_body(exchange, side, section, self.bodies, self.bombs)
        return 0

    cdef Section section(self, int side, Exchange exchange) except *:
        """Return which header section the block of a side's reader can be."""
        cdef FrameReader reader = self.reader(side)
        if side == CLIENT:
            if exchange is not None and (exchange.request is not None or exchange.upgraded):
                return TRAILER_SECTION
            if reader.block_ends_stream and (self.losses[CLIENT] or self.joined[CLIENT]):
                return FROM_CLIENT
            return REQUEST_SECTION
        if reader.promised:
            return REQUEST_SECTION
        if not reader.block_ends_stream:
            return RESPONSE_SECTION
        if exchange is None or exchange.losses[SERVER] != self.losses[SERVER]:
            return FROM_SERVER
        if exchange.response is None:
            return RESPONSE_SECTION
        # A response of unknown status may be an informational one.
        return TRAILER_SECTION if exchange.response.status() else FROM_SERVER

    cdef int64_t lost_blocks(self, int side) except -2:
        """Return how many header blocks can be among what a side has lost before the block of its reader; -1: unknown."""
        cdef FrameReader reader = self.reader(side)
        cdef int64_t blocks = 1
        cdef Exchange exchange
        if side == CLIENT:
            if reader.block_of <= self.highest_request or self.highest_request == 0:
                return -1
            blocks = (<int64_t>reader.block_of - self.highest_request) // 2 - 1
            if self.trailers_seen:
                blocks += len(self.streams) + <int64_t>self.missing_requests
            return blocks + 1
        if self.pushes:
            return -1
        for exchange in self.streams.values():
            if not exchange.halves[SERVER].ended:
                blocks += 2 if exchange.response is None else 1
        return blocks + 2 * <int64_t>self.missing_requests

    cdef Exchange place(self, int side, Exchange exchange, HeaderList fields):
        """Give a header list to the exchange that it belongs to, and return that; None: to none."""
        cdef FrameReader reader = self.reader(side)
        cdef uint32_t stream = reader.block_of
        if side == SERVER and reader.promised:
            self.pushes = True
            if reader.promised & 1 or reader.promised in self.streams:
                return None
            exchange = self.open(reader.promised)
            exchange.pushed = True
            exchange.request = section_of(fields)
            self.begin_message(CLIENT, exchange, exchange.request, fields)
            exchange.halves[CLIENT].first_ns = exchange.halves[CLIENT].last_ns = reader.block_ns
            exchange.halves[CLIENT].ended = exchange.halves[CLIENT].whole = True
            self.keep(exchange, exchange.request.size)
            return exchange
        if exchange is None:
            if self.resets.has(stream):
                return None
            if side == CLIENT:
                if not stream & 1 or stream <= self.highest_request and (not self.lossy() or not fields.pseudo):
                    return None
            elif stream <= self.highest_request and not self.lossy():
                return None
            exchange = self.open(stream)
            if side == SERVER:
                exchange.halves[CLIENT].loss = True
                exchange.halves[SERVER].loss = self.losses[SERVER] or self.joined[SERVER]
        if side == SERVER:
            self.take_response(exchange, fields, reader.block_ends_stream)
            return exchange
        if stream > self.highest_request:
            if self.losses[CLIENT] and self.highest_request:
                self.missing_requests += (stream - self.highest_request) // 2 - 1
                self.requests_since = 0
            self.highest_request = stream
            self.requests_since += 1
            if self.requests_since > ANSWERED_AFTER:
                self.missing_requests = 0
        if exchange.request is None and not exchange.upgraded:
            exchange.request = section_of(fields)
            if fields.pseudo:
                self.begin_half(CLIENT, exchange)
            self.begin_message(CLIENT, exchange, exchange.request, fields)
            self.keep(exchange, exchange.request.size)
        else:
            self.trailers_seen = True
            if exchange.request_trailers is None:
                exchange.request_trailers = section_of(fields)
                self.keep(exchange, exchange.request_trailers.size)
        return exchange

    cdef int take_response(self, Exchange exchange, HeaderList fields, bint last) except -1:
        """Give a header list of the server to its exchange: a response, an informational one, or trailers."""
        cdef HeaderSection section = section_of(fields)
        cdef int status = section.status()
        cdef bint known = exchange.response is not None and exchange.response.status() != 0
        cdef bint regular = fields.count > 0 and not fields.fields[0].flags & NAME_UNKNOWN and not fields.pseudo
        if not last and 100 <= status < 200:
            if exchange.informational is None:
                exchange.informational = []
            if len(exchange.informational) < MOST_INFORMATIONAL:
                exchange.informational.append(status)
        elif exchange.response is None and last and regular:
            exchange.response = section_of(nothing)     # its header section was lost: these are trailers
            self.begin_message(SERVER, exchange, exchange.response, fields)
            exchange.halves[SERVER].begin_lost = True
            exchange.response_trailers = section
            self.keep(exchange, section.size)
        elif exchange.response is None or not known and (not last or fields.pseudo):
            exchange.response = section     # one before it, of an unknown status, was informational
            if fields.pseudo:
                self.begin_half(SERVER, exchange)
            self.begin_message(SERVER, exchange, section, fields)
            exchange.halves[SERVER].begin_lost = last and not fields.pseudo     # it may be trailers
            self.keep(exchange, section.size)
        elif last and exchange.response_trailers is None and (
                known or regular or exchange.halves[SERVER].body_bytes):
            exchange.response_trailers = section
            self.keep(exchange, section.size)
        else:
            self.totals[STRAY_FRAMES] += 1      # trailers, or the response behind an informational one: nothing tells
        return 0

    cdef int keep(self, Exchange exchange, size_t size) except -1:
        """Count memory that an exchange keeps; where there is too much, the oldest exchanges end."""
        exchange.weight += size
        self.held += size
        while self.held > self.max_held and len(self.streams) > 1:
            self.evict(exchange)
        return 0

    cdef bint evict(self, Exchange but) except -1:
        """End the oldest exchange, or the one after it; return False if there is none."""
        cdef Exchange oldest
        for oldest in self.streams.values():
            if oldest is not but:
                oldest.evicted = True
                self.totals[STREAMS_GIVEN_UP] += 1
                self.finish(oldest)
                return True
        return False

    cdef int control(self, int side, uint64_t ts_ns) except -1:
        """Handle a SETTINGS, RST_STREAM or GOAWAY frame."""
        cdef FrameReader reader = self.reader(side)
        cdef const uint8_t* p = reader.small
        cdef const uint8_t* end = p + reader.small_size
        cdef uint32_t value, name
        cdef Exchange exchange
        if reader.type == SETTINGS:
            reader.wire_bytes = 0
            while not reader.flags & ACK_FLAG and end - p >= 6:
                name = <uint32_t>p[0] << 8 | p[1]
                value = <uint32_t>p[2] << 24 | <uint32_t>p[3] << 16 | <uint32_t>p[4] << 8 | p[5]
                if name == SETTINGS_HEADER_TABLE_SIZE:
                    self.decoder(1 - side).announce(value)
                elif name == SETTINGS_MAX_FRAME_SIZE and value <= LARGEST_FRAME_SIZE:
                    self.reader(1 - side).max_frame_size = max(self.reader(1 - side).max_frame_size, value)
                p += 6
            return 0
        if end - p < 4:
            reader.wire_bytes = 0
            return 0
        value = <uint32_t>p[0] << 24 | <uint32_t>p[1] << 16 | <uint32_t>p[2] << 8 | p[3]
        if reader.type == GOAWAY:
            reader.wire_bytes = 0
            self.goaway = value & 0x7FFFFFFF
            return 0
        exchange = self.streams.get(reader.stream)
        self.count(side, exchange, ts_ns)
        if exchange is None:
            self.totals[STRAY_FRAMES] += 1
            return 0
        if exchange.reset_by == NOT_RESET:
            exchange.reset_by = side
            exchange.reset_code = value
            self.totals[RESETS + side] += 1
            if side == CLIENT and not exchange.halves[SERVER].ended and self.resets.rapid(ts_ns):
                exchange.anomalies |= RAPID_RESET
            self.finish_reset(self.resets.add(exchange.stream_id, ts_ns))
        self.end_half(side, exchange, False)
        return 0

    cdef int finish_reset(self, uint32_t stream) except -1:
        """End a stream that was reset; 0: none."""
        cdef Exchange exchange
        if stream:
            exchange = self.streams.get(stream)
            if exchange is not None and exchange.reset_by != NOT_RESET:
                self.finish(exchange)
        return 0

    cdef int on_time(self, uint64_t ts_ns) except -1:
        """End the streams whose reset is some time ago. on_data() does it too; a connection that is silent needs it."""
        cdef uint32_t stream = self.resets.due(ts_ns)
        while stream:
            self.finish_reset(stream)
            stream = self.resets.due(ts_ns)
        return 0

    cdef Exchange open(self, uint32_t stream_id):
        """Open an exchange."""
        cdef Exchange exchange = Exchange.__new__(Exchange)
        if len(self.streams) >= self.max_streams:
            self.evict(None)
        exchange.stream_id = stream_id
        # A side that searches for frames loses what it passes over: one loss more than at the exchange's begin.
        exchange.losses[CLIENT] = self.losses[CLIENT] - (self.client_reader.state == SEARCHING)
        exchange.losses[SERVER] = self.losses[SERVER] - (self.server_reader.state == SEARCHING)
        self.streams[stream_id] = exchange
        exchange.flow = self.flow
        exchange.index = self.flow.transactions
        self.flow.transactions += 1
        self.opened += 1
        self.totals[STREAMS] += 1
        return exchange

    cdef int begin_half(self, int side, Exchange exchange) except -1:
        """Note that the first header section of a side was seen: no DATA stands before it, so earlier losses do not count."""
        if exchange.halves[side].body_bytes == 0:
            exchange.losses[side] = self.losses[side] - (self.reader(side).state == SEARCHING)
            exchange.halves[side].loss = False
        return 0

    cdef int end_half(self, int side, Exchange exchange, bint lost) except -1:
        """End one half of an exchange: its side has sent END_STREAM or RST_STREAM. lost: its last bytes were not read."""
        if not exchange.halves[side].ended:
            exchange.halves[side].ended = True
            exchange.halves[side].end_lost = lost
            if exchange.losses[side] != self.losses[side]:
                exchange.halves[side].loss = True
            if exchange.tunnel is not None:
                exchange.tunnel.end(side, exchange.halves[side].whole)
        if exchange.halves[1 - side].ended:
            self.finish(exchange)
        return 0

    cdef int finish(self, Exchange exchange) except -1:
        """End an exchange."""
        cdef int side
        if self.streams.pop(exchange.stream_id, None) is None:
            return 0
        for side in range(2):
            if not exchange.halves[side].ended and exchange.losses[side] != self.losses[side]:
                exchange.halves[side].loss = True
            end_body(exchange, side, &self.bombs)
        if exchange.tunnel is not None:
            exchange.tunnel.close()
            exchange.tunnel = None
            self.tunnels -= 1
        decide(exchange)
        if exchange.grpc != NO_GRPC or exchange.halves[CLIENT].loss:
            # A call may have messages both ways at a time; or the request's end may have been lost.
            exchange.anomalies &= ~<uint64_t>EARLY_RESPONSE
        exchange.anomalies |= self.anomalies | length_differs(exchange)
        self.anomalies = 0
        self.held -= exchange.weight
        self.out.append(exchange)
        return 0

    cdef int upgraded(self, HeaderSection request, uint64_t first_ns, uint64_t last_ns) except -1:
        """Open stream 1, half closed: its request was HTTP/1.1 (RFC 7540, 3.2). request: its fields; first_ns: its begin."""
        cdef Exchange exchange = self.open(1)
        exchange.upgraded = True
        exchange.request = request
        exchange.halves[CLIENT].first_ns = first_ns
        exchange.halves[CLIENT].last_ns = last_ns
        exchange.halves[CLIENT].ended = exchange.halves[CLIENT].whole = True
        self.highest_request = 1
        return 0
