"""Builders of TLS bytes: records, messages, hellos with any extensions."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

CLIENT, SERVER = 0, 1  # sides, as the tests feed them
CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23
RETRY_RANDOM = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")

Extension = tuple[int, bytes]


def listed(data: bytes, width: int = 2) -> bytes:
    """Data behind its length."""
    return len(data).to_bytes(width, "big") + data


def numbers(values: Iterable[int]) -> bytes:
    """16-bit numbers, one after the other."""
    return b"".join(struct.pack(">H", value) for value in values)


def record(kind: int, body: bytes, version: int = 0x0303) -> bytes:
    return struct.pack(">BHH", kind, version, len(body)) + body


def records(kind: int, body: bytes, size: int) -> bytes:
    """A body in records of `size` bytes."""
    return b"".join(record(kind, body[at : at + size]) for at in range(0, len(body), size))


def message(kind: int, body: bytes) -> bytes:
    return bytes((kind,)) + listed(body, 3)


def server_name(name: bytes) -> Extension:
    return 0, listed(b"\0" + listed(name))


def alpn(*names: bytes) -> Extension:
    return 16, listed(b"".join(listed(name, 1) for name in names))


def supported_versions(*versions: int) -> Extension:
    return 43, listed(numbers(versions), 1)


def signature_algorithms(*codes: int) -> Extension:
    return 13, listed(numbers(codes))


def supported_groups(*codes: int) -> Extension:
    return 10, listed(numbers(codes))


def packed(extensions: Sequence[Extension]) -> bytes:
    return b"".join(struct.pack(">H", kind) + listed(body) for kind, body in extensions)


def client_hello(
    extensions: Sequence[Extension] | None = None,
    ciphers: Sequence[int] = (0x1301, 0xC02F),
    session: bytes = b"",
    version: int = 0x0303,
) -> bytes:
    """A ClientHello message; extensions None: it has no block of them."""
    body = struct.pack(">H", version) + bytes(range(32)) + listed(session, 1) + listed(numbers(ciphers)) + b"\1\0"
    if extensions is not None:
        body += listed(packed(extensions))
    return message(1, body)


def server_hello(
    extensions: Sequence[Extension] | None = None,
    cipher: int = 0xC02F,
    session: bytes = b"",
    version: int = 0x0303,
    random: bytes = bytes(range(32, 64)),
) -> bytes:
    body = struct.pack(">H", version) + random + listed(session, 1) + struct.pack(">HB", cipher, 0)
    if extensions is not None:
        body += listed(packed(extensions))
    return message(2, body)


def server_hello_1_3(cipher: int = 0x1301, group: int = 29, more: Sequence[Extension] = (), **other: bytes) -> bytes:
    extensions = [(43, b"\3\4"), (51, struct.pack(">H", group) + listed(bytes(32))), *more]
    return server_hello(extensions, cipher, **other)  # type: ignore[arg-type]


def certificate(*chain: bytes) -> bytes:
    return message(11, listed(b"".join(listed(each, 3) for each in chain), 3))


def key_exchange(group: int = 23) -> bytes:
    return message(12, b"\3" + struct.pack(">H", group) + listed(bytes(65), 1) + b"\4\1" + listed(bytes(64)))


def alert(level: int, description: int) -> bytes:
    return record(ALERT, bytes((level, description)))


FINISHED = record(CHANGE_CIPHER_SPEC, b"\1") + record(HANDSHAKE, b"\0" * 8 + b"\x8f" * 32)
HELLO_DONE = message(14, b"")
USUAL = (
    server_name(b"a.example"),
    supported_groups(29, 23),
    (11, b"\1\0"),
    signature_algorithms(0x0403, 0x0804),
    alpn(b"h2", b"http/1.1"),
)


def full_1_2(der: bytes = b"", extensions: Sequence[Extension] = USUAL) -> list[tuple[int, bytes]]:
    """The turns of a full handshake of TLS 1.2, and some data of both sides."""
    flight = server_hello([alpn(b"h2")])
    if der:
        flight += certificate(der, b"\x30\3abc")
    return [
        (CLIENT, record(HANDSHAKE, client_hello(extensions), 0x0301)),
        (SERVER, record(HANDSHAKE, flight + key_exchange() + HELLO_DONE)),
        (CLIENT, record(HANDSHAKE, message(16, bytes(66))) + FINISHED),
        (SERVER, record(HANDSHAKE, message(4, bytes(200))) + FINISHED),
        (CLIENT, record(APPLICATION_DATA, b"\x91" * 500)),
        (SERVER, record(APPLICATION_DATA, b"\x92" * 5000)),
    ]


def full_1_3(more: Sequence[Extension] = ()) -> list[tuple[int, bytes]]:
    """The turns of a full handshake of TLS 1.3, and some data of both sides."""
    extensions = [*USUAL, supported_versions(0x0304, 0x0303), *more]
    return [
        (CLIENT, record(HANDSHAKE, client_hello(extensions, session=b"s" * 32), 0x0301)),
        (
            SERVER,
            record(HANDSHAKE, server_hello_1_3(session=b"s" * 32))
            + record(CHANGE_CIPHER_SPEC, b"\1")
            + record(APPLICATION_DATA, b"\x93" * 2000),
        ),
        (CLIENT, record(CHANGE_CIPHER_SPEC, b"\1") + record(APPLICATION_DATA, b"\x94" * 53)),
        (CLIENT, record(APPLICATION_DATA, b"\x95" * 300)),
        (SERVER, record(APPLICATION_DATA, b"\x96" * 5000)),
    ]
