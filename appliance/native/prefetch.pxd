# cython: language_level=3
"""Prefetch helpers. Invalid addresses are harmless: the CPU ignores them."""

cdef extern from *:
    void prefetch "__builtin_prefetch"(const void*) noexcept nogil
    void prefetch_to_write "__builtin_prefetch"(const void*, int) noexcept nogil    # second argument: 1

cdef enum:
    LINE = 64  # bytes of a cache line


cdef inline void fetch(const void* start, int lines) noexcept nogil:
    """Prefetch this many lines from `start` on, without waiting for them."""
    cdef int i
    for i in range(lines):
        prefetch(<const char*>start + i * LINE)


cdef inline void claim(void* start, int lines) noexcept nogil:
    """Prefetch this many lines for writing. A store to an uncached line would block the stores behind it."""
    cdef int i
    for i in range(lines):
        prefetch_to_write(<char*>start + i * LINE, 1)
