# cython: language_level=3
"""Asking the memory for what will be needed soon. Any address will do: one that is nobody's brings nothing, and no fault."""

cdef extern from *:
    void prefetch "__builtin_prefetch"(const void*) noexcept nogil
    void prefetch_to_write "__builtin_prefetch"(const void*, int) noexcept nogil    # second argument: 1

cdef enum:
    LINE = 64                   # bytes that the memory gives at a time


cdef inline void fetch(const void* start, int lines) noexcept nogil:
    """Asks for this many lines from `start` on, without waiting for them."""
    cdef int i
    for i in range(lines):
        prefetch(<const char*>start + i * LINE)


cdef inline void claim(void* start, int lines) noexcept nogil:
    """Asks for this many lines from `start` on, to be written: a store to one that is not at hand holds up those behind it."""
    cdef int i
    for i in range(lines):
        prefetch_to_write(<char*>start + i * LINE, 1)
