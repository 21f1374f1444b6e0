# cython: language_level=3
"""Message: the head of one HTTP/1 request or response, parsed in place.

parse() runs once over the head, finds the start line's parts and the few headers that framing and events need, and keeps
them as ranges of the head's own bytes. No Python object is made per header. RFC 9112 sections 2 to 5, RFC 9110 section 5.

Length proof: every function gets offsets start <= end <= len(head) and reads p[i] only for start <= i < end.
"""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp

from appliance.stats import METHODS

ANOMALIES = (
    "length_and_chunked", "lengths_differ", "bad_length", "bad_chunk", "bare_lf", "folded_header", "space_before_colon",
    "bad_header_line", "head_too_long", "chunked_not_last", "unknown_coding", "spaces_in_target", "body_cut",
    "overlap_conflict", "fragment_conflict",
    "missing_version", "odd_version", "odd_request_line", "odd_status_line", "unknown_method", "blank_lines",
    "bare_cr", "control_in_head", "host_missing", "hosts_differ", "too_many_headers", "length_repeated",
    "length_leading_zeros", "chunked_repeated", "chunked_in_http10", "odd_chunk", "chunk_section_too_long",
    "extra_bytes", "resynchronised", "early_response", "odd_target", "length_not_allowed", "body_coding_failed",
    "body_coding_unknown", "body_limit",
)

cdef uint8_t[256] TOKEN         # RFC 9110 section 5.6.2
for c in range(256):
    TOKEN[c] = chr(c) in "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

cdef list METHOD_BYTES = [name.encode() for name in METHODS[:-1]]


cdef bint is_token(uint8_t c) noexcept nogil:
    return TOKEN[c]


cdef bint same_word(const uint8_t* p, const char* lower, size_t length) noexcept nogil:
    """Is p[0:length] this lower-case ASCII word, in any case?"""
    cdef size_t i
    cdef uint8_t c
    for i in range(length):
        c = p[i]
        if 65 <= c <= 90:
            c |= 0x20
        if c != <uint8_t>lower[i]:
            return False
    return True


cdef inline bint is_digit(uint8_t c) noexcept nogil:
    return 48 <= c <= 57


