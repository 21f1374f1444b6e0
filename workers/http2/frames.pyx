# cython: language_level=3
"""Read the frames of one direction of an HTTP/2 connection, across any segmentation, losses and late joins (RFC 9113 section 4).

step() consumes input until it has something to return or needs more. The reader knows no stream and no header table; its
owner does.

A gap inside a frame is skipped by the frame's length. A gap that may hold a frame header ends framing: the reader searches the
bytes behind it for frame headers that follow each other at the distances they give, and resumes there. A header counts as
plausible if type, flags, length and stream id fit each other and what was seen of the connection.

Length proof: source.p <= source.end always; every read of *p stands behind a comparison with what is left.
"""
cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy, memmove

from workers.http2.buffer cimport append, release
from workers.http2.frame_header cimport (
    CONTINUATION, DATA, DEFAULT_FRAME_SIZE, END_HEADERS, END_STREAM, FRAME_HEADER, FRAME_TYPES, GOAWAY, HEADERS, JOINS,
    MAX_STREAM, PADDED, PRIORITY, PRIORITY_FLAG, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE,
    chain_of_frames, may_stand_on, plausible, u24, u32,
)

cdef enum:
    RESUMES = 4                 # weight of frame headers in a row: two usual ones
    NEW_STREAMS = 2048          # stream ids beyond the highest one seen, beside those that fit into what was lost
    CONFIRMED_BY = 6            # plausible frame headers from there on; behind them frames may be of any type
    KEPT = 4096                 # bytes of a buffer that stay allocated

