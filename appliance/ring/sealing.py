"""Sealed files of the ring: their content is encrypted, for the owner of a private key alone.

    file  = magic, length of the sealed keys u32, sealed keys, then chunks
    index = the header of any index, without its key, then chunks
    chunk = bytes of its plaintext u32, its number in the file u32, ciphertext, tag

The keys of a file are random: one of AES-256-GCM, one of the numbers in the index. HPKE (RFC 9180) seals them to an
X25519 public key, so a recorder cannot read its file later. A number is the nonce of one chunk, and is used once, also
behind a failed write. The header of a chunk is authenticated with it. Chunks are whole or not there, so a file can be
cut without its keys. In the clear are the sizes of chunks, and the times and counts in the header of the index.
"""

from __future__ import annotations

import errno
import os
import struct
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from appliance.ring.blocks import Read
from appliance.ring.index import DATA, HEADER_BYTES, INDEX

PrivateKey = X25519PrivateKey
PublicKey = X25519PublicKey

MAGIC = b"CAPSEAL1"
PIECE = 1 << 18  # most bytes of plaintext in a chunk; a reader decrypts one for a frame
TAG = 16
KEY, INDEX_KEY = 32, 16  # bytes
LONGEST_KEY_FILE = 1 << 16
_HEAD = struct.Struct("<8sI")
_CHUNK = struct.Struct("<II")
_NONCE = struct.Struct("<B3xQ")
_INFO = b"capture-appliance ring file"
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


class SealError(OSError):
    """A sealed file cannot be read, or a key cannot be used."""

    def __init__(self, what: str, path: Path | str) -> None:
        super().__init__(errno.EACCES, what, str(path))


def public_key(path: Path) -> X25519PublicKey:
    """Return the public key in a PEM file. Raises OSError."""
    try:
        key = load_pem_public_key(_content(path))
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, X25519PublicKey):
        raise SealError("not the public key of an X25519 key pair in PEM (openssl pkey -pubout)", path)
    return key


def private_key(path: Path) -> X25519PrivateKey:
    """Return the private key in a PEM file. Raises OSError."""
    try:
        key = load_pem_private_key(_content(path), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, X25519PrivateKey):
        raise SealError(
            "not an X25519 private key in PEM without a passphrase (openssl genpkey -algorithm X25519)", path
        )
    return key


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(LONGEST_KEY_FILE)


class Sealer:
    """Seals the chunks of one file. head: the bytes in front of the first one."""

    def __init__(self, key: X25519PublicKey) -> None:
        mine = AESGCM.generate_key(256)
        self.index_key = os.urandom(INDEX_KEY)
        sealed = _SUITE.encrypt(mine + self.index_key, key, _INFO)
        self.head = _HEAD.pack(MAGIC, len(sealed)) + sealed
        self._aead = AESGCM(mine)
        self._numbers = [0, 0]

    def seal(self, kind: int, data: bytes) -> bytes:
        """Return some data as chunks."""
        chunks = []
        for at in range(0, len(data), PIECE):
            piece = memoryview(data)[at : at + PIECE]
            number = self._numbers[kind]
            self._numbers[kind] += 1
            header = _CHUNK.pack(len(piece), number)
            chunks += [header, self._aead.encrypt(_NONCE.pack(kind, number), piece, header)]
        return b"".join(chunks)


class Chunk(NamedTuple):
    """The place of a whole chunk in its file, and its header. size: bytes of its plaintext."""

    offset: int
    size: int
    header: bytes

    @property
    def number(self) -> int:
        """Return its number among those of its file."""
        return int(_CHUNK.unpack(self.header)[1])

    @property
    def end(self) -> int:
        """Return where the next one begins."""
        return self.offset + len(self.header) + self.size + TAG


def first_chunk(read: Read) -> int:
    """Return where the chunks of a sealed file begin; 0 if its head is not whole."""
    head = read(0, _HEAD.size)
    if len(head) < _HEAD.size or not head.startswith(MAGIC):
        return 0
    begin = _HEAD.size + int(_HEAD.unpack(head)[1])
    return begin if begin <= LONGEST_KEY_FILE and len(read(_HEAD.size, begin - _HEAD.size)) == begin - _HEAD.size else 0


