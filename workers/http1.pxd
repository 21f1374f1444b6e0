# cython: language_level=3
"""MessageReader: one direction of an HTTP/1 connection, pieces in, messages out."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from workers.limits cimport Limits
from workers.message cimport Message
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


cdef enum State:
    START                       # between messages
    IN_HEAD
    AFTER_HEAD                  # frame() has not been called yet
    LENGTH
    CHUNK_SIZE
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
    cdef Message message
    cdef bint http              # a message of this direction had a good head
    cdef bint cut               # the head being handed out is cut off: no body can be framed behind it
    cdef bint lost_bytes        # bytes between messages are missing since the last message
    cdef bytearray partial      # head bytes from earlier pieces
    cdef bint line_seen         # the first line was whole, and good
    cdef uint32_t scanned       # of partial, bytes known not to hold the end of the head
    cdef uint64_t remaining     # body or chunk bytes still to come
    cdef uint32_t digits        # of the chunk size, or bytes of the trailer line

    cdef Step step(self, Input* source, Limits limits, Tally tally) except <Step>-1
    cdef Step in_head(self, Input* source, Limits limits, Tally tally) except <Step>-1
    cdef Step head(self, Input* source, Tally tally) except <Step>-1
    cdef Step salvage(self, Tally tally) except <Step>-1
    cdef int lose(self, Tally tally) except -1
    cdef int use(self, Input* source, uint64_t count) except -1
    cdef int chunk_size(self, Input* source) except -1
    cdef int frame(self, bint no_body, bint tunnel) except -1
    cdef Step gap(self, uint64_t count, Tally tally) except <Step>-1
    cdef Step close(self, bint by_fin, Tally tally) except <Step>-1
    cdef bint line_is_good(self) except -1
