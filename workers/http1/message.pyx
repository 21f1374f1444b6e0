# cython: language_level=3
"""Message: the head of one HTTP/1 request or response, parsed in place.

parse() runs over the head, and again after it has joined folded lines. It finds the parts of the start line and the few
field lines that framing and events need, and keeps them as ranges of the head's own bytes. It makes no Python object per
field line. RFC 9112 sections 2 to 5, RFC 9110 section 5.

Length proof: every function gets offsets start <= end <= len(head) and reads p[i] only for start <= i < end.
"""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

from appliance.stats.names import METHODS
from workers.http1.grammar cimport TOKEN, in_capitals, is_blank, is_coding, is_common, is_digit, is_framing, lower, same_word

cdef list METHOD_BYTES = [name.encode() for name in METHODS[:-1]]
FRAMINGS = ("none", "length", "chunked", "until_close")
COMMON = frozenset(b"GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH".split())
REGISTERED = COMMON | frozenset(    # the other methods of IANA's registry
    b"ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT COPY LABEL LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL MKREDIRECTREF "
    b"MKWORKSPACE MOVE ORDERPATCH PRI PROPFIND PROPPATCH QUERY REBIND REPORT SEARCH UNBIND UNCHECKOUT UNLINK UNLOCK UPDATE "
    b"UPDATEREDIRECTREF VERSION-CONTROL".split())

cdef extern from *:
    """
    #if defined(__GNUC__) && !defined(__clang__)
    __attribute__((optimize("O3")))             /* no branch in these loops: they become vector instructions */
    #endif
    #if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__SANITIZE_ADDRESS__)
    __attribute__((target_clones("avx2", "default")))
    #endif
    static int odd_bytes(const unsigned char* p, size_t size) {
        unsigned char control = 0, bare = 0, c;
        size_t i;
        for (i = 0; i + 1 < size; i++) {
            c = p[i];
            control |= ((c < 32) & (c != 9) & (c != 10) & (c != 13)) | (c == 127);
            bare |= (c == 13) & (p[i + 1] != 10);
        }
        if (size) {
            c = p[size - 1];
            control |= ((c < 32) & (c != 9) & (c != 10) & (c != 13)) | (c == 127);
            bare |= c == 13;
        }
        return control | bare << 1;
    }
    #if defined(__GNUC__) && !defined(__clang__)
    __attribute__((optimize("O3")))
    #endif
    static int odd_target(const unsigned char* p, size_t size) {
        unsigned char odd = 0;
        size_t i;
        for (i = 0; i < size; i++)
            odd |= (p[i] <= 32) | (p[i] >= 127) | (p[i] == 35);
        return odd;
    }
    /* The first byte from here on that no token has; there is one. */
    static inline const unsigned char* behind_token(const unsigned char* tokens, const unsigned char* p) {
        for (;; p += 4) {
            if (!tokens[p[0]]) return p;
            if (!tokens[p[1]]) return p + 1;
            if (!tokens[p[2]]) return p + 2;
            if (!tokens[p[3]]) return p + 3;
        }
    }
    /* Is this token the lower-case word of letters and hyphens, in any case? size: of both, 4 to 7 or 8 to 24, known to the
       compiler. The bit that tells capitals from small letters makes no other byte of a token equal to one of the word. */
    static inline int is_named(const unsigned char* p, const char* word, const size_t size) {
        const uint64_t bits = 0x2020202020202020ULL;
        uint64_t a, b;
        uint32_t c, d;
        size_t at;
        if (size < 8) {
            memcpy(&c, p, 4); memcpy(&d, word, 4);
            if ((c | (uint32_t)bits) != d) return 0;
            memcpy(&c, p + size - 4, 4); memcpy(&d, word + size - 4, 4);
            return (c | (uint32_t)bits) == d;
        }
        for (at = 0; at + 8 < size; at += 8) {
            memcpy(&a, p + at, 8); memcpy(&b, word + at, 8);
            if ((a | bits) != b) return 0;
        }
        memcpy(&a, p + size - 8, 8); memcpy(&b, word + size - 8, 8);
        return (a | bits) == b;
    }
    """
    int odd_bytes(const uint8_t* p, size_t size) noexcept nogil     # 1: a control character, 2: a CR without LF
    int odd_target(const uint8_t* p, size_t size) noexcept nogil    # a byte that no target has (RFC 3986)
    const uint8_t* behind_token(const uint8_t* tokens, const uint8_t* p) noexcept nogil
    bint is_named(const uint8_t* p, const char* word, size_t size) noexcept nogil