def chunks(read: Read, offset: int, end: int) -> Iterator[Chunk]:
    """Yield the whole chunks from an offset on, in a file that ends there."""
    while len(header := read(offset, _CHUNK.size)) == _CHUNK.size:
        chunk = Chunk(offset, _CHUNK.unpack(header)[0], header)
        if not 0 < chunk.size <= PIECE or chunk.end > end:
            return
        yield chunk
        offset = chunk.end


class Opener:
    """Opens the chunks of one file. Raises OSError."""

    def __init__(self, path: Path, read: Read, key: X25519PrivateKey) -> None:
        self.begin = first_chunk(read)
        self._path, self._read = path, read
        if not self.begin:  # the recorder makes it just now, or was killed then
            if not MAGIC.startswith(read(0, len(MAGIC))):
                raise SealError("not a sealed file", path)
            self.index_key = bytes(INDEX_KEY)
            return
        try:
            keys = _SUITE.decrypt(read(_HEAD.size, self.begin - _HEAD.size), key, _INFO)
        except InvalidTag as error:
            raise SealError("encrypted to another key, or changed since", path) from error
        if len(keys) != KEY + INDEX_KEY:  # the public key is enough to make a file
            raise SealError("not a sealed file", path)
        self.index_key = keys[KEY:]
        self._aead = AESGCM(keys[:KEY])

    def data(self, size: int) -> OpenedData:
        """Return the plaintext of the file. size: bytes of the file now."""
        return OpenedData(self, self._read, size)

    def entries(self, index: bytes) -> bytes:
        """Return the entries in the bytes of the index beside it. Raises OSError."""

        def read(offset: int, length: int) -> bytes:
            return index[offset : offset + length]

        found = self.chunks(read, HEADER_BYTES, len(index))
        return b"".join(self.open(INDEX, chunk, read) for chunk in found)

    def chunks(self, read: Read, begin: int, end: int) -> list[Chunk]:
        """Return the whole chunks of a file. Raises OSError if they are not in their order."""
        found = list(chunks(read, begin, end)) if self.begin else []
        numbers = [chunk.number for chunk in found]
        if sorted(set(numbers)) != numbers:  # a failed write leaves a number out
            raise SealError("changed since it was written", self._path)
        return found

    def open(self, kind: int, chunk: Chunk, read: Read) -> bytes:
        """Return the plaintext of a chunk. Raises OSError."""
        sealed = read(chunk.offset + len(chunk.header), chunk.size + TAG)
        try:
            return self._aead.decrypt(_NONCE.pack(kind, chunk.number), sealed, chunk.header)
        except InvalidTag as error:
            raise SealError("changed since it was written", self._path) from error


class OpenedData:
    """The plaintext of a sealed file, which may still grow. `read` takes places of the plaintext."""

    def __init__(self, opener: Opener, read: Read, size: int) -> None:
        self._opener, self._read_sealed = opener, read
        self._starts: list[int] = []  # places of the chunks in the plaintext
        self._chunks = opener.chunks(read, opener.begin, size)
        end = 0
        for chunk in self._chunks:
            self._starts.append(end)
            end += chunk.size
        self._known = -1, b""  # number of the chunk that was opened last, and its plaintext

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes there, fewer at the end. Raises OSError."""
        found = []
        number = bisect_right(self._starts, offset) - 1
        while length > 0 and 0 <= number < len(self._chunks):
            piece = self._plain(number)[offset - self._starts[number] :][:length]
            if not piece:
                break
            found.append(piece)
            offset, length, number = offset + len(piece), length - len(piece), number + 1
        return b"".join(found)

    def _plain(self, number: int) -> bytes:
        if self._known[0] != number:
            self._known = number, self._opener.open(DATA, self._chunks[number], self._read_sealed)
        return self._known[1]
