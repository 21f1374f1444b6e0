# cython: language_level=3
"""Session: from the secrets of a key log to the keys of both directions, as the handshake goes on.

TLS 1.3 has a secret for each direction and phase: early data, handshake, application data. Up to TLS 1.2 one master secret gives
all keys.
"""
cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize

from workers.tls.direction cimport BLOCKS, EARLY_PHASE, EXPLICIT, HANDSHAKE_PHASE, MIXED, TRAFFIC_PHASE, Direction, Phase
from workers.tls.handshake cimport Handshake

from appliance.keylog.secrets import (
    CLIENT_EARLY, CLIENT_HANDSHAKE, CLIENT_TRAFFIC, MASTER, SERVER_HANDSHAKE, SERVER_TRAFFIC,
)
from workers.tls.key_schedule import (
    BlockCipher, Unsupported, is_secret_of, next_secret, session_keys, suite_of, tag_bytes, traffic_keys,
)

cdef enum:
    HEADER_SIZE = 5
    TLS_1_3 = 0x0304
    EXPLICIT_SIZE = 8
    SALT_SIZE = 4
    KEY_UPDATE_BODY = 6         # bytes of it in a record, with its content type
    MOST_NEXT = 32              # sequence numbers that are tried with the keys of the next phase

cdef int _EARLY = CLIENT_EARLY, _MASTER = MASTER
cdef int[2] _OF_HANDSHAKE = [CLIENT_HANDSHAKE, SERVER_HANDSHAKE]
cdef int[2] _OF_TRAFFIC = [CLIENT_TRAFFIC, SERVER_TRAFFIC]


@cython.final
cdef class Session:
    def __init__(self, Handshake handshake not None):
        self.handshake = handshake
        self.store = handshake.cx.keys

    cdef Supply supply(self, int side, Direction low, Direction high, object owner) except *:
        """Give the direction of a side its present keys; up to TLS 1.2 both get theirs. Raises Unsupported.

        owner: the KeyStore tells it of secrets that come later.
        """
        cdef Handshake handshake = self.handshake
        cdef Direction one = low if side == 0 else high, other = high if side == 0 else low
        cdef bint of_server = side != handshake.client
        if handshake.client < 0 or not handshake.hellos[0].seen or not handshake.final_hello:
            return MISSING
        self.has_hellos = True
        if self.random is None:
            self.random = PyBytes_FromStringAndSize(<const char*>handshake.client_random, 32)
            self.modern = low.modern = high.modern = handshake.version == TLS_1_3
            self.store.wait(self.random, owner)
        if self.secrets is None:
            self.secrets = self.store.find(self.random)
            if self.secrets is None:
                return MISSING
            self.secrets.users += 1
        if not self.modern:
            return self.old_keys(low, high)
        suite = suite_of(handshake.cipher)
        if not of_server and handshake.early_data and not handshake.retry and one.phase == HANDSHAKE_PHASE \
                and not self.answered:
            self.awaits_answer = True
            if other.phase != TRAFFIC_PHASE and not other.broken:
                return MISSING
            self.answered = True                # the answer was lost: early data are not read
            self.awaits_answer = False
        if self.early and not of_server and one.phase == HANDSHAKE_PHASE:
            self.early = False
            one.phase = EARLY_PHASE
        if one.phase == EARLY_PHASE:
            secret = self.secrets.known[_EARLY]
        else:
            secret = self.secrets.known[_OF_TRAFFIC[of_server] if one.phase == TRAFFIC_PHASE else _OF_HANDSHAKE[of_server]]
        if secret is None:
            return MISSING
        if not is_secret_of(secret, suite):
            return WRONG
        cipher, iv = traffic_keys(suite, bytes(secret))
        one.use(cipher, iv, MIXED, tag_bytes(suite))
        if one.phase == TRAFFIC_PHASE:
            one.secret = bytearray(secret)
        return READY

    cdef Supply old_keys(self, Direction low, Direction high) except *:
        """Give both directions the keys of the master secret. Raises Unsupported."""
        cdef Handshake handshake = self.handshake
        cdef Direction one
        cdef int place
        master = self.secrets.known[_MASTER]
        if master is None:
            return MISSING
        if handshake.compression:
            raise Unsupported("compression")
        pair = session_keys(handshake.version, handshake.cipher, bytes(master), self.random,
                            PyBytes_FromStringAndSize(<const char*>handshake.server_random, 32), handshake.encrypt_then_mac)
        for place in range(2):
            one = low if (handshake.client == 0) == (place == 0) else high
            cipher, iv = pair[place]
            if isinstance(cipher, BlockCipher):
                one.use(cipher, iv, BLOCKS, 0)
            elif len(iv) == SALT_SIZE:
                one.use(cipher, iv, EXPLICIT, EXPLICIT_SIZE + <int>tag_bytes(suite_of(handshake.cipher)))
            else:
                one.use(cipher, iv, MIXED, tag_bytes(suite_of(handshake.cipher)))
        return READY

    cdef bytes open_otherwise(self, int side, Direction one):
        """Return the plaintext of a record of TLS 1.3 under the keys behind the present ones; None: they do not open it, either.

        The message that changes the keys was lost then. Sets Direction.astray if the extent of the loss is not known.
        """
        cdef bytes plain, iv
        cdef bint of_server = side != self.handshake.client
        cdef int sequence
        cdef Phase phase = HANDSHAKE_PHASE if one.phase == EARLY_PHASE else TRAFFIC_PHASE
        if self.secrets is None:
            return None
        suite = suite_of(self.handshake.cipher)
        if one.phase == TRAFFIC_PHASE:
            secret = next_secret(bytes(one.secret), suite.digest)
        else:
            secret = self.secrets.known[_OF_TRAFFIC[of_server] if phase == TRAFFIC_PHASE else _OF_HANDSHAKE[of_server]]
        if secret is None or not is_secret_of(secret, suite):
            return None
        cipher, iv = traffic_keys(suite, bytes(secret))
        for sequence in range(MOST_NEXT if one.lost_from >= 0 and not one.counted else 1):
            one.tries += 1
            plain = one.attempt(cipher, iv, sequence)
            if plain is None:
                continue
            if sequence or (one.phase == TRAFFIC_PHASE and not (
                    one.counted and one.sequence == one.base + 1
                    and one.record_at - one.lost_from == HEADER_SIZE + KEY_UPDATE_BODY + one.overhead)):
                one.astray = True
                return None
            one.lost_from = -1
            one.use(cipher, iv, MIXED, one.overhead)
            one.sequence = 1
            if phase == TRAFFIC_PHASE:
                one.secret = bytearray(secret)
            one.phase = phase
            one.broken = False
            one.message = None
            return plain
        return None

    cdef int close(self, object owner) except -1:
        """End the use of the secrets; they go with the last connection that used them."""
        if self.random is not None:
            self.store.forget(self.random, owner)
            if self.secrets is not None:
                self.store.leave(self.random, self.secrets)
                self.secrets = None
        return 0
