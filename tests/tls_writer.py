"""A writer of encrypted TLS with fixed secrets: both sides of a session, and its key log.

It shares no code with the reader: HKDF and AEADs are those of `cryptography`, the PRF of TLS 1.2 is written out here.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from tls_bytes import (
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    CLIENT,
    HANDSHAKE,
    HELLO_DONE,
    SERVER,
    USUAL,
    alpn,
    client_hello,
    key_exchange,
    listed,
    message,
    packed,
    record,
    server_hello,
    server_hello_1_3,
    supported_versions,
)

RANDOM = bytes(range(32))  # of the client, as client_hello() has it
ALERT, CLOSE_NOTIFY = 21, b"\1\0"
EARLY_DATA = 42
Turns = list[tuple[int, bytes]]


def line(label: str, secret: bytes) -> bytes:
    return f"{label} {RANDOM.hex()} {secret.hex()}\n".encode()


def expand(secret: bytes, label: bytes, size: int) -> bytes:
    info = struct.pack(">H", size) + listed(b"tls13 " + label, 1) + b"\0"
    return HKDFExpand(SHA256(), size, info).derive(secret)


class Side13:
    """One direction of TLS 1.3 under one secret."""

    def __init__(self, secret: bytes, chacha: bool) -> None:
        self.secret, self.chacha = secret, chacha
        key = expand(secret, b"key", 32 if chacha else 16)
        self.aead: Any = ChaCha20Poly1305(key) if chacha else AESGCM(key)
        self.iv = expand(secret, b"iv", 12)
        self.sequence = 0

    def record(self, kind: int, content: bytes, padding: int = 0) -> bytes:
        inner = content + bytes((kind,)) + bytes(padding)
        head = struct.pack(">BHH", APPLICATION_DATA, 0x0303, len(inner) + 16)
        nonce = (int.from_bytes(self.iv, "big") ^ self.sequence).to_bytes(12, "big")
        self.sequence += 1
        return head + self.aead.encrypt(nonce, inner, head)

    def updated(self) -> Side13:
        return Side13(expand(self.secret, b"traffic upd", 32), self.chacha)


class Session13:
    """A session of TLS 1.3. `turns` has what both sides have sent."""

    def __init__(self, protocol: bytes = b"", chacha: bool = False, der: bytes = b"", early: bytes = b"") -> None:
        names = ("CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_HANDSHAKE_TRAFFIC_SECRET")
        names += ("CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0", "CLIENT_EARLY_TRAFFIC_SECRET")
        self.secrets = {name: bytes([place + 1]) * 32 for place, name in enumerate(names)}
        of = [Side13(secret, chacha) for secret in self.secrets.values()]
        more = [(EARLY_DATA, b"")] if early else []
        hello = client_hello([*USUAL, supported_versions(0x0304), *more], session=b"s" * 32)
        answer = server_hello_1_3(0x1303 if chacha else 0x1301, session=b"s" * 32)
        extensions = ([alpn(protocol)] if protocol else []) + more
        flight = message(8, listed(packed(extensions)))
        if der:
            flight += message(11, b"\0" + listed(listed(der, 3) + listed(b""), 3))
        self.turns: Turns = [(CLIENT, record(HANDSHAKE, hello))]
        change = record(CHANGE_CIPHER_SPEC, b"\1")
        if early:
            self.turns.append((CLIENT, change + of[4].record(APPLICATION_DATA, early)))
        sealed = of[1].record(HANDSHAKE, flight) + of[1].record(HANDSHAKE, message(20, bytes(32)))
        self.turns.append((SERVER, record(HANDSHAKE, answer) + change + sealed))
        end = of[4].record(HANDSHAKE, message(5, b"")) if early else change
        self.turns.append((CLIENT, end + of[0].record(HANDSHAKE, message(20, bytes(32)))))
        self.sides = [of[2], of[3]]

    @property
    def keylog(self) -> bytes:
        return b"".join(line(label, secret) for label, secret in self.secrets.items())

    def says(self, side: int, data: bytes, size: int = 16384, padding: int = 0) -> Session13:
        """Application data in records of `size` bytes, in one turn."""
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        made = b"".join(self.sides[side].record(APPLICATION_DATA, piece, padding) for piece in pieces)
        self.turns.append((side, made))
        return self

    def ticket(self) -> Session13:
        self.turns.append((SERVER, self.sides[SERVER].record(HANDSHAKE, message(4, bytes(200)))))
        return self

    def update(self, side: int) -> Session13:
        self.turns.append((side, self.sides[side].record(HANDSHAKE, message(24, b"\0"))))
        self.sides[side] = self.sides[side].updated()
        return self

    def close(self, side: int) -> Session13:
        self.turns.append((side, self.sides[side].record(ALERT, CLOSE_NOTIFY)))
        return self


def prf(secret: bytes, seed: bytes, size: int) -> bytes:
    out, a = b"", seed
    while len(out) < size:
        a = hmac.new(secret, a, hashlib.sha256).digest()
        out += hmac.new(secret, a + seed, hashlib.sha256).digest()
    return out[:size]


class Session12:
    """A session of TLS 1.2 with AES-128: GCM, or CBC with HMAC-SHA256. etm: encrypt-then-MAC (RFC 7366)."""

    def __init__(self, cbc: bool = False, etm: bool = False) -> None:
        self.cbc, self.etm = cbc, etm
        self.master = b"\x77" * 48
        server_random = bytes(range(32, 64))
        block = prf(self.master, b"key expansion" + server_random + RANDOM, 128)
        mac = 32 if cbc else 0
        self.macs = [block[:mac], block[mac : 2 * mac]]
        self.keys = [block[2 * mac :][:16], block[2 * mac :][16:32]]
        self.salts = [block[2 * mac :][32:36], block[2 * mac :][36:40]]
        self.sequences = [0, 0]
        suite = 0xC027 if cbc else 0xC02F  # ECDHE_RSA_WITH_AES_128_CBC_SHA256, …_GCM_SHA256
        answer = server_hello([(22, b"")] if etm else [], suite)
        change = record(CHANGE_CIPHER_SPEC, b"\1")
        self.turns: Turns = [
            (CLIENT, record(HANDSHAKE, client_hello(USUAL, ciphers=(suite,)))),
            (SERVER, record(HANDSHAKE, answer + key_exchange() + HELLO_DONE)),
            (CLIENT, record(HANDSHAKE, message(16, bytes(66))) + change),
        ]
        self.turns.append((CLIENT, self.record(CLIENT, HANDSHAKE, message(20, bytes(12)))))
        self.turns.append((SERVER, change + self.record(SERVER, HANDSHAKE, message(20, bytes(12)))))

    @property
    def keylog(self) -> bytes:
        return line("CLIENT_RANDOM", self.master)

    def record(self, side: int, kind: int, content: bytes) -> bytes:
        sequence = struct.pack(">Q", self.sequences[side])
        self.sequences[side] += 1
        head = struct.pack(">BH", kind, 0x0303)
        if not self.cbc:
            covered = sequence + head + struct.pack(">H", len(content))
            sealed = AESGCM(self.keys[side]).encrypt(self.salts[side] + sequence, content, covered)
            return head + listed(sequence + sealed)
        iv = hashlib.sha256(sequence + bytes([side])).digest()[:16]
        mac = b"" if self.etm else self.mac(side, sequence + head, content)
        inner = content + mac
        padding = 15 - len(inner) % 16
        inner += bytes([padding]) * (padding + 1)
        encryptor = Cipher(algorithms.AES(self.keys[side]), modes.CBC(iv)).encryptor()
        body = iv + encryptor.update(inner) + encryptor.finalize()
        return head + listed(body + (self.mac(side, sequence + head, body) if self.etm else b""))

    def mac(self, side: int, head: bytes, content: bytes) -> bytes:
        return hmac.new(self.macs[side], head + listed(content), hashlib.sha256).digest()

    def says(self, side: int, data: bytes, size: int = 16384) -> Session12:
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        self.turns.append((side, b"".join(self.record(side, APPLICATION_DATA, piece) for piece in pieces)))
        return self

    def close(self, side: int) -> Session12:
        self.turns.append((side, self.record(side, ALERT, CLOSE_NOTIFY)))
        return self
