# cython: language_level=3
"""RecentResets: streams of a connection that were reset a short time ago. Their frames may still arrive."""
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    RECENT_RESETS = 32          # streams
    RAPID_RESETS = 100          # streams that a client resets within RAPID_NS: more of them are a rapid reset
    RAPID_NS = 1000000000


cdef class RecentResets:
    cdef uint32_t[RECENT_RESETS] streams
    cdef uint64_t[RECENT_RESETS] reset_ns
    cdef uint64_t count         # streams ever reset; the last ones are in `streams`
    cdef uint64_t done          # … that are over: none of their frames are expected
    cdef uint64_t since_ns      # when the first one of `rate` was reset
    cdef uint32_t rate          # streams that the client has reset since then

    cdef uint32_t add(self, uint32_t stream, uint64_t ts_ns) noexcept
    cdef uint32_t due(self, uint64_t ts_ns) noexcept
    cdef bint has(self, uint32_t stream) noexcept
    cdef bint rapid(self, uint64_t ts_ns) noexcept
