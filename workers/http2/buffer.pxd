# cython: language_level=3
"""Buffer: bytes that grow, in memory that the owner frees with release()."""
from libc.stdint cimport uint8_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

cdef struct Buffer:
    uint8_t* data
    size_t size
    size_t room


cdef inline int append(Buffer* buffer, const uint8_t* p, size_t size) except -1:
    """Append bytes to a buffer."""
    cdef size_t room = max(buffer.room, <size_t>256)
    cdef uint8_t* data
    if buffer.size + size > buffer.room:
        while room < buffer.size + size:
            room *= 2
        data = <uint8_t*>realloc(buffer.data, room)
        if data == NULL:
            raise MemoryError()
        buffer.data = data
        buffer.room = room
    if size:
        memcpy(buffer.data + buffer.size, p, size)
        buffer.size += size
    return 0


cdef inline int release(Buffer* buffer) noexcept:
    """Free a buffer's memory."""
    free(buffer.data)
    buffer.data = NULL
    buffer.size = buffer.room = 0
    return 0
