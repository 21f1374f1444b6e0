# cython: language_level=3
"""MessageReader: one direction of an HTTP/1 connection, pieces in, messages out."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from workers.limits cimport Limits
from workers.message cimport Message
from workers.start cimport Kind
from workers.tally cimport Tally


cdef struct Input:              # what is left of a piece
    const uint8_t* p
    const uint8_t* end
    int64_t offset              # of p in its stream
    int64_t peer_ack            # offset in the other stream that the piece's frame acknowledged; -1 unknown
    uint64_t ts_ns


cdef enum Step:
    NEED_MORE                   # the input is used up
    HEAD                        # reader.message has its head; call frame() before the next step
    END                         # reader.message is over, complete or not
    CANDIDATE                   # after a loss: what may be the next message; call trust() before the next step


cdef enum State:
    START                       # between messages
    IN_HEAD
    AFTER_HEAD                  # frame() has not been called yet
    LENGTH
    CHUNK_SIZE
    CHUNK_SIZE_CR               # the CR behind it was there
    CHUNK_EXTENSION
    CHUNK_DATA
    CHUNK_END
    TRAILER
    UNTIL_CLOSE
    ENDING                      # the message is over; the next step says so
    TUNNEL                      # another protocol has taken over
    LOST                        # no idea where a message starts: after a gap, or not HTTP


cdef class MessageReader:
    cdef State state
    cdef Kind kind              # of what is not HTTP
    cdef Message message
    cdef bint http              # the connection is HTTP
    cdef bint midstream         # the connection was open before the capture saw it
    cdef bint cut               # the head being handed out is cut off: no body can be framed behind it
    cdef bint lost_bytes        # bytes between messages are missing since the last message
    cdef bint headless          # the other side asked in HTTP/0.9: an answer may have no head
    cdef bint blank             # of the next message: blank lines stood before it
    cdef bint doubtful          # … it was found by looking for it after a loss
    cdef bint junk              # … bytes that start no message stood before it
    cdef bint line_seen         # of this head: the first line was whole, and good
    cdef bint versionless       # … it is an HTTP/0.9 request, if nothing follows
    cdef uint32_t scanned       # of partial, bytes known not to hold the end of the head
    cdef uint64_t remaining     # body or chunk bytes still to come
    cdef uint32_t digits        # of the chunk size, or bytes of the trailer line
    cdef uint32_t section       # bytes of extensions and trailers of this message
    cdef bint padded            # blanks came behind the chunk size
    cdef bint after_cr          # the last byte of the chunk framing was a CR
    cdef size_t held            # bytes of partial that its owner has counted
    cdef bytearray partial      # bytes from earlier pieces: of a head, or while LOST of what may be one
    cdef int64_t partial_at     # while LOST: offset of its first byte, time, and what its frame acknowledged
    cdef uint64_t partial_ns
    cdef int64_t partial_ack
    cdef int64_t piece_at       # … offset of the newest piece in it, time, and what its frame acknowledged
    cdef uint64_t piece_ns
    cdef int64_t piece_ack
    cdef uint64_t looked        # bytes that were searched without finding any HTTP
    cdef int64_t candidate      # offset of the one that was found
    cdef uint64_t candidate_ns
    cdef int64_t candidate_ack  # what its frame acknowledged of the other direction; -1 unknown
    cdef bint candidate_request
    cdef bint candidate_first   # it stands at the start of a piece
    cdef bint candidate_apart   # an empty line stands before it

    cdef Step step(self, Input* source, Limits limits, Tally tally) except <Step>-1
    cdef int begin(self, int64_t start, uint64_t ts_ns, int64_t peer_ack) except -1
    cdef int use(self, Input* source, uint64_t count) except -1
    cdef int show(self, const uint8_t* p, uint64_t count) except -1
    cdef Step in_head(self, Input* source, Limits limits, Tally tally) except <Step>-1
    cdef Step too_long(self, Limits limits, Tally tally) except <Step>-1
    cdef Step bare(self, int64_t end, Tally tally) except <Step>-1
    cdef Step handed(self, Tally tally) except <Step>-1
    cdef Step salvage(self, Limits limits, Tally tally) except <Step>-1
    cdef Step settle(self, Limits limits, Tally tally) except <Step>-1
    cdef bint line_is_good(self) except -1
    cdef int lose(self, const uint8_t* p, size_t size, Tally tally) except -1
    cdef bint find(self, Input* source, Tally tally) except -1
    cdef int keep(self, Input* source, size_t start, Tally tally) except -1
    cdef int trust(self, bint yes, Input* source, Tally tally) except -1
    cdef int pass_over(self, uint64_t count, Tally tally) noexcept
    cdef int forget(self, Tally tally) except -1
    cdef int frame(self, bint no_body, bint tunnel) except -1
    cdef int chunk_framing(self, Input* source, Limits limits) except -1
    cdef bint sized(self) noexcept
    cdef int count_section(self, uint64_t count, Limits limits) except -1
    cdef Step gap(self, uint64_t count, Limits limits, Tally tally) except <Step>-1
    cdef Step close(self, bint by_fin, Limits limits, Tally tally) except <Step>-1
