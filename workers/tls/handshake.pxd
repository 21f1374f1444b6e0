# cython: language_level=3
"""Handshake: the facts of one connection's TLS handshake."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from workers.tls.context cimport TlsContext
from workers.tls.hello cimport Span
from workers.tls.message cimport HandshakeMessages, Source
from workers.tls.record cimport RecordReader


cdef enum Verdict:              # answers of feed() and lose()
    GOING_ON                    # the handshake is not over
    KNOWN                       # it is over, and facts() are final; answered once
    OVER                        # it was over before
    OTHER                       # this direction is no TLS


cdef enum Truth:                # what is known of a yes-or-no question
    UNKNOWN
    NO
    YES


cdef struct Hello:              # how much of one was seen
    bint seen
    bint whole
    uint32_t missing


cdef class Handshake:
    cdef TlsContext cx
    cdef readonly int client    # side that sent the ClientHello; -1: not known yet
    cdef bint over
    cdef char transport         # "t" or "q", as JA4 has it
    cdef RecordReader low       # of each side; None with QUIC
    cdef RecordReader high
    cdef uint64_t[2] passed     # bytes of each side, missing ones too
    cdef Hello[2] hellos        # of client, of server
    cdef uint16_t offered       # legacy_version of the ClientHello
    cdef uint16_t version       # of the ServerHello; 0: none was read
    cdef uint16_t cipher
    cdef uint16_t group
    cdef bint has_cipher
    cdef bint retry             # a HelloRetryRequest was read
    cdef bint final_hello       # a ServerHello that is none was read
    cdef bint[2] gapped         # by side: bytes are missing
    cdef bint ech
    cdef bint ticket            # the client offered one
    cdef bint early_data        # the client sends some
    cdef uint8_t resumed        # Truth
    cdef uint8_t established    # Truth
    cdef bint encrypt_then_mac
    cdef uint8_t compression    # method that the server chose
    cdef uint8_t decrypted      # the outcome of its encrypted data: Outcome of decryption.pxd
    cdef bint[2] changed        # by side: its ChangeCipherSpec was seen
    cdef bint[2] finished       # by side: an encrypted message came behind it
    cdef bint went_on           # a side sent application data before any ServerHello was seen
    cdef bint answered          # 1.3: the client sent an encrypted record after the ServerHello
    cdef uint8_t alert_level
    cdef uint8_t alert          # description
    cdef int alert_side         # -1: there was none
    cdef uint64_t hello_ns      # time stamp of the ClientHello's first byte
    cdef uint64_t established_ns
    cdef uint8_t session_size
    cdef uint8_t[32] session    # session id of the ClientHello
    cdef uint8_t[32] client_random
    cdef uint8_t[32] server_random
    cdef bytes server_name
    cdef list protocols         # ALPN offered: [bytes]
    cdef list versions          # offered: [number]
    cdef bytes protocol         # ALPN chosen
    cdef str ja4
    cdef str ja3
    cdef object certificate     # ServerCertificate

    cdef RecordReader reader(self, int side)
    cdef int reader_ciphered(self, int side, bint ciphered) except -1
    cdef Verdict data(self, int side, const uint8_t* p, uint32_t size, uint64_t ts_ns) except *
    cdef Verdict skip(self, int side, uint64_t count, uint64_t ts_ns) except *
    cdef int let_go(self) except -1
    cdef int note_missing(self, HandshakeMessages messages) noexcept
    cdef int message(self, int side, HandshakeMessages messages, uint64_t ts_ns) except -1
    cdef int client_hello(self, int side, HandshakeMessages messages) except -1
    cdef int server_hello(self, int side, HandshakeMessages messages) except -1
    cdef int leaf(self, HandshakeMessages messages, uint64_t ts_ns) except -1
    cdef int key_exchange(self, HandshakeMessages messages) except -1
    cdef int change_cipher(self, int side) except -1
    cdef int encrypted(self, int side, RecordReader reader, uint64_t ts_ns) except -1
    cdef int alerted(self, int side, RecordReader reader) except -1
    cdef int fatal(self, int side, uint8_t description) except -1
    cdef bint has_both(self) noexcept
    cdef bint any_hello(self) noexcept
    cdef int establish(self, uint64_t ts_ns) except -1
    cdef int finish_now(self) except -1
