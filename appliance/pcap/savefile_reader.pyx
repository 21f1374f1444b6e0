# cython: language_level=3
"""The records of a plain pcap file, read in large pieces and passed on without a copy.

libpcap copies each record twice more, through the C library's stream and into its own buffer, which costs as much as
the rest of the capture's work. It still opens the file and parses its header, and continues from the first record that
is not plain: truncated, longer than the header allows, or unreadable. So libpcap judges odd records, and this module
reports no errors. Format: draft-ietf-opsawg-pcap, sections 4 and 5.
"""
from libc.stdint cimport int32_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove
from posix.types cimport off_t
from posix.unistd cimport pread

from appliance.native.prefetch cimport LINE, prefetch
from appliance.pcap.libpcap cimport pcap_pkthdr, u_char

cdef enum:
    FILE_HEADER = 24            # bytes
    RECORD_HEADER = 16
    PIECE = 256 << 10           # bytes read at a time: they stay in a core's cache until used
    LONGEST = 256 << 10         # maximum frame of libpcap, for most link types
    ROOM = PIECE + LONGEST + RECORD_HEADER
    MICROSECONDS = 0xa1b2c3d4   # the magic numbers of this machine's byte order
    NANOSECONDS = 0xa1b23c4d
    VERSION = 2 | 4 << 16       # as a little-endian machine reads 2.4

cdef struct record:
    uint32_t seconds
    uint32_t fraction
    uint32_t captured
    uint32_t length


cdef class SavefileReader:
    """The position of a reader. Call `begin` first; if `dispatch` returns 0, libpcap continues at `offset`."""

    def __dealloc__(self):
        free(self.buffer)

    cdef int begin(self, int descriptor, uint32_t longest) except -1:
        """Return whether this module can read the file. longest: bytes that libpcap accepts per frame (its snapshot
        length).
        """
        cdef uint32_t[6] header     # magic, version, two unused fields, snapshot length, link type
        if pread(descriptor, header, FILE_HEADER, 0) != FILE_HEADER:
            return 0
        if header[0] not in (<uint32_t>MICROSECONDS, <uint32_t>NANOSECONDS) or header[1] != <uint32_t>VERSION:
            return 0
        self.buffer = <u_char*>malloc(ROOM)
        if self.buffer == NULL:
            raise MemoryError
        self.descriptor = descriptor
        self.offset = FILE_HEADER
        self.scale = 1 if header[0] == <uint32_t>NANOSECONDS else 1000
        self.longest = min(longest, <uint32_t>LONGEST)
        return 1

    cdef int dispatch(self, int limit, frame_taker taker, u_char* user) noexcept:
        """Pass up to `limit` frames to the callback, with nanoseconds as the fraction of the time.
        Return their number.
        """
        cdef record about
        cdef pcap_pkthdr header
        cdef u_char* frame
        cdef int count = 0
        while count < limit:
            if self.end - self.here < RECORD_HEADER and not self.more(RECORD_HEADER):
                break
            memcpy(&about, self.buffer + self.here, RECORD_HEADER)
            if about.captured > self.longest:
                break
            if self.end - self.here < RECORD_HEADER + about.captured and not self.more(RECORD_HEADER + about.captured):
                break
            header.ts.tv_sec = <int32_t>about.seconds
            header.ts.tv_usec = <int32_t>about.fraction * self.scale
            header.caplen = about.captured
            header.len = about.length
            frame = self.buffer + self.here + RECORD_HEADER
            # The kernel bypasses the core's cache when it copies: prefetch the next headers.
            prefetch(frame + about.captured)
            prefetch(frame + about.captured + LINE)
            taker(user, &header, frame)
            self.here += RECORD_HEADER + about.captured
            self.offset += RECORD_HEADER + about.captured
            count += 1
        return count

    cdef bint more(self, size_t wanted) noexcept:
        """Read until `wanted` bytes of the record are present, at most LONGEST and its header. Return False if there
        are fewer.
        """
        cdef ssize_t count
        memmove(self.buffer, self.buffer + self.here, self.end - self.here)
        self.end -= self.here
        self.here = 0
        while self.end < wanted:
            count = pread(self.descriptor, self.buffer + self.end, PIECE, <off_t>(self.offset + self.end))
            if count <= 0:
                return False
            self.end += count
        return True
