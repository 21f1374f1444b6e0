# cython: language_level=3
"""InitialKeys: the keys of Initial packets, and opening one (RFC 9001, sections 5.2 to 5.4; RFC 9369, section 3.3).

They are no secrets: every observer of the client's first connection id can derive them. AES is that of `cryptography`, whose
OpenSSL needs nothing at build time. HKDF is written with hashlib, because one step of it is two digests of a block or two.
"""
from appliance.native.digests import sha256

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    VERSION_2 = 0x6B3343CF
    DRAFT_29 = 0xFF00001D
    DRAFT_33 = 0xFF000021
    SAMPLE_SIZE = 16
    TAG_SIZE = 16
    BLOCK = 64

cdef bytes SALT_1 = bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a")
cdef bytes SALT_2 = bytes.fromhex("0dede3def700a6db819381be6e269dcbf9bd2ed9")
cdef bytes SALT_DRAFT_29 = bytes.fromhex("afbfec289993d24c9e9786f19c6111e04390a899")
cdef bytes SALT_DRAFT_23 = bytes.fromhex("c3eef712c72ebb5a11a7d2432bb46365bef9f502")
cdef bytes INNER = bytes([value ^ 0x36 for value in range(256)])
cdef bytes OUTER = bytes([value ^ 0x5C for value in range(256)])


cdef bytes label(str text, int size):
    """Return an HkdfLabel without a context, and the counter of the first block (RFC 8446, section 7.1; RFC 5869)."""
    name = b"tls13 " + text.encode()
    return size.to_bytes(2, "big") + bytes([len(name)]) + name + b"\0\x01"


cdef bytes CLIENT_LABEL = label("client in", 32), SERVER_LABEL = label("server in", 32)
cdef tuple LABELS_1 = (label("quic key", 16), label("quic iv", 12), label("quic hp", 16))
cdef tuple LABELS_2 = (label("quicv2 key", 16), label("quicv2 iv", 12), label("quicv2 hp", 16))
cdef object _sha256 = sha256
cdef object Cipher = None, AES, AESGCM, InvalidTag, _ECB      # of `cryptography`, once it is loaded


cpdef int load_ciphers() except -1:
    """Load the library of the ciphers. It takes 40 ms, so a run without QUIC leaves it out."""
    global Cipher, AES, AESGCM, InvalidTag, _ECB
    if Cipher is None:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.ciphers.algorithms import AES
        from cryptography.hazmat.primitives.ciphers.modes import ECB
        _ECB = ECB()
        from cryptography.hazmat.primitives.ciphers import Cipher
    return 0


cdef tuple pads(bytes key):
    """Return the inner and outer block that HMAC puts before its input (RFC 2104)."""
    key = key.ljust(BLOCK, b"\0")
    return key.translate(INNER), key.translate(OUTER)


cdef bytes hmac(tuple pair, bytes data):
    return _sha256(pair[1] + _sha256(pair[0] + data).digest()).digest()


cdef bytes salt_of(uint32_t version):
    if version == VERSION_2:
        return SALT_2
    if version < 0xFF000000 or version >= <uint32_t>DRAFT_33:
        return SALT_1
    return SALT_DRAFT_29 if version >= <uint32_t>DRAFT_29 else SALT_DRAFT_23


cdef dict _SALT_PADS = {}


cdef InitialKeys initial_keys(uint32_t version, bytes connection_id, bint server):
    """Return the keys of one side. connection_id: the destination connection id of the client's first Initial."""
    cdef InitialKeys keys = InitialKeys.__new__(InitialKeys)
    keys.version = version
    keys.connection_id = connection_id
    keys.server = server
    return keys


cdef class InitialKeys:
    """The keys of one side's Initial packets."""

    cdef int derive(self) except -1:
        """Derive the keys (RFC 9001, section 5.2)."""
        cdef tuple labels = LABELS_2 if self.version == VERSION_2 else LABELS_1
        cdef tuple secret
        cdef bytes salt = salt_of(self.version)
        load_ciphers()
        if salt not in _SALT_PADS:
            _SALT_PADS[salt] = pads(salt)
        secret = pads(hmac(_SALT_PADS[salt], self.connection_id))
        secret = pads(hmac(secret, SERVER_LABEL if self.server else CLIENT_LABEL))
        self.aead = AESGCM(hmac(secret, <bytes>labels[0])[:16])
        self.iv = hmac(secret, <bytes>labels[1])[:12]
        self.header_cipher = Cipher(AES(hmac(secret, <bytes>labels[2])[:16]), _ECB).encryptor()
        return 0

    cdef int forget(self) except -1:
        """Free the ciphers, some 3 KB; open() derives them again."""
        self.aead = self.header_cipher = None
        return 0

    cdef bytes open(self, const Packet* packet):
        """Return what an Initial packet contains: its frames. None: these keys do not open it."""
        cdef const uint8_t* p = packet.p
        cdef uint32_t at = packet.number_at, length, i
        cdef uint64_t number = 0, window, candidate
        cdef bytes mask, header, sealed, nonce
        cdef uint8_t* h
        cdef uint8_t* n
        if packet.size < at + 4 + SAMPLE_SIZE:
            return None
        if self.aead is None:
            self.derive()
        mask = self.header_cipher.update(PyBytes_FromStringAndSize(<const char*>p + at + 4, SAMPLE_SIZE))
        length = 1 + ((p[0] ^ <uint8_t>mask[0]) & 3)
        header = PyBytes_FromStringAndSize(<const char*>p, at + length)
        h = <uint8_t*>PyBytes_AS_STRING(header)
        h[0] ^= <uint8_t>mask[0] & 0x0F
        for i in range(length):
            h[at + i] ^= <uint8_t>mask[1 + i]
            number = number << 8 | h[at + i]
        # RFC 9000, appendix A.3: the number nearest to the one that is expected.
        window = <uint64_t>1 << (8 * length)
        candidate = (self.largest + 1) & ~(window - 1) | number
        if candidate + window // 2 <= self.largest + 1:
            candidate += window
        elif candidate > self.largest + 1 + window // 2 and candidate >= window:
            candidate -= window
        nonce = PyBytes_FromStringAndSize(PyBytes_AS_STRING(self.iv), 12)
        n = <uint8_t*>PyBytes_AS_STRING(nonce)
        for i in range(8):
            n[11 - i] ^= candidate >> (8 * i) & 0xFF
        sealed = PyBytes_FromStringAndSize(<const char*>p + at + length, packet.size - at - length)
        if len(sealed) < TAG_SIZE:
            return None
        try:
            opened = self.aead.decrypt(nonce, sealed, header)
        except InvalidTag:
            return None
        self.number = candidate
        self.largest = max(self.largest, candidate)
        return opened
