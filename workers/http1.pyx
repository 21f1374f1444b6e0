# cython: language_level=3
"""MessageReader: one direction of an HTTP/1 connection. Feeding and asking are apart: step() consumes input until it has
something to say (HEAD, END, CANDIDATE) or needs more. It never sees a socket, a clock or the other direction; what the other
direction decides (a response to HEAD has no body) its owner tells it by frame(). RFC 9112.

After a loss it looks for a start line (finder.pyx). A line like that can also stand in a body, so the reader only says CANDIDATE;
its owner, who knows the other direction, decides by trust(). A direction that begins unlike HTTP is searched the same way.

A head that lies in one piece is copied once, into Message.head; a head over several pieces is gathered in `partial`, and
the search for its end goes on where it stopped, so that the work is linear in bytes however they are split. Body bytes are
counted and not touched, unless Message.body wants to see them.

Length proof: source.p <= source.end always; every read of *p stands behind p < end.
"""
cimport cython
from cpython.buffer cimport PyBUF_READ
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memchr

from workers.finder cimport Finder, Input
from workers.limits cimport Limits
from workers.message cimport (
    BAD_CHUNK, BLANK_LINES, BODY_CUT, BY_CHUNKS, BY_CLOSE, BY_LENGTH, CHUNK_SECTION_TOO_LONG, EXTRA_BYTES, HEAD_BAD,
    HEAD_TOO_LONG, LENGTH_AND_CHUNKED, LENGTH_NOT_ALLOWED, MISSING_VERSION, NO_BODY, ODD_CHUNK, RESYNCHRONISED, UNKNOWN_METHOD,
    Message,
)
from workers.start cimport (
    HTTP2, OPEN, OTHER, begins_status_line, head_end, kind_of, may_start, preface,
)
from workers.tally cimport Tally

cdef enum:
    LONGEST_METHOD = 32
    MANY_DIGITS = 16            # of a chunk size
    CR = 13
    LF = 10
    SP = 32
    TAB = 9
    SEMICOLON = 59


cdef bint is_good(Message message, uint32_t max_headers) except -1:
    """Parses message.head: is it one that may_start() lets in, in one piece or byte by byte? HTTP/2 only looks like one."""
    return message.parse(max_headers) != HEAD_BAD and (not message.is_request or (
        message.method.length <= LONGEST_METHOD
        and kind_of(<const uint8_t*>message.head, len(message.head)) != HTTP2))


