# cython: language_level=3
"""Remember the streams that were reset of late, and count how fast a client resets them.

Frames may still be under way to the side that has reset their stream; they belong to no new stream.
"""
cimport cython
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    LINGER_NS = 1000000000      # that frames may be under way


@cython.final
@cython.no_gc
cdef class RecentResets:
    cdef uint32_t add(self, uint32_t stream, uint64_t ts_ns) noexcept:
        """Add a stream; return the one whose place it takes, 0 for none."""
        cdef uint32_t place = self.count % RECENT_RESETS
        cdef uint32_t before = self.streams[place]
        self.streams[place] = stream
        self.reset_ns[place] = ts_ns
        self.count += 1
        return before

    cdef uint32_t due(self, uint64_t ts_ns) noexcept:
        """Return the next stream that was reset more than LINGER_NS ago, each once; 0: there is none."""
        cdef uint32_t place
        self.done = max(self.done, self.count - min(self.count, <uint64_t>RECENT_RESETS))
        if self.done == self.count:
            return 0
        place = self.done % RECENT_RESETS
        if self.reset_ns[place] + LINGER_NS > ts_ns:
            return 0
        self.done += 1
        return self.streams[place]

    cdef bint has(self, uint32_t stream) noexcept:
        """Return whether a stream was reset of late."""
        cdef uint32_t place
        for place in range(<uint32_t>min(self.count, <uint64_t>RECENT_RESETS)):
            if self.streams[place] == stream:
                return True
        return False

    cdef bint rapid(self, uint64_t ts_ns) noexcept:
        """Count a stream that the client resets; return whether it resets them rapidly (CVE-2023-44487)."""
        if ts_ns > self.since_ns + RAPID_NS:
            self.since_ns = ts_ns
            self.rate = 0
        self.rate += 1
        return self.rate > RAPID_RESETS
