# cython: language_level=3
"""Snapshot: the header tables and framing of an HTTP/2 connection as plain memory, for a process that takes it over."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from workers.http2.connection cimport Http2Connection
from workers.http2.frames cimport MAX_SMALL, PREFACE_SIZE
from workers.tcp.stream cimport Stream

cdef enum:
    SNAPSHOT_BYTES = 24512      # of a Snapshot with its tables and unfinished header blocks
    TABLE_BYTES = 8192          # of a table with entries that it has evicted since it was written as a whole
    WHOLE_BYTES = 4608          # … then: a table of the default size fits; of a larger one its newest entries
    BLOCK_BYTES = 3072          # of an unfinished header block


cdef enum Known:                # of a side
    NOTHING                     # it has sent no byte of HTTP/2
    FRAMING
    LOST_FRAMING                # its reader searched for frame headers, or held more than a snapshot has room for


cdef struct KeptEntry:          # of a table: backwards from the end of its bytes; names and values stand at their beginning
    uint16_t name_length
    uint16_t value_length
    uint8_t token
    uint8_t flags


cdef struct KeptTable:          # HpackDecoder and HeaderTable
    uint64_t inserted
    uint64_t oldest             # entry that was worth keeping
    uint64_t first              # … and that is here
    uint64_t limit
    uint64_t announced
    uint64_t unread
    uint64_t recent_bytes
    uint64_t recent_insertions
    uint32_t recent_blocks
    uint32_t longest
    uint32_t generation
    uint32_t rewritten
    uint32_t skipped            # entries before the first one, which were evicted
    uint32_t text_at            # place of the first one's name
    uint32_t text               # bytes of names and values from there
    uint8_t complete
    uint8_t exact
    uint8_t malformed


cdef struct KeptReader:         # FrameReader
    uint64_t frame_ns
    uint64_t block_ns
    uint64_t lost_bytes
    uint32_t max_frame_size
    uint32_t highest
    uint32_t header_size
    uint32_t stream
    uint32_t length
    uint32_t remaining
    uint32_t padding
    uint32_t wire_bytes
    uint32_t small_size
    uint32_t block_stream
    uint32_t promised
    uint32_t prefix_size
    uint32_t gathered           # bytes of the unfinished header block
    uint8_t state
    uint8_t begun
    uint8_t tentative
    uint8_t joining
    uint8_t type
    uint8_t flags
    uint8_t body_inexact
    uint8_t block_ends_stream
    uint8_t block_cut
    uint8_t split
    uint8_t too_long
    uint8_t[PREFACE_SIZE] header
    uint8_t[MAX_SMALL] small


cdef struct KeptSide:
    uint32_t next_seq           # TCP's number of the byte behind those that were read
    uint8_t known               # Known
    uint64_t lost               # Http2Connection.lost
    KeptTable table
    KeptReader reader


cdef struct Snapshot:
    uint64_t serial             # of the moment it is of; 0: it is being written, or is none
    uint64_t last_ns            # the clock then
    uint32_t highest_request
    uint32_t missing_requests   # … and those that were open
    uint8_t client              # the side of TCP that sends requests
    uint8_t trailers_seen
    uint8_t pushes
    KeptSide[2] sides           # by CLIENT and SERVER


cdef int save(Http2Connection connection, Snapshot* kept) noexcept
cdef bint sound(const Snapshot* kept) noexcept
cdef int load(Http2Connection connection, const Snapshot* kept) except -1
