# cython: language_level=3
"""Reset: a RST of one side, until it has ended the connection or was forged."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from workers.core.context cimport Context
from workers.tcp.segment cimport Segment
from workers.tcp.stream cimport Stream


cdef struct Reset:              # all zero at first
    uint64_t since              # clock when it was accepted; 0: none was
    uint8_t side                # that sent it
    uint8_t early               # the side (plus 1) whose RST overtook bytes before it
    uint8_t twice               # the other side has sent one, too
    uint8_t forged              # it has ended the connection, which went on
    uint32_t seq                # its number
    int64_t edge                # end of the other side's captured bytes when it came


cdef int take_reset(Reset* reset, const Segment* segment, int side, const Stream* mine, const Stream* peer, bint proven,
                    Context cx) noexcept
cdef int accept_reset(Reset* reset, int side, const Stream* peer, Context cx) noexcept
cdef bint undoes(Reset* reset, const Segment* segment, int side, const Stream* mine, const Stream* peer, Context cx) noexcept
