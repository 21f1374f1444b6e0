# cython: language_level=3
"""Finder: the search for the start of a message in unaligned bytes. MessageReader inherits it for its LOST state.

The finder keeps the possible beginning of a start line from piece to piece, with the times and acknowledgements of the
pieces. So it finds the same start as in one piece. The place where a piece begins has a meaning only after a gap, or before
any HTTP: elsewhere another split of the same bytes would give other messages. In a direction that never spoke HTTP, the
finder searches the first LOOKED bytes, and after that only the starts of pieces.

Length proof: source.p <= source.end always; reads of partial stay below its length.
"""
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp

from workers.core.limits cimport Limits
from workers.http1.start_line cimport Start, begins_field, begins_well, search
from workers.core.counters cimport Tally

cdef enum:
    LONGEST_CARRY = 8192        # bytes kept of a possible start line and the line behind it
    LOOKED = 1 << 16
    MANY_PIECES = 64            # in partial, with acknowledgements of their own
    LF = 10


cdef const char* LAST_CHUNK = b"\r\n0\r\n\r\n"


cdef bint alone_in(const uint8_t* p, uint32_t size) noexcept nogil:
    """Return whether a head ends where this piece ends."""
    cdef const uint8_t* end = p + size
    return size >= LAST_CHUNK_SIZE and memcmp(end - 4, LAST_CHUNK + 3, 4) == 0 \
        and memcmp(end - LAST_CHUNK_SIZE, LAST_CHUNK, LAST_CHUNK_SIZE) != 0


@cython.no_gc
cdef class Finder:
    cdef bint find(self, Input* source, Limits limits, Tally tally) except -1:
        """Find a start line; if there is none, use up the input and keep its tail if a start line may begin there."""
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
        self.partial_at += start.at
        self.place()
        return True

    cdef int place(self) except -1:
        """Fill in the candidate at the start of partial: its offset, its time, and the bytes that its frame acknowledged."""
        self.candidate = self.partial_at
        while len(self.pieces) > 1 and self.pieces[1][0] <= self.candidate:
            del self.pieces[0]
        at, self.candidate_ns, self.candidate_ack = self.pieces[0]
        if self.candidate >= self.piece_at > <int64_t>at:
            at, self.candidate_ns = self.piece_at, self.piece_ns
        self.candidate_starts = self.candidate == <int64_t>at
        self.candidate_first = self.candidate_starts and (self.gapped or not self.http)
        return 0

    cdef bint find_cut(self, Limits limits) except -1:
        """Return whether the kept bytes are a start line and a field line, if nothing follows; the field line may be cut."""
        cdef Py_ssize_t line
        cdef bytes trial
        cdef Start start
        if self.partial is None:
            return False
        line = self.partial.find(b"\n") + 1
        trial = bytes(self.partial[:line]) + b"\n"
        start.at = start.keep = 0
        if line == 0 or not search(trial, line + 1, min(<size_t>LONGEST_CARRY, <size_t>limits.max_head_bytes), &start) \
                or start.at or not begins_field(<const uint8_t*>self.partial + line, len(self.partial) - line):
            return False
        self.candidate_request = start.request
        self.place()
        return True

    cdef int keep(self, Input* source, size_t start, Tally tally) except -1:
        """Use up the input; keep, of partial and the input, the bytes from `start` on, which may begin a message."""
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
        """Record that a piece enters partial, to keep the times and acknowledgements of its bytes."""
        if first:
            self.pieces = [(source.offset, source.ts_ns, source.peer_ack)]
        elif self.pieces[-1][2] != source.peer_ack and len(self.pieces) < MANY_PIECES:
            self.pieces.append((source.offset, source.ts_ns, source.peer_ack))
        self.piece_at = source.offset
        self.piece_ns = source.ts_ns
        return 0

    cdef int refuse(self, Input* source, Tally tally) except -1:
        """Reject the candidate, which starts no message, and continue the search behind its first byte."""
        self.passing(source, 1)
        self.pass_over(1, tally)
        if self.partial is not None:
            del self.partial[:1]
            self.partial_at += 1
        else:
            source.p += 1
            source.offset += 1
        return 0

    cdef bint behind_chunks(self) noexcept:
        """Return whether the last chunk of a body stands before the candidate, in bytes that were searched, too."""
        return self.trail & <uint64_t>0xFFFFFFFFFFFFFF == <uint64_t>0x0D0A300D0A0D0A    # LAST_CHUNK

    cdef int passing(self, const Input* source, size_t count) except -1:
        """Keep in trail the last eight of the first `count` bytes of partial and the input, to detect an empty line or chunk."""
        cdef size_t before = len(self.partial) if self.partial is not None else 0
        cdef size_t i
        for i in range(count - min(count, sizeof(uint64_t)), count):
            self.trail = self.trail << 8 | (<uint8_t>self.partial[i] if i < before else source.p[i - before])
        return 0

    cdef int pass_over(self, uint64_t count, Tally tally) noexcept:
        """Count bytes that belong to no message."""
        cdef uint64_t early = min(count, <uint64_t>self.early) if self.http else count
        self.early -= min(self.early, <uint32_t>early)
        tally.not_http_bytes[self.kind] += early
        tally.skipped_bytes += count - early
        return 0

    cdef int forget(self, Tally tally) except -1:
        """Drop the gathered bytes, which belong to no message either."""
        if self.partial is not None:
            self.pass_over(len(self.partial), tally)
        self.partial = None
        return 0
