# cython: language_level=3
"""Hold the static table of HPACK (RFC 7541 Appendix A), and find the token of a name."""
from libc.stdint cimport uint8_t
from libc.string cimport memcmp

cdef enum:
    LONGEST_NAME = 28
    NAMES_OF_A_LENGTH = 8

STATIC_TABLE = (
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
)

# Names without a place in the static table that the appliance looks at; their tokens follow the table's indices.
MORE_NAMES = (b":protocol", b"grpc-status", b"grpc-message")

cdef StaticEntry[STATIC_ENTRIES + 1] ENTRIES
cdef const uint8_t* NAMES[STATIC_ENTRIES + 4]           # by token
cdef uint8_t[LONGEST_NAME + 1][NAMES_OF_A_LENGTH] BY_LENGTH   # tokens of the names of a length, 0 behind the last

_texts = [name + value for name, value in STATIC_TABLE]     # the entries point into these


def _fill():
    """Fill ENTRIES, NAMES and BY_LENGTH."""
    tokens = {}
    for index, (name, value) in enumerate(STATIC_TABLE, 1):
        token = tokens.setdefault(name, index)
        text = _texts[index - 1]
        ENTRIES[index].text = text
        ENTRIES[index].name_length = len(name)
        ENTRIES[index].value_length = len(value)
        ENTRIES[index].token = token
        NAMES[token] = ENTRIES[token].text
    for place, name in enumerate(MORE_NAMES):
        tokens[name] = STATIC_ENTRIES + 1 + place
        NAMES[STATIC_ENTRIES + 1 + place] = name
    for name, token in tokens.items():
        place = 0
        while BY_LENGTH[len(name)][place]:
            place += 1
        assert place < NAMES_OF_A_LENGTH - 1
        BY_LENGTH[len(name)][place] = token


_fill()


cdef const StaticEntry* static_entry(size_t index) noexcept nogil:
    """Return an entry of the static table; index: from 1 to STATIC_ENTRIES."""
    return &ENTRIES[index]


cdef uint8_t token_by_name(const uint8_t* name, size_t length) noexcept nogil:
    """Return the token of a name, 0 if it has none. Case matters: HTTP/2 names are in lower case."""
    cdef const uint8_t* tokens
    if length > LONGEST_NAME or length == 0:
        return 0
    tokens = BY_LENGTH[length]
    while tokens[0]:
        if NAMES[tokens[0]][0] == name[0] and memcmp(NAMES[tokens[0]], name, length) == 0:
            return tokens[0]
        tokens += 1
    return 0
