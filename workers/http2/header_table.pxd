# cython: language_level=3
"""HeaderTable: the dynamic table of HPACK (RFC 7541 section 2.3.2), with the entries that an observer knows."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    MAX_TABLE_BYTES = 1 << 16   # of RFC 7541 section 4.1's size; of a larger table, older entries are unknown
    ENTRY_OVERHEAD = 32         # RFC 7541 section 4.1
    DEFAULT_TABLE_BYTES = 4096  # RFC 9113 section 6.5.2


cdef enum:                      # Entry.flags, and Field.flags in hpack.pxd
    NAME_UNKNOWN = 1 << 0
    VALUE_UNKNOWN = 1 << 1
    INFERRED = 1 << 2           # its place in the table was inferred behind a loss


cdef struct Entry:
    uint32_t name_at            # offset in HeaderTable.data
    uint32_t name_length
    uint32_t value_at
    uint32_t value_length
    uint8_t token               # of its name, hpack.pxd's Token
    uint8_t flags


cdef class HeaderTable:
    cdef Entry* ring            # entry of ordinal n at n & mask
    cdef uint32_t mask
    cdef uint8_t* data          # names and values, oldest first
    cdef size_t room            # bytes of data allocated
    cdef size_t used
    cdef uint64_t inserted      # entries ever inserted: the newest has the ordinal inserted - 1
    cdef uint64_t oldest        # ordinal of the oldest entry held
    cdef size_t size            # of the entries held, RFC 7541 section 4.1; unknown strings count as empty
    cdef size_t limit           # maximum size, as the encoder said it or the largest it may use
    cdef uint32_t rewritten     # times that entries held have changed, or their ordinals
    cdef bint complete          # every live entry is held: an index beyond them is an error

    cdef int insert(self, const uint8_t* name, size_t name_length, const uint8_t* value, size_t value_length,
                    uint8_t token, uint8_t flags) except -1
    cdef int evict(self, size_t limit) noexcept
    cdef int set_limit(self, size_t limit) noexcept
    cdef int forget(self, uint64_t before) noexcept
    cdef int insert_unknown(self, uint64_t at, uint64_t count) except -1
    cdef int make_room(self, size_t need) except -1
    cdef int grow_ring(self, uint64_t entries) except -1
    cdef int release(self) noexcept
    cdef size_t allocated(self) noexcept


cdef inline Entry* entry_at(HeaderTable table, uint64_t ordinal) noexcept nogil:
    """Return an entry held: oldest <= ordinal < inserted."""
    return &table.ring[ordinal & table.mask]


cdef inline size_t entry_size(const Entry* entry) noexcept nogil:
    return ENTRY_OVERHEAD + <size_t>entry.name_length + entry.value_length
