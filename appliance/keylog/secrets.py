"""The secrets of TLS sessions: their labels, a line of a key log, and their form on a link.

Format of a line: LABEL CLIENT_RANDOM SECRET, in hexadecimal (draft-ietf-tls-keylogfile). On a link a secret has its
label's place, its length, the client random and its bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

CLIENT_RANDOM_BYTES = 32
MASTER_BYTES = 48
LABELS = (
    "CLIENT_RANDOM",  # the master secret, up to TLS 1.2
    "CLIENT_EARLY_TRAFFIC_SECRET",
    "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
    "SERVER_HANDSHAKE_TRAFFIC_SECRET",
    "CLIENT_TRAFFIC_SECRET_0",
    "SERVER_TRAFFIC_SECRET_0",
)
MASTER, CLIENT_EARLY, CLIENT_HANDSHAKE, SERVER_HANDSHAKE, CLIENT_TRAFFIC, SERVER_TRAFFIC = range(len(LABELS))
LENGTHS = ((MASTER_BYTES,), *(((32, 48),) * (len(LABELS) - 1)))  # of a secret, by label
LONGEST_PACKED = 2 + CLIENT_RANDOM_BYTES + max(map(max, LENGTHS))

Secret = tuple[int, bytes, bytes]  # place of its label, client random, bytes


def packed(secret: Secret) -> bytes:
    """Return a secret as it travels on a link."""
    place, random, value = secret
    return bytes((place, len(value))) + random + value


def unpacked(content: bytes) -> Iterator[Secret]:
    """Yield the secrets of a message; what is cut short or unknown ends it."""
    at, end = 0, len(content)
    while at + 2 <= end:
        place, size = content[at], content[at + 1]
        start = at + 2 + CLIENT_RANDOM_BYTES
        at = start + size
        if place >= len(LABELS) or at > end:
            return
        yield place, content[start - CLIENT_RANDOM_BYTES : start], content[start:at]
