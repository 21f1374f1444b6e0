# cython: language_level=3
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from appliance.pcap.libpcap cimport u_char
from appliance.pcap.savefile_reader cimport frame_taker


cdef struct Interface:          # of the section being read
    int link_type
    uint32_t snaplen            # maximum bytes of a frame; 0: no limit
    bint binary                 # its clock counts 2**-digits s, else 10**-digits s
    uint8_t digits
    int64_t offset_s            # to be added to its times


cdef class PcapngReader:
    cdef int descriptor         # of a plain file, or -1: `more_of` a stream
    cdef object more_of         # called with a memoryview to fill; returns the number of bytes read, 0 at the end
    cdef str source
    cdef bint swapped           # the section is in the other byte order
    cdef bint in_section
    cdef Interface* interfaces
    cdef uint32_t count         # of interfaces
    cdef uint32_t capacity
    cdef readonly uint64_t offset       # of the next block in the file
    cdef u_char* buffer
    cdef size_t size            # of the buffer
    cdef size_t here            # where the next block begins in the buffer
    cdef size_t end             # of what was read
    cdef uint64_t discarding    # bytes of a long block that still have to be skipped
    cdef readonly int link_type         # of the frame that the callback has
    cdef object on_link         # called with the new link type before its first frame
    cdef public object on_secrets       # called with the text of a TLS key log in the capture; None: it is skipped
    cdef readonly list seen     # link types of the interfaces, in the order of the file
    cdef int dispatch(self, int limit, frame_taker taker, u_char* user) except -2
    cdef bint more(self, size_t wanted) except -1
    cdef int discard(self, uint64_t size) except -1
    cdef int section(self, const u_char* block, uint32_t length) except -1
    cdef int interface(self, const u_char* block, uint32_t length) except -1
    cdef int secrets(self, const u_char* block, uint32_t length) except -1
    cdef odd(self, reason)
    cdef int packet(self, uint32_t kind, u_char* block, uint32_t length, frame_taker taker, u_char* user) except -1
    cdef uint32_t u32(self, const u_char* at) noexcept
    cdef uint32_t u16(self, const u_char* at) noexcept
