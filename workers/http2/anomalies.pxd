# cython: language_level=3
"""Anomalies of HTTP/2 transactions."""
from libc.stdint cimport uint64_t

from workers.http2.exchange cimport Exchange
from workers.http2.header_list cimport HeaderList


cdef enum:                      # bits by their places in appliance.stats.names.ANOMALIES; those that HTTP/1 has too come first
    HEAD_TOO_LONG = 1 << 8
    OVERLAP_CONFLICT = 1 << 13  # stream.pxd's marks begin here
    EARLY_RESPONSE = 1ULL << 34
    BODY_CODING_FAILED = 1ULL << 37
    BODY_CODING_UNKNOWN = 1ULL << 38
    BODY_LIMIT = 1ULL << 39
    RAPID_RESET = 1ULL << 41
    AUTHORITY_AND_HOST_DIFFER = 1ULL << 42
    FRAME_ON_STREAM_0 = 1ULL << 43
    HEADER_BLOCK_SPLIT = 1ULL << 44
    HPACK_UNKNOWN_INDEX = 1ULL << 45
    BAD_HEADER_BLOCK = 1ULL << 46
    CRLF_IN_HEADER = 1ULL << 47
    BAD_PSEUDO_HEADER = 1ULL << 48
    UPPERCASE_IN_HEADER = 1ULL << 49
    CONNECTION_HEADER = 1ULL << 50
    LENGTH_AND_DATA_DIFFER = 1ULL << 51


cdef uint64_t field_anomalies(HeaderList fields) noexcept
cdef uint64_t length_differs(Exchange exchange) noexcept
