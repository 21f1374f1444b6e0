"""Decoder: content codings undone, piece by piece, within limits. RFC 9110 section 8.4.1, RFC 7932, RFC 9659.

Whatever the wire says, memory stays what the decoders' windows need, and output comes in pieces of at most some
100 KiB: nothing is ever expanded as a whole. Input is handed to the decoders in slices of SLICE bytes that begin at
fixed places of the body, so that the segments in which it came make no difference, not even to what is left of a body
that is broken.
"""

from __future__ import annotations

import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Protocol

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SLICE = 4096
FIRST_PIECE = 4096  # small, because what a decoder had made before an error is lost with the piece
PIECE = 1 << 16
RATIO_FLOOR = 1 << 20  # what a body may become whatever the ratio
ZSTD_WINDOW_LOG = 23  # RFC 9659: 8 MiB, more is not allowed in HTTP
FAULTS = (zlib.error, brotli.error, zstd.ZstdError, EOFError)


class Verdict(Enum):
    """How it went."""

    OK = "decoded"
    FAILED = "failed"
    UNKNOWN = "unknown"
    LIMIT = "limit"


class Budget:
    """Memory that all bodies of a worker share, in bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, count: int) -> bool:
        """Takes so much, if it is there."""
        if self.used + count > self.limit:
            return False
        self.used += count
        return True

    def give(self, count: int) -> None:
        self.used -= count


class Limits(Protocol):
    """What of the section [bodies] is asked here."""

    @property
    def max_decoded_bytes(self) -> int: ...
    @property
    def max_ratio(self) -> int: ...
    @property
    def max_layers(self) -> int: ...
    @property
    def max_decode_ms(self) -> int: ...


class Layer(Protocol):
    """One coding. `pieces` gives what some more of its input decodes to, or raises one of FAULTS."""

    room: int  # of the next piece
    whole: bool  # the input so far is all of an encoding

    def pieces(self, data: bytes) -> Iterator[bytes]: ...


def _inflated(decoder: zlib._Decompress, data: bytes, layer: Layer) -> Iterator[bytes]:
    """What zlib makes of some input, in pieces. Asked again after its end, it would repeat unused_data."""
    piece = decoder.decompress(data, layer.room)
    while piece:
        yield piece
        piece = b"" if decoder.eof else decoder.decompress(decoder.unconsumed_tail, layer.room)


class Gzip:
    """RFC 1952: members one after the other; zero bytes behind one are padding."""

    def __init__(self) -> None:
        self.room = FIRST_PIECE
        self.whole = False
        self._decoder = zlib.decompressobj(31)

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while True:
            if self.whole:
                data = data.lstrip(b"\0")
                if not data:
                    return
                self._decoder = zlib.decompressobj(31)
                self.whole = False
            yield from _inflated(self._decoder, data, self)
            self.whole = self._decoder.eof
            if not self.whole:
                return
            data = self._decoder.unused_data


class Deflate:
    """RFC 1950 as RFC 9110 says, and RFC 1951 as some servers do: the first two bytes tell."""

    def __init__(self) -> None:
        self.room = FIRST_PIECE
        self.whole = False
        self._first = b""
        self._decoder: zlib._Decompress | None = None

    def pieces(self, data: bytes) -> Iterator[bytes]:
        if self._decoder is None:
            data = self._first + data
            if len(data) < 2:
                self._first = data
                return
            wrapped = data[0] & 15 == 8 and data[0] >> 4 <= 7 and (data[0] << 8 | data[1]) % 31 == 0
            self._decoder = zlib.decompressobj(15 if wrapped else -15)
        elif self.whole:
            raise zlib.error("bytes behind the end")
        yield from _inflated(self._decoder, data, self)
        self.whole = self._decoder.eof
        if self._decoder.unused_data:
            raise zlib.error("bytes behind the end")


class Brotli:
    """RFC 7932; its windows are at most 16 MiB."""

    def __init__(self) -> None:
        self.room = FIRST_PIECE
        self.whole = False
        self._decoder = brotli.Decompressor()

    def pieces(self, data: bytes) -> Iterator[bytes]:
        if self.whole:
            raise brotli.error("bytes behind the end")
        piece = self._decoder.process(data, output_buffer_limit=self.room)
        while piece:
            self.whole = self._decoder.is_finished()
            yield piece
            piece = b"" if self.whole else self._decoder.process(b"", output_buffer_limit=self.room)
        self.whole = self._decoder.is_finished()


class Zstd:
    """RFC 8878: frames one after the other, skippable ones among them."""

    def __init__(self) -> None:
        self.room = FIRST_PIECE
        self.whole = False
        self._open()

    def _open(self) -> None:
        self._decoder = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG})

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self.whole:
                self._open()
                self.whole = False
            piece = self._decoder.decompress(data, self.room)
            if piece:
                yield piece
            while not (self._decoder.eof or self._decoder.needs_input):
                piece = self._decoder.decompress(b"", self.room)
                if piece:
                    yield piece
            self.whole = self._decoder.eof
            if not self.whole:
                return
            data = self._decoder.unused_data


# Each coding's decoder, what it holds from the start, and the largest window that it fills with what it has made.
LAYERS: dict[bytes, tuple[Callable[[], Layer], int, int]] = {
    b"gzip": (Gzip, 48 << 10, 0),
    b"x-gzip": (Gzip, 48 << 10, 0),
    b"deflate": (Deflate, 48 << 10, 0),
    b"br": (Brotli, 256 << 10, 16 << 20),
    b"zstd": (Zstd, 320 << 10, 8 << 20),
}


def last_piece(coding: bytes, data: bytes) -> bytes:
    """What the beginning of a broken input decodes to, up to its fault; at most one small piece of it."""
    good, bad, found = 0, len(data), b""
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            piece = next(LAYERS[coding][0]().pieces(data[:middle]), b"")
        except FAULTS:
            bad = middle
        else:
            good, found = middle, piece
    return found


class Decoder:
    """The codings of one body, undone in reverse order; decoded pieces go to `sink`, which must not hold this object.
    After any verdict but OK it takes no more.

    limits: the section [bodies]. budget: what the decoders hold is taken from it; close() gives it back. A body without
    a byte is all right in any coding: servers announce one and then send nothing.
    """

    def __init__(self, codings: Sequence[bytes], limits: Limits, budget: Budget, sink: Callable[[bytes], None]) -> None:
        self.verdict = Verdict.OK
        self.starved = False  # the budget had no more
        self._limits = limits
        self._budget = budget
        self._sink = sink
        self._codings = list(reversed(codings))
        self._layers: list[Layer] = []
        self._made = [0] * len(codings)
        self._windows = [0] * len(codings)
        self._held = 0
        self._fed = [False] * len(codings)
        self._buffer = bytearray()
        self._seen = 0
        self._spent_ns = self._began_ns = 0
        if any(coding not in LAYERS for coding in codings):
            self.verdict = Verdict.UNKNOWN
            return
        if len(codings) > limits.max_layers or not self._hold(SLICE + sum(LAYERS[coding][1] for coding in codings)):
            self.verdict = Verdict.LIMIT
            return
        self._layers = [LAYERS[coding][0]() for coding in self._codings]

    def take(self, data: bytes | memoryview) -> None:
        """The next bytes of the body."""
        at = 0
        if self.verdict is not Verdict.OK:
            return
        if self._buffer:
            at = min(SLICE - len(self._buffer), len(data))
            self._buffer += data[:at]
            if len(self._buffer) < SLICE:
                return
            self._flush()
        while len(data) - at >= SLICE and self.verdict is Verdict.OK:
            self._slice(bytes(data[at : at + SLICE]))
            at += SLICE
        if self.verdict is Verdict.OK:
            self._buffer += data[at:]

    def end(self, complete: bool) -> None:
        """No more comes; complete: the body ends here, so its codings have to."""
        self._flush()
        if complete and self._seen and self.verdict is Verdict.OK and not all(layer.whole for layer in self._layers):
            self.verdict = Verdict.FAILED
        self.close()

    def close(self) -> None:
        """Lets the decoders go."""
        self._layers = []
        self._buffer = bytearray()
        self._budget.give(self._held)
        self._held = 0

    def _hold(self, count: int) -> bool:
        taken = self._budget.take(count)
        self._held += count if taken else 0
        self.starved = self.starved or not taken
        return taken

    def _flush(self) -> None:
        if self._buffer and self.verdict is Verdict.OK:
            data = bytes(self._buffer)
            self._buffer.clear()
            self._slice(data)

    def _slice(self, data: bytes) -> None:
        self._seen += len(data)
        self._began_ns = time.thread_time_ns()
        try:
            for piece in self._through(0, data):
                self._sink(piece)
        except FAULTS:
            self.verdict = Verdict.FAILED
        self._spent_ns += time.thread_time_ns() - self._began_ns
        if self.verdict is not Verdict.OK:
            self.close()

    def _through(self, depth: int, data: bytes) -> Iterator[bytes]:
        """What these bytes become in the layers from `depth` on, as long as the limits let it."""
        if depth == len(self._layers):
            yield data
            return
        layer, fed = self._layers[depth], self._fed[depth]
        try:
            for piece in layer.pieces(data):
                self._fed[depth] = True
                layer.room = PIECE
                piece = self._allowed(depth, piece)
                yield from self._through(depth + 1, piece)
                if self.verdict is not Verdict.OK:
                    return
        except FAULTS:
            if not fed and not self._fed[depth]:
                self._fed[depth] = True
                yield from self._through(depth + 1, self._allowed(depth, last_piece(self._codings[depth], data)))
            raise
        self._fed[depth] = True

    def _allowed(self, depth: int, piece: bytes) -> bytes:
        """The part of a piece that is within the limits; sets the verdict where they end."""
        room = self._limits.max_decoded_bytes - self._made[depth]
        if len(piece) > room:
            piece = piece[:room]
            self.verdict = Verdict.LIMIT
        self._made[depth] += len(piece)
        if self._made[depth] > max(RATIO_FLOOR, self._limits.max_ratio * self._seen):
            self.verdict = Verdict.LIMIT
        window = min(self._made[depth], LAYERS[self._codings[depth]][2])
        if window > self._windows[depth]:
            if not self._hold(window - self._windows[depth]):
                self.verdict = Verdict.LIMIT
            self._windows[depth] = window
        spent_ns = self._spent_ns + time.thread_time_ns() - self._began_ns
        if spent_ns > self._limits.max_decode_ms * 1_000_000:
            self.verdict = Verdict.LIMIT
        return piece
