# cython: language_level=3
"""HeaderList: the fields of one header section, without a Python object for each."""
from libc.stdint cimport int64_t, uint8_t, uint32_t

cdef enum:
    NO_ENTRY = -0x7FFFFFFF      # Field.ordinal of a literal, or of an index into the static table


cdef enum:                      # Field.flags, beside header_table.pxd's
    NEVER_INDEXED = 1 << 3      # RFC 7541 section 6.2.3
    BEFORE_LOSS = 1 << 4        # refers to an entry from before a loss, whose place is not decided


cdef enum Token:                # names that the appliance looks at; from 1 to 61 the first index in the static table
    OTHER = 0
    AUTHORITY = 1
    METHOD = 2
    PATH = 4
    SCHEME = 6
    STATUS = 8
    ACCEPT_ENCODING = 16
    CONTENT_ENCODING = 26
    CONTENT_LENGTH = 28
    CONTENT_TYPE = 31
    HOST = 38
    REFERER = 51
    TRANSFER_ENCODING = 57
    USER_AGENT = 58
    PROTOCOL = 62               # RFC 8441
    GRPC_STATUS = 63
    GRPC_MESSAGE = 64
    TOKENS = 65


cdef enum Fault:                # RFC 7541 rules that a header block violates; names in hpack.pyx, in this order
    SOUND
    TRUNCATED                   # it ends within a field
    BAD_INTEGER
    BAD_INDEX                   # 0, or an entry that does not exist
    BAD_HUFFMAN
    BAD_SIZE_UPDATE             # larger than SETTINGS allows, or behind a field


cdef enum Certainty:            # of a header list; names in hpack.pyx, in this order
    EXACT                       # the table is known from the connection's start
    JOINED                      # unknown strings are absent; the others are certain
    FROM_INFERRED               # a field comes from an entry whose place was inferred behind a loss


cdef enum Section:              # which header section a block may be; RFC 9113 section 8.1
    ANY_SECTION
    REQUEST_SECTION
    RESPONSE_SECTION
    TRAILER_SECTION
    FROM_CLIENT                 # a request or trailers
    FROM_SERVER                 # a response, trailers or a promised request


cdef struct Field:
    int64_t ordinal             # of the entry it refers to, negative: inserted before the decoder joined; NO_ENTRY
    uint32_t name_at            # in HeaderList.data
    uint32_t name_length
    uint32_t value_at
    uint32_t value_length
    uint32_t depth              # while BEFORE_LOSS: how many entries from before the loss are newer, lost ones included
    uint32_t pending            # … and the size of what was inserted behind the loss before this field
    uint8_t token
    uint8_t flags


cdef class HeaderList:
    cdef Field* fields
    cdef uint32_t count
    cdef uint32_t capacity
    cdef uint8_t* data
    cdef size_t used
    cdef size_t room
    cdef size_t limit           # of names, values and 32 for each field; fields beyond are left out
    cdef size_t size            # … of the fields held
    cdef uint32_t left_out
    cdef uint32_t unknown       # fields of which the name or the value is unknown
    cdef uint32_t generation    # of the ordinals: equal ordinals of different generations are different entries
    cdef Certainty certainty
    cdef Fault fault
    cdef bint malformed         # its known fields violate RFC 9113 section 8.3
    cdef bint regular           # … a field that is not a pseudo-header was there
    cdef uint8_t pseudo         # … the pseudo-headers that were there: bits by pseudo_bit()

    cdef int clear(self) noexcept
    cdef int make_room(self, size_t need) except -1
    cdef int make_fields(self) except -1
    cdef const Field* find(self, uint8_t token) noexcept
    cdef object to_list(self)


cdef inline uint8_t* reserve(HeaderList out, size_t need) except NULL:
    """Return where the next bytes go, with room for `need` of them."""
    if out.used + need >= out.room:
        out.make_room(need)
    return out.data + out.used


cdef inline uint8_t pseudo_bit(uint8_t token) noexcept nogil:
    """Return the bit of a pseudo-header's token; 0: the token is not one."""
    if token > STATUS:
        return 1 << 5 if token == PROTOCOL else 0
    if token == 0:
        return 0
    return 1 << (token >> 1)


cdef enum:                      # pseudo_bit() of the tokens
    AUTHORITY_BIT = 1 << 0
    METHOD_BIT = 1 << 1
    PATH_BIT = 1 << 2
    SCHEME_BIT = 1 << 3
    STATUS_BIT = 1 << 4
    PROTOCOL_BIT = 1 << 5
