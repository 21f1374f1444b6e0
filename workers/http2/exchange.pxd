# cython: language_level=3
"""Exchange: the parts seen of a request and its response on one HTTP/2 stream."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from workers.core.flow cimport Flow
from workers.http2.header_list cimport Certainty, Field, HeaderList
from workers.http2.stream_reader cimport StreamReader

cdef enum:                      # a side of a connection, and the half of an exchange that it sends
    CLIENT = 0
    SERVER = 1

cdef enum:
    NOT_RESET = -1


cdef class HeaderSection:
    cdef Field* fields          # one block of memory: the fields, and behind them their bytes
    cdef uint8_t* data
    cdef uint32_t count
    cdef uint32_t size          # bytes of memory
    cdef uint32_t unknown
    cdef uint32_t left_out
    cdef uint32_t generation
    cdef uint64_t tokens        # of its fields: a bit for each, by its last 6 bits
    cdef Certainty certainty
    cdef bint malformed

    cdef const Field* find(self, uint8_t token) noexcept
    cdef object value(self, uint8_t token)
    cdef int status(self) noexcept
    cdef bint is_connect(self) noexcept


cdef HeaderSection section_of(HeaderList fields)


cdef enum Grpc:                 # whether an exchange is a gRPC call
    NO_GRPC
    PERHAPS_GRPC                # its content type is not known
    IS_GRPC


cdef struct Messages:           # of gRPC in one side's DATA
    uint8_t[5] prefix           # of the message being read
    uint32_t prefix_size        # bytes of it so far
    uint64_t left               # bytes of the message still to come
    uint64_t count              # whole messages
    uint64_t bytes              # … of these, without prefixes
    bint lost                   # a gap hides where messages begin


cdef struct Half:               # what was seen of one side
    uint64_t first_ns           # time of its first byte; 0: none was seen
    uint64_t last_ns            # … of its last
    uint64_t bytes              # of its frames with their headers, missing ones too
    uint64_t body_bytes         # of DATA without padding, missing ones too
    uint64_t missing            # of body_bytes
    int64_t first_at            # offset in its stream of the bytes that began it
    int64_t last_at             # … and behind those of its last frame
    bint begun                  # it counts as a message: its request or final response was seen
    bint ended                  # END_STREAM or RST_STREAM was seen
    bint whole                  # END_STREAM was seen
    bint loss                   # frames of this side may be missing from it, or its size is inexact
    bint begin_lost             # its first bytes may not have been captured, so their time is unknown
    bint end_lost               # … its last bytes


cdef inline bint is_timed(const Half* half) noexcept:
    """Return whether the time of a whole message's last byte is known, and that of its first if it is a request."""
    return half.whole and not half.loss and not half.end_lost and half.first_ns != 0


cdef class Exchange:
    cdef Flow flow                  # its connection's; None until the owner of that has taken the exchange
    cdef uint32_t index             # of exchanges of its connection, in the order of their begin
    cdef uint32_t stream_id
    cdef int pairing                # place in appliance.stats.names.PAIRINGS
    cdef uint64_t anomalies         # bits by appliance.stats.names.ANOMALIES
    cdef HeaderSection request      # None: it was not seen, or is being read
    cdef HeaderSection response     # the final one
    cdef HeaderSection request_trailers
    cdef HeaderSection response_trailers
    cdef list informational         # status codes of 1xx responses
    cdef Half[2] halves             # by CLIENT and SERVER
    cdef Grpc grpc
    cdef Messages[2] messages       # by CLIENT and SERVER
    cdef bytearray web_trailers     # the beginning of the frame with trailers of gRPC-Web; None: there is none
    cdef int reset_by               # side that sent RST_STREAM; NOT_RESET: none did
    cdef uint32_t reset_code        # RFC 9113 section 7
    cdef bint pushed                # it was promised by the server
    cdef bint upgraded              # its request was HTTP/1.1 (RFC 7540 section 3.2)
    cdef bint evicted               # it was ended by a limit
    cdef bint connects              # the method is CONNECT
    cdef bint granted               # … and the status 2xx: DATA is a tunnel
    cdef StreamReader tunnel        # reads that; None: nothing does
    cdef uint32_t[2] losses         # of its connection, by CLIENT and SERVER, when it began
    cdef uint32_t weight            # bytes of its header sections
    cdef object request_body        # the BodyReader of the body; None: nothing reads it
    cdef object response_body
