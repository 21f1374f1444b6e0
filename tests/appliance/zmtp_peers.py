"""Peers that speak ZMTP by themselves (ZeroMQ RFC 23), and say what no library would."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

from eventually import PATIENCE_S

GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)
MORE, LARGE, COMMAND = 1, 2, 4
OPEN_S = 10.0


def frame(body: bytes, flags: int = 0) -> bytes:
    """A frame on the wire."""
    if len(body) > 255:
        return struct.pack(">BQ", flags | LARGE, len(body)) + body
    return struct.pack(">BB", flags, len(body)) + body


def port(endpoint: str) -> int:
    return int(endpoint.rpartition(":")[2])


def stranger(endpoint: str, kind: bytes = b"", *, source: str = "127.0.0.1") -> socket.socket:
    """A connection; with a kind of socket ("SUB") it has greeted and was greeted, without it says nothing."""
    made = socket.create_connection(("127.0.0.1", port(endpoint)), timeout=PATIENCE_S, source_address=(source, 0))
    if kind:
        made.sendall(GREETING)
        _take(made, len(GREETING))
        body = b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind
        made.sendall(frame(body, COMMAND))
        _, length = _take(made, 2)
        _take(made, length)
    return made


def _take(connection: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count:
        some = connection.recv(count - len(got))
        assert some, "it was thrown out"
        got += some
    return got


def pour(connection: socket.socket, piece: bytes, most: int) -> int:
    """Sends the piece over and over until the other side ends it; how many bytes, `most` if it never does."""
    data = piece * max(1, 65536 // len(piece))
    sent = 0
    try:
        while sent < most:
            sent += connection.send(data)
    except ConnectionError:
        return sent
    return most


def is_open(connection: socket.socket) -> bool:
    """Return whether the other side has not closed the connection."""
    connection.setblocking(False)
    try:
        while connection.recv(65536):
            pass
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def peak(pid: int) -> int:
    """The most memory that a process has had, in bytes."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) * 1024
