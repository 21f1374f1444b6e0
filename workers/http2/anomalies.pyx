# cython: language_level=3
"""Find what RFC 9113 forbids in header fields and in the sizes of a transaction.

A server that passes such a request on in HTTP/1 may make two requests of it, or one with another meaning.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp

from workers.http2.exchange cimport CLIENT, SERVER, Exchange, HeaderSection
from workers.http2.header_list cimport AUTHORITY, CONTENT_LENGTH, HOST, METHOD, OTHER, TRANSFER_ENCODING, Field, HeaderList
from workers.http2.header_table cimport NAME_UNKNOWN, VALUE_UNKNOWN

cdef extern from *:
    """
    #if defined(__GNUC__) && !defined(__clang__)
    __attribute__((optimize("O3")))             /* no branch in the loop: it becomes vector instructions */
    #endif
    #if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__SANITIZE_ADDRESS__)
    __attribute__((target_clones("avx2", "default")))
    #endif
    static int has_line_end(const unsigned char* p, size_t size) {
        unsigned char found = 0;
        size_t i;
        for (i = 0; i < size; i++)
            found |= (p[i] == 13) | (p[i] == 10) | (p[i] == 0);
        return found;
    }
    """
    bint has_line_end(const uint8_t* p, size_t size) noexcept nogil     # CR, LF or NUL, which RFC 9113 section 8.2.1 forbids

cdef enum:
    NO_CONTENT = 204
    NOT_MODIFIED = 304
    MOST_DIGITS = 18            # of a length


cdef inline bint same_word(const uint8_t* p, size_t size, const char* lower, size_t length) noexcept nogil:
    return size == length and memcmp(p, lower, length) == 0


cdef bint is_forbidden(const uint8_t* name, size_t size, const uint8_t* value, size_t length) noexcept nogil:
    """Return whether a field without a token is about an HTTP/1 connection (RFC 9113 section 8.2.2)."""
    if size == 2:
        return same_word(name, 2, b"te", 2) and not same_word(value, length, b"trailers", 8)
    return (same_word(name, size, b"connection", 10) or same_word(name, size, b"upgrade", 7)
            or same_word(name, size, b"keep-alive", 10) or same_word(name, size, b"proxy-connection", 16))


cdef uint64_t field_anomalies(HeaderList fields) noexcept:
    """Return the anomalies of a header section: of its known fields."""
    cdef uint64_t found = <uint64_t>BAD_PSEUDO_HEADER if fields.malformed else 0
    cdef const Field* field
    cdef const Field* authority = NULL
    cdef const Field* host = NULL
    cdef const uint8_t* name
    cdef uint32_t place, i
    if has_line_end(fields.data, fields.used):      # no other bytes than those of names and values are there
        found |= CRLF_IN_HEADER
    for place in range(fields.count):
        field = &fields.fields[place]
        if field.flags & NAME_UNKNOWN:
            continue
        if field.token == AUTHORITY:
            authority = field
        elif field.token == HOST:
            if host == NULL:
                host = field
        elif field.token == TRANSFER_ENCODING:
            if not field.flags & VALUE_UNKNOWN:
                found |= CONNECTION_HEADER
        elif field.token == OTHER:                  # the others are known to have no upper case
            name = fields.data + field.name_at
            for i in range(field.name_length):
                if 65 <= name[i] <= 90:
                    found |= UPPERCASE_IN_HEADER
            if not field.flags & VALUE_UNKNOWN and is_forbidden(
                    name, field.name_length, fields.data + field.value_at, field.value_length):
                found |= CONNECTION_HEADER
    if authority != NULL and host != NULL and not (authority.flags | host.flags) & VALUE_UNKNOWN and not same_text(
            fields.data + authority.value_at, authority.value_length, fields.data + host.value_at, host.value_length):
        found |= AUTHORITY_AND_HOST_DIFFER
    return found


cdef bint same_text(const uint8_t* a, size_t size, const uint8_t* b, size_t length) noexcept nogil:
    """Return whether two texts are the same but for the case of ASCII letters."""
    cdef size_t i
    cdef uint8_t c, d
    if size != length:
        return False
    for i in range(size):
        c, d = a[i], b[i]
        if 65 <= c <= 90:
            c |= 0x20
        if 65 <= d <= 90:
            d |= 0x20
        if c != d:
            return False
    return True


cdef uint64_t length_differs(Exchange exchange) noexcept:
    """Return LENGTH_AND_DATA_DIFFER if Content-Length is not the number of the bytes in DATA (RFC 9113 section 8.1.1)."""
    cdef int side
    cdef HeaderSection section
    cdef int64_t length
    cdef int status
    for side in range(2):
        section = exchange.request if side == CLIENT else exchange.response
        if section is None or not exchange.halves[side].whole or exchange.halves[side].loss:
            continue
        if side == CLIENT and exchange.upgraded:
            continue                            # its body was HTTP/1.1's
        length = number_of(section, section.find(CONTENT_LENGTH))
        if length < 0 or <uint64_t>length == exchange.halves[side].body_bytes:
            continue
        if side == SERVER:
            status = section.status()
            if status < 200 or status == NO_CONTENT or status == NOT_MODIFIED or may_be_head(exchange.request):
                continue
        return LENGTH_AND_DATA_DIFFER
    return 0


cdef bint may_be_head(HeaderSection request) noexcept:
    """Return whether the response has no body because of its request."""
    cdef const Field* method = request.find(METHOD) if request is not None else NULL
    if method == NULL or method.flags & VALUE_UNKNOWN:
        return True
    return same_word(request.data + method.value_at, method.value_length, b"HEAD", 4)


cdef int64_t number_of(HeaderSection section, const Field* field) noexcept:
    """Return the number that a field's value spells; -1: none."""
    cdef int64_t value = 0
    cdef const uint8_t* p
    cdef uint32_t i
    if field == NULL or field.flags & VALUE_UNKNOWN or not 0 < field.value_length <= MOST_DIGITS:
        return -1
    p = section.data + field.value_at
    for i in range(field.value_length):
        if not 48 <= p[i] <= 57:
            return -1
        value = 10 * value + p[i] - 48
    return value
