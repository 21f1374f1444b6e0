"""The parts of the encrypted handshake messages of TLS 1.3 that events show (RFC 8446, sections 4.3.1 and 4.4.2)."""

from __future__ import annotations


def extensions_of(body: bytes) -> list[tuple[int, bytes]]:
    """Return (number, content) of each of the EncryptedExtensions; what is cut short ends them."""
    found = []
    at, end = 2, min(len(body), 2 + int.from_bytes(body[:2], "big"))
    while at + 4 <= end:
        size = int.from_bytes(body[at + 2 : at + 4], "big")
        if at + 4 + size > end:
            break
        found.append((int.from_bytes(body[at : at + 2], "big"), body[at + 4 : at + 4 + size]))
        at += 4 + size
    return found


def leaf_of(body: bytes) -> bytes:
    """Return the first certificate of a Certificate message; b"" if there is none."""
    at = 1 + (body[0] if body else 0) + 3
    size = int.from_bytes(body[at : at + 3], "big")
    leaf = body[at + 3 : at + 3 + size]
    return leaf if len(leaf) == size else b""
