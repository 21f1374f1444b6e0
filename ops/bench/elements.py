"""Every grammar element of HTTP that a sender can repeat, as bytes of one connection: for bench-linear and its test.

An Element is a scene of two speakers, as turns (who, bytes) with about n bytes of the element; the rest of it is small
and fixed. Runner.seconds() is the processor time the worker's pipeline takes for it, cut in segments of a given size.
"""

from __future__ import annotations

import gzip
import random
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import brotli

from appliance.config.schema import Config, Shard

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from scale import ACK, KEY, PSH, SERVER, START_NS, STEP_NS, SYN, Template  # noqa: E402
from text import api_request, api_response  # noqa: E402

from appliance.capture.sharder import Sharder  # noqa: E402
from appliance.config.load import resolve  # noqa: E402
from workers.pipeline import Pipeline  # noqa: E402

CLIENT, LOW, MASK = 0x0A000001, 1_000_000, 0xFFFFFFFF
PORTS = (40000, 80)
ACK_EVERY = 16  # segments: their receiver's window is that of a host without scaling
C, S = True, False  # who speaks

Turn = tuple[bool, bytes]

# The limits of a head out of the way: what is measured is the work, not where it ends.
WIDE = {"http.max_head_bytes": 1 << 24, "http.max_headers": 1 << 20}

GET = b"GET / HTTP/1.1\r\nHost: a.example\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 9, mtime=0),
    "deflate": lambda data: zlib.compress(data, 9),
    "br": lambda data: brotli.compress(data, quality=5),
    "zstd": zstd.compress,
}
# Every option that costs time is on. The reserve of decoding time is so small that it ends at once.
LOOK = {
    "bodies.hashes": ["sha256"],
    "bodies.mime_type": True,
    "bodies.max_bombs": 1 << 30,
    "bodies.decode_reserve_ms": 1,
    "websocket.decode": True,
}


@dataclass(frozen=True)
class Element:
    """A repeated element, and its scene. turns(n): the scene with about n bytes of it. coding: bodies are looked into,
    and the benign scene has bodies in this coding."""

    name: str
    turns: Callable[[int], list[Turn]]
    headers: tuple[str, ...] = ()
    coding: str = ""


