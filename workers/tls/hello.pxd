# cython: language_level=3
"""The parts of a ClientHello and of a ServerHello. All pointers point into the parsed message."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t


cdef struct Span:
    const uint8_t* p            # NULL: not there
    uint32_t size


cdef struct ClientHello:
    uint16_t version            # legacy_version
    const uint8_t* random       # 32 bytes
    Span session_id
    Span ciphers                # 2 bytes each
    Span extensions             # all of them, as they stand
    uint32_t extension_count
    Span server_name            # first host_name
    Span protocols              # ALPN: a length byte and a name each
    Span groups                 # 2 bytes each
    Span formats                # 1 byte each
    Span signatures             # 2 bytes each
    Span versions               # 2 bytes each
    bint has_server_name        # the extension is there, whatever it contains
    bint ticket                 # a session ticket that is not empty
    bint psk
    bint early_data
    bint ech
    bint whole                  # all bytes are there, and every length fits


cdef struct ServerHello:
    uint16_t version            # that was chosen
    const uint8_t* random       # 32 bytes
    Span session_id
    uint16_t cipher
    uint16_t group              # of the key share; 0: none
    Span protocol               # ALPN: the name that was chosen
    bint psk
    bint retry                  # HelloRetryRequest
    bint encrypt_then_mac       # RFC 7366
    uint8_t compression
    bint known                  # version and cipher are there
    bint whole


cdef int parse_client_hello(const uint8_t* p, uint32_t size, bint complete, ClientHello* out) noexcept nogil
cdef int parse_server_hello(const uint8_t* p, uint32_t size, bint complete, ServerHello* out) noexcept nogil
cdef bint is_grease(uint32_t value) noexcept nogil


cdef inline uint16_t u16(const uint8_t* p) noexcept nogil:
    return p[0] << 8 | p[1]
