# cython: language_level=3
"""Decode HPACK strings four bits at a time.

The code is canonical: codes of one length follow each other in the order of their symbols, so the 257 lengths of RFC 7541
Appendix B determine it. The code tree has 256 inner nodes, which are the states of the decoder. No code is shorter than five
bits, so four bits complete at most one symbol: a step of the decoder is one look-up in a table of 256 states by 16 nibbles.
"""
from libc.stdint cimport uint8_t
from libc.string cimport memset

cdef enum:
    SYMBOLS = 257               # 256 bytes and EOS
    EOS = 256
    STATES = 256

cdef enum:                      # Transition.flags
    EMITS = 1 << 0              # the nibble completes a symbol
    FAILS = 1 << 1              # it completes EOS, which RFC 7541 section 5.2 forbids


cdef struct Transition:
    uint8_t next
    uint8_t symbol
    uint8_t flags


cdef Transition[STATES][16] TRANSITIONS
cdef uint8_t[STATES] ACCEPTED   # the bits since the last symbol are a valid padding: at most seven, all ones


LENGTHS = (                     # bits of each symbol's code, RFC 7541 Appendix B
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
)  # fmt: skip


def canonical_codes():
    """Return [code] of all symbols, EOS last, as RFC 7541 Appendix B lists them."""
    codes = [0] * SYMBOLS
    code = length = 0
    for symbol in sorted(range(SYMBOLS), key=lambda each: (LENGTHS[each], each)):
        code <<= LENGTHS[symbol] - length
        length = LENGTHS[symbol]
        codes[symbol] = code
        code += 1
    return codes


cdef int _fill() except -1:
    """Fill TRANSITIONS and ACCEPTED."""
    # The inner nodes: [child for bit 0, child for bit 1]; a child is a node's number, 0 so far none, or -1 - symbol. Root: 0.
    cdef int[STATES][2] nodes
    cdef int count = 1, node, symbol, place, bit, state, nibble
    cdef unsigned int code
    memset(nodes, 0, sizeof(nodes))
    for symbol, code in enumerate(canonical_codes()):
        node = 0
        for place in range(LENGTHS[symbol] - 1, 0, -1):
            bit = code >> place & 1
            if not nodes[node][bit]:
                assert count < STATES
                nodes[node][bit] = count
                count += 1
            node = nodes[node][bit]
        nodes[node][code & 1] = -1 - symbol
    for state in range(STATES):
        for nibble in range(16):
            node, symbol = state, -1
            for place in range(3, -1, -1):
                node = nodes[node][nibble >> place & 1]
                if node < 0:
                    symbol, node = -1 - node, 0
            TRANSITIONS[state][nibble].next = node
            TRANSITIONS[state][nibble].symbol = 0 if symbol < 0 or symbol == EOS else symbol
            TRANSITIONS[state][nibble].flags = 0 if symbol < 0 else FAILS if symbol == EOS else EMITS
    node = 0
    for _ in range(8):
        ACCEPTED[node] = True
        node = nodes[node][1]
    return 0


_fill()


cdef Py_ssize_t decode_huffman(const uint8_t* p, size_t size, uint8_t* out) noexcept nogil:
    """Decode size bytes at p to out, which has decoded_bound(size) bytes. Return how many it wrote; -1: the code is broken."""
    cdef const uint8_t* end = p + size
    cdef uint8_t* start = out
    cdef uint8_t state = 0, bad = 0
    cdef const Transition* step
    while p < end:
        step = &TRANSITIONS[state][p[0] >> 4]
        out[0] = step.symbol
        out += step.flags & EMITS
        bad |= step.flags
        step = &TRANSITIONS[step.next][p[0] & 15]
        out[0] = step.symbol
        out += step.flags & EMITS
        bad |= step.flags
        state = step.next
        p += 1
    if bad & FAILS or not ACCEPTED[state]:
        return -1
    return out - start


def decode(bytes data not None):
    """Return the decoded string; raise ValueError if its code is broken."""
    cdef bytearray out = bytearray(decoded_bound(len(data)) + 1)
    cdef Py_ssize_t size = decode_huffman(<const uint8_t*>data, len(data), <uint8_t*>out)
    if size < 0:
        raise ValueError("not a Huffman code of RFC 7541")
    return bytes(out[:size])
