# cython: language_level=3
"""The Huffman code of HPACK strings (RFC 7541 section 5.2 and Appendix B)."""
from libc.stdint cimport uint8_t


cdef Py_ssize_t decode_huffman(const uint8_t* p, size_t size, uint8_t* out) noexcept nogil


cdef inline size_t decoded_bound(size_t size) noexcept nogil:
    """Return the largest number of bytes that decode_huffman() writes: the shortest code has 5 bits."""
    return size * 8 // 5 + 1
