# cython: language_level=3
"""MessageReader: one direction of an HTTP/1 connection. Feeding and asking are apart: step() consumes input until it has
something to say (HEAD, END) or needs more. It never sees a socket, a clock or the other direction; what the other
direction decides (a response to HEAD has no body) its owner tells it by frame(). RFC 9112.

A head that lies in one piece is copied once, into Message.head; a head over several pieces is gathered in `partial`, and
the search for its end goes on where it stopped, so that the work is linear in bytes however they are split. Body bytes are
counted, never touched.

Length proof: source.p <= source.end always; every read of *p stands behind p < end.
"""
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memchr

from workers.limits cimport Limits
from workers.message cimport (
    BAD_CHUNK, BODY_CUT, HEAD_BAD, HEAD_TOO_LONG, LENGTH_AND_CHUNKED, Message, is_token, same_word,
)
from workers.tally cimport Tally

cdef enum:
    LONGEST_METHOD = 32
    CR = 13
    LF = 10
    SP = 32


cdef uint32_t head_end(const uint8_t* p, uint32_t size, uint32_t* scanned) noexcept nogil:
    """Bytes up to and including the empty line, 0 if it is not there; the search starts and stops at *scanned."""
    cdef uint32_t at = scanned[0]
    cdef const uint8_t* lf
    while at < size:
        lf = <const uint8_t*>memchr(p + at, LF, size - at)
        if lf == NULL:
            at = size
            break
        at = <uint32_t>(lf - p)
        if at + 1 >= size:
            break
        if p[at + 1] == LF:
            return at + 2
        if p[at + 1] == CR:
            if at + 2 >= size:
                break
            if p[at + 2] == LF:
                return at + 3
        at += 1
    scanned[0] = at
    return 0


cdef bint may_start(const uint8_t* p, size_t size) noexcept nogil:
    """Could a message start with these bytes? A token and a space, or what a status line begins with."""
    cdef size_t at = 0
    while at < size and at < LONGEST_METHOD and is_token(p[at]):
        at += 1
    if at == size:
        return True
    if at == 4 and p[at] == 47:
        return same_word(p, b"http", 4)
    return at > 0 and p[at] == SP and (at + 1 == size or p[at + 1] >= SP)


cdef bint is_good(Message message) except -1:
    """Parses message.head: is it one that may_start() lets in, in one piece or byte by byte?"""
    return message.parse() != HEAD_BAD and (not message.is_request or (
        message.method.length <= LONGEST_METHOD and (<const uint8_t*>message.head)[message.target.at] > SP))


cdef bint surely_starts(const uint8_t* p, size_t size) noexcept nogil:
    """Does a message start here, as far as a well-known method or a status line can tell? For finding the way back."""
    cdef size_t at = 0
    if size >= 12 and same_word(p, b"http/1.", 7):
        return p[8] == SP and 49 <= p[9] <= 57 and 48 <= p[10] <= 57 and 48 <= p[11] <= 57
    while at < size and at < 10 and 65 <= p[at] <= 90:
        at += 1
    if at < 3 or at + 1 >= size or p[at] != SP:
        return False
    if not (p[at + 1] == 47 or p[at + 1] == 42 or p[at + 1] == 104):        # "/", "*", "http://"
        return False
    return ((at == 3 and (same_word(p, b"get", 3) or same_word(p, b"put", 3)))
            or (at == 4 and (same_word(p, b"post", 4) or same_word(p, b"head", 4)))
            or (at == 5 and (same_word(p, b"patch", 5) or same_word(p, b"trace", 5)))
            or (at == 6 and same_word(p, b"delete", 6)) or (at == 7 and same_word(p, b"options", 7)))


