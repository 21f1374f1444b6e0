# cython: language_level=3
from libc.stdint cimport uint8_t, uint32_t


cdef enum:
    CUT = -1                    # the captured bytes end before the header does
    NO_DATA = -2                # no frame with readable data: management, control, encrypted, a fragment

# Where a header ends, as an offset in the frame, or CUT or NO_DATA.
cdef long radiotap_end(const uint8_t* frame, uint32_t caplen, bint* padded) noexcept nogil
cdef long ppi_end(const uint8_t* frame, uint32_t caplen, int* link_type) noexcept nogil
cdef long wlan_end(const uint8_t* frame, uint32_t caplen, uint32_t at, bint padded) noexcept nogil
cdef long nflog_packet(const uint8_t* frame, uint32_t caplen) noexcept nogil
