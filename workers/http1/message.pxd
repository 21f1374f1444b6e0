# cython: language_level=3
"""Message: one HTTP request or response, or its captured part."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef struct Span:               # a range of Message.head
    uint32_t at
    uint32_t length


cdef enum Anomaly:              # bits of Message.anomalies; names in appliance/stats/names.py, in this order
    LENGTH_AND_CHUNKED = 1 << 0
    LENGTHS_DIFFER = 1 << 1
    BAD_LENGTH = 1 << 2
    BAD_CHUNK = 1 << 3
    BARE_LF = 1 << 4
    FOLDED_HEADER = 1 << 5
    SPACE_BEFORE_COLON = 1 << 6
    BAD_HEADER_LINE = 1 << 7
    HEAD_TOO_LONG = 1 << 8
    CHUNKED_NOT_LAST = 1 << 9
    UNKNOWN_CODING = 1 << 10
    SPACES_IN_TARGET = 1 << 11
    BODY_CUT = 1 << 12
    OVERLAP_CONFLICT = 1 << 13      # stream.pxd's marks begin here
    FRAGMENT_CONFLICT = 1 << 14
    MISSING_VERSION = 1 << 15
    ODD_VERSION = 1 << 16
    ODD_REQUEST_LINE = 1 << 17
    ODD_STATUS_LINE = 1 << 18
    UNKNOWN_METHOD = 1 << 19
    BLANK_LINES = 1 << 20
    BARE_CR = 1 << 21
    CONTROL_IN_HEAD = 1 << 22
    HOST_MISSING = 1 << 23
    HOSTS_DIFFER = 1 << 24
    TOO_MANY_HEADERS = 1 << 25
    LENGTH_REPEATED = 1 << 26
    LENGTH_LEADING_ZEROS = 1 << 27
    CHUNKED_REPEATED = 1 << 28
    CHUNKED_IN_HTTP10 = 1 << 29
    ODD_CHUNK = 1 << 30
    CHUNK_SECTION_TOO_LONG = 1ULL << 31
    EXTRA_BYTES = 1ULL << 32
    RESYNCHRONISED = 1ULL << 33
    EARLY_RESPONSE = 1ULL << 34
    ODD_TARGET = 1ULL << 35
    LENGTH_NOT_ALLOWED = 1ULL << 36
    BODY_CODING_FAILED = 1ULL << 37
    BODY_CODING_UNKNOWN = 1ULL << 38
    BODY_LIMIT = 1ULL << 39
    BODY_LEFT_OUT = 1ULL << 40


cdef enum:                      # with one of these, another framing of the message is possible
    AMBIGUOUS_FRAMING = (
        LENGTH_AND_CHUNKED | LENGTHS_DIFFER | BAD_LENGTH | CHUNKED_NOT_LAST | UNKNOWN_CODING | CHUNKED_IN_HTTP10
        | LENGTH_NOT_ALLOWED)


cdef enum Framing:              # of a body; names in message.pyx, in this order
    NO_BODY
    BY_LENGTH
    BY_CHUNKS
    BY_CLOSE


cdef enum Head:                 # the result of parsing a start line and header block
    HEAD_BAD
    HEAD_REQUEST
    HEAD_RESPONSE


cdef class Message:
    cdef bytes head             # start line and header lines as on the wire, without the empty line
    cdef bint is_request
    cdef bint complete          # its end was captured, or its framing fixes its end
    cdef Span method
    cdef Span target
    cdef Span reason
    cdef Span host
    cdef Span user_agent
    cdef Span referrer
    cdef Span content_type
    cdef int status
    cdef int major
    cdef int minor
    cdef int method_number      # place in stats.METHODS
    cdef bint has_length
    cdef uint64_t content_length
    cdef bint chunked
    cdef bint coded             # the head has a Transfer-Encoding
    cdef bint has_host          # … a Host field, empty or not
    cdef bint close             # Connection: close, or HTTP/1.0 without keep-alive
    cdef bint upgrade           # the head has an Upgrade field
    cdef list other_lengths     # [int]: Content-Length values that do not decide the framing; None: there are none
    cdef Framing framing        # once frame() has decided
    cdef bint end_lost          # its last bytes were not captured, so their time is unknown
    cdef object body            # the BodyReader of its content, during and after the body; None: no option reads the content
    cdef object grpc            # the GrpcWebBody that reads it; None: it is none of gRPC-Web, or has no body
    cdef uint64_t anomalies
    cdef uint64_t first_ns      # time of the frame with its first byte
    cdef uint64_t last_ns       # … with its last byte so far
    cdef uint64_t bytes         # on the wire, head and framing included, missing ones too
    cdef uint64_t body_bytes    # of the body without chunk framing, missing ones too
    cdef uint64_t missing       # of all these, bytes that were not captured
    cdef int64_t start          # offset of its first byte in its stream
    cdef int64_t head_end       # offset behind its head
    cdef int64_t peer_ack       # offset in the other stream that the frame with its first byte acknowledged; -1 unknown
    cdef Head parse(self, uint32_t max_headers) except <Head>-1
    cdef Head parse_lines(self, uint32_t max_headers) except <Head>-1
    cdef int check(self) except -1
    cdef int compare_hosts(self, const uint8_t* p) except -1
    cdef bint good_form(self, const uint8_t* p, uint32_t size) except -1
    cdef list other_framings(self)
    cdef int parse_request_line(self, const uint8_t* p, uint32_t end) except -1
    cdef int parse_start_line(self, const uint8_t* p, uint32_t end) except -1
    cdef int parse_header(self, const uint8_t* p, uint32_t start, uint32_t end) except -1
    cdef int parse_connection(self, const uint8_t* p, uint32_t start, uint32_t end) except -1
    cdef int parse_length(self, const uint8_t* p, uint32_t start, uint32_t end) except -1
    cdef int read_otherwise(self, uint64_t length) except -1
    cdef int parse_coding(self, const uint8_t* p, uint32_t start, uint32_t end) except -1
