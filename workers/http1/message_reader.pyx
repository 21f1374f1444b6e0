# cython: language_level=3
"""MessageReader: reads one direction of an HTTP/1 connection (RFC 9112).

step() consumes input until it has a step to return (HEAD, END, CANDIDATE) or needs more. The reader never sees a socket, a
clock or the other direction. Where the other direction decides (a response to HEAD has no body), the owner calls frame().

After a loss the reader searches for a start line (resync.pyx). A body can contain such a line, too, so the reader only returns
CANDIDATE; the owner knows the other direction and decides by judge_candidate(). The reader searches a direction that begins
unlike HTTP in the same way. chunked_body.pyx reads the framing between chunks.

The reader copies a head that lies in one piece once, into Message.head. It gathers a head over several pieces in `partial`,
and continues the search for its end where it stopped, so the work is linear in bytes however they are split. It counts
body bytes without reading them, unless Message.body reads them.

One class, because it is one state machine. Length proof: source.p <= source.end always; every read of *p stands behind
p < end.
"""
cimport cython
from cpython.buffer cimport PyBUF_READ
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memchr

from workers.http1.chunked_body cimport ChunkReader, use
from workers.http1.resync cimport Input
from workers.core.limits cimport Limits
from workers.http1.message cimport (
    BAD_CHUNK, BLANK_LINES, BODY_CUT, BY_CHUNKS, BY_CLOSE, BY_LENGTH, EXTRA_BYTES, HEAD_BAD, HEAD_TOO_LONG, HOST_MISSING,
    LENGTH_AND_CHUNKED, LENGTH_NOT_ALLOWED, MISSING_VERSION, NO_BODY, RESYNCHRONISED, UNKNOWN_METHOD, Message,
)
from workers.http1.start_line cimport (
    OPEN, Start, begins_http2, begins_status_line, head_end, may_start, preface, search,
)
from workers.core.counters cimport Tally
from workers.core.counts cimport OTHER

cdef enum:
    LONGEST_METHOD = 32
    CR = 13
    LF = 10
    SP = 32
    TAB = 9


cdef bint is_good(Message message, uint32_t max_headers, bint behind_proxy) except -1:
    """Parse message.head; return whether may_start() accepts such a head in one piece and byte by byte.

    The preface of HTTP/2 only looks like one. Behind a header of the PROXY protocol it counts, and ends HTTP/1.
    """
    return message.parse(max_headers) != HEAD_BAD and (not message.is_request or (
        message.method.length <= LONGEST_METHOD
        and (behind_proxy or not begins_http2(<const uint8_t*>message.head, len(message.head)))))


cdef void account(MessageReader reader, Tally tally) noexcept:
    """Count the bytes of heads that a reader has gathered."""
    cdef size_t size = len(reader.partial) if reader.partial is not None else 0
    tally.head_bytes += size
    tally.head_bytes -= reader.held
    reader.held = size


