# cython: language_level=3
"""Direction: the encrypted records of one side of a TLS connection, and their opening."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef enum Phase:                # of TLS 1.3: which secret protects the records
    HANDSHAKE_PHASE
    EARLY_PHASE
    TRAFFIC_PHASE


cdef enum Framing:
    AT_HEADER
    AT_BODY
    ADRIFT                      # behind a gap: where a record begins is not known


cdef enum Kind:                 # of a cipher: how it makes its nonce
    MIXED                       # TLS 1.3, and ChaCha20 in 1.2: the IV with the sequence number
    EXPLICIT                    # GCM and CCM in 1.2: part of it is in the record
    BLOCKS                      # CBC


cdef class Direction:
    cdef Framing framing
    cdef uint8_t[5] header
    cdef uint32_t header_size
    cdef uint32_t length        # of the record's body
    cdef uint64_t got           # bytes of the current record that were captured, its header too
    cdef uint32_t have          # … so far, missing bytes too
    cdef bytes body             # gathered here; None: nothing to gather
    cdef bint hidden            # the record is encrypted
    cdef bint torn              # bytes of it are missing
    cdef bint fresh             # find() has not seen the current piece yet
    cdef int64_t at             # offset in the stream behind what was read
    cdef int64_t record_at      # … of the current record
    cdef int64_t ack            # … acknowledgement in the frame of its first byte
    cdef bint changed           # up to 1.2: its ChangeCipherSpec came
    # what opens records
    cdef bint modern            # TLS 1.3
    cdef object cipher          # None: no keys yet
    cdef bytes iv
    cdef Kind kind
    cdef uint32_t overhead      # bytes that a record has more than its plaintext, beside its header
    cdef uint64_t sequence      # number of the next record
    cdef Phase phase
    cdef bytearray secret       # of TLS 1.3, for the next KeyUpdate
    # what was lost since the last record that opened
    cdef int64_t lost_from      # offset of the first record that was lost; -1: none
    cdef uint64_t base          # … its sequence number
    cdef bint counted           # how many records were lost is known
    cdef uint32_t failed        # complete records in a row that did not open
    cdef bint padded            # a record of 1.3 had padding: the length of a lost one says nothing
    cdef bint astray            # … and so was the extent of a loss: nothing more can be read
    cdef bint broken            # handshake messages of 1.3 were lost
    cdef bytearray message      # an unfinished handshake message of 1.3
    cdef uint32_t tries

    cdef bint find(self, const uint8_t* p, size_t size) noexcept
    cdef int lose_record(self) noexcept
    cdef int skip(self, int64_t count) except -1
    cdef int use(self, object cipher, bytes iv, Kind kind, uint32_t overhead) except -1
    cdef int forget(self) except -1
    cdef bytes attempt(self, object cipher, bytes iv, uint64_t sequence)
    cdef bytes open(self)
    cdef int64_t lost_plain(self) noexcept
