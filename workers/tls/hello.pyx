# cython: language_level=3
"""ClientHello and ServerHello (RFC 8446, section 4.1) to their parts, without a copy.

The complete parts of a hello without its end are read. `whole` is False for it, and for one with contradictory lengths.

Length proof: a Cursor holds what is left; take() and list_of() are the only places that move it, and test its end first.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp, memset

cdef enum:
    SERVER_NAME = 0
    SUPPORTED_GROUPS = 10
    EC_POINT_FORMATS = 11
    SIGNATURE_ALGORITHMS = 13
    ALPN = 16
    ENCRYPT_THEN_MAC = 22
    SESSION_TICKET = 35
    PRE_SHARED_KEY = 41
    EARLY_DATA = 42
    SUPPORTED_VERSIONS = 43
    KEY_SHARE = 51
    ENCRYPTED_CLIENT_HELLO = 0xFE0D
    HOST_NAME = 0
    RANDOM_SIZE = 32

# SHA-256 of "HelloRetryRequest" (RFC 8446, section 4.1.3)
cdef const uint8_t* RETRY = (b"\xcf\x21\xad\x74\xe5\x9a\x61\x11\xbe\x1d\x8c\x02\x1e\x65\xb8\x91"
                             b"\xc2\xa2\x11\x16\x7a\xbb\x8c\x5e\x07\x9e\x09\xe2\xc8\xa8\x33\x9c")


cdef struct Cursor:
    const uint8_t* p
    uint32_t left


cdef bint is_grease(uint32_t value) noexcept nogil:
    """Return whether RFC 8701 reserves this value as GREASE."""
    return value & 0x0F0F == 0x0A0A and value >> 8 == value & 0xFF


cdef inline const uint8_t* take(Cursor* cursor, uint32_t count) noexcept nogil:
    """Return the next `count` bytes and pass them; NULL, and nothing is passed, if they are not all there."""
    cdef const uint8_t* at = cursor.p
    if count > cursor.left:
        return NULL
    cursor.p += count
    cursor.left -= count
    return at


cdef inline bint list_of(Cursor* cursor, uint32_t width, Span* out) noexcept nogil:
    """Read a list behind its length of `width` bytes (1 or 2). False: some of it is missing."""
    cdef const uint8_t* p = take(cursor, width)
    if p == NULL:
        return False
    out.size = p[0] if width == 1 else u16(p)
    out.p = take(cursor, out.size)
    if out.p == NULL:
        out.size = 0
        return False
    return True


cdef bint only_list(Cursor body, uint32_t width, uint32_t unit, Span* out) noexcept nogil:
    """Read an extension that is one list of entries of `unit` bytes."""
    cdef Span found
    found.p = NULL
    found.size = 0
    if not list_of(&body, width, &found) or body.left or found.size % unit:
        return False
    out[0] = found
    return True


cdef bint host_name(Cursor body, Span* out) noexcept nogil:
    """Find the first host_name of a server_name extension (RFC 6066, section 3)."""
    cdef Span names, name
    cdef Cursor cursor
    cdef const uint8_t* kind
    names.p = NULL
    names.size = 0
    if not list_of(&body, 2, &names) or body.left:
        return False
    cursor.p = names.p
    cursor.left = names.size
    while cursor.left:
        kind = take(&cursor, 1)
        name.p = NULL
        name.size = 0
        if not list_of(&cursor, 2, &name):
            return False
        if kind[0] == HOST_NAME and name.size and out.p == NULL:
            out[0] = name
    return True


cdef bint protocol_names(Cursor body, Span* out) noexcept nogil:
    """Read the list of an ALPN extension (RFC 7301, section 3.1): names of at least one byte that fill it."""
    cdef Span names, name
    cdef Cursor cursor
    names.p = NULL
    names.size = 0
    if not list_of(&body, 2, &names) or body.left:
        return False
    cursor.p = names.p
    cursor.left = names.size
    while cursor.left:
        name.p = NULL
        name.size = 0
        if not list_of(&cursor, 1, &name) or name.size == 0:
            return False
    out[0] = names
    return True


cdef bint client_extension(uint16_t kind, Cursor body, ClientHello* out) noexcept nogil:
    """Read one extension of a ClientHello. False: its content contradicts its length."""
    if kind == SERVER_NAME:
        out.has_server_name = True
        return host_name(body, &out.server_name)
    if kind == ALPN:
        return protocol_names(body, &out.protocols)
    if kind == SUPPORTED_GROUPS:
        return only_list(body, 2, 2, &out.groups)
    if kind == EC_POINT_FORMATS:
        return only_list(body, 1, 1, &out.formats)
    if kind == SIGNATURE_ALGORITHMS:
        return only_list(body, 2, 2, &out.signatures)
    if kind == SUPPORTED_VERSIONS:
        return only_list(body, 1, 2, &out.versions)
    if kind == SESSION_TICKET:
        out.ticket = body.left > 0
    elif kind == PRE_SHARED_KEY:
        out.psk = True
    elif kind == EARLY_DATA:
        out.early_data = True
    elif kind == ENCRYPTED_CLIENT_HELLO:
        out.ech = True
    return True


cdef int parse_client_hello(const uint8_t* p, uint32_t size, bint complete, ClientHello* out) noexcept nogil:
    """Parse the body of a ClientHello; `complete`: its last byte is p[size - 1]."""
    cdef Cursor cursor, body
    cdef Span ignored
    cdef const uint8_t* at
    cdef bint fits = True
    memset(out, 0, sizeof(ClientHello))
    cursor.p = p
    cursor.left = size
    at = take(&cursor, 2)
    if at == NULL:
        return 0
    out.version = u16(at)
    out.random = take(&cursor, RANDOM_SIZE)
    if out.random == NULL or not list_of(&cursor, 1, &out.session_id) or not list_of(&cursor, 2, &out.ciphers):
        return 0
    ignored.p = NULL
    if out.ciphers.size % 2 or not list_of(&cursor, 1, &ignored):
        return 0
    if cursor.left == 0:
        out.whole = complete
        return 0
    at = take(&cursor, 2)
    if at == NULL:
        return 0
    if complete and u16(at) != cursor.left:
        fits = False
    cursor.left = min(cursor.left, <uint32_t>u16(at))
    out.extensions.p = cursor.p
    while cursor.left:
        at = take(&cursor, 4)
        if at == NULL:
            return 0
        body.left = u16(at + 2)
        body.p = take(&cursor, body.left)
        if body.p == NULL:
            return 0
        out.extension_count += 1
        out.extensions.size = <uint32_t>(cursor.p - out.extensions.p)
        if not client_extension(u16(at), body, out):
            fits = False
    out.whole = complete and fits
    return 0


cdef bint server_extension(uint16_t kind, Cursor body, ServerHello* out) noexcept nogil:
    """Read one extension of a ServerHello. False: its content contradicts its length."""
    cdef Span names
    cdef Cursor cursor
    if kind == SUPPORTED_VERSIONS:
        if body.left != 2:
            return False
        out.version = u16(body.p)
    elif kind == KEY_SHARE:
        if body.left < 2:
            return False
        out.group = u16(body.p)
    elif kind == PRE_SHARED_KEY:
        out.psk = body.left == 2
        return out.psk
    elif kind == ENCRYPT_THEN_MAC:
        out.encrypt_then_mac = True
    elif kind == ALPN:
        names.p = NULL
        names.size = 0
        if not list_of(&body, 2, &names) or body.left:
            return False
        cursor.p = names.p
        cursor.left = names.size
        return list_of(&cursor, 1, &out.protocol) and cursor.left == 0
    return True


cdef int parse_server_hello(const uint8_t* p, uint32_t size, bint complete, ServerHello* out) noexcept nogil:
    """Parse the body of a ServerHello or HelloRetryRequest; `complete`: its last byte is p[size - 1]."""
    cdef Cursor cursor, body
    cdef const uint8_t* at
    cdef bint fits = True
    memset(out, 0, sizeof(ServerHello))
    cursor.p = p
    cursor.left = size
    at = take(&cursor, 2)
    if at == NULL:
        return 0
    out.version = u16(at)
    # Up to draft 21 of TLS 1.3 a ServerHello had neither a session id nor a compression method.
    out.random = take(&cursor, RANDOM_SIZE)
    if out.random == NULL:
        return 0
    out.retry = memcmp(out.random, RETRY, RANDOM_SIZE) == 0
    if not 0x7F00 < out.version <= 0x7F15 and not list_of(&cursor, 1, &out.session_id):
        return 0
    at = take(&cursor, 2)
    if at == NULL:
        return 0
    out.cipher = u16(at)
    if not 0x7F00 < out.version <= 0x7F15:
        at = take(&cursor, 1)
        if at == NULL:
            return 0
        out.compression = at[0]
    if cursor.left == 0:
        out.known = out.whole = complete
        return 0
    at = take(&cursor, 2)
    if at == NULL:
        return 0
    if complete and u16(at) != cursor.left:
        fits = False
    cursor.left = min(cursor.left, <uint32_t>u16(at))
    while cursor.left:
        at = take(&cursor, 4)
        if at == NULL:
            return 0
        body.left = u16(at + 2)
        body.p = take(&cursor, body.left)
        if body.p == NULL:
            return 0
        if not server_extension(u16(at), body, out):
            fits = False
    # The version may stand in the last extension of all.
    out.known = complete
    out.whole = complete and fits
    return 0
