"""WebSocket frames, connections that carry them, and a reader of frames in plain Python (RFC 6455)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from builders import MILLISECOND, Conversation, request, response

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MASK = b"\x11\x22\x33\x44"
UPGRADE = request(b"/chat?room=1", b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13")
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate"


def switched(*fields: bytes) -> bytes:
    return response(b"101 Switching Protocols", b"Connection: Upgrade", b"Upgrade: websocket", *fields)


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    mask: bytes | None = None,
    rsv: int = 0,
    length: int | None = None,
    size: int = 0,
) -> bytes:
    """A frame. length: that its header names. size: bytes of that length (2 or 8) if it is not the shortest form."""
    length = len(payload) if length is None else length
    marked = 0x80 if mask is not None else 0
    size = size or (0 if length < 126 else 2 if length < 65536 else 8)
    lengths = {0: bytes([marked | length & 127]), 2: bytes([marked | 126]), 8: bytes([marked | 127])}[size]
    lengths += length.to_bytes(size, "big") if size else b""
    if mask is not None:
        payload = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
    return bytes([fin << 7 | rsv << 4 | opcode]) + lengths + (mask or b"") + payload


def close(code: int | None = None, **how: Any) -> bytes:
    return frame(CLOSE, b"" if code is None else struct.pack(">H", code), **how)


class Deflater:
    """The compressor of a side, with context takeover or without (RFC 7692 section 7.2.1)."""

    def __init__(self, takeover: bool = True) -> None:
        self.takeover = takeover
        self.deflater = zlib.compressobj(wbits=-15)

    def __call__(self, text: bytes) -> bytes:
        if not self.takeover:
            self.deflater = zlib.compressobj(wbits=-15)
        return (self.deflater.compress(text) + self.deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


def websocket(
    *said: tuple[int, bytes], fields: Sequence[bytes] = (), cut: int | None = None, end: str = "server"
) -> Conversation:
    """A connection: the upgrade, then (side, bytes) in turn; side 0 is the client."""
    made = Conversation().handshake().client_sends(UPGRADE).idle(MILLISECOND).server_sends(switched(*fields))
    for side, data in said:
        made.idle(MILLISECOND)
        (made.server_sends if side else made.client_sends)(data, cut)
    return made.close(end) if end else made


def lost(made: Conversation, side: int, data: bytes) -> Conversation:
    """Send bytes that the capture does not see."""
    seen = len(made.frames)
    (made.server_sends if side else made.client_sends)(data)
    del made.frames[seen:]
    return made


class Read(NamedTuple):
    """A reader's account of a side."""

    counts: dict[str, int]
    complete: bool


def read(pieces: Iterable[bytes | int], masks: bool) -> Read:
    """The counts of a side up to the first loss of the place of a frame. pieces: bytes, and numbers of lost ones."""
    names = ("messages", "text", "binary", "ping", "pong", "fragments", "bytes", "masked_wrong", "missing_bytes")
    counts = dict.fromkeys(names, 0)
    head, left, opcode, fin, is_open, code, at, blind = b"", 0, -1, False, False, b"", 0, False
    closed = False

    def end() -> None:
        nonlocal opcode, is_open, closed
        if opcode <= BINARY and fin:
            counts["messages"] += is_open
            is_open = False
        if opcode == CLOSE and not closed and at != 1:
            if at == 0:
                counts["close_code"] = 1005
            elif not blind:
                counts["close_code"] = struct.unpack(">H", code)[0]
        closed = closed or opcode == CLOSE
        opcode = -1

    for piece in pieces:
        if isinstance(piece, int):
            counts["missing_bytes"] += piece
            known = min(piece, left)
            if opcode <= BINARY:
                counts["bytes"] += known
            blind = blind or (known > 0 and at < 2)
            left, at = left - known, at + known
            if opcode >= 0 and left == 0:
                end()
            if known < piece:
                return Read(counts, False)
            continue
        for byte in piece:
            if left:
                key = head[-4:] if head[1] & 128 else bytes(4)
                if len(code) < 2 and at < 2:
                    code += bytes([byte ^ key[at % 4]])
                counts["bytes"] += opcode <= BINARY
                left, at = left - 1, at + 1
                if left == 0:
                    end()
                continue
            if opcode < 0:
                head, opcode, code, at, blind = b"", 16, b"", 0, False
            head += bytes([byte])
            if len(head) < 2:
                continue
            size = {126: 2, 127: 8}.get(head[1] & 127, 0)
            if len(head) < 2 + size + (4 if head[1] & 128 else 0):
                continue
            opcode, fin = head[0] & 15, bool(head[0] & 128)
            left = int.from_bytes(head[2 : 2 + size], "big") if size else head[1] & 127
            counts["masked_wrong"] += bool(head[1] & 128) != masks
            counts["fragments"] += opcode == CONTINUATION
            if opcode in (TEXT, BINARY):
                is_open = True
            for name, number in (("text", TEXT), ("binary", BINARY), ("ping", PING), ("pong", PONG)):
                counts[name] += opcode == number
            if left == 0:
                end()
    return Read(counts, opcode < 0)
