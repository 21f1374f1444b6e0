"""Builders of QUIC packets: keys, headers, frames; a second writing of RFC 9001, with HKDF by `cryptography`."""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

V1, V2, DRAFT_29, DRAFT_24 = 1, 0x6B3343CF, 0xFF00001D, 0xFF000018
SALTS = {
    V1: "38762cf7f55934b34d179ae6a4c80cadccbb7f0a",
    V2: "0dede3def700a6db819381be6e269dcbf9bd2ed9",
    DRAFT_29: "afbfec289993d24c9e9786f19c6111e04390a899",
    DRAFT_24: "c3eef712c72ebb5a11a7d2432bb46365bef9f502",
}
INITIAL, ZERO_RTT, HANDSHAKE, RETRY = range(4)
PADDING, PING = b"\0", b"\1"


@dataclass(frozen=True)
class Keys:
    key: bytes
    iv: bytes
    header: bytes


def varint(value: int) -> bytes:
    for size, top in ((1, 0), (2, 1), (4, 2), (8, 3)):
        if value < 1 << (8 * size - 2):
            return (value | top << (8 * size - 2)).to_bytes(size, "big")
    raise ValueError(value)


def expand(secret: bytes, label: str, size: int) -> bytes:
    name = b"tls13 " + label.encode()
    info = struct.pack(">HB", size, len(name)) + name + b"\0"
    return HKDFExpand(hashes.SHA256(), size, info).derive(secret)


def keys(connection_id: bytes, server: bool = False, version: int = V1) -> Keys:
    initial = hmac.digest(bytes.fromhex(SALTS[version]), connection_id, "sha256")
    secret = expand(initial, "server in" if server else "client in", 32)
    prefix = "quicv2" if version == V2 else "quic"
    return Keys(
        expand(secret, f"{prefix} key", 16), expand(secret, f"{prefix} iv", 12), expand(secret, f"{prefix} hp", 16)
    )


def first_byte(kind: int, version: int, low: int = 0) -> int:
    return 0xC0 | ((kind + (version == V2)) & 3) << 4 | low


def long_header(kind: int, target: bytes, source: bytes, version: int = V1, low: int = 0) -> bytes:
    head = struct.pack(">BI", first_byte(kind, version, low), version)
    return head + bytes((len(target),)) + target + bytes((len(source),)) + source


def crypto(offset: int, data: bytes) -> bytes:
    return b"\6" + varint(offset) + varint(len(data)) + data


def ack(largest: int = 0) -> bytes:
    return b"\2" + varint(largest) + varint(0) + varint(0) + varint(0)


def initial(
    frames: bytes,
    connection_id: bytes,
    *,
    number: int = 0,
    number_size: int = 2,
    server: bool = False,
    version: int = V1,
    target: bytes | None = None,
    source: bytes = b"",
    token: bytes = b"",
    fixed: bool = True,
) -> bytes:
    """A protected Initial packet. connection_id gives the keys; target: the id in it, if it is another."""
    made = keys(connection_id, server, version)
    frames = frames.ljust(4, b"\0")
    head = long_header(INITIAL, connection_id if target is None else target, source, version, number_size - 1)
    if not fixed:
        head = bytes((head[0] & ~0x40,)) + head[1:]
    head += varint(len(token)) + token + varint(number_size + len(frames) + 16)
    at = len(head)
    head += (number & (1 << 8 * number_size) - 1).to_bytes(number_size, "big")
    nonce = (int.from_bytes(made.iv, "big") ^ number).to_bytes(12, "big")
    packet = bytearray(head + AESGCM(made.key).encrypt(nonce, frames, head))
    mask = Cipher(algorithms.AES(made.header), modes.ECB()).encryptor().update(bytes(packet[at + 4 : at + 20]))
    packet[0] ^= mask[0] & 0x0F
    for place in range(number_size):
        packet[at + place] ^= mask[1 + place]
    return bytes(packet)


def other(kind: int, size: int = 200, target: bytes = b"t" * 8, source: bytes = b"", version: int = V1) -> bytes:
    """A packet of another kind whose bytes are of no interest."""
    return long_header(kind, target, source, version) + varint(size) + bytes(size)


def retry(target: bytes, source: bytes, version: int = V1) -> bytes:
    return long_header(RETRY, target, source, version) + b"token" * 8 + bytes(16)


def negotiation(target: bytes, source: bytes, *versions: int) -> bytes:
    head = struct.pack(">BI", 0xC0, 0) + bytes((len(target),)) + target + bytes((len(source),)) + source
    return head + b"".join(struct.pack(">I", version) for version in versions)
