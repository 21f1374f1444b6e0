# cython: language_level=3
"""ChunkReader: the state of a reader within its message, and the framing around chunks."""
from libc.stdint cimport uint32_t, uint64_t

from workers.http1.resync cimport Finder, Input
from workers.core.limits cimport Limits
from workers.http1.message cimport Message


cdef enum State:
    START                       # between messages
    PREFACE                     # gathering a possible header of the PROXY protocol
    IN_HEAD
    AFTER_HEAD                  # frame() has not been called yet
    LENGTH
    CHUNK_SIZE
    CHUNK_SIZE_CR               # behind the CR after the size
    CHUNK_EXTENSION
    CHUNK_DATA
    CHUNK_END
    TRAILER
    UNTIL_CLOSE
    ENDING                      # the message is over; the next step returns END
    TUNNEL                      # the connection speaks another protocol
    LOST                        # the start of the next message is unknown: after a gap, or without HTTP


cdef class ChunkReader(Finder):
    cdef State state
    cdef Message message
    cdef uint64_t remaining     # body or chunk bytes still to come
    cdef uint32_t digits        # of the chunk size, or bytes of the trailer line
    cdef uint32_t section       # bytes of extensions and trailers of this message
    cdef bint padded            # blanks came behind the chunk size
    cdef bint after_cr          # the last byte of the chunk framing was a CR

    cdef int chunk_framing(self, Input* source, Limits limits) except -1
    cdef bint sized(self) noexcept
    cdef int count_section(self, uint64_t count, Limits limits) except -1


cdef inline int use(ChunkReader reader, Input* source, uint64_t count) noexcept:
    """Count the next bytes as part of the message."""
    source.p += count
    source.offset += count
    reader.message.bytes += count
    reader.message.end_lost = False
    reader.message.last_ns = max(reader.message.last_ns, source.ts_ns)
    return 0
