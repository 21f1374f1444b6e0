# cython: language_level=3
"""HpackDecoder: header blocks of one direction in, header lists out (RFC 7541)."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from workers.http2.header_list cimport Fault, HeaderList, Section
from workers.http2.header_table cimport HeaderTable
from workers.http2.lost_insertions cimport LostInsertions


cdef class HpackDecoder:
    cdef HeaderTable table
    cdef LostInsertions lost        # while the place of older entries is undecided; None: it is known
    cdef size_t announced           # the largest SETTINGS_HEADER_TABLE_SIZE of the other side
    cdef uint32_t generation        # one more whenever ordinals begin anew
    cdef bint exact                 # nothing was ever unknown
    cdef bint malformed             # a header list of this direction violated RFC 9113 section 8.3
    cdef size_t unread              # bytes of the block before, which was not whole
    cdef uint64_t behind            # size of the entries inserted since a loss whose place is undecided
    cdef uint32_t recent_blocks     # of the last while, halved now and then; so are the next two
    cdef uint64_t recent_bytes      # … without what is unusually long
    cdef uint64_t recent_insertions
    cdef uint32_t longest           # bytes of the longest block

    cdef Fault decode(self, const uint8_t* p, size_t size, Section section, bint whole, HeaderList out) except <Fault>-1
    cdef int lose(self, uint64_t size, int64_t blocks) except -1
    cdef int join(self) noexcept
    cdef int announce(self, uint32_t limit) noexcept
    cdef int count_block(self, size_t size, size_t usual, uint64_t inserted) noexcept
    cdef Fault representation(self, const uint8_t** at, const uint8_t* end, HeaderList out) except <Fault>-1
    cdef Fault literal(self, const uint8_t** at, const uint8_t* end, uint8_t first, HeaderList out) except <Fault>-1
    cdef Fault indexed(self, uint64_t index, HeaderList out) except <Fault>-1
    cdef Fault resize(self, uint64_t limit) noexcept
    cdef int finish(self, Section section, HeaderList out) except -1
    cdef uint8_t infer_insertions(self, Section section, HeaderList out) except? 255
    cdef int empty(self) noexcept
    cdef size_t allocated(self) noexcept
