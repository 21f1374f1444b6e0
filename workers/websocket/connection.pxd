# cython: language_level=3
"""WebSocket: a WebSocket connection, over any transport. WebSocketRecord: what is known of it at one time."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from workers.core.context cimport Context
from workers.core.flow cimport Flow
from workers.websocket.frames cimport Counts, FrameReader

cdef enum:                      # a peer: index of what is known by side
    CLIENT
    SERVER


cdef class WebSocketRecord:
    cdef WebSocket connection
    cdef Counts[2] counts       # by peer
    cdef bint[2] complete
    cdef bint[2] decoded        # the contents of all messages were decoded
    cdef int closed_by          # the peer; -1: no side has sent a Close frame, or it is not known which did so first
    cdef bint final
    cdef uint32_t number        # of the event, from 0
    cdef uint64_t end_ns
    cdef uint64_t longest_pause_ns


cdef class WebSocket:
    cdef FrameReader client
    cdef FrameReader server
    cdef Flow flow
    cdef uint32_t transaction   # of its upgrade
    cdef uint32_t events        # so far
    cdef bytes target           # of its upgrade; None: not known, or too long to keep
    cdef bytes authority
    cdef bytes scheme           # … None: not known
    cdef uint64_t start_ns      # time of the frame with the end of the response
    cdef uint64_t last_ns       # … with its last bytes
    cdef uint64_t told_ns       # … where the last event was, or the start
    cdef uint64_t longest_pause_ns
    cdef int closed_by          # the peer whose Close frame was read first; -1: none was
    cdef bint over

    cdef int take(self, int peer, const uint8_t* p, size_t size, uint64_t ts_ns, Context cx) except -1
    cdef int lose(self, int peer, int64_t count, Context cx) except -1
    cdef int lose_place(self, int peer, Context cx) except -1
    cdef int ignore(self, int peer, int64_t missing, Context cx) except -1
    cdef int close(self, Context cx) except -1
    cdef int first_to_close(self, bint final) noexcept
    cdef int emit(self, bint final, Context cx) except -1


cdef WebSocket open_websocket(Flow flow, uint32_t transaction, bytes target, bytes authority, bytes extensions,
                              uint64_t start_ns, Context cx)