@cython.final
@cython.no_gc
cdef class MessageReader(ChunkReader):
    cdef Step step(self, Input* source, Limits limits, Tally tally) except <Step>-1:
        """Consume input until there is a step to return."""
        cdef uint64_t room
        cdef Step said
        while True:
            if self.state == ENDING:
                self.state = LOST if self.cut else START
                self.junk = self.cut and not self.abandoned
                self.cut = False
                return END
            if source.p >= source.end:
                return NEED_MORE
            room = <uint64_t>(source.end - source.p)
            if self.state == LENGTH or self.state == CHUNK_DATA:
                room = min(room, self.remaining)
                self.message.body_bytes += room
                if self.message.body is not None:
                    self.feed_body(source.p, room)
                use(self, source, room)
                self.remaining -= room
                if self.remaining == 0:
                    if self.state == CHUNK_DATA:
                        self.state = CHUNK_END
                    else:
                        self.message.complete = True
                        self.state = ENDING
            elif self.state == START:
                if not self.begun:
                    self.begun = True
                    if (source.p[0] == 80 or source.p[0] == CR or source.p[0] == SP) and self.skip_preface(source, tally):
                        if self.behind_proxy:
                            return AT_START
                        continue
                if self.headless and not begins_status_line(source.p, room):
                    self.begin(source.offset, source.ts_ns, source.peer_ack)
                    return self.begin_http09_response(tally)
                elif (source.p[0] == CR or source.p[0] == LF) and not self.midstream:
                    # RFC 9112 section 2.2: blank lines before a message
                    source.p += 1
                    source.offset += 1
                    self.blank = True
                elif may_start(source.p, room):
                    self.begin(source.offset, source.ts_ns, source.peer_ack)
                else:
                    self.lose_sync(source.p, room, tally)
            elif self.state == PREFACE:
                self.skip_preface(source, tally)
                if self.behind_proxy:
                    return AT_START
            elif self.state == IN_HEAD:
                said = self.read_head(source, limits, tally)
                if said != NEED_MORE:
                    return said
            elif self.state == UNTIL_CLOSE:
                self.message.body_bytes += room
                if self.message.body is not None:
                    self.feed_body(source.p, room)
                use(self, source, room)
            elif self.state == TUNNEL:
                if self.kind == OTHER:
                    return NEED_MORE
                tally.not_http_bytes[self.kind] += room
                source.p = source.end
            elif self.state == LOST:
                return CANDIDATE if self.find(source, limits, tally) else NEED_MORE
            elif not self.chunk_framing(source, limits):
                tally.parse_errors += 1
                self.message.anomalies |= BAD_CHUNK
                self.cut = True
                self.state = ENDING

    cdef bint skip_preface(self, Input* source, Tally tally) except -1:
        """Skip the preface before the first message, as preface() finds it; return False if there is none.

        It belongs to no message.
        """
        cdef size_t room = <size_t>(source.end - source.p), before = 0, length
        if self.state != PREFACE and (self.http or self.midstream):
            return False
        if self.state == PREFACE:
            before = len(self.partial)
            self.partial.extend(source.p[:room])
            length = preface(<const uint8_t*>self.partial, len(self.partial))
        else:
            length = preface(source.p, room)
        if length == OPEN:
            if self.state != PREFACE:
                self.partial = bytearray(source.p[:room])
            self.gather(source, self.state != PREFACE)
            self.state = PREFACE
            length = before + room
        elif length:
            tally.not_http_bytes[self.kind] += length
            self.partial = None
            self.state = START
            self.behind_proxy = True
        elif self.state == PREFACE:                 # the gathered bytes begin another message
            self.partial = self.partial[:before].lstrip(b"\r\n")
            self.blank = len(self.partial) < <Py_ssize_t>before
            if self.partial:
                at, ns, ack = self.pieces[0]
                self.begin(at + before - len(self.partial), ns, ack)
                self.message.bytes = len(self.partial)
            else:
                self.partial = None
                self.state = START
            return True
        else:
            return False
        source.p += length - before
        source.offset += length - before
        return True

    cdef int begin(self, int64_t start, uint64_t ts_ns, int64_t peer_ack) except -1:
        """Begin a message, which probably starts here."""
        self.message = Message.__new__(Message)
        self.message.first_ns = self.message.last_ns = ts_ns
        self.message.start = start
        self.message.peer_ack = peer_ack
        if self.blank:
            self.message.anomalies |= BLANK_LINES
            self.blank = False
        if self.doubtful:
            self.message.anomalies |= RESYNCHRONISED
        elif self.junk:
            self.message.anomalies |= EXTRA_BYTES
        self.doubtful = self.junk = False
        self.scanned = self.early = self.turn_at = 0
        self.line_seen = self.versionless = self.abandoned = False
        self.state = IN_HEAD
        return 0

    cdef int feed_body(self, const uint8_t* p, uint64_t count) except -1:
        """Give bytes of the body to its BodyReader; they stay valid until take() returns."""
        self.message.body.take(PyMemoryView_FromMemory(<char*>p, <Py_ssize_t>count, PyBUF_READ))
        return 0

    cdef Step read_head(self, Input* source, Limits limits, Tally tally) except <Step>-1:
        """Find the end of the head in the gathered bytes and the input; gather at most max_head_bytes."""
        cdef Message message = self.message
        cdef uint32_t room = <uint32_t>min(<int64_t>(source.end - source.p), <int64_t>limits.max_head_bytes)
        cdef uint32_t size, before = 0
        cdef bytes first
        cdef bint good
        if self.partial is None:
            size = head_end(source.p, room, &self.scanned)
            if size:
                message.head = source.p[:size]
                if not is_good(message, limits.max_headers, self.behind_proxy) or self.unlikely(message):
                    if self.headless:
                        return self.begin_http09_response(tally)
                    self.lose_sync(source.p, size, tally)
                    return NEED_MORE
                use(self, source, size)
                message.head_end = source.offset
                return self.end_head(tally)
            self.partial = bytearray(source.p[:room])
            self.gather(source, True)
        else:
            self.gather(source, False)
            before = <uint32_t>len(self.partial)
            room = min(room, limits.max_head_bytes - before)
            self.partial.extend(source.p[:room])
            self.versionless = False                # a versionless request would end here, but more follows
            if self.turn_at and self.begins_another(memchr(source.p, LF, room) != NULL, limits):
                return self.abandon(before, limits, tally)
            size = head_end(<const uint8_t*>self.partial, <uint32_t>len(self.partial), &self.scanned)
        good = not self.headless or begins_status_line(<const uint8_t*>self.partial, len(self.partial))
        if good and not self.line_seen:
            self.line_seen = memchr(source.p, LF, room) != NULL
            good = self.line_is_good() if self.line_seen else may_start(<const uint8_t*>self.partial, len(self.partial))
            if not good and not self.headless:
                first = bytes(self.partial[:32])
                del self.partial[before:]           # the reader searches this piece again, for another start
                self.lose_sync(<const uint8_t*>first, len(first), tally)
                return NEED_MORE
        if not good:
            use(self, source, room)
            return self.begin_http09_response(tally)
        if size:
            message.head = bytes(self.partial[:size])
            is_good(message, limits.max_headers, self.behind_proxy)     # the first line is good, so the head is
            self.partial = None
            use(self, source, size - before)
            message.head_end = source.offset
            return self.end_head(tally)
        use(self, source, room)
        if len(self.partial) < <Py_ssize_t>limits.max_head_bytes:
            return NEED_MORE
        return self.too_long(limits, tally)

    cdef Step too_long(self, Limits limits, Tally tally) except <Step>-1:
        """Stop gathering this head, because it is too long."""
        cdef Step said
        self.message.anomalies |= HEAD_TOO_LONG
        said = self.parse_partial_head(limits, tally)
        if said == NEED_MORE and self.headless:
            return self.begin_http09_response(tally)
        if said == NEED_MORE:
            self.forget(tally)
            self.lose_sync(NULL, 0, tally)
        else:
            tally.parse_errors += 1
        return said

    cdef bint line_is_good(self) except -1:
        """Return whether the whole first line is a request line or a status line."""
        cdef Message trial = Message.__new__(Message)
        cdef Py_ssize_t size = self.partial.find(b"\n") + 1
        trial.head = bytes(self.partial[:size])
        if not is_good(trial, 0, self.behind_proxy) or self.unlikely(trial):
            return False
        self.versionless = trial.is_request and trial.major == 0 and size == len(self.partial)
        return True

    cdef bint unlikely(self, Message message) noexcept:
        """Return whether a message is too unlike HTTP to count where other bytes are likely.

        Such places are the first bytes of a capture that begins in the middle, which may be of a body, and a side beside
        another protocol.
        """
        cdef bint doubted = self.midstream or (self.beside != OTHER and not self.http and not self.behind_proxy)
        return doubted and message.anomalies & (UNKNOWN_METHOD | MISSING_VERSION) != 0

    cdef int judge_kept(self, const Stream* other, int64_t heard, bint asks, Limits limits, Tally tally) except -1:
        """Judge the kept bytes of a lost reader: a start line may be the only captured part of a head.

        It counts if three facts hold. It begins a segment. The other side's last bytes acknowledge all bytes before it, and
        none of it: `heard`. Its own frame acknowledges all of those. Such a message answers the other side, or asks again.
        """
        cdef Input nothing
        if self.find_cut(limits) and self.candidate_first and asks == self.candidate_request and heard == self.candidate \
                and other.next - other.finished <= self.candidate_ack <= other.next:
            nothing.p = nothing.end = NULL
            self.judge_candidate(True, &nothing, tally)
        return 0

    cdef int found_http(self) except -1:
        """Adopt HTTP for this side, because the other side speaks it."""
        if not self.http and self.partial is not None:
            self.early = <uint32_t>len(self.partial)
        self.http = True
        if self.kind != OTHER:                      # the other side answered its bytes in HTTP, so it may continue in HTTP
            self.kind = OTHER
            self.state = LOST
        return 0

    cdef Step end_head(self, Tally tally) except <Step>-1:
        """Return HEAD for a message whose head is whole."""
        self.http = True
        self.behind_proxy = False
        self.midstream = False
        self.early = 0
        tally.started += 1
        self.state = AFTER_HEAD
        return HEAD

    cdef Step begin_http09_response(self, Tally tally) except <Step>-1:
        """Start an HTTP/0.9 response, which is body throughout."""
        cdef Message message = self.message
        message.head = b""                          # without the bytes that were parsed as a head
        message.anomalies &= RESYNCHRONISED | EXTRA_BYTES
        message.major = message.status = 0
        message.minor = 9
        message.body_bytes = message.bytes
        message.head_end = message.start
        if self.partial is not None:
            message.body = bytes(self.partial)      # for the BodyReader
        self.partial = None
        return self.end_head(tally)

    cdef Step end_versionless(self, Limits limits, Tally tally) except <Step>-1:
        """End a request line without a version as a whole request, because the other side sends bytes."""
        if self.state == IN_HEAD and self.versionless:
            self.message.head = bytes(self.partial)
            is_good(self.message, limits.max_headers, False)
            self.message.head_end = self.message.start + len(self.partial)
            self.partial = None
            return self.end_head(tally)
        return NEED_MORE

    cdef bint begins_another(self, bint line, Limits limits) except -1:
        """Return whether another request begins where the sender of this head continued after its response.

        line: one more line has ended.
        """
        cdef const uint8_t* p = <const uint8_t*>self.partial + self.turn_at
        cdef size_t size = len(self.partial) - self.turn_at
        cdef Start start
        start.at = start.keep = 0
        start.request = False
        if line and search(p, size, limits.max_head_bytes, &start) and start.at == 0 and start.request:
            return True
        if start.at or start.keep or not may_start(p, size):
            self.turn_at = 0
        return False

    cdef Step abandon(self, size_t before, Limits limits, Tally tally) except <Step>-1:
        """End a head that its sender gave up to begin another one.

        before: bytes gathered before the input, which the reader searches again.
        """
        cdef Step said
        cdef int64_t at = self.message.start + self.turn_at
        cdef bytearray rest = self.partial[self.turn_at:before] if before > self.turn_at else None
        del self.partial[self.turn_at:]
        self.message.bytes = self.turn_at
        said = self.parse_partial_head(limits, tally)
        if said == NEED_MORE:
            self.pass_over(self.turn_at, tally)
            self.lose_sync(NULL, 0, tally)
        self.abandoned = said != NEED_MORE
        self.partial = rest
        self.partial_at = at
        while len(self.pieces) > 1 and self.pieces[1][0] <= at:
            del self.pieces[0]
        return said

    cdef int64_t unfinished(self) except -2:
        """Return the offset of the first byte of an unfinished head; -1 if there is none."""
        if self.state == IN_HEAD:
            return self.message.start
        if self.state == PREFACE:
            return self.pieces[0][0]
        return -1

    cdef bint asks_for_head(self) except -1:
        """Return whether an unfinished head has the method HEAD."""
        return self.partial is not None and self.partial.startswith(b"HEAD ")

    cdef Py_ssize_t whole_lines(self) except -1:
        """Return the length of the whole gathered lines.

        A field that a folded line continues is whole only with that line.
        """
        cdef Py_ssize_t whole = self.partial.rfind(b"\n") + 1, line = whole
        while 0 < line < <Py_ssize_t>len(self.partial) and (self.partial[line] == SP or self.partial[line] == TAB):
            line = self.partial.rfind(b"\n", 0, line - 1) + 1
            if line:                                # no folded line continues the start line
                whole = line
        return whole

    cdef Step parse_partial_head(self, Limits limits, Tally tally) except <Step>-1:
        """Return HEAD for a head that stays incomplete, if its whole lines contain a start line; else NEED_MORE."""
        cdef Message message = self.message
        cdef Py_ssize_t whole = self.whole_lines() if self.partial is not None else 0
        if whole == 0:
            return NEED_MORE
        message.head = bytes(self.partial[:whole])
        message.head_end = message.start + len(self.partial)
        if not is_good(message, limits.max_headers, False):
            return NEED_MORE
        message.anomalies &= ~<uint64_t>HOST_MISSING    # Host may stand in the missing lines
        self.partial = None
        self.cut = True
        return self.end_head(tally)

    cdef int lose_sync(self, const uint8_t* p, size_t size, Tally tally) except -1:
        """Enter LOST or TUNNEL, because no message starts here. p: the first bytes, which may reveal the protocol."""
        if not self.http and self.kind == OTHER:
            self.kind = OTHER if self.midstream else self.protocols.kind_of(p, size)
            if self.kind == OTHER:
                self.kind = self.beside
            tally.not_http[self.kind] += 1
        elif self.http:
            tally.parse_errors += 1
        self.junk = True
        self.spilled = self.http
        self.lost_bytes = self.lost_bytes or self.http
        self.state = TUNNEL if self.kind != OTHER else LOST
        if self.state == TUNNEL:
            self.forget(tally)
        elif self.partial is not None:              # the search covers these bytes, too
            self.partial_at = self.message.start
        self.message = None
        self.blank = False
        self.trail = 0
        return 0

    cdef int foreign(self, int kind) except -1:
        """Start in the middle of another protocol; the bytes before this place are counted elsewhere."""
        self.begun = self.junk = True
        self.kind = kind
        self.state = TUNNEL
        return 0

    cdef int enter_state(self, State state, Tally tally) except -1:
        """Drop the gathered bytes, and continue in `state`."""
        self.forget(tally)
        account(self, tally)
        self.state = state
        return 0

    cdef int reject_message(self, Tally tally) except -1:
        """Reject the last message, which was none, and search for a start behind it."""
        self.lost_bytes = self.doubtful = True
        self.trail = 0
        self.state = LOST
        return self.forget(tally)

    cdef int judge_candidate(self, bint yes, Input* source, Tally tally) except -1:
        """Begin a message at the candidate if `yes`, else continue the search behind its first byte."""
        if yes:
            tally.resyncs += self.doubtful
            self.begin(self.candidate, self.candidate_ns, self.candidate_ack)
            if self.partial is not None:
                self.message.bytes = len(self.partial)
                self.line_seen = True               # the search has read the line whole
            return 0
        return self.refuse(source, tally)

    cdef int frame(self, bint no_body, bint tunnel) except -1:
        """Decide the framing behind the head (RFC 9112 section 6.3, in its order). no_body: a response to HEAD."""
        cdef Message message = self.message
        cdef bint framed = message.has_length or message.coded
        self.section = 0
        if message.chunked and message.has_length:
            message.anomalies |= LENGTH_AND_CHUNKED
        message.framing = NO_BODY
        if self.cut:
            message.anomalies |= BODY_CUT
            self.state = ENDING
        elif not message.head:                                          # HTTP/0.9, whatever the request
            message.framing = BY_CLOSE
            self.state = UNTIL_CLOSE
        elif not message.is_request and (no_body or 100 <= message.status < 200 or message.status in (204, 304)):
            message.complete = True                                     # 1.
            if framed and not no_body and message.status != 304:
                message.anomalies |= LENGTH_NOT_ALLOWED
            self.state = ENDING
        elif tunnel:
            message.complete = True                                     # 2.
            if framed:
                message.anomalies |= LENGTH_NOT_ALLOWED
            self.state = ENDING
        elif message.chunked:
            message.framing = BY_CHUNKS                                 # 3. and 4.
            self.state = CHUNK_SIZE
            self.remaining = self.digits = 0
            self.padded = False
        elif message.coded:
            message.framing = BY_CLOSE                                  # 4., chunked not last; a server refuses such a request
            self.state = UNTIL_CLOSE
        elif message.has_length:
            message.framing = BY_LENGTH                                 # 5. and 6.
            self.remaining = message.content_length
            message.complete = self.remaining == 0
            self.state = ENDING if self.remaining == 0 else LENGTH
        elif message.is_request:
            message.complete = True                                     # 7.
            self.state = ENDING
        else:
            message.framing = BY_CLOSE                                  # 8.
            self.state = UNTIL_CLOSE
        return 0

    cdef Step gap(self, uint64_t count, Limits limits, Tally tally) except <Step>-1:
        """Skip `count` lost bytes of the stream, exactly if they are of a body of known length."""
        cdef uint64_t known
        cdef Step said
        if self.state == UNTIL_CLOSE or ((self.state == LENGTH or self.state == CHUNK_DATA) and count <= self.remaining):
            self.message.missing += count
            self.message.bytes += count
            self.message.body_bytes += count
            self.message.end_lost = True
            if self.message.body is not None:
                self.message.body.gap()
            if self.state != UNTIL_CLOSE:
                self.remaining -= count
                if self.remaining == 0:
                    if self.state == CHUNK_DATA:
                        self.state = CHUNK_END
                    else:
                        self.message.complete = True
                        self.state = ENDING
            return NEED_MORE
        if self.state == TUNNEL:
            return NEED_MORE
        self.lost_bytes = self.doubtful = self.gapped = True
        self.trail = 0
        if self.state == LOST:
            self.forget(tally)
            return NEED_MORE
        if self.state == START or self.state == PREFACE:
            self.forget(tally)
            self.state = LOST
            return NEED_MORE
        if self.state == IN_HEAD:
            said = self.parse_partial_head(limits, tally)
            if said == NEED_MORE:
                self.message = None
                self.forget(tally)
                self.state = LOST
            return said
        if self.state == LENGTH:                    # the body's end lies inside the gap
            known = self.remaining
            self.message.complete = True
        else:
            known = count
        self.message.missing += known
        self.message.bytes += known
        self.message.body_bytes += known if self.state == LENGTH else 0
        self.message.end_lost = True
        if self.message.body is not None:
            self.message.body.gap()
        self.cut = True
        self.state = ENDING
        return NEED_MORE

    cdef Step close(self, bint by_fin, Limits limits, Tally tally) except <Step>-1:
        """End the stream. Return HEAD or END like step(), or NEED_MORE if there is no further step.

        by_fin: the sender has sent FIN. Only then is a body that reaches to the end complete.
        """
        if self.state == ENDING:
            self.state = LOST if self.cut else START
            return END
        if self.state == UNTIL_CLOSE:
            self.message.complete = by_fin
        elif self.state == IN_HEAD:
            if self.end_versionless(limits, tally) == HEAD or self.parse_partial_head(limits, tally) == HEAD:
                return HEAD
            if self.headless:
                return self.begin_http09_response(tally)
            self.message = None
            self.forget(tally)
            self.state = LOST
            return NEED_MORE
        elif self.state not in (LENGTH, CHUNK_SIZE, CHUNK_SIZE_CR, CHUNK_EXTENSION, CHUNK_DATA, CHUNK_END, TRAILER):
            return NEED_MORE
        self.state = LOST
        return END
