# cython: language_level=3
"""Http2Driver: an Http2Connection to be driven from Python, by tests and fuzzing."""
cimport cython
from libc.stdint cimport uint8_t, uint64_t

from workers.core.counts cimport BLOCKS, BLOCK_FAULTS, CUT_BLOCKS, RESETS, STRAY_FRAMES, STREAMS_GIVEN_UP
from workers.http2.connection cimport Http2Connection
from workers.http2.exchange cimport SERVER
from workers.http2.frames cimport FrameReader

from appliance.stats.names import HTTP2_CERTAINTIES, HTTP2_SIDES


@cython.final
cdef class Http2Driver:
    """One connection, with the arguments of Http2Connection."""

    cdef Http2Connection connection

    def __init__(self, *words, **named):
        self.connection = Http2Connection(*words, **named)

    def data(self, int side, bytes data not None, uint64_t ts_ns=1):
        """Take in-order bytes of a side: 0 the client's, 1 the server's."""
        self.connection.on_data(side, <const uint8_t*>data, len(data), ts_ns)

    def gap(self, int side, uint64_t count, uint64_t ts_ns=1):
        """Note a gap in the bytes of a side; count: its length."""
        self.connection.on_gap(side, count, ts_ns)

    def close(self, int side, uint64_t ts_ns=1):
        """Note the end of a side."""
        self.connection.on_close(side, ts_ns)

    def upgrade(self):
        """Open stream 1, whose request was HTTP/1.1."""
        self.connection.upgraded(None, 0, 0)

    def end(self):
        """Note the end of the connection."""
        self.connection.done()

    def take(self):
        """Return the exchanges that have ended since the last call."""
        cdef list out = self.connection.out
        self.connection.out = []
        return out

    def counts(self):
        """Return what was counted, by name."""
        cdef Http2Connection one = self.connection
        cdef FrameReader reader
        cdef int side
        made = {
            "opened": one.opened, "open": len(one.streams), "evicted": one.totals[STREAMS_GIVEN_UP],
            "reset": one.totals[RESETS] + one.totals[RESETS + SERVER], "strays": one.totals[STRAY_FRAMES],
            "faults": one.totals[BLOCK_FAULTS], "cut_blocks": one.totals[CUT_BLOCKS], "held_bytes": one.held,
            "memory": one.held + one.client_reader.allocated() + one.server_reader.allocated()
            + one.client_decoder.allocated() + one.server_decoder.allocated(), "goaway": one.goaway,
        }
        for place, name in enumerate(HTTP2_CERTAINTIES):
            made[f"blocks.{name}"] = one.totals[BLOCKS + place]
        for side in range(2):
            reader = one.reader(side)
            name = HTTP2_SIDES[side]
            made[f"{name}.frames"] = sum(reader.frames)
            made[f"{name}.violations"] = reader.violations
            made[f"{name}.searches"] = reader.searches
            made[f"{name}.skipped_bytes"] = reader.skipped_bytes
        return made
