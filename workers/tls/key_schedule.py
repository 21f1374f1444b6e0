"""From the secrets of a key log to the ciphers of one direction (RFC 8446, section 7; RFC 5246, section 6.3).

`cryptography` decrypts: each call opens a whole record, so that its cost a byte is that of the processor's AES. Its
OpenSSL needs nothing at build time, and QUIC uses it already.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from workers.tls.iana import CIPHERS

TLS_1_2 = 0x0303
TAG = 16
NONCE = 12
EXPLICIT = 8  # bytes of the nonce that travel in a record of TLS 1.2
SALT = 4  # … and those that do not
BLOCK = 16
_NAME = (
    r"TLS_(?:.*_WITH_)?(AES_128_GCM|AES_256_GCM|AES_128_CCM_8|AES_256_CCM_8|AES_128_CCM|AES_256_CCM|CHACHA20_POLY1305|"
    r"AES_128_CBC|AES_256_CBC)(?:_(SHA|SHA256|SHA384))?$"
)
_DIGEST_BYTES = {"sha1": 20, "sha256": 32, "sha384": 48}


class Unsupported(Exception):
    """A cipher suite or version that is not decrypted. The text is for a test."""


class Suite(NamedTuple):
    """The parts of a cipher suite. digest: of the key schedule; mac: of CBC records."""

    cipher: str
    key_bytes: int
    digest: str
    mac: str


@cache
def suite_of(code: int) -> Suite:
    """Return the suite with this number. Raises Unsupported."""
    found = re.match(_NAME, CIPHERS.get(code, ""))
    if found is None:
        raise Unsupported(f"cipher suite {code:04x}")
    cipher, digest = found[1], (found[2] or "SHA256").lower()
    mac = "sha1" if digest == "sha" else digest
    return Suite(cipher, 16 if "128" in cipher else 32, "sha384" if digest == "sha384" else "sha256", mac)


@cache
def _hmac() -> Callable[[bytes, bytes, str], bytes]:
    """Return hmac.digest. The module loads OpenSSL, which takes 10 ms, and only a run with a key log needs it."""
    import hmac

    return hmac.digest


@cache
def load() -> tuple[Any, ...]:
    """Load the library of the ciphers, once: a worker in its sandbox has no files."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import CBC

    for digest in ("md5", *_DIGEST_BYTES):  # OpenSSL looks each of them up at its first use
        _hmac()(b"", b"", digest)
    AESGCM(bytes(16)).encrypt(bytes(NONCE), b"", b"")
    return InvalidTag, Cipher, AES, CBC, AESGCM, AESCCM, ChaCha20Poly1305


def expand_label(secret: bytes, label: bytes, size: int, digest: str) -> bytes:
    """Return HKDF-Expand-Label without a context (RFC 8446, section 7.1)."""
    name = b"tls13 " + label
    info = size.to_bytes(2, "big") + bytes([len(name)]) + name + b"\0"
    return _hmac()(secret, info + b"\x01", digest)[:size]


def next_secret(secret: bytes, digest: str) -> bytes:
    """Return the secret behind a KeyUpdate (RFC 8446, section 7.2)."""
    return expand_label(secret, b"traffic upd", _DIGEST_BYTES[digest], digest)


def is_secret_of(secret: bytes, suite: Suite) -> bool:
    """Return whether a traffic secret of TLS 1.3 has the length that its suite asks for."""
    return len(secret) == _DIGEST_BYTES[suite.digest]


def aead_of(suite: Suite, key: bytes) -> Any:
    """Return the cipher object of an AEAD suite."""
    _, _, _, _, gcm, ccm, chacha = load()
    if suite.cipher.endswith("GCM"):
        return gcm(key)
    if suite.cipher == "CHACHA20_POLY1305":
        return chacha(key)
    return ccm(key, 8 if suite.cipher.endswith("CCM_8") else TAG)


def traffic_keys(suite: Suite, secret: bytes) -> tuple[Any, bytes]:
    """Return (AEAD, IV) of a traffic secret of TLS 1.3."""
    if "CBC" in suite.cipher:
        raise Unsupported(suite.cipher)
    key = expand_label(secret, b"key", suite.key_bytes, suite.digest)
    return aead_of(suite, key), expand_label(secret, b"iv", NONCE, suite.digest)


