# cython: language_level=3
"""MessageReader: reads the messages of one direction of an HTTP/1 connection."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from workers.detect.detector cimport Protocols
from workers.http1.chunked_body cimport (
    AFTER_HEAD, CHUNK_DATA, CHUNK_END, CHUNK_EXTENSION, CHUNK_SIZE, CHUNK_SIZE_CR, ENDING, IN_HEAD, LENGTH, LOST, PREFACE, START,
    TRAILER, TUNNEL, UNTIL_CLOSE, ChunkReader, State,
)
from workers.http1.resync cimport Input
from workers.core.limits cimport Limits
from workers.http1.message cimport Message
from workers.core.counters cimport Tally
from workers.tcp.stream cimport Stream


cdef enum Step:
    NEED_MORE                   # the input is used up
    HEAD                        # reader.message has its head; call frame() before the next step
    END                         # reader.message is over, complete or not
    AT_START                    # a preface is over: another protocol than HTTP may begin here
    CANDIDATE                   # after a loss: possibly the next message; call judge_candidate() before the next step


cdef class MessageReader(ChunkReader):
    cdef Protocols protocols    # recognizes other protocols; None if the connection is known to be HTTP
    cdef int beside             # the other side speaks this, which is no HTTP: this one speaks HTTP only if it begins well
    cdef bint midstream         # the connection was open before the capture saw it, and no message was read yet
    cdef int joins              # pieces that were tried as the middle of HTTP/2
    cdef int64_t tried          # … offset of the last one
    cdef bint begun             # the reader has examined its first bytes
    cdef bint behind_proxy      # a preface stands before its first message: a header of the PROXY protocol
    cdef bint cut               # the head in AFTER_HEAD is cut off: no body can be framed behind it
    cdef bint lost_bytes        # bytes between messages are missing since the last message
    cdef bint headless          # the other side sent an HTTP/0.9 request: its response may have no head
    cdef bint blank             # of the next message: blank lines stood before it
    cdef bint doubtful          # … the search after a loss found it
    cdef bint junk              # … bytes that start no message stood before it
    cdef bint spilled           # bytes that start no message have come, and the owner has not yet seen this
    cdef bint line_seen         # of this head: the first line was whole, and good
    cdef bint versionless       # … it is an HTTP/0.9 request, if nothing follows
    cdef uint32_t scanned       # bytes of partial known not to hold the end of the head
    cdef uint32_t turn_at       # … where its sender continued after it had its response; 0: it did not
    cdef bint abandoned         # … and began another request there
    cdef size_t held            # bytes of partial that the owner has counted

    cdef Step step(self, Input* source, Limits limits, Tally tally) except <Step>-1
    cdef int begin(self, int64_t start, uint64_t ts_ns, int64_t peer_ack) except -1
    cdef int feed_body(self, const uint8_t* p, uint64_t count) except -1
    cdef bint skip_preface(self, Input* source, Tally tally) except -1
    cdef Step read_head(self, Input* source, Limits limits, Tally tally) except <Step>-1
    cdef Step too_long(self, Limits limits, Tally tally) except <Step>-1
    cdef Step begin_http09_response(self, Tally tally) except <Step>-1
    cdef int found_http(self) except -1
    cdef bint unlikely(self, Message message) noexcept
    cdef Step end_head(self, Tally tally) except <Step>-1
    cdef bint begins_another(self, bint line, Limits limits) except -1
    cdef Step abandon(self, size_t before, Limits limits, Tally tally) except <Step>-1
    cdef int64_t unfinished(self) except -2
    cdef bint asks_for_head(self) except -1
    cdef Py_ssize_t whole_lines(self) except -1
    cdef Step parse_partial_head(self, Limits limits, Tally tally) except <Step>-1
    cdef Step end_versionless(self, Limits limits, Tally tally) except <Step>-1
    cdef bint line_is_good(self) except -1
    cdef int judge_kept(self, const Stream* other, int64_t heard, bint asks, Limits limits, Tally tally) except -1
    cdef int lose_sync(self, const uint8_t* p, size_t size, Tally tally) except -1
    cdef int enter_state(self, State state, Tally tally) except -1
    cdef int foreign(self, int kind) except -1
    cdef int reject_message(self, Tally tally) except -1
    cdef int judge_candidate(self, bint yes, Input* source, Tally tally) except -1
    cdef int frame(self, bint no_body, bint tunnel) except -1
    cdef Step gap(self, uint64_t count, Limits limits, Tally tally) except <Step>-1
    cdef Step close(self, bint by_fin, Limits limits, Tally tally) except <Step>-1


cdef void account(MessageReader reader, Tally tally) noexcept