cdef const char* PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@cython.final
@cython.no_gc
cdef class FrameReader:
    def __init__(self, bint from_client, size_t limit=1 << 16):
        self.from_client = from_client
        self.limit = limit
        self.max_frame_size = DEFAULT_FRAME_SIZE
        self.state = IN_HEADER

    def __dealloc__(self):
        free(self.gathered.data)
        free(self.found.data)
        free(self.times.data)

    cdef int start(self, bint preface) noexcept:
        """Start with the connection's first byte. preface: that of the client comes first."""
        self.state = IN_PREFACE if preface else IN_HEADER
        self.header_size = 0
        return 0

    cdef int join(self) noexcept:
        """Start in the middle."""
        self.joining = True
        self.search_again(0)
        return 0

    cdef int search_again(self, uint64_t lost) noexcept:
        """Search for frame headers: framing is lost; lost: bytes that are missing for it."""
        if self.state != SEARCHING:
            self.state = SEARCHING
            self.lost_bytes = 0
            self.searches += 1
        self.lost_bytes += lost
        self.candidate = 0
        self.decided_at = 0
        self.header_size = 0
        self.wire_bytes = 0
        return 0

    cdef int end_frame(self) noexcept:
        """End the frame: the next byte begins another one."""
        self.state = IN_HEADER
        self.header_size = 0
        self.begun = True
        return 0

    cdef FrameStep step(self, Input* source) except <FrameStep>-1:
        """Consume input until there is something to say."""
        cdef FrameStep said
        cdef Input again
        self.stream_ends = False
        while True:
            if self.replaying:
                self.held_input(&again)
                self.at_ns = again.ts_ns
                said = self.parse(&again)
                self.replay = again.p - self.found.data
                if said != NEED_MORE:
                    return said
                if self.replay < self.found.size and self.state != SEARCHING:
                    continue                    # the next bytes came at another time
                self.replaying = False
                self.drop_held(self.replay)
                if self.state != SEARCHING:
                    release(&self.found)
                    release(&self.times)
            self.at_ns = source.ts_ns
            if self.state != SEARCHING:
                said = self.parse(source)
                if said != NEED_MORE or self.state != SEARCHING:
                    return said
            if not self.search(source):
                return NEED_MORE
            self.joining = False
            return RESUMED

    cdef int hold(self, const uint8_t* p, size_t size, uint64_t ts_ns) except -1:
        """Hold bytes for a search, with the time at which they came."""
        cdef Held* last = NULL
        cdef Held held
        if size == 0:
            return 0
        append(&self.found, p, size)
        if self.times.size:
            last = <Held*>(self.times.data + self.times.size) - 1
        if last != NULL and last.ts_ns == ts_ns:
            last.end += size
            return 0
        held.end = self.found_at + self.found.size
        held.ts_ns = ts_ns
        append(&self.times, <const uint8_t*>&held, sizeof(Held))
        return 0

    cdef int drop_held(self, size_t size) noexcept:
        """Drop the first bytes held."""
        cdef size_t place = 0, count = self.times.size // sizeof(Held)
        cdef Held* held = <Held*>self.times.data
        self.found_at += size
        self.found.size -= size
        self.time_at = 0
        if self.found.size == 0:
            self.times.size = 0
            return 0
        memmove(self.found.data, self.found.data + size, self.found.size)
        while place < count and held[place].end <= self.found_at:
            place += 1
        self.times.size = (count - place) * sizeof(Held)
        memmove(held, held + place, self.times.size)
        return 0

    cdef int held_input(self, Input* source) noexcept:
        """Set the input to the next bytes held that came at one time."""
        cdef const Held* held = <const Held*>self.times.data
        while self.time_at + 1 < self.times.size // sizeof(Held) \
                and held[self.time_at].end <= self.found_at + self.replay:
            self.time_at += 1
        source.p = self.found.data + self.replay
        source.end = self.found.data + min(<uint64_t>self.found.size, held[self.time_at].end - self.found_at)
        source.ts_ns = held[self.time_at].ts_ns
        return 0

    cdef bint search(self, Input* source) except -1:
        """Look for a chain of frame headers in what is held and in the input, which it uses up; True: there is one."""
        cdef size_t drop
        cdef int verdict
        cdef int enough = JOINS if self.joining else RESUMES
        cdef uint64_t highest = 0
        self.hold(source.p, source.end - source.p, source.ts_ns)
        source.p = source.end
        while True:
            if self.highest:
                highest = self.highest + NEW_STREAMS + (self.lost_bytes + self.candidate) // FRAME_HEADER * 2
            if self.found.size < max(self.decided_at, self.candidate + FRAME_HEADER):
                break
            verdict = chain_of_frames(self.found.data + self.candidate, self.found.size - self.candidate, self.from_client,
                                      <uint32_t>min(highest, <uint64_t>MAX_STREAM), self.max_frame_size, enough,
                                      &self.decided_at)
            if verdict > 0:
                self.lost_bytes += self.candidate
                self.skipped_bytes += self.candidate
                self.state = IN_HEADER
                self.header_size = 0
                self.tentative = CONFIRMED_BY
                self.replaying = True
                self.replay = self.candidate
                self.candidate = self.decided_at = 0
                return True
            if verdict < 0:
                self.decided_at += self.candidate
                break
            self.candidate += 1
            self.decided_at = 0
        drop = self.candidate
        if drop and (drop > 4096 or drop == self.found.size):
            self.drop_held(drop)
            self.lost_bytes += drop
            self.skipped_bytes += drop
            self.decided_at = self.decided_at - drop if self.decided_at else 0
            self.candidate = 0
        return False

    cdef FrameStep parse(self, Input* source) except <FrameStep>-1:
        """Do step() for bytes whose framing is known."""
        cdef uint32_t take, need
        cdef size_t room
        cdef FrameStep said
        while True:
            if self.state == IN_FRAME:
                said = self.dispatch()
                if said != NEED_MORE:
                    return said
                continue
            if self.state == SEARCHING:
                return NEED_MORE
            room = source.end - source.p
            if self.state == IN_HEADER or self.state == IN_PREFACE:
                if room == 0:
                    return NEED_MORE
                if self.header_size == 0:
                    self.frame_ns = source.ts_ns
                need = PREFACE_SIZE if self.state == IN_PREFACE else FRAME_HEADER
                take = <uint32_t>min(room, <size_t>(need - self.header_size))
                memcpy(self.header + self.header_size, source.p, take)
                self.header_size += take
                source.p += take
                if self.state == IN_PREFACE and memcmp(self.header, PREFACE, self.header_size) != 0:
                    self.violations += 1
                    self.joining = True
                    self.hold(self.header, self.header_size, self.frame_ns)
                    self.search_again(0)
                    return NEED_MORE
                if self.header_size < need:
                    return NEED_MORE
                if self.state == IN_PREFACE:
                    self.state = IN_HEADER
                    self.header_size = 0
                    continue
                self.length = self.remaining = u24(self.header)
                self.violations += self.length > self.max_frame_size
                if self.tentative and plausible(self.header, self.from_client, MAX_STREAM, self.max_frame_size):
                    self.tentative -= 1
                elif self.tentative:
                    said = self.cut_block(0)
                    self.search_again(FRAME_HEADER)
                    return said
                self.type = self.header[3]
                self.flags = self.header[4]
                self.stream = u32(self.header + 5) & 0x7FFFFFFF
                self.wire_bytes += FRAME_HEADER + self.length
                self.state = IN_FRAME
                self.frames[min(self.type, <uint8_t>FRAME_TYPES)] += 1
            elif self.state == IN_PAD_LENGTH:
                if self.remaining == 0:
                    self.violations += 1
                    self.state = IN_BODY
                    continue
                if room == 0:
                    return NEED_MORE
                self.remaining -= 1
                self.padding = source.p[0]
                source.p += 1
                if self.padding > self.remaining:
                    self.violations += 1
                    self.padding = self.remaining
                self.state = IN_BODY
            elif self.state == IN_BODY or self.state == IN_PADDING:
                said = self.read_body(source)
                if said != NEED_MORE or self.state != IN_HEADER:
                    return said
            elif self.state == IN_PREFIX or self.state == IN_BLOCK:
                said = self.read_block(source)
                if said != NEED_MORE or source.p == source.end and self.state != IN_BLOCK:
                    return said
                if source.p == source.end and self.remaining > self.padding:
                    return NEED_MORE
            else:                       # IN_SMALL, IN_PASSED
                take = <uint32_t>min(room, <size_t>self.remaining)
                if self.state == IN_SMALL and self.small_size < MAX_SMALL:
                    need = min(take, <uint32_t>MAX_SMALL - self.small_size)
                    memcpy(self.small + self.small_size, source.p, need)
                    self.small_size += need
                source.p += take
                self.remaining -= take
                if self.remaining:
                    return NEED_MORE
                if self.state == IN_SMALL:
                    self.end_frame()
                    return CONTROL
                self.end_frame()

    cdef FrameStep dispatch(self) except <FrameStep>-1:
        """Start the frame whose header was read."""
        cdef bint right = self.type < FRAME_TYPES and may_stand_on(self.type, self.stream)
        cdef FrameStep said
        if self.block_stream and (self.type != CONTINUATION or self.stream != self.block_stream):
            self.violations += 1                # RFC 9113 section 6.10
            said = self.cut_block(0)
            if said != NEED_MORE:
                return said
        if self.type < FRAME_TYPES and not right:
            self.violations += 1
            self.on_stream_0 = self.on_stream_0 or self.stream == 0
        if right and self.type != PRIORITY and self.type != RST_STREAM and self.type != WINDOW_UPDATE:
            self.highest = max(self.highest, self.stream)
        self.padding = 0
        self.body_inexact = False
        if self.type == DATA and right:
            self.state = IN_PAD_LENGTH if self.flags & PADDED else IN_BODY
            return NEED_MORE
        if (self.type == HEADERS or self.type == PUSH_PROMISE and not self.from_client) and right:
            self.block_stream = self.stream
            self.block_ends_stream = self.type == HEADERS and self.flags & END_STREAM
            self.block_cut = self.too_long = False
            self.split = not self.flags & END_HEADERS and self.length < DEFAULT_FRAME_SIZE
            self.promised = 0
            self.prefix_size = 4 if self.type == PUSH_PROMISE else 5 if self.flags & PRIORITY_FLAG else 0
            if self.flags & PADDED:
                self.prefix_size += 1
            self.block_ns = self.frame_ns
            self.gathered.size = 0
            if self.gathered.room > KEPT:
                release(&self.gathered)
            if self.prefix_size > self.remaining:
                self.violations += 1
                self.prefix_size = self.remaining
            self.state = IN_PREFIX
            self.header_size = 0                # now of the prefix, which is gathered in `header`
            return NEED_MORE
        if self.type == CONTINUATION and right:
            if self.block_stream and not self.block_cut:
                self.state = IN_BLOCK
                return NEED_MORE
            self.missing = self.length
            self.block_of = self.stream
            self.state = IN_PASSED
            if self.block_stream and self.flags & END_HEADERS:
                self.stream_ends = self.block_ends_stream
                self.block_stream = 0
            return BLOCK_LOST
        if (self.type == SETTINGS or self.type == RST_STREAM or self.type == GOAWAY) and right:
            self.small_size = 0
            self.state = IN_SMALL
            return NEED_MORE
        self.state = IN_PASSED
        return PASSED

    cdef FrameStep read_body(self, Input* source) except <FrameStep>-1:
        """Read the payload of a DATA frame, and its padding."""
        cdef uint32_t take
        if self.state == IN_BODY and self.remaining > self.padding or self.remaining == 0:
            take = <uint32_t>min(<size_t>(source.end - source.p), <size_t>(self.remaining - self.padding))
            if take == 0 and self.remaining:
                return NEED_MORE
            self.body = source.p
            self.body_bytes = take
            self.missing = 0
            source.p += take
            self.remaining -= take
        else:
            self.state = IN_PADDING
            take = <uint32_t>min(<size_t>(source.end - source.p), <size_t>self.remaining)
            source.p += take
            self.remaining -= take
            if self.remaining:
                return NEED_MORE
            self.body = source.p
            self.body_bytes = self.missing = 0
        if self.remaining == 0:
            self.stream_ends = self.flags & END_STREAM
            self.end_frame()
        elif self.remaining == self.padding:
            self.state = IN_PADDING
        return BODY

    cdef FrameStep read_block(self, Input* source) except <FrameStep>-1:
        """Read a part of a header block, and what stands before it in its frame."""
        cdef uint32_t take, size
        cdef const uint8_t* p
        if self.state == IN_PREFIX:
            take = <uint32_t>min(<size_t>(source.end - source.p), <size_t>(self.prefix_size - self.header_size))
            memcpy(self.header + self.header_size, source.p, take)
            self.header_size += take
            source.p += take
            self.remaining -= take
            if self.header_size < self.prefix_size:
                return NEED_MORE
            p = self.header
            if self.flags & PADDED and self.prefix_size:
                self.padding = p[0]
                p += 1
                if self.padding > self.remaining:
                    self.violations += 1
                    self.padding = self.remaining
            if self.type == PUSH_PROMISE and self.header + self.prefix_size - p >= 4:
                self.promised = u32(p) & 0x7FFFFFFF
            self.state = IN_BLOCK
        size = self.remaining - self.padding
        take = <uint32_t>min(<size_t>(source.end - source.p), <size_t>size)
        if self.gathered.size + size > self.limit:
            take = <uint32_t>min(<size_t>take, self.limit - self.gathered.size)
            append(&self.gathered, source.p, take)
            source.p += take
            self.remaining -= take
            if self.gathered.size < self.limit:
                return NEED_MORE
            self.too_long = True
            return self.cut_block(self.remaining)
        if take == size and self.flags & END_HEADERS and self.gathered.size == 0:
            self.block = source.p
            self.block_size = take
        else:
            append(&self.gathered, source.p, take)
            self.block = self.gathered.data
            self.block_size = self.gathered.size
        source.p += take
        self.remaining -= take
        if take < size:
            return NEED_MORE
        if self.remaining:
            self.state = IN_PASSED              # its padding
        else:
            self.end_frame()
        if not self.flags & END_HEADERS:
            return NEED_MORE
        self.block_whole = True
        self.block_of = self.block_stream
        self.missing = 0
        self.stream_ends = self.block_ends_stream
        self.block_stream = 0
        return BLOCK

    cdef FrameStep cut_block(self, uint64_t missing) except <FrameStep>-1:
        """Report the part gathered of the current block; the last `missing` bytes of its frame are unreadable."""
        if not self.block_stream:
            return NEED_MORE
        if self.block_cut:
            self.block_stream = 0
            return NEED_MORE
        self.block = self.gathered.data
        self.block_size = self.gathered.size
        self.block_whole = False
        self.block_of = self.block_stream
        self.missing = missing
        self.block_cut = True
        if self.state == IN_BLOCK or self.state == IN_PREFIX:
            self.state = IN_PASSED              # the rest of its frame
            if self.flags & END_HEADERS:
                self.stream_ends = self.block_ends_stream
                self.block_stream = 0
        else:
            self.block_stream = 0
        return BLOCK

    cdef FrameStep gap(self, uint64_t count) except <FrameStep>-1:
        """Skip a gap; count: its length."""
        cdef uint32_t skipped = <uint32_t>min(count, <uint64_t>self.remaining), body
        cdef FrameStep said = NEED_MORE
        self.stream_ends = False
        if self.state == SEARCHING or self.replaying:
            count += self.found.size - (self.replay if self.replaying else 0)
            self.skipped_bytes += self.found.size - (self.replay if self.replaying else 0)
            self.drop_held(self.found.size)
            self.replaying = False
            self.search_again(count)
            return NEED_MORE
        if self.state == IN_HEADER or self.state == IN_PREFACE or self.state == IN_FRAME:
            said = self.cut_block(0)
            self.search_again(count + self.header_size)
            return said
        if self.state == IN_PREFIX or self.state == IN_BLOCK:
            said = self.cut_block(self.remaining)
        elif self.state == IN_SMALL:
            self.state = IN_PASSED
        elif self.state == IN_PAD_LENGTH or self.state == IN_BODY or self.state == IN_PADDING:
            body = 0
            if self.remaining > self.padding:
                body = min(skipped, self.remaining - self.padding)
            self.body = NULL
            self.body_bytes = self.missing = body
            said = BODY
            if self.state == IN_PAD_LENGTH:
                self.state = IN_BODY            # how much of the frame is padding is unknown
                self.body_inexact = True
            if skipped == self.remaining:
                self.stream_ends = self.flags & END_STREAM
        self.remaining -= skipped
        count -= skipped
        if self.remaining == 0:
            self.end_frame()
        if count:
            if said == NEED_MORE:
                said = self.cut_block(0)
            self.search_again(count)
        return said

    cdef FrameStep forget(self) except <FrameStep>-1:
        """Drop the bytes held: of an unfinished header block, of a search."""
        cdef FrameStep said = NEED_MORE
        cdef size_t held = self.found.size - (self.replay if self.replaying else 0)
        if self.gathered.size:
            said = self.cut_block(self.remaining if self.state == IN_BLOCK or self.state == IN_PREFIX else 0)
        if self.found.room:
            self.skipped_bytes += held
            self.replaying = False
            self.search_again(held)
            self.drop_held(self.found.size)
            release(&self.found)
            release(&self.times)
        release(&self.gathered)
        return said

    cdef FrameStep close(self) except <FrameStep>-1:
        """End the direction."""
        self.stream_ends = False
        self.drop_held(self.found.size)
        release(&self.found)
        release(&self.times)
        self.replaying = False
        if self.state == SEARCHING:
            return NEED_MORE
        return self.cut_block(0)

    cdef size_t allocated(self) noexcept:
        """Return the bytes of memory that the reader holds beside itself."""
        return self.gathered.room + self.found.room + self.times.room
