"""Frames of HTTP/2 and gRPC as a client and a server of these days send them, without Huffman coding."""

from __future__ import annotations

import random
from collections import OrderedDict

Fields = list[tuple[bytes, bytes]]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS = 0, 1, 4
END_STREAM, END_HEADERS = 1, 4
MAX_FRAME = 16384
_TABLE_BYTES = 4096
_STATIC = {  # RFC 7541 Appendix A, as far as these messages need it
    (b":method", b"GET"): 2, (b":method", b"POST"): 3, (b":path", b"/"): 4, (b":scheme", b"http"): 6,
    (b":status", b"200"): 8, (b":status", b"304"): 11, (b":status", b"404"): 13, (b":status", b"500"): 14,
}  # fmt: skip
_NAMES = {
    b":authority": 1, b":method": 2, b":path": 4, b":scheme": 6, b":status": 8, b"accept": 19, b"content-length": 28,
    b"content-type": 31, b"cookie": 32, b"date": 33, b"etag": 34, b"server": 54, b"user-agent": 58,
}  # fmt: skip
_NEVER = (b":path", b"etag", b"content-length")  # a client does not index what never comes again
_AGENT = b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/125.0.0.0 Safari/537.36"
STATUSES = (b"200",) * 12 + (b"304", b"404", b"500")
OUTCOMES = (b"0",) * 15 + (b"5",)
METHODS = [(b"shop.Cart", b"Add"), (b"shop.Cart", b"Get"), (b"shop.Stock", b"Watch"), (b"shop.Price", b"List")]


def _integer(value: int, bits: int, first: int) -> bytes:
    """RFC 7541 section 5.1."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    out = [first | most]
    value -= most
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _string(text: bytes) -> bytes:
    return _integer(len(text), 7, 0) + text


class Encoder:
    """The header blocks of one direction: RFC 7541 with the table of 4,096 bytes."""

    def __init__(self) -> None:
        self._table: OrderedDict[tuple[bytes, bytes], int] = OrderedDict()  # field: its number, from 1
        self._count = self._bytes = 0

    def block(self, fields: Fields) -> bytes:
        """Return a header block."""
        return b"".join(map(self._field, fields))

    def _field(self, field: tuple[bytes, bytes]) -> bytes:
        name, value = field
        if field in _STATIC:
            return _integer(_STATIC[field], 7, 0x80)
        if field in self._table:
            return _integer(62 + self._count - self._table[field], 7, 0x80)
        indexed = name not in _NEVER
        place = _NAMES.get(name, 0)
        head = _integer(place, 6 if indexed else 4, 0x40 if indexed else 0)
        if indexed:
            self._count += 1
            self._table[field] = self._count
            self._bytes += len(name) + len(value) + 32
            while self._bytes > _TABLE_BYTES:
                (old, text), _ = self._table.popitem(last=False)
                self._bytes -= len(old) + len(text) + 32
        return head + (b"" if place else _string(name)) + _string(value)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """RFC 9113 section 4.1."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def web_request(encoder: Encoder, rng: random.Random, stream: int, number: int) -> bytes:
    """Return a browser's request."""
    fields = [
        (b":method", b"GET"), (b":authority", b"shop%d.example" % (number % 7)), (b":scheme", b"http"),
        (b":path", b"/p/%d?s=%d" % (number, int(rng.random() * 1000))), (b"user-agent", _AGENT), (b"accept", b"*/*"),
        (b"cookie", b"sid=%08x" % (number % 5)),
    ]  # fmt: skip
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, encoder.block(fields))


def web_response(encoder: Encoder, rng: random.Random, stream: int, number: int) -> bytes:
    """Return its response, with a body of up to 12 kB."""
    status = rng.choice(STATUSES)
    size = 0 if status == b"304" else int(12_000 * rng.random() ** 3)
    fields = [
        (b":status", status), (b"server", b"nginx"),
        (b"date", b"Mon, 30 Nov 2026 20:%02d:00 GMT" % (number // 5000 % 60)),
        (b"content-type", b"application/json"), (b"content-length", b"%d" % size), (b"etag", b'"%08x"' % number),
    ]  # fmt: skip
    flags = END_HEADERS | (0 if size else END_STREAM)
    out = frame(HEADERS, flags, stream, encoder.block(fields))
    return out + frame(DATA, END_STREAM, stream, bytes(size)) if size else out


def _message(rng: random.Random, most: int) -> bytes:
    size = int(most * rng.random())
    return b"\0" + size.to_bytes(4, "big") + bytes(size)


def call(encoder: Encoder, rng: random.Random, stream: int, number: int) -> bytes:
    """Return a unary gRPC call."""
    service, method = METHODS[number % len(METHODS)]
    fields = [
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/%b/%b" % (service, method)),
        (b":authority", b"backend.example:50051"), (b"te", b"trailers"), (b"content-type", b"application/grpc"),
        (b"user-agent", b"grpc-python/1.64.1 grpc-c/41.0.0 (linux; chttp2)"),
    ]  # fmt: skip
    return frame(HEADERS, END_HEADERS, stream, encoder.block(fields)) + frame(
        DATA, END_STREAM, stream, _message(rng, 200)
    )


def outcome(encoder: Encoder, rng: random.Random, stream: int) -> bytes:
    """Return its response: a message, and the status in trailers."""
    head = encoder.block([(b":status", b"200"), (b"content-type", b"application/grpc")])
    status = rng.choice(OUTCOMES)
    tail = encoder.block([(b"grpc-status", status), (b"grpc-message", b"")])
    said = frame(HEADERS, END_HEADERS, stream, head) + frame(DATA, 0, stream, _message(rng, 400))
    return said + frame(HEADERS, END_HEADERS | END_STREAM, stream, tail)
