# cython: language_level=3
"""Finder: looks for the start of a message in bytes of which nobody knows what they are; what a reader is while it is lost.

What may be the beginning of a start line is kept from piece to piece, with the times and acknowledgements of its pieces, so that
a start is found as it would be in one piece. Where pieces begin means something only after a gap, or where nothing was HTTP yet:
else another split of the same bytes would give other messages. Of a direction that was never HTTP the first LOOKED bytes are
searched, and after that only the starts of pieces.

Length proof: source.p <= source.end always; what stands in partial is read by its length.
"""
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memchr

from workers.limits cimport Limits
from workers.start cimport Start, begins_well, search
from workers.tally cimport Tally

cdef enum:
    LONGEST_CARRY = 8192        # bytes kept of what may be a start line and the line behind it
    LOOKED = 1 << 16
    MANY_PIECES = 64            # with acknowledgements of their own, in what is gathered
    LF = 10


@cython.no_gc
cdef class Finder:
    cdef bint find(self, Input* source, Limits limits, Tally tally) except -1:
        """Looks for a start line; if there is none, the input is used up, and its tail kept if it can be the beginning of one."""
        cdef size_t room = <size_t>(source.end - source.p)
        cdef Py_ssize_t before = 0
        cdef size_t longest = min(<size_t>LONGEST_CARRY, <size_t>limits.max_head_bytes)
        cdef Start start
        if not self.http and self.looked >= LOOKED:
            if not begins_well(source.p, room):
                self.forget(tally)
                self.pass_over(room, tally)
                source.p = source.end
                return False
            self.looked = 0
        if memchr(source.p, LF, room) == NULL:      # no line ends here, so none is complete
            self.keep(source, 0, tally)
            return False
        start.at = start.keep = 0
        if self.partial is None:
            if not search(source.p, room, longest, &start):
                self.keep(source, start.keep, tally)
                return False
        else:
            before = len(self.partial)
            self.partial.extend(source.p[:room])
            if not search(<const uint8_t*>self.partial, len(self.partial), longest, &start):
                del self.partial[before:]
                self.keep(source, start.keep, tally)
                return False
            del self.partial[before:]
        self.candidate_request = start.request
        self.passing(source, start.at)
        self.candidate_apart = self.trail & 0xFFFF == 0x0A0A or self.trail & 0xFFFFFF == 0x0A0D0A
        if <Py_ssize_t>start.at >= before:
            self.pass_over(start.at, tally)
            source.p += start.at - before
            source.offset += start.at - before
            self.partial = None
            self.candidate = source.offset
            self.candidate_starts = <Py_ssize_t>start.at == before
            self.candidate_first = self.candidate_starts and (self.gapped or not self.http)
            self.candidate_ns = source.ts_ns
            self.candidate_ack = source.peer_ack
            return True
        self.pass_over(start.at, tally)
        del self.partial[:start.at]
        self.candidate = self.partial_at = self.partial_at + <int64_t>start.at
        while len(self.pieces) > 1 and self.pieces[1][0] <= self.candidate:
            del self.pieces[0]
        at, self.candidate_ns, self.candidate_ack = self.pieces[0]
        if self.candidate >= self.piece_at > <int64_t>at:
            at, self.candidate_ns = self.piece_at, self.piece_ns
        self.candidate_starts = self.candidate == <int64_t>at
        self.candidate_first = self.candidate_starts and (self.gapped or not self.http)
        return True

    cdef int keep(self, Input* source, size_t start, Tally tally) except -1:
        """Uses up the input; of what was kept and it, the bytes from `start` on may begin a message."""
        cdef size_t before = len(self.partial) if self.partial is not None else 0
        cdef size_t room = <size_t>(source.end - source.p)
        if before + room - start > 2 * LONGEST_CARRY:
            start = before + room - LONGEST_CARRY
        self.passing(source, start)
        self.pass_over(start, tally)
        self.looked += room
        if start >= before:
            self.partial = None
            if start < before + room:
                self.partial = bytearray(source.p[start - before:room])
            self.partial_at = source.offset + <int64_t>(start - before)
            self.gather(source, True)
        else:
            del self.partial[:start]
            self.partial.extend(source.p[:room])
            self.partial_at += start
            while len(self.pieces) > 1 and self.pieces[1][0] <= self.partial_at:
                del self.pieces[0]
            self.gather(source, False)
        source.p = source.end
        source.offset += room
        return 0

    cdef int gather(self, const Input* source, bint first) except -1:
        """A piece goes into partial: when its bytes came, and what they acknowledged, must stay known."""
        if first:
            self.pieces = [(source.offset, source.ts_ns, source.peer_ack)]
        elif self.pieces[-1][2] != source.peer_ack and len(self.pieces) < MANY_PIECES:
            self.pieces.append((source.offset, source.ts_ns, source.peer_ack))
        self.piece_at = source.offset
        self.piece_ns = source.ts_ns
        return 0

    cdef int refuse(self, Input* source, Tally tally) except -1:
        """The candidate is no message: the search goes on behind its first byte."""
        self.passing(source, 1)
        self.pass_over(1, tally)
        if self.partial is not None:
            del self.partial[:1]
            self.partial_at += 1
        else:
            source.p += 1
            source.offset += 1
        return 0

    cdef int passing(self, const Input* source, size_t count) except -1:
        """Remembers the last three of the first bytes of what was kept and the input: is there an empty line?"""
        cdef size_t before = len(self.partial) if self.partial is not None else 0
        cdef size_t i
        for i in range(count - min(count, <size_t>3), count):
            self.trail = self.trail << 8 | (<uint8_t>self.partial[i] if i < before else source.p[i - before])
        return 0

    cdef int pass_over(self, uint64_t count, Tally tally) noexcept:
        """These bytes belong to no message."""
        cdef uint64_t early = min(count, <uint64_t>self.early) if self.http else count
        self.early -= min(self.early, <uint32_t>early)
        tally.not_http_bytes += early
        tally.skipped_bytes += count - early
        return 0

    cdef int forget(self, Tally tally) except -1:
        """What was gathered belongs to no message either."""
        if self.partial is not None:
            self.pass_over(len(self.partial), tally)
        self.partial = None
        return 0
