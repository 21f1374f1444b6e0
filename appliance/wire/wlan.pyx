# cython: language_level=3
"""Link-layer headers with a length of their own: radiotap, PPI, 802.11 data frames, and the messages of NFLOG.

Each function gets a frame of caplen readable bytes, proves `n <= caplen` before it reads byte n - 1, and returns where the
header ends, which may lie behind caplen: the next reader proves that. Sources: radiotap.org, the PPI specification 1.0.10,
IEEE 802.11-2020 section 9.2 and 9.3.2, RFC 1042, tcpdump.org/linktypes (LINKTYPE_NFLOG).
"""
from libc.stdint cimport uint8_t, uint32_t

cdef enum:
    MOST_WORDS = 16             # of radiotap's bits of presence
    MOST_TLVS = 64              # of an NFLOG message
    NFULA_PAYLOAD = 9


cdef inline uint32_t le16(const uint8_t* p) noexcept nogil:
    return p[0] | <uint32_t>p[1] << 8


cdef long radiotap_end(const uint8_t* frame, uint32_t caplen, bint* padded) noexcept nogil:
    """Return the end of a radiotap header.

    padded: whether the card aligned the payload of the 802.11 header to a multiple of 4.
    """
    cdef uint32_t length, at
    cdef int words = 1
    padded[0] = False
    if caplen < 8:
        return CUT
    length = le16(frame + 2)
    if frame[0] != 0 or length < 8:
        return NO_DATA
    if length > caplen:
        return CUT
    at = 8
    while frame[at - 1] & 0x80:                 # one more word of presence
        if words == MOST_WORDS or at + 4 > length:
            return NO_DATA
        words += 1
        at += 4
    if frame[4] & 0x01:                         # the time of arrival, aligned to 8
        at = ((at + 7) & ~<uint32_t>7) + 8
    if frame[4] & 0x02 and at < length:
        padded[0] = frame[at] & 0x20 != 0
    return length


cdef long ppi_end(const uint8_t* frame, uint32_t caplen, int* link_type) noexcept nogil:
    """Return the end of a PPI header. link_type: of the payload, a DLT_ value."""
    cdef uint32_t length
    if caplen < 8:
        return CUT
    length = le16(frame + 2)
    link_type[0] = <int>(le16(frame + 4) | le16(frame + 6) << 16)
    return length if frame[0] == 0 and length >= 8 else NO_DATA


cdef long wlan_end(const uint8_t* frame, uint32_t caplen, uint32_t at, bint padded) noexcept nogil:
    """Return the offset of the LLC header of an 802.11 frame at `at`; of several MSDUs, that of the first."""
    cdef uint32_t control, size
    cdef bint aggregate = False
    if at > caplen or caplen - at < 24:
        return CUT
    control = le16(frame + at)
    if control & 0x0003 or control >> 2 & 3 != 2 or control & 0x0040:   # version 0; data; with data
        return NO_DATA
    if control & 0x4000 or control & 0x0400 or frame[at + 22] & 0x0F:   # encrypted; a fragment
        return NO_DATA
    size = 30 if control & 0x0300 == 0x0300 else 24
    if control & 0x0080:                        # quality of service
        if caplen - at < size + 2:
            return CUT
        aggregate = frame[at + size] & 0x80 != 0
        size += 2
        if control & 0x8000:                    # HT control
            size += 4
    if padded:
        size = (size + 3) & ~<uint32_t>3
    return at + size + (14 if aggregate else 0)


cdef long nflog_packet(const uint8_t* frame, uint32_t caplen) noexcept nogil:
    """Return the offset of the packet in an NFLOG message.

    Lengths and types are in the byte order of the capturing host; types are small numbers.
    """
    cdef uint32_t at = 4
    cdef uint32_t size, kind
    cdef int count = 0
    if caplen < 4:
        return CUT
    if frame[1] != 0:                           # version
        return NO_DATA
    while count < MOST_TLVS:
        count += 1
        if at > caplen or caplen - at < 4:
            return CUT
        if frame[at + 3] == 0:
            size, kind = le16(frame + at), frame[at + 2]
        else:
            size, kind = <uint32_t>frame[at] << 8 | frame[at + 1], frame[at + 3]
        if size < 4:
            return NO_DATA
        if kind & 0x7F == NFULA_PAYLOAD:
            return at + 4
        at += (size + 3) & ~<uint32_t>3
    return NO_DATA