@cython.final
@cython.no_gc
cdef class MessageReader:
    cdef Step step(self, Input* source, Limits limits, Tally tally) except <Step>-1:
        """Consumes input until there is something to say."""
        cdef uint64_t room
        cdef Step said
        while True:
            if self.state == ENDING:
                self.state = LOST if self.cut else START
                self.cut = False
                return END
            if source.p >= source.end:
                return NEED_MORE
            room = <uint64_t>(source.end - source.p)
            if self.state == LENGTH or self.state == CHUNK_DATA:
                room = min(room, self.remaining)
                self.message.body_bytes += room
                self.use(source, room)
                self.remaining -= room
                if self.remaining == 0:
                    if self.state == CHUNK_DATA:
                        self.state = CHUNK_END
                    else:
                        self.message.complete = True
                        self.state = ENDING
            elif self.state == START:
                if source.p[0] == CR or source.p[0] == LF:      # RFC 9112 section 2.2: blank lines before a message
                    source.p += 1
                    source.offset += 1
                    continue
                if not may_start(source.p, room):
                    self.lose(tally)
                    continue
                self.message = Message.__new__(Message)
                self.message.first_ns = source.ts_ns
                self.message.start = source.offset
                self.message.peer_ack = source.peer_ack
                self.scanned = 0
                self.line_seen = False
                self.state = IN_HEAD
            elif self.state == IN_HEAD:
                said = self.in_head(source, limits, tally)
                if said != NEED_MORE:
                    return said
            elif self.state == UNTIL_CLOSE:
                self.message.body_bytes += room
                self.use(source, room)
            elif self.state == TUNNEL:
                source.p = source.end
            elif self.state == LOST:
                if not surely_starts(source.p, room):
                    source.p = source.end
                    return NEED_MORE
                tally.resyncs += self.http
                self.state = START
            elif not self.chunk_size(source):
                tally.parse_errors += 1
                self.message.anomalies |= BAD_CHUNK
                self.cut = True
                self.state = ENDING

    cdef int use(self, Input* source, uint64_t count) except -1:
        """These bytes belong to the message."""
        source.p += count
        source.offset += count
        self.message.bytes += count
        self.message.last_ns = max(self.message.last_ns, source.ts_ns)
        return 0

    cdef int lose(self, Tally tally) except -1:
        """What comes is not the start of a message."""
        if not self.http:
            tally.not_http += 1
        else:
            tally.parse_errors += 1
        self.lost_bytes = True
        self.message = None
        self.partial = None
        self.state = LOST
        return 0

    cdef Step in_head(self, Input* source, Limits limits, Tally tally) except <Step>-1:
        """Looks for the end of the head in what was gathered and in the input."""
        cdef uint32_t room = <uint32_t>min(<int64_t>(source.end - source.p), <int64_t>1 << 30)
        cdef uint32_t size, before
        cdef bint new_line
        cdef Step said
        if self.partial is None:
            size = head_end(source.p, room, &self.scanned)
            if size:
                self.message.head = source.p[:size]
                self.use(source, size)
                return self.head(source, tally)
            self.partial = bytearray(source.p[:room])
            before = 0
        else:
            before = <uint32_t>len(self.partial)
            self.partial.extend(source.p[:room])
            size = head_end(<const uint8_t*>self.partial, <uint32_t>len(self.partial), &self.scanned)
            if size:
                self.message.head = bytes(self.partial[:size])
                self.partial = None
                self.use(source, size - before)
                return self.head(source, tally)
        new_line = not self.line_seen and memchr(source.p, LF, room) != NULL
        self.use(source, room)
        if new_line:
            self.line_seen = True
            if not self.line_is_good():
                self.lose(tally)
                return NEED_MORE
        if len(self.partial) > limits.max_head_bytes:
            self.message.anomalies |= HEAD_TOO_LONG
            said = self.salvage(tally)
            if said == NEED_MORE:
                self.lose(tally)
            else:
                tally.parse_errors += 1
            return said
        return NEED_MORE

    cdef bint line_is_good(self) except -1:
        """Is the first line, now that it is whole, a request line or a status line?"""
        cdef Message trial = Message.__new__(Message)
        trial.head = bytes(self.partial[:self.partial.find(b"\n") + 1])
        return is_good(trial)

    cdef Step head(self, Input* source, Tally tally) except <Step>-1:
        """The head is whole."""
        self.message.head_end = source.offset
        if not is_good(self.message):
            self.lose(tally)
            return NEED_MORE
        self.http = True
        tally.started += 1
        self.state = AFTER_HEAD
        return HEAD

    cdef Step salvage(self, Tally tally) except <Step>-1:
        """A head that will never be whole: what its whole lines say, if there is a start line among them."""
        cdef Message message = self.message
        cdef int whole = self.partial.rfind(b"\n") + 1 if self.partial is not None else 0
        if whole == 0:
            return NEED_MORE
        message.head = bytes(self.partial[:whole])
        message.head_end = message.start + len(self.partial)
        self.partial = None
        if not is_good(message):
            return NEED_MORE
        self.http = True
        self.cut = True
        tally.started += 1
        self.state = AFTER_HEAD
        return HEAD

    cdef int frame(self, bint no_body, bint tunnel) except -1:
        """Decides what follows the head: RFC 9112 section 6.3, in its order. no_body: a response to HEAD."""
        cdef Message message = self.message
        if message.chunked and message.has_length:
            message.anomalies |= LENGTH_AND_CHUNKED
        if self.cut:
            message.anomalies |= BODY_CUT
            self.state = ENDING
        elif not message.is_request and (no_body or message.status < 200 or message.status == 204 or message.status == 304):
            message.complete = True                                     # 1.
            self.state = ENDING
        elif tunnel:
            message.complete = True                                     # 2.
            self.state = ENDING
        elif message.chunked:
            self.state = CHUNK_SIZE                                     # 3. and 4.
            self.remaining = self.digits = 0
        elif message.has_length:
            self.remaining = message.content_length                     # 5. and 6.
            message.complete = self.remaining == 0
            self.state = ENDING if self.remaining == 0 else LENGTH
        elif message.is_request:
            message.complete = True                                     # 7.
            self.state = ENDING
        else:
            self.state = UNTIL_CLOSE                                    # 8.
        return 0

    cdef int chunk_size(self, Input* source) except -1:
        """The framing around chunks (RFC 9112 section 7.1); 0 if it is broken."""
        cdef const uint8_t* p = source.p
        cdef const uint8_t* lf
        cdef uint8_t c
        cdef int value
        while p < source.end:
            c = p[0]
            if self.state == CHUNK_SIZE:
                if 48 <= c <= 57:
                    value = c - 48
                elif 97 <= (c | 0x20) <= 102:
                    value = (c | 0x20) - 87
                else:
                    if self.digits == 0:
                        return 0
                    self.state = CHUNK_EXTENSION
                    continue
                if self.digits == 15:
                    return 0
                self.remaining = self.remaining * 16 + value
                self.digits += 1
                p += 1
            elif self.state == CHUNK_EXTENSION:
                lf = <const uint8_t*>memchr(p, LF, source.end - p)
                if lf == NULL:
                    p = source.end
                    break
                p = lf + 1
                self.digits = 0
                if self.remaining:
                    self.state = CHUNK_DATA
                    break
                self.state = TRAILER
            elif self.state == CHUNK_END:
                p += 1
                if c == LF:
                    self.state = CHUNK_SIZE
                    self.digits = 0
                elif c != CR:
                    return 0
            else:                                   # TRAILER: lines up to an empty one, which has at most a CR
                if self.digits == 0 and c != CR and c != LF:
                    self.digits = 1
                lf = <const uint8_t*>memchr(p, LF, source.end - p)
                if lf == NULL:
                    self.digits = <uint32_t>min(<uint64_t>self.digits + <uint64_t>(source.end - p), <uint64_t>1 << 30)
                    p = source.end
                    break
                self.digits = <uint32_t>min(<uint64_t>self.digits + <uint64_t>(lf - p), <uint64_t>1 << 30)
                p = lf + 1
                if self.digits <= 1:
                    self.message.complete = True
                    self.state = ENDING
                    break
                self.digits = 0
        self.use(source, <uint64_t>(p - source.p))
        return 1

    cdef Step gap(self, uint64_t count, Tally tally) except <Step>-1:
        """The next `count` bytes of the stream will never come. A body of known length is skipped exactly."""
        cdef uint64_t known
        cdef Step said
        if self.state == UNTIL_CLOSE or ((self.state == LENGTH or self.state == CHUNK_DATA) and count <= self.remaining):
            self.message.missing += count
            self.message.bytes += count
            self.message.body_bytes += count
            if self.state != UNTIL_CLOSE:
                self.remaining -= count
                if self.remaining == 0:
                    if self.state == CHUNK_DATA:
                        self.state = CHUNK_END
                    else:
                        self.message.complete = True
                        self.state = ENDING
            return NEED_MORE
        if self.state == TUNNEL or self.state == LOST:
            self.lost_bytes = True
            return NEED_MORE
        self.lost_bytes = True
        if self.state == START:
            self.state = LOST
            return NEED_MORE
        if self.state == IN_HEAD:
            said = self.salvage(tally)
            if said == NEED_MORE:
                self.message = None
                self.partial = None
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
        self.cut = True
        self.state = ENDING
        return NEED_MORE

    cdef Step close(self, bint by_fin, Tally tally) except <Step>-1:
        """The stream ends here. HEAD or END as step() says them; NEED_MORE: nothing (more) to say.

        by_fin: its sender said that this is the end; only then is a body that reaches to the end complete.
        """
        if self.state == ENDING:
            self.state = LOST if self.cut else START
            return END
        if self.state == UNTIL_CLOSE:
            self.message.complete = by_fin
        elif self.state == IN_HEAD:
            if self.salvage(tally) == HEAD:
                return HEAD
            self.message = None
            self.partial = None
            self.state = LOST
            return NEED_MORE
        elif self.state not in (LENGTH, CHUNK_SIZE, CHUNK_EXTENSION, CHUNK_DATA, CHUNK_END, TRAILER):
            return NEED_MORE
        self.state = LOST
        return END
