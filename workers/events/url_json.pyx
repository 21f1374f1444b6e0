# cython: language_level=3
"""The url of an event, from a request target and an authority (RFC 9112 section 3.2).

Length proof: put_url() writes each byte of target, authority and scheme at most three times, as at most six bytes; the rest is
less than URL_BYTES of its caller's room.
"""
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memchr

from workers.events.json_text cimport put, put_number


cdef uint8_t* put_url(uint8_t* out, Text target, Text authority, Text scheme, bint connects) noexcept nogil:
    """Write url, with a comma behind. A text of size 0 is unknown.

    authority: that of Host or :authority, unless the target has one of its own (RFC 9112 section 3.2.2). connects: the target
    may be host:port.
    """
    cdef Text path = target, query, port
    cdef const uint8_t* p = target.p
    cdef const uint8_t* mark
    cdef size_t i
    query.p = NULL
    query.size = 0
    if connects and target.size and p[0] != 47:
        authority = target
        path.size = 0
    elif target.size > 7 and (p[0] | 0x20) == 104 and (p[3] | 0x20) == 112 and p[4] == 58 and p[5] == 47 and p[6] == 47:
        authority.p = p + 7
        authority.size = target.size - 7
        for i in range(authority.size):
            if authority.p[i] == 47 or authority.p[i] == 63:
                authority.size = i
                break
        path.p = authority.p + authority.size
        path.size = target.size - 7 - authority.size
        mark = <const uint8_t*>memchr(authority.p, 64, authority.size)
        while mark != NULL:                             # user:password@host: keep the host only
            authority.size -= mark + 1 - authority.p
            authority.p = mark + 1
            mark = <const uint8_t*>memchr(authority.p, 64, authority.size)
    elif target.size == 1 and p[0] == 42:               # OPTIONS *
        path.size = 0
    mark = <const uint8_t*>memchr(path.p, 63, path.size) if path.size else NULL
    if mark != NULL:
        query.p = mark + 1
        query.size = path.p + path.size - query.p
        path.size = mark - path.p
    port.p = authority.p + authority.size
    port.size = 0
    while port.p > authority.p and 48 <= port.p[-1] <= 57:
        port.p -= 1
        port.size += 1
    # An IPv6 address contains colons and keeps its brackets (ECS); without brackets, all of it is the address.
    if port.p > authority.p and port.p[-1] == 58 and port.size <= 5 and (
            port.p - 1 == authority.p or port.p[-2] == 93
            or memchr(authority.p, 58, port.p - 1 - authority.p) == NULL):
        authority.size = port.p - 1 - authority.p
    else:
        port.size = 0
    out = put(out, b'"url":{')
    if target.p != NULL:
        out = put_member(out, b'"original":"', target)
    if authority.size:
        out = put_member(out, b'"domain":"', authority)
    if path.size:
        out = put_member(out, b'"path":"', path)
    if mark != NULL:
        out = put_member(out, b'"query":"', query)
    if scheme.size:
        out = put_member(out, b'"scheme":"', scheme)
    if port.size:
        out = put(out, b'"port":')
        out = put_number(out, digits(port))
        out = put(out, b",")
    if out[-1] == 44:
        out -= 1
    return put(out, b"},")


cdef uint64_t digits(Text text) noexcept nogil:
    """Return the number that a few digits spell."""
    cdef uint64_t value = 0
    cdef size_t i
    for i in range(text.size):
        value = value * 10 + (text.p[i] - 48)
    return value
