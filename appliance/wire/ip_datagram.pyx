# cython: language_level=3
"""One datagram during its reassembly: the bytes received, and the changes by a further fragment. Layout: datagram.pxd.

Length proof of every function that reads a fragment's payload: end - start bytes of it are readable (read_fragment), and only
bytes between start and end are touched. Pieces lie within the buffer, because fill() alone makes them.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp, memcpy, memmove

from appliance.wire.flow_key cimport be16
from appliance.wire.ip_fragment cimport Fragment


cdef uint32_t first_piece(const Datagram* datagram, uint32_t start) noexcept nogil:
    """Return the number of the first piece that ends behind `start`."""
    cdef uint32_t low = 0, high = datagram.count, middle
    while low < high:
        middle = (low + high) // 2
        if datagram.pieces[middle].end > start:
            high = middle
        else:
            low = middle + 1
    return low


cdef bint differs(const Datagram* datagram, const Piece* piece, const Fragment* fragment) noexcept nogil:
    """Return whether the common bytes of a piece and a fragment differ; they have some."""
    cdef uint32_t start = max(piece.start, fragment.start), end = min(piece.end, fragment.end)
    return memcmp(datagram.buffer + piece.at + (start - piece.start), fragment.payload + (start - fragment.start),
                  end - start) != 0


cdef bint same_piece(const Datagram* datagram, const Piece* piece, const Fragment* fragment) noexcept nogil:
    """Return whether an IPv6 fragment is an exact copy of this one."""
    if piece.start != fragment.start or piece.end != fragment.end or differs(datagram, piece, fragment):
        return False
    if fragment.start == 0 and fragment.proto != datagram.proto:
        return False
    return fragment.more == (datagram.end != fragment.end)


cdef bint repeats(const Datagram* datagram, const Fragment* fragment) noexcept nogil:
    """Return whether the fragment is part of the complete datagram, byte for byte."""
    cdef uint32_t place = first_piece(datagram, fragment.start)
    if fragment.end > datagram.end or (not fragment.more and fragment.end != datagram.end):
        return False
    if fragment.start == 0 and fragment.proto != datagram.proto:
        return False
    while place < datagram.count and datagram.pieces[place].start < fragment.end:
        if differs(datagram, &datagram.pieces[place], fragment):
            return False
        place += 1
    return True


cdef bint denies_end(const Datagram* datagram, const Fragment* fragment) noexcept nogil:
    """Return whether a fragment contradicts the known end: another last fragment, or data behind the end."""
    if datagram.end and fragment.end > datagram.end:
        return True
    if fragment.more:
        return False
    if datagram.end:
        return fragment.end != datagram.end
    return datagram.count and datagram.pieces[datagram.count - 1].end > fragment.end


cdef void fill(Datagram* datagram, uint32_t place, const Fragment* fragment) noexcept nogil:
    """Copy the bytes that no piece has yet. `place` is first_piece; the caller has made room for all of them."""
    cdef uint32_t at = fragment.start, end
    cdef Piece* piece
    while at < fragment.end:
        piece = &datagram.pieces[place]
        if place < datagram.count and piece.start <= at:
            at = piece.end
        else:
            end = min(fragment.end, piece.start) if place < datagram.count else fragment.end
            memmove(piece + 1, piece, (datagram.count - place) * sizeof(Piece))
            piece.at = datagram.used
            piece.start = <uint16_t>at
            piece.end = <uint16_t>end
            memcpy(datagram.buffer + datagram.used, fragment.payload + (at - fragment.start), end - at)
            datagram.used += end - at
            datagram.covered += end - at
            datagram.count += 1
            at = end
        place += 1


cdef uint16_t checksum(const uint8_t* header, uint32_t length) noexcept nogil:
    """Return the checksum of RFC 1071 of an even number of bytes."""
    cdef uint32_t total = 0, at = 0
    while at < length:
        total += be16(header + at)
        at += 2
    total = (total & 0xFFFF) + (total >> 16)
    return <uint16_t>~(total + (total >> 16))


cdef inline void put16(uint8_t* to, uint32_t value) noexcept nogil:
    to[0] = <uint8_t>(value >> 8)
    to[1] = <uint8_t>value


cdef uint32_t write_whole(const Datagram* datagram, uint8_t* out) noexcept nogil:
    """Write the whole datagram as if unfragmented; return its length. It is complete; out has room for MAX_WHOLE."""
    cdef uint32_t head = datagram.head_length, length = head + datagram.end, place
    cdef Piece* piece
    memcpy(out, datagram.buffer + datagram.head_at, head)
    for place in range(datagram.count):
        piece = &datagram.pieces[place]
        memcpy(out + head + piece.start, datagram.buffer + piece.at, piece.end - piece.start)
    if datagram.key.family == 6:
        put16(out + 4, length - 40)
    else:
        put16(out + 2, length)
        put16(out + 6, 0)
        put16(out + 10, 0)
        put16(out + 10, checksum(out, head))
    return length
