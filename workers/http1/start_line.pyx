# cython: language_level=3
"""Tests of the start and the end of a head, and the search for a start line in unaligned bytes.

search() accepts only bytes that hardly occur by chance: a whole start line with a version, and with a common method or a
status, followed by a field line or the empty line. It reads every byte once or twice, whatever the bytes are.

Length proof: every function reads p[i] only for i < size; where an index goes back, i > 0 is tested first.
"""
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memcmp

from workers.http1.grammar cimport is_common, is_digit, is_token, same_word

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <string.h>
    static void* find_bytes(const void* p, size_t size, const void* word, size_t length) {
        return memmem(p, size, word, length);
    }
    #if defined(__GNUC__) && !defined(__clang__)
    __attribute__((optimize("O3")))             /* no branch in the inner loop: it becomes vector instructions */
    #endif
    #if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__SANITIZE_ADDRESS__)
    __attribute__((target_clones("avx2", "default")))
    #endif
    static size_t without_end(const unsigned char* p, size_t size) {
        size_t at, i;
        for (at = 0; at + 64 < size; at += 64) {
            unsigned char found = 0;
            for (i = 0; i < 64; i++)
                found |= (p[at + i] == 10) & ((p[at + i + 1] == 10) | (p[at + i + 1] == 13));
            if (found)
                break;
        }
        return at;
    }
    static void* find_last(const void* p, int c, size_t size) { return memrchr(p, c, size); }
    """
    void* find_bytes(const void* p, size_t size, const void* word, size_t length) noexcept nogil
    void* find_last(const void* p, int c, size_t size) noexcept nogil
    size_t without_end(const uint8_t* p, size_t size) noexcept nogil    # bytes from p[0] on in which no empty line begins

cdef enum:
    LONGEST_METHOD = 32
    LONGEST_PROXY = 107         # the first version's line, by its specification
    SSL_REQUEST = 36            # bytes of MySQL's packet, with its head (protocol::SSLRequest)
    CLIENT_SSL = 8              # … the capability in its second byte
    CR = 13
    LF = 10
    SP = 32
    TAB = 9
    COLON = 58
    NOWHERE = -1


cdef uint32_t head_end(const uint8_t* p, uint32_t size, uint32_t* scanned) noexcept nogil:
    """Return the length up to and including the empty line, 0 if it is missing; start and stop the search at *scanned."""
    cdef uint32_t at = scanned[0]
    cdef const uint8_t* lf
    at += <uint32_t>without_end(p + at, size - at)
    while at < size:
        lf = <const uint8_t*>memchr(p + at, LF, size - at)
        if lf == NULL:
            at = size
            break
        at = <uint32_t>(lf - p)
        if at + 1 >= size:
            break
        if p[at + 1] == LF:
            return at + 2
        if p[at + 1] == CR:
            if at + 2 >= size:
                break
            if p[at + 2] == LF:
                return at + 3
        at += 1
    scanned[0] = at
    return 0


cdef bint may_start(const uint8_t* p, size_t size) noexcept nogil:
    """Return whether a message may start with these bytes: a token and a blank, or the beginning of a status line."""
    cdef size_t at = 0
    while at < size and at < LONGEST_METHOD and is_token(p[at]):
        at += 1
    if at == size or (size == 1 and p[0] == 22):    # one byte of TLS decides nothing yet
        return True
    if at == 4 and p[at] == 47:
        return same_word(p, b"http", 4)
    return at > 0 and (p[at] == SP or p[at] == TAB)


cdef bint begins_status_line(const uint8_t* p, size_t size) noexcept nogil:
    """Return whether these bytes, or the few there are, begin a status line."""
    return same_word(p, b"http/", min(size, <size_t>5))


cdef bint begins_well(const uint8_t* p, size_t size) noexcept nogil:
    """Return whether a common method or HTTP/1 begins these bytes, so that a closer look is worthwhile."""
    cdef size_t at = 0
    if size >= 7 and memcmp(p, b"HTTP/1.", 7) == 0:
        return True
    while at < size and at < 8 and is_token(p[at]):
        at += 1
    return at < size and p[at] == SP and is_common(p, at)


cdef bint may_begin_well(const uint8_t* p, size_t size) noexcept nogil:
    """Return whether these bytes begin well, or are too few for a decision."""
    cdef size_t at = 0
    while at < size and at < 8 and is_token(p[at]):
        at += 1
    return (at == size and at < 8) or begins_well(p, size)


cdef bint begins_http2(const uint8_t* p, size_t size) noexcept nogil:
    """Return whether this is the preface of HTTP/2 (RFC 9113 section 3.4).

    The preface looks like a request, so that a server of HTTP/1 refuses it.
    """
    return size >= 14 and memcmp(p, b"PRI * HTTP/2.0", 14) == 0


cdef size_t preface(const uint8_t* p, size_t size) noexcept nogil:
    """Return the length of what stands before the first bytes of a protocol; 0: there is none, OPEN: the bytes are too few.

    A load balancer puts a PROXY protocol header there (versions 1 and 2), and a client of MySQL its SSLRequest before a hello.
    """
    cdef const uint8_t* lf
    cdef size_t length
    if p[0] == SP:
        # Only in one piece: the few bytes of others would begin no message.
        return SSL_REQUEST if size >= SSL_REQUEST and memcmp(p, b" \0\0\1", 4) == 0 and p[5] & CLIENT_SSL else 0
    if p[0] == 80:
        if memcmp(p, b"PROXY ", min(size, <size_t>6)) != 0:
            return 0
        lf = <const uint8_t*>memchr(p, LF, min(size, <size_t>LONGEST_PROXY))
        if lf != NULL:
            return <size_t>(lf - p) + 1
        return OPEN if size < LONGEST_PROXY else 0
    if memcmp(p, b"\r\n\r\n\0\r\nQUIT\n", min(size, <size_t>12)) != 0:
        return 0
    length = 16 + p[14] * 256 + p[15] if size >= 16 else OPEN
    return length if size >= length else OPEN


cdef bint is_field(const uint8_t* p, size_t size) noexcept nogil:
    """Return whether this whole line (without its LF) is a field line or the empty line."""
    cdef size_t at = 0
    if size == 0 or (size == 1 and p[0] == CR):
        return True
    while at < size and is_token(p[at]):
        at += 1
    return 0 < at < size and p[at] == COLON


cdef bint begins_field(const uint8_t* p, size_t size) noexcept nogil:
    """Return whether these bytes, or the few there are, begin a field line or the empty line."""
    cdef size_t at = 0
    while at < size and is_token(p[at]):
        at += 1
    return at == size or (at > 0 and p[at] == COLON) or (size == 1 and p[0] == CR)


cdef Py_ssize_t request_before(const uint8_t* p, size_t version, size_t longest) noexcept nogil:
    """Return the start of the request line that ends with the version at `version`; NOWHERE: there is none.

    Other bytes may stand right before its method.
    """
    cdef size_t at, length
    if version < 2 or p[version - 1] != SP:
        return NOWHERE
    at = version - 1
    while at > 0 and p[at - 1] > SP and version - at < longest:
        at -= 1
    if at == version - 1 or at == 0 or p[at - 1] != SP:
        return NOWHERE
    at -= 1
    for length in range(3, 8):
        if at >= length and is_common(p + at - length, length):
            return <Py_ssize_t>(at - length)
    return NOWHERE


cdef bint search(const uint8_t* p, size_t size, size_t longest, Start* out) noexcept nogil:
    """Find the first message that starts in p; set out.keep and return False if there is none.

    longest: the most bytes of its start line and the line behind it.
    """
    cdef size_t at = 0, version, line_end, text_end
    cdef Py_ssize_t found
    cdef const uint8_t* word
    cdef const uint8_t* lf = NULL
    cdef const uint8_t* next_lf
    while True:
        word = <const uint8_t*>find_bytes(p + at, size - at, b"HTTP/1.", 7)
        if word == NULL:
            break
        version = word - p
        at = version + 7
        if lf == NULL or lf < word:
            lf = <const uint8_t*>memchr(word, LF, size - version)
            if lf == NULL:
                break
        line_end = text_end = lf - p
        if p[text_end - 1] == CR:
            text_end -= 1
        found = NOWHERE
        if text_end < version + 8 or text_end - version > longest or not is_digit(p[version + 7]):
            continue
        if text_end == version + 8:
            found = request_before(p, version, longest)
            out.request = True
        elif text_end >= version + 12 and p[version + 8] == SP and 49 <= p[version + 9] <= 57 and is_digit(p[version + 10]) \
                and is_digit(p[version + 11]) and (text_end == version + 12 or p[version + 12] == SP):
            found = version
            out.request = False
        if found == NOWHERE:
            continue
        next_lf = <const uint8_t*>memchr(p + line_end + 1, LF, size - line_end - 1)
        if next_lf == NULL:
            out.keep = <size_t>found
            if size - out.keep > longest:
                out.keep = size - longest
            return False
        if (next_lf - p) - found <= longest and is_field(p + line_end + 1, (next_lf - p) - line_end - 1):
            out.at = <size_t>found
            return True
        at = line_end + 1               # any other start on this line has the same bad line behind it
    lf = <const uint8_t*>find_last(p, LF, size)
    out.keep = 0 if lf == NULL else <size_t>(lf - p) + 1
    if size - out.keep > longest:
        out.keep = size - longest
    return False
