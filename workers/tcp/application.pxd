# cython: language_level=3
"""Application reads the bytes of a connection. Transport is its view of the connection below it."""
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from appliance.wire.flow_key cimport FlowKey
from workers.core.context cimport Context
from workers.core.flow cimport Flow
from workers.tcp.stream cimport Piece, Stream

cdef enum:                      # a side of a connection: index of its stream
    LOW = 0                     # from the lower endpoint of the key
    HIGH = 1


cdef enum Begun:                # bits
    BEGUN_HIGH = 1 << 0         # the higher endpoint sent it
    BEGUN_BY_SYN = 1 << 1       # it is a SYN without ACK


cdef class Transport


cdef class Application:
    cdef PyObject* transport    # the Transport that owns it; borrowed
    cdef Stream* streams        # … its two directions, and its acknowledgement offsets below; read-only
    cdef int64_t* heard
    cdef int64_t* turn

    cdef int prefetch(self, int step) noexcept
    cdef int on_open(self, int side, Context cx) except -1
    cdef int on_data(self, int side, const Piece* piece, Context cx) except -1
    cdef int recall(self, int side, const Piece* piece, Context cx) except -1
    cdef int on_gap(self, int side, int64_t count, Context cx) except -1
    cdef int on_conflict(self, int side, int64_t start, int64_t stop, int marks, Context cx) except -1
    cdef int on_end(self, int side, bint by_fin, Context cx) except -1
    cdef int on_time(self, Context cx) except -1
    cdef int on_close(self, Context cx) except -1
    cdef bint waits(self) noexcept
    cdef bint awaits_end(self, int side) noexcept


cdef class Applications:
    cdef bint at_once           # the first application comes with the connection, not with its first bytes

    cdef Application first(self)
    cdef int closed(self, Transport transport, Context cx) except -1


cdef class Transport:
    cdef FlowKey key
    cdef Applications applications      # their first() makes the application
    cdef Application application        # receives its bytes; None: no byte or gap has come yet
    cdef uint64_t begun_ns      # the lowest time stamp of its frames before its application
    cdef uint32_t turns         # of the capture's time stamps before its first frame
    cdef uint32_t again         # connections on these ports since then that had begun at the same time as those before them
    cdef uint16_t capture       # the interface of its first frame
    cdef uint8_t shed           # share of the new flows that the capture shed when this one began, in 256ths
    cdef uint8_t opener         # the side (plus 1) that sent a captured SYN without ACK
    cdef uint8_t unsettled      # the application may have a timeout: its waits() returns whether it has
    cdef uint8_t spoken         # its protocol so far: see counts.pxd
    cdef uint8_t begun          # of the frame that begun_ns is of: Begun
    cdef uint8_t depth          # CONNECT tunnels around its present application
    cdef object late            # Beginning: first bytes of what may be another protocol; None: there are none
    cdef Flow flow              # of its latest events; None: it has none
    cdef int64_t[2] heard       # by side: offset in the other stream that its last bytes acknowledged; -1 unknown
    cdef int64_t[2] turn        # … and of its first byte with that acknowledgement
    cdef Stream[2] streams

    cdef int become(self, Application application) except -1
    cdef Flow flow_of(self, bint client_low)
    cdef Flow flow_anew(self, bint client_low)
    cdef bint is_tcp(self) noexcept
    cdef bint joined(self, int side) noexcept
    cdef int pass_data(self, int side, const Piece* piece, Context cx) except -1
    cdef int pass_gap(self, int side, int64_t count, Context cx) except -1
    cdef int pass_end(self, int side, bint by_fin, Context cx) except -1