@cython.final
@cython.freelist(256)
cdef class Message:
    cdef Head parse(self) except <Head>-1:
        """Reads self.head, which ends with the line end of its last header line."""
        cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(self.head)
        cdef uint32_t size = <uint32_t>PyBytes_GET_SIZE(self.head)
        cdef const uint8_t* lf
        cdef uint32_t at = 0, end, line_end
        cdef bint first = True
        while at < size:
            lf = <const uint8_t*>memchr(p + at, 10, size - at)
            line_end = <uint32_t>(lf - p) if lf != NULL else size
            end = line_end
            if end > at and p[end - 1] == 13:
                end -= 1
            elif lf != NULL:
                self.anomalies |= BARE_LF
            if first:
                if not self.parse_start_line(p, end):
                    return HEAD_BAD
                first = False
            elif end > at:
                self.parse_header(p, at, end)
            at = line_end + 1
        if first:
            return HEAD_BAD
        return HEAD_REQUEST if self.is_request else HEAD_RESPONSE

    cdef int parse_start_line(self, const uint8_t* p, uint32_t end) except -1:
        """1 if p[0:end] is a request line or a status line (RFC 9112 sections 3 and 4)."""
        cdef uint32_t at = 0, stop
        cdef int i
        if end >= 12 and same_word(p, b"http/", 5) and is_digit(p[5]) and p[6] == 46 and is_digit(p[7]) and p[8] == 32:
            if not (is_digit(p[9]) and is_digit(p[10]) and is_digit(p[11])) or (end > 12 and p[12] != 32):
                return 0
            self.major = p[5] - 48
            self.minor = p[7] - 48
            self.status = (p[9] - 48) * 100 + (p[10] - 48) * 10 + (p[11] - 48)
            if self.status < 100 or self.status > 999:
                return 0
            if end > 13:
                self.reason.at = 13
                self.reason.length = end - 13
            self.close = self.major == 1 and self.minor == 0
            return 1
        while at < end and TOKEN[p[at]]:
            at += 1
        if at == 0 or at >= end or p[at] != 32:
            return 0
        while end > at and p[end - 1] == 32:        # trailing spaces are tolerated
            end -= 1
        if end < at + 11 or not same_word(p + end - 8, b"http/", 5) or p[end - 9] != 32:
            return 0
        if not is_digit(p[end - 3]) or p[end - 2] != 46 or not is_digit(p[end - 1]):
            return 0
        self.is_request = True
        self.major = p[end - 3] - 48
        self.minor = p[end - 1] - 48
        self.close = self.major == 1 and self.minor == 0
        self.method.at = 0
        self.method.length = at
        self.method_number = <int>len(METHOD_BYTES)
        for i in range(<int>len(METHOD_BYTES)):
            if PyBytes_GET_SIZE(METHOD_BYTES[i]) == at and memcmp(p, PyBytes_AS_STRING(METHOD_BYTES[i]), at) == 0:
                self.method_number = i
                break
        stop = end - 9
        while at < stop and p[at] == 32:
            at += 1
        while stop > at and p[stop - 1] == 32:
            stop -= 1
        if at == stop:
            return 0
        self.target.at = at
        self.target.length = stop - at
        if memchr(p + at, 32, stop - at) != NULL:
            self.anomalies |= SPACES_IN_TARGET
        return 1

    cdef int parse_header(self, const uint8_t* p, uint32_t start, uint32_t end) except -1:
        """One header line, without its line end, not empty (RFC 9112 section 5)."""
        cdef uint32_t name_end, at
        cdef const uint8_t* colon
        cdef const uint8_t* name = p + start
        if p[start] == 32 or p[start] == 9:
            self.anomalies |= FOLDED_HEADER         # obs-fold: the value goes on; none of the values read here is folded
            return 0
        colon = <const uint8_t*>memchr(name, 58, end - start)
        if colon == NULL or colon == name:
            self.anomalies |= BAD_HEADER_LINE
            return 0
        at = <uint32_t>(colon - p)
        name_end = at
        while name_end > start and (p[name_end - 1] == 32 or p[name_end - 1] == 9):
            name_end -= 1
            self.anomalies |= SPACE_BEFORE_COLON
        at += 1
        while at < end and (p[at] == 32 or p[at] == 9):
            at += 1
        while end > at and (p[end - 1] == 32 or p[end - 1] == 9):
            end -= 1
        name_end -= start
        if name_end == 4 and same_word(name, b"host", 4):
            if self.host.length == 0:
                self.host.at, self.host.length = at, end - at
        elif name_end == 7:
            if same_word(name, b"referer", 7):
                self.referrer.at, self.referrer.length = at, end - at
            elif same_word(name, b"upgrade", 7):
                self.upgrade = True
        elif name_end == 10:
            if same_word(name, b"user-agent", 10):
                self.user_agent.at, self.user_agent.length = at, end - at
            elif same_word(name, b"connection", 10):
                self.parse_connection(p, at, end)
        elif name_end == 12 and same_word(name, b"content-type", 12):
            self.content_type.at, self.content_type.length = at, end - at
        elif name_end == 14 and same_word(name, b"content-length", 14):
            self.parse_length(p, at, end)
        elif name_end == 17 and same_word(name, b"transfer-encoding", 17):
            self.parse_coding(p, at, end)
        return 0

    cdef int parse_connection(self, const uint8_t* p, uint32_t start, uint32_t end) except -1:
        """The options close and keep-alive; others do not matter here (RFC 9112 section 9.3)."""
        cdef uint32_t at = start, stop
        while at < end:
            stop = at
            while stop < end and p[stop] != 44:
                stop += 1
            while at < stop and (p[at] == 32 or p[at] == 9):
                at += 1
            if stop - at >= 5 and same_word(p + at, b"close", 5):
                self.close = True
            elif stop - at >= 10 and same_word(p + at, b"keep-alive", 10):
                self.close = False
            at = stop + 1
        return 0

    cdef int parse_length(self, const uint8_t* p, uint32_t start, uint32_t end) except -1:
        """RFC 9112 section 6.3: digits only, each member of a list alike; anything else is flagged, the first good one counts."""
        cdef uint64_t value
        cdef uint32_t at = start, digits
        while True:
            value = 0
            digits = 0
            while at < end and is_digit(p[at]) and digits < 19:
                value = value * 10 + (p[at] - 48)
                digits += 1
                at += 1
            if digits == 0 or (at < end and p[at] != 44 and p[at] != 32 and p[at] != 9):
                self.anomalies |= BAD_LENGTH
                return 0
            if self.has_length and self.content_length != value:
                self.anomalies |= LENGTHS_DIFFER
            elif not self.has_length:
                self.has_length = True
                self.content_length = value
            while at < end and (p[at] == 32 or p[at] == 9 or p[at] == 44):
                at += 1
            if at >= end:
                return 0

    cdef int parse_coding(self, const uint8_t* p, uint32_t start, uint32_t end) except -1:
        """Transfer-Encoding: chunked decides the framing only as the last coding (RFC 9112 section 6.1)."""
        cdef uint32_t at = start, stop
        while at < end:
            stop = at
            while stop < end and p[stop] != 44 and p[stop] != 32 and p[stop] != 9 and p[stop] != 59:
                stop += 1
            if stop - at == 7 and same_word(p + at, b"chunked", 7):
                self.chunked = True
            elif stop > at:
                if self.chunked:
                    self.anomalies |= CHUNKED_NOT_LAST
                    self.chunked = False
                if not (stop - at == 8 and same_word(p + at, b"identity", 8)):
                    self.anomalies |= UNKNOWN_CODING
            while stop < end and p[stop] != 44:
                stop += 1
            at = stop + 1
            while at < end and (p[at] == 32 or p[at] == 9):
                at += 1
        return 0


def anomaly_names(uint64_t bits):
    """The names of the anomaly bits, in the order of the list."""
    return [name for i, name in enumerate(ANOMALIES) if bits >> i & 1]