def tag_bytes(suite: Suite) -> int:
    return 8 if suite.cipher.endswith("CCM_8") else TAG


def _p_hash(secret: bytes, seed: bytes, size: int, digest: str) -> bytes:
    out, a = b"", seed
    while len(out) < size:
        a = _hmac()(secret, a, digest)
        out += _hmac()(secret, a + seed, digest)
    return out[:size]


def _key_block(master: bytes, seed: bytes, size: int, version: int, suite: Suite) -> bytes:
    """Return the key block (RFC 5246, section 5; before TLS 1.2, RFC 2246, section 5)."""
    seed = b"key expansion" + seed
    if version >= TLS_1_2:
        return _p_hash(master, seed, size, suite.digest)
    half = (len(master) + 1) // 2
    one, other = _p_hash(master[:half], seed, size, "md5"), _p_hash(master[-half:], seed, size, "sha1")
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


class BlockCipher:
    """AES-CBC with HMAC of one direction, up to TLS 1.2. etm: the MAC covers the ciphertext (RFC 7366)."""

    def __init__(self, suite: Suite, version: int, mac_key: bytes, key: bytes, iv: bytes, etm: bool) -> None:
        self._refused, self._cipher, aes, self._cbc, *_ = load()
        self._key = aes(key)
        self._mac, self._mac_key, self._mac_bytes = suite.mac, mac_key, _DIGEST_BYTES[suite.mac]
        self._iv: bytes | None = None if version > 0x0301 else iv  # TLS 1.0: the last block before; b"": not known
        self._etm = etm

    def lose(self) -> None:
        """Note that a record was lost."""
        if self._iv is not None:
            self._iv = b""

    def open(self, head: bytes, body: bytes) -> bytes | None:
        """Return the plaintext of a record; None: the MAC differs. head: sequence number, type and version."""
        if self._etm:
            at = len(body) - self._mac_bytes
            if at < BLOCK or not self._matches(head + at.to_bytes(2, "big") + body[:at], body[at:]):
                return None
            body = body[:at]
        iv = self._iv
        if iv is None:
            iv, body = body[:BLOCK], body[BLOCK:]
        if len(iv) != BLOCK or not body or len(body) % BLOCK:
            return None
        decryptor = self._cipher(self._key, self._cbc(iv)).decryptor()
        plain: bytes = decryptor.update(body) + decryptor.finalize()
        padding = plain[-1] + 1
        if padding > len(plain) or plain[-padding:] != bytes([padding - 1]) * padding:
            return None
        plain = plain[:-padding]
        if not self._etm:
            at = len(plain) - self._mac_bytes
            if at < 0 or not self._matches(head + at.to_bytes(2, "big") + plain[:at], plain[at:]):
                return None
            plain = plain[:at]
        if self._iv is not None:
            self._iv = body[-BLOCK:]
        return plain

    def _matches(self, covered: bytes, mac: bytes) -> bool:
        return _hmac()(self._mac_key, covered, self._mac) == mac


def session_keys(
    version: int, code: int, master: bytes, client_random: bytes, server_random: bytes, etm: bool
) -> list[tuple[Any, bytes]]:
    """Return [(cipher, IV) of the client, of the server] up to TLS 1.2. Raises Unsupported.

    cipher: an AEAD, or a BlockCipher.
    """
    suite = suite_of(code)
    if not 0x0301 <= version <= TLS_1_2:
        raise Unsupported(f"version {version:04x}")
    block = "CBC" in suite.cipher
    if not block and version < TLS_1_2:
        raise Unsupported(suite.cipher)
    mac_bytes = _DIGEST_BYTES[suite.mac] if block else 0
    iv_bytes = BLOCK if block else NONCE if suite.cipher == "CHACHA20_POLY1305" else SALT
    sizes = [mac_bytes, mac_bytes, suite.key_bytes, suite.key_bytes, iv_bytes, iv_bytes]
    material = _key_block(master, server_random + client_random, sum(sizes), version, suite)
    parts = []
    for size in sizes:
        parts.append(material[:size])
        material = material[size:]
    if block:
        return [
            (BlockCipher(suite, version, parts[side], parts[2 + side], parts[4 + side], etm), b"") for side in (0, 1)
        ]
    return [(aead_of(suite, parts[2 + side]), parts[4 + side]) for side in (0, 1)]