@cython.final
@cython.no_gc
cdef class MessageReader(Finder):
    cdef Step step(self, Input* source, Limits limits, Tally tally) except <Step>-1:
        """Consumes input until there is something to say."""
        cdef uint64_t room
        cdef Step said
        while True:
            if self.state == ENDING:
                self.state = LOST if self.cut else START
                self.junk = self.cut
                self.cut = False
                return END
            if source.p >= source.end:
                return NEED_MORE
            room = <uint64_t>(source.end - source.p)
            if self.state == LENGTH or self.state == CHUNK_DATA:
                room = min(room, self.remaining)
                self.message.body_bytes += room
                if self.message.body is not None:
                    self.show(source.p, room)
                self.use(source, room)
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
                    if (source.p[0] == 80 or source.p[0] == CR) and self.before_all(source, tally):
                        continue
                if self.headless and not begins_status_line(source.p, room):
                    self.begin(source.offset, source.ts_ns, source.peer_ack)
                    return self.bare(tally)
                elif (source.p[0] == CR or source.p[0] == LF) and not self.midstream:
                    # RFC 9112 section 2.2: blank lines before a message
                    source.p += 1
                    source.offset += 1
                    self.blank = True
                elif may_start(source.p, room):
                    self.begin(source.offset, source.ts_ns, source.peer_ack)
                else:
                    self.lose(source.p, room, tally)
            elif self.state == PREFACE:
                self.before_all(source, tally)
            elif self.state == IN_HEAD:
                said = self.in_head(source, limits, tally)
                if said != NEED_MORE:
                    return said
            elif self.state == UNTIL_CLOSE:
                self.message.body_bytes += room
                if self.message.body is not None:
                    self.show(source.p, room)
                self.use(source, room)
            elif self.state == TUNNEL:
                if self.http:
                    tally.tunnel_bytes += room
                else:
                    tally.not_http_bytes += room
                source.p = source.end
            elif self.state == LOST:
                return CANDIDATE if self.find(source, limits, tally) else NEED_MORE
            elif not self.chunk_framing(source, limits):
                tally.parse_errors += 1
                self.message.anomalies |= BAD_CHUNK
                self.cut = True
                self.state = ENDING

    cdef bint before_all(self, Input* source, Tally tally) except -1:
        """A header of the PROXY protocol may stand before the first message; it belongs to none. False: there is none."""
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
            tally.not_http_bytes += length
            self.partial = None
            self.state = START
        elif self.state == PREFACE:                 # what was gathered is the beginning of something else
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
        """A message starts here, it seems."""
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
        self.scanned = self.early = 0
        self.line_seen = self.versionless = False
        self.state = IN_HEAD
        return 0

    cdef int use(self, Input* source, uint64_t count) except -1:
        """These bytes belong to the message."""
        source.p += count
        source.offset += count
        self.message.bytes += count
        self.message.end_lost = False
        self.message.last_ns = max(self.message.last_ns, source.ts_ns)
        return 0

    cdef int show(self, const uint8_t* p, uint64_t count) except -1:
        """Bytes of the body, to who wants to see them; valid until it returns."""
        self.message.body.take(PyMemoryView_FromMemory(<char*>p, <Py_ssize_t>count, PyBUF_READ))
        return 0

    cdef Step in_head(self, Input* source, Limits limits, Tally tally) except <Step>-1:
        """Looks for the end of the head in what was gathered and in the input; gathers at most max_head_bytes."""
        cdef Message message = self.message
        cdef uint32_t room = <uint32_t>min(<int64_t>(source.end - source.p), <int64_t>limits.max_head_bytes)
        cdef uint32_t size, before = 0
        cdef bytes first
        cdef bint good
        if self.partial is None:
            size = head_end(source.p, room, &self.scanned)
            if size:
                message.head = source.p[:size]
                if not is_good(message, limits.max_headers) or self.unlikely(message):
                    if self.headless:
                        return self.bare(tally)
                    self.lose(source.p, size, tally)
                    return NEED_MORE
                self.use(source, size)
                message.head_end = source.offset
                return self.handed(tally)
            self.partial = bytearray(source.p[:room])
            self.gather(source, True)
        else:
            self.gather(source, False)
            before = <uint32_t>len(self.partial)
            room = min(room, limits.max_head_bytes - before)
            self.partial.extend(source.p[:room])
            self.versionless = False                # if it was, more follows
            size = head_end(<const uint8_t*>self.partial, <uint32_t>len(self.partial), &self.scanned)
        good = not self.headless or begins_status_line(<const uint8_t*>self.partial, len(self.partial))
        if good and not self.line_seen:
            self.line_seen = memchr(source.p, LF, room) != NULL
            good = self.line_is_good() if self.line_seen else may_start(<const uint8_t*>self.partial, len(self.partial))
            if not good and not self.headless:
                first = bytes(self.partial[:32])
                del self.partial[before:]           # this piece is looked through again, for another start
                self.lose(<const uint8_t*>first, len(first), tally)
                return NEED_MORE
        if not good:
            self.use(source, room)
            return self.bare(tally)
        if size:
            message.head = bytes(self.partial[:size])
            is_good(message, limits.max_headers)    # its first line is, so it is
            self.partial = None
            self.use(source, size - before)
            message.head_end = source.offset
            return self.handed(tally)
        self.use(source, room)
        if len(self.partial) < <Py_ssize_t>limits.max_head_bytes:
            return NEED_MORE
        return self.too_long(limits, tally)

    cdef Step too_long(self, Limits limits, Tally tally) except <Step>-1:
        """No more of this head is gathered."""
        cdef Step said
        self.message.anomalies |= HEAD_TOO_LONG
        said = self.salvage(limits, tally)
        if said == NEED_MORE and self.headless:
            return self.bare(tally)
        if said == NEED_MORE:
            self.forget(tally)
            self.lose(NULL, 0, tally)
        else:
            tally.parse_errors += 1
        return said

    cdef bint line_is_good(self) except -1:
        """Is the first line, now that it is whole, a request line or a status line?"""
        cdef Message trial = Message.__new__(Message)
        cdef Py_ssize_t size = self.partial.find(b"\n") + 1
        trial.head = bytes(self.partial[:size])
        if not is_good(trial, 0) or self.unlikely(trial):
            return False
        self.versionless = trial.is_request and trial.major == 0 and size == len(self.partial)
        return True

    cdef bint unlikely(self, Message message) noexcept:
        """Where a capture begins in the middle, the first bytes may be of a body: a message must look like one."""
        return self.midstream and message.anomalies & (UNKNOWN_METHOD | MISSING_VERSION) != 0

    cdef int found_http(self) except -1:
        """The other side speaks HTTP."""
        if not self.http and self.partial is not None:
            self.early = <uint32_t>len(self.partial)
        self.http = True
        return 0

    cdef Step handed(self, Tally tally) except <Step>-1:
        """The message has its head."""
        self.http = True
        self.midstream = False
        self.early = 0
        tally.started += 1
        self.state = AFTER_HEAD
        return HEAD

    cdef Step bare(self, Tally tally) except <Step>-1:
        """An HTTP/0.9 response: all of it is body."""
        cdef Message message = self.message
        message.head = b""                          # and nothing of what it was taken for
        message.anomalies &= RESYNCHRONISED | EXTRA_BYTES
        message.major = message.status = 0
        message.minor = 9
        message.body_bytes = message.bytes
        message.head_end = message.start
        if self.partial is not None:
            message.body = bytes(self.partial)      # for who will look into the body
        self.partial = None
        return self.handed(tally)

    cdef Step settle(self, Limits limits, Tally tally) except <Step>-1:
        """The other side speaks: a request line without a version is then all there is of a request."""
        if self.state == IN_HEAD and self.versionless:
            self.message.head = bytes(self.partial)
            is_good(self.message, limits.max_headers)
            self.message.head_end = self.message.start + len(self.partial)
            self.partial = None
            return self.handed(tally)
        return NEED_MORE

    cdef Step salvage(self, Limits limits, Tally tally) except <Step>-1:
        """A head that will never be whole: what its whole lines say, if there is a start line among them."""
        cdef Message message = self.message
        cdef int whole = self.partial.rfind(b"\n") + 1 if self.partial is not None else 0
        if whole == 0:
            return NEED_MORE
        message.head = bytes(self.partial[:whole])
        message.head_end = message.start + len(self.partial)
        if not is_good(message, limits.max_headers):
            return NEED_MORE
        self.partial = None
        self.cut = True
        return self.handed(tally)

    cdef int lose(self, const uint8_t* p, size_t size, Tally tally) except -1:
        """What comes is not the start of a message. p: its first bytes, for telling what it may be."""
        if not self.http and self.kind == OTHER:
            self.kind = OTHER if self.midstream else kind_of(p, size)
            tally.not_http[<int>self.kind] += 1
        elif self.http:
            tally.parse_errors += 1
        self.junk = True
        self.spilled = self.http
        self.lost_bytes = self.lost_bytes or self.http
        self.state = TUNNEL if self.kind != OTHER else LOST
        if self.state == TUNNEL:
            self.forget(tally)
        elif self.partial is not None:              # the way back is looked for in it too
            self.partial_at = self.message.start
        self.message = None
        self.blank = False
        self.trail = 0
        return 0

    cdef int stray(self, Tally tally) except -1:
        """The last message was none: a start is looked for again, behind it."""
        self.lost_bytes = self.doubtful = True
        self.trail = 0
        self.state = LOST
        return self.forget(tally)

    cdef int trust(self, bint yes, Input* source, Tally tally) except -1:
        """Is the candidate the next message? If not, the search goes on behind its first byte."""
        if yes:
            tally.resyncs += self.doubtful
            self.begin(self.candidate, self.candidate_ns, self.candidate_ack)
            if self.partial is not None:
                self.message.bytes = len(self.partial)
                self.line_seen = True               # the search has seen it whole
            return 0
        return self.refuse(source, tally)

    cdef int frame(self, bint no_body, bint tunnel) except -1:
        """Decides what follows the head: RFC 9112 section 6.3, in its order. no_body: a response to HEAD."""
        cdef Message message = self.message
        cdef bint framed = message.has_length or message.coded
        self.section = 0
        if message.chunked and message.has_length:
            message.anomalies |= LENGTH_AND_CHUNKED
        message.framing = NO_BODY
        if self.cut:
            message.anomalies |= BODY_CUT
            self.state = ENDING
        elif not message.head:                                          # HTTP/0.9, whatever was asked
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

    cdef int chunk_framing(self, Input* source, Limits limits) except -1:
        """The framing around chunks (RFC 9112 section 7.1); 0 if it cannot be followed behind what is used now."""
        cdef const uint8_t* p = source.p
        cdef const uint8_t* lf
        cdef const uint8_t* stop
        cdef uint8_t c
        cdef int value
        while p < source.end:
            c = p[0]
            if self.state == CHUNK_SIZE:
                value = hex_value(c)
                p += 1
                if value >= 0 and not self.padded:
                    if self.remaining >> 59:
                        return self.use(source, <uint64_t>(p - 1 - source.p))
                    self.remaining = self.remaining * 16 + value
                    self.digits += self.digits <= MANY_DIGITS
                    if self.digits > MANY_DIGITS:
                        self.message.anomalies |= ODD_CHUNK
                elif c == SP or c == TAB:
                    self.message.anomalies |= ODD_CHUNK
                    self.padded = self.digits > 0
                    self.count_section(1, limits)
                elif self.digits == 0:
                    return self.use(source, <uint64_t>(p - 1 - source.p))
                elif c == CR:
                    self.state = CHUNK_SIZE_CR
                elif c == LF:
                    self.message.anomalies |= ODD_CHUNK
                    if self.sized():
                        break
                elif c == SEMICOLON:
                    self.state = CHUNK_EXTENSION
                    self.after_cr = False
                else:
                    return self.use(source, <uint64_t>(p - 1 - source.p))
            elif self.state == CHUNK_SIZE_CR:
                p += 1
                if c != LF:
                    return self.use(source, <uint64_t>(p - 1 - source.p))
                if self.sized():
                    break
            elif self.state == CHUNK_END:
                p += 1
                if c == LF:
                    if not self.after_cr:
                        self.message.anomalies |= ODD_CHUNK
                    self.state = CHUNK_SIZE
                    self.remaining = self.digits = 0
                    self.padded = self.after_cr = False
                elif c == CR and not self.after_cr:
                    self.after_cr = True
                else:
                    return self.use(source, <uint64_t>(p - 1 - source.p))
            else:                                   # an extension, or a line of the trailer; the empty one ends it
                lf = <const uint8_t*>memchr(p, LF, source.end - p)
                stop = lf if lf != NULL else source.end
                if (self.after_cr and c != LF) or (stop > p and memchr(p, CR, stop - p - 1) != NULL):
                    self.message.anomalies |= ODD_CHUNK     # a CR that ends no line
                if lf == NULL:
                    self.digits = <uint32_t>min(<uint64_t>self.digits + <uint64_t>(source.end - p), <uint64_t>1 << 30)
                    self.count_section(<uint64_t>(source.end - p), limits)
                    self.after_cr = source.end[-1] == CR
                    p = source.end
                    break
                if lf > p:
                    self.after_cr = lf[-1] == CR
                if not self.after_cr:
                    self.message.anomalies |= ODD_CHUNK
                self.digits = <uint32_t>min(<uint64_t>self.digits + <uint64_t>(lf - p), <uint64_t>1 << 30)
                self.count_section(<uint64_t>(lf - p), limits)
                p = lf + 1
                if self.state == CHUNK_EXTENSION:
                    if self.sized():
                        break
                elif self.digits == 0 or (self.digits == 1 and self.after_cr):
                    self.message.complete = True
                    self.state = ENDING
                    break
                self.digits = 0
                self.after_cr = False
        self.use(source, <uint64_t>(p - source.p))
        return 1

    cdef bint sized(self) noexcept:
        """The line with a chunk's size is over: True if data follow, else the trailer does."""
        self.digits = 0
        self.after_cr = False
        self.state = CHUNK_DATA if self.remaining else TRAILER
        return self.remaining != 0

    cdef int count_section(self, uint64_t count, Limits limits) except -1:
        """Bytes of extensions and trailers: they are passed over, however many; from a limit on the event says so."""
        self.section = <uint32_t>min(<uint64_t>self.section + count, <uint64_t>1 << 31)
        if self.section > limits.max_head_bytes:
            self.message.anomalies |= CHUNK_SECTION_TOO_LONG
        return 0

    cdef Step gap(self, uint64_t count, Limits limits, Tally tally) except <Step>-1:
        """The next `count` bytes of the stream will never come. A body of known length is skipped exactly."""
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
            said = self.salvage(limits, tally)
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
        """The stream ends here. HEAD or END as step() says them; NEED_MORE: nothing (more) to say.

        by_fin: its sender said that this is the end; only then is a body that reaches to the end complete.
        """
        if self.state == ENDING:
            self.state = LOST if self.cut else START
            return END
        if self.state == UNTIL_CLOSE:
            self.message.complete = by_fin
        elif self.state == IN_HEAD:
            if self.settle(limits, tally) == HEAD or self.salvage(limits, tally) == HEAD:
                return HEAD
            if self.headless:
                return self.bare(tally)
            self.message = None
            self.forget(tally)
            self.state = LOST
            return NEED_MORE
        elif self.state not in (LENGTH, CHUNK_SIZE, CHUNK_SIZE_CR, CHUNK_EXTENSION, CHUNK_DATA, CHUNK_END, TRAILER):
            return NEED_MORE
        self.state = LOST
        return END


cdef inline int hex_value(uint8_t c) noexcept nogil:
    """Of a hexadecimal digit; -1: it is none."""
    if 48 <= c <= 57:
        return c - 48
    if 97 <= (c | 0x20) <= 102:
        return (c | 0x20) - 87
    return -1
