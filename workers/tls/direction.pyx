# cython: language_level=3
"""Direction: the encrypted records of one side, gathered and opened.

A record whose tag does not verify is no plaintext; it counts as lost. Behind a gap that holds the beginning of a record the
number of lost records is not known. The next record then tells it: only its own sequence number opens it. Each candidate costs a
decryption, so their number is limited.

Length proof: copies are bounded by the length that the record's header gave, and find() reads p[i] only for i < size.
"""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from workers.tls.record cimport is_record_header

from workers.tls.key_schedule import load

cdef enum:
    HEADER_SIZE = 5
    LONGEST = 16384 + 256       # of a record's body, in TLS 1.3
    NONCE_SIZE = 12
    EXPLICIT_SIZE = 8
    MOST_TRIES = 512            # sequence numbers that are tried for one record
    MOST_TRIES_EVER = 16384     # … for all records of a side

cdef object InvalidTag = None


@cython.final
@cython.no_gc
cdef class Direction:
    def __cinit__(self):
        self.lost_from = -1
        self.ack = -1

    cdef bint find(self, const uint8_t* p, size_t size) noexcept:
        """Return whether a record begins with this piece, while ADRIFT."""
        cdef size_t length
        if not self.fresh or size < HEADER_SIZE:
            return False
        self.fresh = False
        if not is_record_header(p, size):
            return False
        length = HEADER_SIZE + (p[3] << 8 | p[4])
        if length == HEADER_SIZE or (length < size and not is_record_header(p + length, size - length)):
            return False
        self.framing = AT_HEADER
        self.header_size = 0
        return True

    cdef int lose_record(self) noexcept:
        """Count the current record, whose begin and length are known, as lost."""
        if self.lost_from < 0:
            self.lost_from = self.record_at
            self.base = self.sequence
            self.counted = True
        self.sequence += 1
        return 0

    cdef int skip(self, int64_t count) except -1:
        """Pass over missing bytes. The owner handles a record that becomes complete by that."""
        if self.framing == AT_BODY and count <= self.length - self.have:
            self.torn = True
            self.body = None
            self.have += <uint32_t>count
        else:
            if self.lost_from < 0:
                self.lost_from = self.at if self.framing == ADRIFT or (
                    self.framing == AT_HEADER and self.header_size == 0) else self.record_at
                self.base = self.sequence
            self.counted = False
            self.framing = ADRIFT
            self.header_size = 0
            self.body = None
        self.at += count
        return 0

    cdef int use(self, object cipher, bytes iv, Kind kind, uint32_t overhead) except -1:
        """Open the records from now on with this cipher, from the sequence number 0 on."""
        global InvalidTag
        if InvalidTag is None:
            InvalidTag = load()[0]
        self.cipher = cipher
        self.iv = iv
        self.kind = kind
        self.overhead = overhead
        if self.lost_from < 0:              # else it counts the records that were lost ahead of the keys
            self.sequence = 0
        return 0

    cdef int forget(self) except -1:
        """Drop the keys, and overwrite the secret that is ours."""
        self.cipher = self.iv = None
        if self.secret is not None:
            self.secret[:] = bytes(len(self.secret))
            self.secret = None
        self.body = None
        self.message = None
        return 0

    cdef bytes attempt(self, object cipher, bytes iv, uint64_t sequence):
        """Return the plaintext of the current record under this sequence number; None: it does not verify."""
        cdef uint8_t[13] head
        cdef bytes nonce, covered, sealed = self.body
        cdef uint8_t* n
        cdef Py_ssize_t size = PyBytes_GET_SIZE(sealed)
        cdef int i
        if size < <Py_ssize_t>self.overhead and self.kind != BLOCKS:
            return None
        for i in range(8):
            head[i] = sequence >> (56 - 8 * i) & 0xFF
        for i in range(3):
            head[8 + i] = self.header[i]
        if self.kind == BLOCKS:
            return cipher.open(PyBytes_FromStringAndSize(<const char*>head, 11), sealed)
        nonce = PyBytes_FromStringAndSize(NULL, NONCE_SIZE)
        n = <uint8_t*>PyBytes_AS_STRING(nonce)
        if self.kind == EXPLICIT:
            for i in range(4):
                n[i] = <uint8_t>PyBytes_AS_STRING(iv)[i]
            for i in range(EXPLICIT_SIZE):
                n[4 + i] = <uint8_t>PyBytes_AS_STRING(sealed)[i]
            sealed = PyBytes_FromStringAndSize(PyBytes_AS_STRING(sealed) + EXPLICIT_SIZE, size - EXPLICIT_SIZE)
        else:
            for i in range(NONCE_SIZE):
                n[i] = <uint8_t>PyBytes_AS_STRING(iv)[i]
            for i in range(8):
                n[4 + i] ^= head[i]
        if self.modern:
            covered = PyBytes_FromStringAndSize(<const char*>self.header, HEADER_SIZE)
        else:
            size -= self.overhead
            head[11] = size >> 8 & 0xFF
            head[12] = size & 0xFF
            covered = PyBytes_FromStringAndSize(<const char*>head, 13)
        try:
            return cipher.decrypt(nonce, sealed, covered)
        except InvalidTag:
            return None

    cdef bytes open(self):
        """Return the plaintext of the complete current record; None: it does not verify.

        Behind a loss of unknown extent it finds the sequence number, and sets it.
        """
        cdef bytes plain
        cdef int64_t span, least, most, count
        if self.lost_from < 0 or self.counted:
            plain = self.attempt(self.cipher, self.iv, self.sequence)
            if plain is not None:
                self.sequence += 1
            return plain
        span = self.record_at - self.lost_from
        # Records in the clear may have been lost, too, as long as none was opened.
        least = (span + HEADER_SIZE + LONGEST - 1) // (HEADER_SIZE + LONGEST) if self.base else 0
        most = min(span // (HEADER_SIZE + self.overhead + self.modern), least + MOST_TRIES)
        for count in range(least, most + 1):
            if self.tries >= MOST_TRIES_EVER:
                return None
            self.tries += 1
            plain = self.attempt(self.cipher, self.iv, self.base + count)
            if plain is not None:
                self.sequence = self.base + count + 1
                return plain
        return None

    cdef int64_t lost_plain(self) noexcept:
        """Return how many bytes of plaintext were lost before the record that has just opened; -1: not known.

        All lost records count as application data.
        """
        cdef int64_t records = <int64_t>(self.sequence - 1 - self.base)
        cdef int64_t span = self.record_at - self.lost_from
        if records <= (not self.modern and self.base == 0):
            return 0                            # none, or the Finished of TLS 1.2
        if self.padded or self.kind == BLOCKS or (not self.modern and self.base == 0):
            return -1
        span -= records * (HEADER_SIZE + self.overhead + self.modern)
        return span if span >= 0 else -1
