# cython: language_level=3
"""Http2Connection: two directions of an HTTP/2 connection in, exchanges out (RFC 9113)."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from workers.core.counts cimport HTTP2_COUNTS
from workers.core.flow cimport Flow
from workers.http2.exchange cimport Exchange, HeaderSection
from workers.http2.frames cimport FrameReader, FrameStep
from workers.http2.header_list cimport HeaderList, Section
from workers.http2.hpack cimport HpackDecoder
from workers.http2.recent_resets cimport RecentResets
from workers.http2.stream_reader cimport StreamReaders

cdef class Http2Connection:
    cdef FrameReader client_reader
    cdef FrameReader server_reader
    cdef HpackDecoder client_decoder    # of the header blocks that the client sends
    cdef HpackDecoder server_decoder
    cdef dict streams           # {stream id: Exchange} of those that have not ended, oldest first
    cdef list out               # exchanges that have ended, in that order; the owner takes them
    cdef uint32_t max_streams
    cdef size_t max_held        # bytes of their header sections
    cdef size_t held            # … now
    cdef uint32_t highest_request       # stream id of the newest request seen
    cdef bint[2] joined         # the connection was open before this direction's first byte was seen; by CLIENT and SERVER
    cdef uint32_t[2] losses     # times that framing was lost
    cdef uint64_t[2] searches   # of the readers, when note_loss() was last called
    cdef uint32_t missing_requests      # requests that were lost, or sent before the join, and may still be answered
    cdef uint32_t requests_since        # … requests seen since
    cdef bint in_gap            # the step being handled is that of a gap
    cdef bint trailers_seen     # the client has sent trailers
    cdef bint pushes            # the server has promised a request
    cdef uint64_t[2] lost       # bytes that may have held header blocks, since the last block that was read
    cdef RecentResets resets
    cdef uint64_t[HTTP2_COUNTS] own     # counts, by place in Tally.http2
    cdef uint64_t* totals       # … or those of the owner, which it adds to
    cdef uint64_t begun         # halves that count as messages
    cdef uint64_t[2] violations  # of the readers, when they were last counted
    cdef uint32_t opened        # exchanges begun
    cdef Flow flow              # which numbers them
    cdef StreamReaders readers  # make the readers of tunnels; None: nothing reads them
    cdef uint32_t tunnels       # streams that have one
    cdef uint64_t anomalies     # of the connection, for the exchange that ends next
    cdef uint64_t marks         # anomalies of the bytes being read
    cdef int64_t offset         # of these bytes in their stream, and behind them
    cdef int64_t offset_end
    cdef const uint8_t* bytes   # … and these bytes themselves
    cdef int64_t peer_ack       # offset in the other stream that their frame acknowledged; -1: not known
    cdef int marks_of_piece     # as in their Piece
    cdef object bodies          # Bodies, if options ask for the contents of bodies; else None
    cdef uint32_t bombs         # bodies that reached a limit of their own
    cdef int64_t goaway         # last stream id of the newest GOAWAY; -1: none was seen

    cdef FrameReader reader(self, int side)
    cdef HpackDecoder decoder(self, int side)
    cdef int on_data(self, int side, const uint8_t* p, size_t size, uint64_t ts_ns) except -1
    cdef int upgraded(self, HeaderSection request, uint64_t first_ns, uint64_t last_ns) except -1
    cdef int note_violations(self, int side, FrameReader reader) noexcept
    cdef int on_gap(self, int side, uint64_t count, uint64_t ts_ns) except -1
    cdef int note_loss(self, int side) except -1
    cdef int on_close(self, int side, uint64_t ts_ns) except -1
    cdef int done(self) except -1
    cdef int handle(self, int side, FrameStep step, uint64_t ts_ns) except -1
    cdef int count(self, int side, Exchange exchange, uint64_t ts_ns) except -1
    cdef int read_block(self, int side, uint64_t ts_ns) except -1
    cdef Section section(self, int side, Exchange exchange) except *
    cdef int64_t lost_blocks(self, int side) except -2
    cdef Exchange place(self, int side, Exchange exchange, HeaderList fields)
    cdef int take_response(self, Exchange exchange, HeaderList fields, bint last) except -1
    cdef int keep(self, Exchange exchange, size_t size) except -1
    cdef bint evict(self, Exchange but) except -1
    cdef int begin_message(self, int side, Exchange exchange, HeaderSection section, HeaderList fields) except -1
    cdef bint lossy(self) noexcept
    cdef int control(self, int side, uint64_t ts_ns) except -1
    cdef int finish_reset(self, uint32_t stream) except -1
    cdef int on_time(self, uint64_t ts_ns) except -1
    cdef Exchange open(self, uint32_t stream_id)
    cdef int begin_half(self, int side, Exchange exchange) except -1
    cdef int end_half(self, int side, Exchange exchange, bint lost) except -1
    cdef int finish(self, Exchange exchange) except -1
