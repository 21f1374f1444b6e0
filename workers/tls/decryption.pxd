# cython: language_level=3
"""Decryption: the records of a TLS connection, opened with the secrets of a key log."""
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from workers.core.context cimport Context
from workers.tcp.application cimport Transport
from workers.tcp.stream cimport Piece
from workers.tls.context cimport TlsContext
from workers.tls.direction cimport Direction
from workers.tls.handshake cimport Handshake
from workers.tls.inner_transport cimport InnerTransport
from workers.tls.session cimport Session


cdef enum Outcome:              # of a connection, as appliance.tls.decrypted has it
    UNDECIDED
    NO_KEY
    KEY
    UNSUPPORTED


cdef enum:                      # fates of a byte: places in stats.TLS_BYTES
    CLEAR_BYTES
    OPENED_BYTES
    NO_KEY_BYTES
    UNSUPPORTED_BYTES
    UNVERIFIED_BYTES
    INCOMPLETE_BYTES
    ABANDONED_BYTES


cdef class Decryption:
    cdef Context context
    cdef TlsContext cx
    cdef PyObject* transport    # borrowed
    cdef object owner           # the application, which the KeyStore tells of new secrets
    cdef Handshake handshake
    cdef Session session
    cdef Direction low
    cdef Direction high
    cdef InnerTransport inner   # None: no application data yet
    cdef list held              # [(side, bytes or None, ts_ns, ack, count of missing bytes)] until keys come; None: nothing
    cdef uint64_t held_bytes    # … as the limits count them
    cdef uint64_t held_since    # clock of the data path
    cdef Outcome outcome
    cdef int later              # Fate, of bytes that come when it is over
    cdef bint over

    cdef Direction direction(self, int side)
    cdef bint settled(self) noexcept
    cdef int data(self, int side, const Piece* piece) except -1
    cdef int gap(self, int side, int64_t count) except -1
    cdef int end(self, int side) except -1
    cdef int end_side(self, int side) except -1
    cdef int look_again(self) except -1
    cdef int close(self) except -1
    cdef bint lacks_keys(self) noexcept
    cdef int on_time(self) except -1
    cdef bint waits(self) noexcept
    cdef bint awaits_end(self, int side) noexcept
    cdef int hold(self, int side, const uint8_t* p, uint32_t size, uint64_t ts_ns, int64_t ack, int64_t missing) except -1
    cdef int drain(self) except -1
    cdef uint32_t run(self, int side, const uint8_t* p, uint32_t size, uint64_t ts_ns, int64_t ack) except? 4294967295
    cdef int pass_gap(self, int side, int64_t count) except -1
    cdef bint hides(self, int side, Direction one) noexcept
    cdef bint has_keys(self, int side) except -1
    cdef int record(self, int side, Direction one, uint64_t ts_ns) except -1
    cdef bytes open(self, int side, Direction one)
    cdef int opened(self, int side, Direction one, bytes plain, uint64_t ts_ns) except -1
    cdef int deliver(self, int side, Direction one, bytes plain, Py_ssize_t size, uint64_t ts_ns) except -1
    cdef int enter_traffic(self, int side, Direction one) except -1
    cdef int messages(self, int side, Direction one, bytes plain, Py_ssize_t size, uint64_t ts_ns) except -1
    cdef int message(self, int side, Direction one, int kind, bytes body, uint64_t ts_ns) except -1
    cdef int give_up(self, Outcome outcome, int fate) except -1
    cdef int let_go(self) except -1
