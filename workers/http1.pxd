# cython: language_level=3
"""MessageReader: one direction of an HTTP/1 connection, pieces in, messages out."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from workers.finder cimport Finder, Input
from workers.limits cimport Limits
from workers.message cimport Message
from workers.start cimport Kind
from workers.tally cimport Tally


cdef enum Step:
    NEED_MORE                   # the input is used up
    HEAD                        # reader.message has its head; call frame() before the next step
    END                         # reader.message is over, complete or not
    CANDIDATE                   # after a loss: what may be the next message; call trust() before the next step


cdef enum State:
    START                       # between messages
    PREFACE                     # gathering what may be a header of the PROXY protocol
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


cdef class MessageReader(Finder):
    cdef State state
    cdef Kind kind              # of what is not HTTP
    cdef Message message
    cdef bint midstream         # the connection was open before the capture saw it, and no message was read yet
    cdef bint begun             # its first bytes were looked at
    cdef bint cut               # the head being handed out is cut off: no body can be framed behind it
    cdef bint lost_bytes        # bytes between messages are missing since the last message
    cdef bint headless          # the other side asked in HTTP/0.9: an answer may have no head
    cdef bint blank             # of the next message: blank lines stood before it
    cdef bint doubtful          # … it was found by looking for it after a loss
    cdef bint junk              # … bytes that start no message stood before it
    cdef bint spilled           # such bytes have come, and their owner was not told yet
    cdef bint line_seen         # of this head: the first line was whole, and good
    cdef bint versionless       # … it is an HTTP/0.9 request, if nothing follows
    cdef uint32_t scanned       # of partial, bytes known not to hold the end of the head
    cdef uint64_t remaining     # body or chunk bytes still to come
    cdef uint32_t digits        # of the chunk size, or bytes of the trailer line
    cdef uint32_t section       # bytes of extensions and trailers of this message
    cdef bint padded            # blanks came behind the chunk size
    cdef bint after_cr          # the last byte of the chunk framing was a CR
    cdef size_t held            # bytes of partial that its owner has counted

    cdef Step step(self, Input* source, Limits limits, Tally tally) except <Step>-1
    cdef int begin(self, int64_t start, uint64_t ts_ns, int64_t peer_ack) except -1
    cdef int use(self, Input* source, uint64_t count) except -1
    cdef int show(self, const uint8_t* p, uint64_t count) except -1
    cdef bint before_all(self, Input* source, Tally tally) except -1
    cdef Step in_head(self, Input* source, Limits limits, Tally tally) except <Step>-1
    cdef Step too_long(self, Limits limits, Tally tally) except <Step>-1
    cdef Step bare(self, Tally tally) except <Step>-1
    cdef int found_http(self) except -1
    cdef bint unlikely(self, Message message) noexcept
    cdef Step handed(self, Tally tally) except <Step>-1
    cdef Step salvage(self, Limits limits, Tally tally) except <Step>-1
    cdef Step settle(self, Limits limits, Tally tally) except <Step>-1
    cdef bint line_is_good(self) except -1
    cdef int lose(self, const uint8_t* p, size_t size, Tally tally) except -1
    cdef int stray(self, Tally tally) except -1
    cdef int trust(self, bint yes, Input* source, Tally tally) except -1
    cdef int frame(self, bint no_body, bint tunnel) except -1
    cdef int chunk_framing(self, Input* source, Limits limits) except -1
    cdef bint sized(self) noexcept
    cdef int count_section(self, uint64_t count, Limits limits) except -1
    cdef Step gap(self, uint64_t count, Limits limits, Tally tally) except <Step>-1
    cdef Step close(self, bint by_fin, Limits limits, Tally tally) except <Step>-1
