# cython: language_level=3
"""The members of an event about a gRPC call, as JSON: rpc and appliance.grpc."""
from libc.stdint cimport uint8_t, uint64_t

from workers.events.url_json cimport Text


cdef struct CallSide:
    bint known                  # no gap hides messages
    uint64_t messages           # whole ones
    uint64_t bytes              # … of these, without prefixes


cdef uint8_t* put_rpc(uint8_t* out, Text path, bytes status) except NULL
cdef uint8_t* put_grpc(uint8_t* out, const CallSide* request, const CallSide* response, bytes message) except NULL