def _fill(piece: bytes, size: int) -> bytes:
    """`piece` over and over, about `size` bytes, at least once."""
    return piece * max(1, size // len(piece))


def _websocket(piece: bytes, extensions: bytes = b"") -> Callable[[int], list[Turn]]:
    """A WebSocket connection whose server sends `piece` over and over."""
    upgrade = GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    switched = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n" + extensions + b"\r\n"
    return lambda n: [(C, upgrade), (S, switched + _fill(piece, n))]


def _numbered(piece: bytes, size: int) -> bytes:
    """`piece` with a number in it, over and over."""
    return b"".join(piece % number for number in range(max(1, size // (len(piece) + 2))))


def _head(line: bytes, end: bytes = b"\r\n") -> Callable[[int], list[Turn]]:
    """A request with this line in its head, over and over."""
    return lambda n: [(C, GET + _fill(line, n) + end), (S, OK)]


def _value(name: bytes, piece: bytes, end: bytes = b"") -> Callable[[int], list[Turn]]:
    """A request with one long field."""
    return lambda n: [(C, GET + name + b": " + _fill(piece, n) + end + b"\r\n\r\n"), (S, OK)]


def _target(piece: bytes) -> Callable[[int], list[Turn]]:
    return lambda n: [(C, b"GET /" + _fill(piece, n) + b" HTTP/1.1\r\nHost: a\r\n\r\n"), (S, OK)]


def _body(piece: bytes, last: bytes, start: bytes = CHUNKED) -> Callable[[int], list[Turn]]:
    """A chunked response with this in it, over and over."""
    return lambda n: [(C, GET + b"\r\n"), (S, start + _fill(piece, n) + last)]


def _lost(piece: bytes, client: bool = True) -> Callable[[int], list[Turn]]:
    """Bytes that begin no message, behind an exchange, and then what may be one, over and over."""
    return lambda n: [(C, GET + b"\r\n"), (S, OK), (client, b"\0junk" + _fill(piece, n))]


def _waiting(piece: bytes) -> Callable[[int], list[Turn]]:
    """The same on the server's side while a request waits, whose place in the stream nothing has told."""
    return lambda n: [(C, GET + b"\r\n"), (S, OK + b"\0junk"), (C, GET + b"\r\n"), (S, b"\0" + _fill(piece, n))]


def _dialogue(n: int) -> list[Turn]:
    """A request line without a version, with many fields, while the other side goes on speaking a byte at a time."""
    return [(C, b"GET /\r\n" + _fill(b"a:b\r\n", n)), *[(S, b"x")] * (n // 64)]


def _encoded(body: bytes, coding: str) -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n" % (coding.encode(), len(body)) + body
    )


def _bodies(body: bytes, coding: str) -> Callable[[int], list[Turn]]:
    """Responses with this body, over and over."""
    one = [(C, GET + b"\r\n"), (S, _encoded(body, coding))]
    return lambda n: one * max(1, n // size_of(one))


def _long(piece: bytes, coding: str) -> Callable[[int], list[Turn]]:
    """One response with this in its body, over and over."""
    return lambda n: [(C, GET + b"\r\n"), (S, _encoded(_fill(piece, n), coding))]


def _brotli_tables(count: int) -> bytes:
    """Return `count` meta-blocks of one byte; each describes tables of 16,384 entries in 86 bytes."""
    block = bytes.fromhex("0000f0ff001019" + "00" * 67 + "207e3800a0088aa040200003")
    return b"\x0c" + block * count + b"\3"


def _of_coding(name: str) -> list[Element]:
    """Return the expensive elements of one coding."""
    encode = CODINGS[name]
    scenes = [
        ("bodies of zeros, 64 KiB", _bodies(encode(bytes(1 << 16)), name)),
        ("bodies of zeros, 1 MiB", _bodies(encode(bytes(1 << 20)), name)),
        ("bodies of zeros, 8 MiB", _bodies(encode(bytes(1 << 23)), name)),
        ("empty bodies", _bodies(encode(b""), name)),
        ("broken bodies", _bodies(encode(b"abcdef" * 20)[:-6] + b"x" * 20, name)),
        ("bodies of another coding", _bodies(b"x", name)),
        ("zeros in two codings", _bodies(encode(encode(bytes(1 << 20))), f"{name}, {name}")),
    ]
    return [Element(f"{name}: {what}", turns, coding=name) for what, turns in scenes]


ELEMENTS: Sequence[Element] = (
    Element("long target", _target(b"a")),
    Element("spaces in target", _target(b"a ")),
    Element("target of bytes to escape", _target(b"\xff\x01\\x41\xe2\x80\xa8")),
    Element("target of UTF-8", _target("é漢😀".encode())),
    Element("query of many parameters", _target(b"?a=b&")),
    Element("blanks in request line", lambda n: [(C, b"GET " + b" " * n + b"/ HTTP/1.1\r\nHost: a\r\n\r\n"), (S, OK)]),
    Element("long reason", lambda n: [(C, GET + b"\r\n"), (S, b"HTTP/1.1 204 " + b"r" * n + b"\r\n\r\n")]),
    Element("many fields", _head(b"X-A: b\r\n")),
    Element("many short fields", _head(b"a:\n")),
    Element("many fields in event", _head(b"X-A: b\r\n"), ("all",)),
    Element(
        "many names in event",
        lambda n: [(C, GET + _numbered(b"X-%d: b\r\n", n) + b"\r\n"), (S, OK)],
        ("all",),
    ),
    Element("short fields in event", _head(b"a:\n"), ("all",)),
    Element("redacted fields", _head(b"Cookie: a=b\r\n"), ("all",)),
    Element("folded in event", _head(b" a\r\n"), ("all",)),
    Element("binary field in event", _value(b"X-A", b"\xff\x80\0\\x41"), ("all",)),
    Element("bad lines", _head(b"x\r\n")),
    Element("bare LF", _head(b"a:b\n")),
    Element("bare CR", _value(b"X-A", b"\ra")),
    Element("one huge field", _value(b"X-A", b"a")),
    Element("huge name", lambda n: [(C, GET + b"x" * n + b": 1\r\n\r\n"), (S, OK)]),
    Element("blanks before colon", lambda n: [(C, GET + b"x" + b" " * n + b": 1\r\n\r\n"), (S, OK)]),
    Element("folded without end", _head(b" a\r\n")),
    Element("folded, blank", _head(b" \r\n")),
    Element("Host repeated", _head(b"Host: b.example\r\n")),
    Element("Host, long and repeated", _head(b"Host: " + b"h" * 200 + b"\r\n")),
    Element("Connection options", _value(b"Connection", b"close,")),
    Element("Content-Length list", _value(b"Content-Length", b"0,", b"0")),
    Element(
        "Content-Lengths that differ",
        lambda n: [(C, GET + b"Content-Length: 0" + _numbered(b",%d", n) + b"\r\n\r\n"), (S, OK)],
    ),
    Element("Content-Length fields", _head(b"Content-Length: 0\r\n")),
    Element("zeros of a length", _value(b"Content-Length", b"0")),
    Element("blanks in a length", _value(b"Content-Length", b", ", b"0")),
    Element("transfer codings", _value(b"Transfer-Encoding", b"gzip,", b"chunked")),
    Element("unknown codings", _value(b"Transfer-Encoding", b"a,", b"chunked")),
    Element("chunked repeated", _value(b"Transfer-Encoding", b"chunked,", b"chunked")),
    Element("coding parameters", _value(b"Transfer-Encoding", b"a;", b",chunked")),
    Element("chunks of one byte", _body(b"1\r\nx\r\n", b"0\r\n\r\n")),
    Element("chunk extensions", _body(b"1;a=b;c\r\nx\r\n", b"0\r\n\r\n")),
    Element("one long extension", _body(b";a=b", b"\r\nx\r\n0\r\n\r\n", CHUNKED + b"1")),
    Element("blanks behind a size", _body(b" ", b"\r\nx\r\n0\r\n\r\n", CHUNKED + b"1")),
    Element("zeros of a size", _body(b"0", b"1\r\nx\r\n0\r\n\r\n")),
    Element("trailers", _body(b"a: b\r\n", b"\r\n", CHUNKED + b"0\r\n")),
    Element("short trailers", _body(b"a\n", b"\r\n", CHUNKED + b"0\r\n")),
    Element("one long trailer", _body(b"a", b"\r\n\r\n", CHUNKED + b"0\r\n")),
    Element("interim responses", _body(b"HTTP/1.1 100 Continue\r\n\r\n", OK, b"")),
    Element("pipelined requests", lambda n: [(C, (GET + b"\r\n") * 100), (S, OK * 100)] * max(1, n // 7500)),
    Element("pipelined, no answer", lambda n: [(C, _fill(b"GET / HTTP/1.1\r\n\r\n", n))]),
    Element("answers to nothing", lambda n: [(S, _fill(OK, n))]),
    Element("blank lines", lambda n: [(C, b"\r\n" * (n // 2) + GET + b"\r\n"), (S, OK)]),
    Element("blank lines between", lambda n: [(C, _fill(b"\r\n" * 50 + GET + b"\r\n", n))]),
    Element("garbage behind a message", lambda n: [(C, GET + b"\r\n"), (S, OK + b"\0garbage\n" * (n // 9))]),
    Element("no line end", _lost(b"a")),
    Element("line ends only", _lost(b"\n")),
    Element("versions", _lost(b"HTTP/1.")),
    Element("versions, line by line", _lost(b"HTTP/1.1\n")),
    Element("long words before versions", _lost(b"x" * 8000 + b" HTTP/1.1\n")),
    Element("requests that are refused", _lost(b"GET / HTTP/1.1\r\na: b\r\n")),
    Element("request lines that are refused", _lost(b"GET / HTTP/1.1\n")),
    Element("responses that are refused", _lost(b"HTTP/1.1 200 OK\r\n\r\n", S)),
    Element("responses refused, one waits", _waiting(b"HTTP/1.1 200 OK\r\n\r\n")),
    Element("responses in one line", _lost(b"HTTP/1.1 200 " * 600 + b"\r\n\r\n", S)),
    Element("late starts, not HTTP", lambda n: [(C, b"\0" + _fill(b"GET x", n))]),
    Element("versionless, other speaks", _dialogue),
    Element("WebSocket: empty frames", _websocket(b"\x81\0")),
    Element("WebSocket: fragments of one byte", _websocket(b"\0\1a")),
    Element("WebSocket: frames of unknown kinds", _websocket(b"\x73\x7e\0\1x")),
    Element("WebSocket: lengths of eight bytes", _websocket(b"\x82\x7f\0\0\0\0\0\0\0\1x")),
    Element("HTTP/0.9 body", lambda n: [(C, b"GET /\r\n"), (S, b"\0" * n)]),
    *(element for name in CODINGS for element in _of_coding(name)),
    Element(
        "WebSocket: final blocks",
        _websocket(b"\xc1\x14" + b"\3\0" * 10, b"Sec-WebSocket-Extensions: permessage-deflate\r\n"),
        coding="deflate",
    ),
    Element(
        "WebSocket: compressed messages",
        _websocket(b"\xc1\7\xf2\x48\xcd\xc9\xc9\7\0", b"Sec-WebSocket-Extensions: permessage-deflate\r\n"),
        coding="deflate",
    ),
    Element("gzip: members", _long(CODINGS["gzip"](b""), "gzip"), coding="gzip"),
    Element("zstd: frames", _long(CODINGS["zstd"](b""), "zstd"), coding="zstd"),
    Element("zstd: frames to skip", _long(b"\x50\x2a\x4d\x18\0\0\0\0", "zstd"), coding="zstd"),
    Element("zstd: members", _bodies(CODINGS["zstd"](CODINGS["gzip"](b"") * 50_000), "gzip, zstd"), coding="zstd"),
    Element("br: tables", _bodies(_brotli_tables(4), "br"), coding="br"),
    Element("zstd: tables of br", _bodies(CODINGS["zstd"](_brotli_tables(2000)), "br, zstd"), coding="zstd"),
    Element("gzip: frames", _bodies(CODINGS["gzip"](CODINGS["zstd"](b"") * 80_000), "zstd, gzip"), coding="gzip"),
)  # fmt: skip


def benign(n: int, seed: int = 7, coding: str = "") -> list[Turn]:
    """Return the api shape's traffic in one connection: small JSON calls, mostly heads. coding: of the answers."""
    rng = random.Random(seed)
    out: list[Turn] = []
    size = number = 0
    while size < n:
        answer = api_response(rng, number)
        if coding:
            answer = _encoded(CODINGS[coding](answer.partition(b"\r\n\r\n")[2]), coding)
        out += [(C, api_request(rng, number)), (S, answer)]
        size += len(out[-1][1]) + len(out[-2][1])
        number += 1
    return out


@lru_cache(1 << 12)
def _template(flags: int, payload: bytes) -> Template:
    return Template(flags, payload)


def frames(turns: Sequence[Turn], segment: int, client: int = CLIENT) -> Iterator[bytes]:
    """The frames of one connection: handshake, the turns cut in segments, an acknowledgement now and then, no end."""
    isn = (1000, 5000)
    at = [isn[0], isn[1]]
    ends = ((client, SERVER, PORTS), (SERVER, client, PORTS[::-1]))

    def frame(side: int, flags: int, payload: bytes = b"") -> bytes:
        template = _template(flags, payload) if len(payload) < 8 else Template(flags, payload)
        out = template.frame(*ends[side], at[side] & MASK, at[1 - side] & MASK if flags & ACK else 0)
        at[side] += len(payload) + bool(flags & SYN)
        return out

    yield frame(0, SYN)
    yield frame(1, SYN | ACK)
    yield frame(0, ACK)
    sent = 0
    for by_client, data in turns:
        side = 0 if by_client else 1
        for start in range(0, len(data), segment):
            yield frame(side, PSH | ACK, data[start : start + segment])
            sent += 1
            if sent % ACK_EVERY == 0:
                yield frame(1 - side, ACK)
        yield frame(1 - side, ACK)


def batches(turns: Sequence[Turn], segment: int) -> list[bytes]:
    """The same as a capture would hand it to a worker."""
    sharder = Sharder(KEY, 1, Config(shard=Shard(batch_bytes=1 << 18)))
    out = []
    for number, frame in enumerate(frames(turns, segment)):
        sharder.push(START_NS + number * STEP_NS, frame)
        if sharder.ready:
            for _, _, message in sharder.take():
                out.append(bytes(message))
                sharder.recycle(message)
    for _, _, message in sharder.end():
        out.append(bytes(message))
        sharder.recycle(message)
    return out


class Runner:
    """Runs scenes; headers: for the event, as in http.headers. look: into bodies, too."""

    def __init__(self, headers: Sequence[str] = (), look: bool = False) -> None:
        wanted = {**WIDE, "http.headers": list(headers), **(LOOK if look else {})}
        self.config = resolve(None, {"source.interfaces": ["bench0"], **wanted})

    def once(self, made: Sequence[bytes], together: int = 1) -> float:
        """Seconds of processor time for some batches, events and end included, in each of so many pipelines.

        All pipelines take the batches before the first one ends, so their memory is there at the same time.
        """
        lines = [Pipeline(self.config) for _ in range(together)]
        begun = time.process_time()
        for line in lines:
            for batch in made:
                line.feed(batch)
                line.take()
        for line in lines:
            line.finish()
            line.take()
        return time.process_time() - begun

    def seconds(self, made: Sequence[bytes], least: float, best_of: int = 3, together: int = 1) -> float:
        """The best of a few times, each over at least `least` seconds; of one run."""
        repeat = max(1, int(least / max(self.once(made, together), 1e-6)))
        return min(sum(self.once(made, together) for _ in range(repeat)) for _ in range(best_of)) / repeat

    def counts(self, made: Sequence[bytes]) -> dict[str, int]:
        """Return the pipeline's counters over these batches, for tests that a scene matches its name."""
        line = Pipeline(self.config)
        for batch in made:
            line.feed(batch)
        line.finish()
        return line.counts()


def size_of(turns: Sequence[Turn]) -> int:
    """Bytes that are said."""
    return sum(len(data) for _, data in turns)
