# cython: language_level=3
"""Endpoints as JSON: the part of an event that is the same for every event of a connection."""
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from workers.core.flow cimport Flow
from workers.events.json_text cimport put


cdef bytes parties(Flow flow, bytes observer)
cdef uint8_t* put_parties(uint8_t* out, Flow flow, bytes protocol) noexcept


cdef inline uint8_t* put_connection(uint8_t* out, Flow flow) noexcept:
    """Open `appliance` with the id of the connection, which parties() has made."""
    out = put(out, b'"appliance":{"connection":"')
    memcpy(out, flow.connection, sizeof(flow.connection))
    return put(out + sizeof(flow.connection), b'",')
