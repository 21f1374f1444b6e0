# cython: language_level=3
from libc.stdint cimport int64_t, uint32_t, uint64_t

from appliance.pcap.libpcap cimport pcap_pkthdr, u_char

ctypedef void (*frame_taker)(u_char* user, const pcap_pkthdr* header, const u_char* data) noexcept


cdef class SavefileReader:
    cdef int descriptor         # the caller's
    cdef uint64_t offset        # of the next record in the file
    cdef u_char* buffer
    cdef size_t here            # offset of that record in the buffer
    cdef size_t end             # end of the bytes read
    cdef uint32_t longest       # maximum bytes of a frame read here
    cdef int64_t scale          # ns per unit of the time stamp's fraction
    cdef int begin(self, int descriptor, uint32_t longest) except -1
    cdef int dispatch(self, int limit, frame_taker taker, u_char* user) noexcept
    cdef bint more(self, size_t wanted) noexcept
