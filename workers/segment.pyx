# cython: language_level=3
"""A frame and its Record to a Segment. About 5 ns; no allocation."""
from libc.stdint cimport uint8_t, uint32_t

from appliance.batch cimport Record
from appliance.flow cimport be32


cdef bint read_segment(const uint8_t* frame, const Record* record, Segment* out) noexcept nogil:
    """False if the header's own length makes no sense.

    Length proof: BatchReader.next() holds tcp + 20 <= caplen; the payload is cut to [tcp + header, caplen).
    """
    cdef const uint8_t* tcp = frame + record.tcp
    cdef uint32_t header = (tcp[12] >> 4) * 4
    cdef uint32_t captured = record.caplen - record.tcp
    if header < 20 or header > record.tcp_length:
        return False
    out.seq = be32(tcp + 4)
    out.ack = be32(tcp + 8)
    out.flags = tcp[13]
    out.ts_ns = record.ts_ns
    out.length = record.tcp_length - header
    out.captured = min(captured - header, out.length) if captured > header else 0
    out.payload = tcp + header if out.captured else tcp
    return True
