# cython: language_level=3
"""The search for the TCP segment, or the QUIC datagram, in a frame."""
from libc.stdint cimport uint8_t, uint32_t

from appliance.wire.location cimport Location, Settings, Verdict


cdef Verdict locate(const Settings* settings, const uint8_t* frame, uint32_t caplen, uint32_t wirelen,
                    Location* out) noexcept nogil
cdef Verdict locate_datagram(const Settings* settings, const uint8_t* datagram, uint32_t length, int tunnels,
                             Location* out) noexcept nogil