cdef enum:
    FEW_LENGTHS = 4             # the most other Content-Length values that a message keeps


cdef Span without_port(const uint8_t* p, Span host) noexcept:
    """Return the host without a default port."""
    if host.length > 3 and memcmp(p + host.at + host.length - 3, b":80", 3) == 0:
        host.length -= 3
    elif host.length > 4 and memcmp(p + host.at + host.length - 4, b":443", 4) == 0:
        host.length -= 4
    return host


cdef bytes unfolded(bytes head):
    """Return the head with every folded line joined to its field by one space (RFC 9112 section 5.2)."""
    cdef size_t size = PyBytes_GET_SIZE(head), at = 0, start, end, lines = 0
    cdef bytes out = PyBytes_FromStringAndSize(NULL, 2 * size)      # a line grows by a CR at most, and has a LF
    cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(head)
    cdef uint8_t* first = <uint8_t*>PyBytes_AS_STRING(out)
    cdef uint8_t* put = first
    cdef const uint8_t* lf
    while at <= size:
        lf = <const uint8_t*>memchr(p + at, 10, size - at)
        start = at
        end = <size_t>(lf - p) if lf != NULL else size
        at = end + 1
        if end > start and p[end - 1] == 13:
            end -= 1
        if lines > 1 and start < end and is_blank(p[start]):
            while start < end and is_blank(p[start]):
                start += 1
            while end > start and is_blank(p[end - 1]):
                end -= 1
            put[0] = 32
            put += 1
        elif lines:
            put[0] = 13
            put[1] = 10
            put += 2
        memcpy(put, p + start, end - start)
        put += end - start
        lines += 1
    return out[:put - first]


