"""Conversations in HTTP/2 for the data path: header blocks of plain literals, whole connections over TCP."""

from __future__ import annotations

from builders import MILLISECOND, Conversation
from h2_wire import END_HEADERS, END_STREAM, PREFACE, frame, headers, settings
from hpack_encoder import integer, string

Field = tuple[bytes, bytes]
START = PREFACE + settings()
CLIENT, SERVER = 0, 1


def block(*fields: Field, indexed: bool = False) -> bytes:
    """A header block of literals; indexed: they enter the table."""
    first = (0, 6, 0x40) if indexed else (0, 4, 0)
    return b"".join(integer(*first) + string(name, False) + string(value, False) for name, value in fields)


def ask(path: bytes = b"/", *more: Field, method: bytes = b"GET", authority: bytes = b"a.example") -> list[Field]:
    """The fields of a request."""
    return [(b":method", method), (b":scheme", b"http"), (b":authority", authority), (b":path", path), *more]


def answer(status: bytes = b"200", *more: Field) -> list[Field]:
    """The fields of a response."""
    return [(b":status", status), *more]


def message(stream: int, fields: list[Field], body: bytes = b"", trailers: list[Field] | None = None) -> bytes:
    """The frames of one side of a stream."""
    ends = not body and trailers is None
    out = headers(stream, block(*fields), END_HEADERS | (END_STREAM if ends else 0))
    while body:
        part, body = body[:16384], body[16384:]
        out += frame(0, END_STREAM if not body and trailers is None else 0, stream, part)
    if trailers is not None:
        out += headers(stream, block(*trailers), END_HEADERS | END_STREAM)
    return out


def turns(*said: bytes, cut: int | None = None, close: str = "client", start: bool = True) -> Conversation:
    """Client and server in turns; start: behind their prefaces."""
    made = Conversation().handshake()
    if start:
        made.client_sends(START, cut).idle(MILLISECOND).server_sends(settings(), cut).idle(MILLISECOND)
    for place, text in enumerate(said):
        if text:
            (made.server_sends if place % 2 else made.client_sends)(text, cut).idle(MILLISECOND)
    return made.close(close) if close else made