@cython.final
@cython.no_gc              # no object that it holds refers to it
@cython.freelist(256)
cdef class Message:
    cdef Head parse(self, uint32_t max_headers) except <Head>-1:
        """Read self.head, which ends with the line end of its last field line; ignore other fields after max_headers."""
        cdef Span nothing
        cdef Head found = self.parse_lines(max_headers)
        if found != HEAD_BAD and self.anomalies & FOLDED_HEADER:
            nothing.at = nothing.length = 0
            self.head = unfolded(self.head)
            self.host = self.user_agent = self.referrer = self.content_type = nothing
            self.has_length = self.chunked = self.coded = self.has_host = self.upgrade = False
            self.other_lengths = None
            found = self.parse_lines(max_headers)
        if found != HEAD_BAD:
            self.check()
        return found

    cdef Head parse_lines(self, uint32_t max_headers) except <Head>-1:
        cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(self.head)
        cdef uint32_t size = <uint32_t>PyBytes_GET_SIZE(self.head)
        cdef const uint8_t* lf
        cdef uint32_t at = 0, end, line_end, lines = 0
        while at < size:
            lf = <const uint8_t*>memchr(p + at, 10, size - at)
            line_end = <uint32_t>(lf - p) if lf != NULL else size
            end = line_end
            if end > at and p[end - 1] == 13:
                end -= 1
            elif lf != NULL:
                self.anomalies |= BARE_LF
            if at == 0:
                if not self.parse_start_line(p, end):
                    return HEAD_BAD
            elif end > at:
                if lines == 0 and is_blank(p[at]):
                    self.anomalies |= BAD_HEADER_LINE       # RFC 9112 section 2.2: there is no field line to continue
                elif lines < max_headers or is_framing(p + at, end - at):
                    self.parse_header(p, at, end)
                lines += 1
            at = line_end + 1
        if size == 0:
            return HEAD_BAD
        if lines > max_headers:
            self.anomalies |= TOO_MANY_HEADERS
        return HEAD_REQUEST if self.is_request else HEAD_RESPONSE

    cdef int check(self) except -1:
        """Check the whole head: flag control characters, a bare CR, a missing Host, and one unlike an absolute target."""
        cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(self.head)
        cdef int odd = odd_bytes(p, PyBytes_GET_SIZE(self.head))
        if odd & 1:
            self.anomalies |= CONTROL_IN_HEAD
        if odd & 2:
            self.anomalies |= BARE_CR
        if self.is_request and self.host.length == 0 and self.minor == 1 and self.major == 1 and not self.has_host:
            self.anomalies |= HOST_MISSING
        if self.host.length and self.is_request and p[self.target.at] != 47 and self.method_number != 5:
            self.compare_hosts(p)
        return 0

    cdef int compare_hosts(self, const uint8_t* p) except -1:
        """Compare the host of an absolute target (RFC 9112 section 3.2.2) with Host; a default port may be missing."""
        cdef uint32_t at = self.target.at, end = self.target.at + self.target.length, stop, i
        cdef Span own, said = self.host
        while at < end and TOKEN[p[at]]:
            at += 1
        if end - at < 3 or memcmp(p + at, b"://", 3) != 0:
            return 0
        at += 3
        stop = at
        while stop < end and p[stop] != 47 and p[stop] != 63 and p[stop] != 35:
            if p[stop] == 64:                       # the user before the host
                at = stop + 1
            stop += 1
        own.at, own.length = at, stop - at
        own, said = without_port(p, own), without_port(p, said)
        for i in range(min(own.length, said.length)):
            if lower(p[own.at + i]) != lower(p[said.at + i]):
                own.length = 0
                break
        if own.length != said.length:
            self.anomalies |= HOSTS_DIFFER
        return 0

    cdef list other_framings(self):
        """Return the other possible framings as [(framing, length or None)]; None if there are none.

        Other framings are possible if the head contradicts itself.
        """
        cdef list found = []
        if not self.anomalies & AMBIGUOUS_FRAMING or (
                self.framing == NO_BODY and not self.is_request and not self.anomalies & LENGTH_NOT_ALLOWED):
            return None
        if self.framing != BY_LENGTH and self.has_length and (self.content_length or self.framing != NO_BODY):
            found.append((BY_LENGTH, self.content_length))
        for length in self.other_lengths or ():
            if (length or self.framing != NO_BODY) and not (self.has_length and length == self.content_length):
                found.append((BY_LENGTH, length))
        if self.framing != BY_CHUNKS and (self.chunked or self.anomalies & (CHUNKED_NOT_LAST | UNKNOWN_CODING)):
            found.append((BY_CHUNKS, None))
        if self.anomalies & CHUNKED_IN_HTTP10 and not self.is_request and self.framing == BY_CHUNKS:
            found.append((BY_CLOSE, None))
        return found or None

    cdef int parse_start_line(self, const uint8_t* p, uint32_t end) except -1:
        """Read p[0:end]; return 1 if it is a request line or a status line (RFC 9112 sections 3 and 4)."""
        cdef uint32_t at, digits = 0
        if not (end >= 12 and same_word(p, b"http/", 5) and is_digit(p[5]) and p[6] == 46 and is_digit(p[7]) and is_blank(p[8])):
            return self.parse_request_line(p, end)
        self.major = p[5] - 48
        self.minor = p[7] - 48
        if memcmp(p, b"HTTP/1.", 7) != 0 or self.minor > 1:
            self.anomalies |= ODD_VERSION
        at = 8
        while at < end and is_blank(p[at]):
            at += 1
        if at > 9 or p[8] == 9:
            self.anomalies |= ODD_STATUS_LINE
        self.status = 0
        while at < end and digits < 4 and is_digit(p[at]):
            self.status = self.status * 10 + (p[at] - 48)
            at += 1
            digits += 1
        if digits != 3 or self.status < 100 or (at < end and not is_blank(p[at])):
            return 0
        if at < end and p[at] == 9:
            self.anomalies |= ODD_STATUS_LINE
        if at + 1 < end:
            self.reason.at = at + 1
            self.reason.length = end - at - 1
        self.close = self.major == 1 and self.minor == 0
        return 1

    cdef int parse_request_line(self, const uint8_t* p, uint32_t end) except -1:
        """Read METHOD SP TARGET SP VERSION; flag each tolerated deviation as an anomaly."""
        cdef uint32_t at = 0, stop, method_end, i
        cdef bint common, odd
        while at < end and TOKEN[p[at]]:
            at += 1
        if at == 0 or at >= end or not is_blank(p[at]):
            return 0
        method_end = at
        stop = end
        while stop > at and is_blank(p[stop - 1]):
            stop -= 1
        if stop < end or p[at] == 9:
            self.anomalies |= ODD_REQUEST_LINE
        while at < stop and is_blank(p[at]):
            at += 1
        if at > method_end + 1:
            self.anomalies |= ODD_REQUEST_LINE
        i = stop                                    # the last part of the line
        while i > at and not is_blank(p[i - 1]):
            i -= 1
        common = is_common(p, method_end)
        self.major = 0
        self.minor = 9
        if stop - i >= 6 and same_word(p + i, b"http/", 5) and is_digit(p[i + 5]) and (i > at or common):
            self.major = p[i + 5] - 48
            self.minor = p[i + 7] - 48 if stop - i >= 8 and p[i + 6] == 46 and is_digit(p[i + 7]) else 0
            if stop - i != 8 or memcmp(p + i, b"HTTP/1.", 7) != 0 or self.minor > 1:
                self.anomalies |= ODD_VERSION
            stop = i
            if stop > at + 1 and (p[stop - 1] == 9 or is_blank(p[stop - 2])):
                self.anomalies |= ODD_REQUEST_LINE
            while stop > at and is_blank(p[stop - 1]):
                stop -= 1
        elif i == at and ((common or in_capitals(p, method_end)) and p[at] == 47
                          or common and stop - at > 7 and same_word(p + at, b"http://", 7)):
            self.anomalies |= MISSING_VERSION       # HTTP/0.9, or a forgotten version
        else:
            return 0
        self.is_request = True
        self.close = not (self.major == 1 and self.minor >= 1)
        self.method.at = 0
        self.method.length = method_end
        self.method_number = <int>len(METHOD_BYTES)
        for i in range(<uint32_t>len(METHOD_BYTES)):
            if PyBytes_GET_SIZE(METHOD_BYTES[i]) == method_end \
                    and memcmp(p, PyBytes_AS_STRING(METHOD_BYTES[i]), method_end) == 0:
                self.method_number = <int>i
                break
        if not common and bytes(p[:method_end]) not in REGISTERED:
            self.anomalies |= UNKNOWN_METHOD
        self.target.at = at
        self.target.length = stop - at
        odd = odd_target(p + at, stop - at)
        if odd and (memchr(p + at, 32, stop - at) != NULL or memchr(p + at, 9, stop - at) != NULL):
            self.anomalies |= SPACES_IN_TARGET
            odd = 0
            for i in range(at, stop):
                odd |= (p[i] < 32 and p[i] != 9) or p[i] >= 127 or p[i] == 35
        if odd or stop == at or (p[at] != 47 and not self.good_form(p + at, stop - at)):
            self.anomalies |= ODD_TARGET
        return 1

    cdef bint good_form(self, const uint8_t* p, uint32_t size) except -1:
        """Return whether a target that is no path has another form of RFC 9112 section 3.2.

        These are the absolute form, the authority for CONNECT, and the asterisk.
        """
        cdef uint32_t at = 0
        if self.method_number == 5:                 # CONNECT, in stats.METHODS
            return memchr(p, 58, size) != NULL
        if size == 1 and p[0] == 42:
            return True
        while at < size and TOKEN[p[at]]:
            at += 1
        return at > 0 and at + 2 < size and p[at] == 58 and p[at + 1] == 47 and p[at + 2] == 47

    cdef int parse_header(self, const uint8_t* p, uint32_t start, uint32_t end) except -1:
        """Read one field line, which is not empty and has no line end (RFC 9112 section 5)."""
        cdef uint32_t name_end, at = start
        cdef const uint8_t* name = p + start
        if p[start] == 32 or p[start] == 9:
            self.anomalies |= FOLDED_HEADER         # obs-fold: the value continues; parse() joins it and reads again
            return 0
        at = <uint32_t>(behind_token(TOKEN, name) - p)      # at the line end, or at the NUL behind the head's bytes
        name_end = at - start
        if at == end or p[at] != 58:
            while at < end and is_blank(p[at]):
                at += 1
            if at == end or p[at] != 58:
                name_end = 0
            else:
                self.anomalies |= SPACE_BEFORE_COLON
        if name_end == 0:
            self.anomalies |= BAD_HEADER_LINE
            return 0
        at += 1
        while at < end and (p[at] == 32 or p[at] == 9):
            at += 1
        while end > at and (p[end - 1] == 32 or p[end - 1] == 9):
            end -= 1
        if name_end == 4 and is_named(name, b"host", 4):
            if not self.has_host:
                self.host.at, self.host.length = at, end - at
            elif self.host.length != end - at or memcmp(p + self.host.at, p + at, end - at) != 0:
                self.anomalies |= HOSTS_DIFFER
            self.has_host = True
        elif name_end == 7:
            if is_named(name, b"referer", 7):
                self.referrer.at, self.referrer.length = at, end - at
            elif is_named(name, b"upgrade", 7):
                self.upgrade = True
        elif name_end == 10:
            if is_named(name, b"user-agent", 10):
                self.user_agent.at, self.user_agent.length = at, end - at
            elif is_named(name, b"connection", 10):
                self.parse_connection(p, at, end)
        elif name_end == 12 and is_named(name, b"content-type", 12):
            self.content_type.at, self.content_type.length = at, end - at
        elif name_end == 14 and is_named(name, b"content-length", 14):
            self.parse_length(p, at, end)
        elif name_end == 17 and is_named(name, b"transfer-encoding", 17):
            self.parse_coding(p, at, end)
        return 0

    cdef int parse_connection(self, const uint8_t* p, uint32_t start, uint32_t end) except -1:
        """Read the options close and keep-alive; no other option matters here (RFC 9112 section 9.3)."""
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
        """Read a Content-Length (RFC 9112 section 6.3): digits only, and equal members of a list.

        Flag any other value; the first valid one counts.
        """
        cdef uint64_t value
        cdef uint32_t at = start, digits, first
        cdef bint good, some, plus
        while True:
            value = digits = 0
            plus = at < end and p[at] == 43
            at += plus
            first = at
            while at < end and p[at] == 48:
                at += 1
            while at < end and is_digit(p[at]) and digits < 19:
                value = value * 10 + (p[at] - 48)
                digits += 1
                at += 1
            some = at > first and (at == end or not is_digit(p[at]))
            good = some and not plus and (at == end or p[at] == 44 or is_blank(p[at]))
            while good and at < end and is_blank(p[at]):
                at += 1
            good = good and (at == end or p[at] == 44)
            if good and at > first + 1 and p[first] == 48:
                self.anomalies |= LENGTH_LEADING_ZEROS
            if not good:
                self.anomalies |= BAD_LENGTH
                if some:                            # a lenient parser, which reads the leading digits, gets this value
                    self.read_otherwise(value)
            elif not self.has_length:
                self.has_length = True
                self.content_length = value
            elif self.content_length == value:
                self.anomalies |= LENGTH_REPEATED
            else:
                self.anomalies |= LENGTHS_DIFFER
                self.read_otherwise(value)
            while at < end and p[at] != 44:
                at += 1
            if at == end:
                return 0
            at += 1
            while at < end and is_blank(p[at]):
                at += 1

    cdef int read_otherwise(self, uint64_t length) except -1:
        """Keep a length that does not decide the framing here, but may elsewhere."""
        if self.other_lengths is None:
            self.other_lengths = []
        if length not in self.other_lengths and len(self.other_lengths) < FEW_LENGTHS:
            self.other_lengths.append(length)
        return 0

    cdef int parse_coding(self, const uint8_t* p, uint32_t start, uint32_t end) except -1:
        """Read a Transfer-Encoding: chunked decides the framing only as the last coding (RFC 9112 section 6.1)."""
        cdef uint32_t at = start, stop, last, name_end
        while at < end:
            stop = at
            while stop < end and p[stop] != 44:
                stop += 1
            last = stop
            while last > at and is_blank(p[last - 1]):
                last -= 1
            if last - at == 7 and same_word(p + at, b"chunked", 7):
                if self.chunked:
                    self.anomalies |= CHUNKED_REPEATED
                self.chunked = self.coded = True
            elif last > at:
                if self.chunked:
                    self.anomalies |= CHUNKED_NOT_LAST
                    self.chunked = False
                name_end = at
                while name_end < last and p[name_end] != 59:
                    name_end += 1
                while name_end > at and is_blank(p[name_end - 1]):
                    name_end -= 1
                if not is_coding(p + at, name_end - at):
                    self.anomalies |= UNKNOWN_CODING    # chunked with parameters, too: RFC 9112 section 7.1
                if not (name_end - at == 8 and same_word(p + at, b"identity", 8)):
                    self.coded = True
            at = stop + 1
            while at < end and is_blank(p[at]):
                at += 1
        if not (self.major == 1 and self.minor == 1):
            self.anomalies |= CHUNKED_IN_HTTP10
        return 0
