"""Content codings with their estimated cost; a library decodes each piece by piece. RFC 1950 to 1952, 7932, 8878.

A layer yields pieces of at most some 100 KiB. Two decoders produce more than they yield in one uninterruptible step;
the header of the stream gives the largest size of that.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FIRST_PIECE = 4096  # small, because a decoder's output before an error is lost with the piece
PIECE = 1 << 16
LEAST_PIECE = 1024
ZSTD_MAGIC, ZSTD_SKIPPED = b"\x28\xb5\x2f\xfd", b"\x2a\x4d\x18"
ZSTD_BLOCK = 128 << 10
ZSTD_WINDOW_LOG = 23  # RFC 9659: 8 MiB, more is not allowed in HTTP
FAULTS = (zlib.error, brotli.error, zstd.ZstdError, EOFError)


class Layer(Protocol):
    """One coding. `pieces` yields the decoded bytes of more input, or raises one of FAULTS. An empty piece reports that
    it opened another decoder."""

    room: int  # of the next piece
    whole: bool  # the input so far is all of an encoding

    def risk(self, data: bytes) -> int:
        """Return how many bytes the very first input may produce in one uninterruptible step, at any room."""
        ...

    def pieces(self, data: bytes) -> Iterator[bytes]: ...


def _inflated(decoder: zlib._Decompress, data: bytes, layer: Layer) -> Iterator[bytes]:
    """Yield zlib's output for some input, in pieces. A call after its end would repeat unused_data."""
    piece = decoder.decompress(data, layer.room)
    while piece:
        yield piece
        piece = b"" if decoder.eof else decoder.decompress(decoder.unconsumed_tail, layer.room)


class Stoppable:
    """A coding whose decoder produces no more than there is room for."""

    def risk(self, data: bytes) -> int:
        return 0


class Gzip(Stoppable):
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
                yield b""
            yield from _inflated(self._decoder, data, self)
            self.whole = self._decoder.eof
            if not self.whole:
                return
            data = self._decoder.unused_data


class Deflate(Stoppable):
    """RFC 1950 as RFC 9110 requires, or RFC 1951 as some servers send it: the first two bytes decide."""

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
    """RFC 7932; windows of at most 16 MiB. The decoder yields no byte before a window is full or the input ends."""

    def __init__(self) -> None:
        self.room = FIRST_PIECE
        self.whole = False
        self._decoder = brotli.Decompressor()

    def risk(self, data: bytes) -> int:
        """Return the size of the first meta-block if it is the last, else a window."""
        bits, at = int.from_bytes(data[:8], "little"), 1
        window = 16
        if bits & 1:
            window, at = (17 + (bits >> 1 & 7), 4) if bits >> 1 & 7 else (8 + (bits >> 4 & 7), 7)
            window = 17 if window == 8 else window
        last, empty, nibbles = bits >> at & 1, bits >> at + 1 & 1, bits >> at + 2 & 3
        if not last or nibbles == 3:
            return 1 << window
        length = 0 if empty else (bits >> at + 4 & (1 << 4 * (4 + nibbles)) - 1) + 1
        return min(1 << window, length)

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
    """RFC 8878: frames one after the other, skippable ones among them. The decoder decodes whole blocks."""

    def __init__(self) -> None:
        self.room = FIRST_PIECE
        self.whole = False
        self._open()

    def _open(self) -> None:
        self._decoder = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG})

    def risk(self, data: bytes) -> int:
        """Return the size of a block, or of the whole first frame if that is less."""
        descriptor = data[4] if len(data) > 4 else 0
        single, field = descriptor >> 5 & 1, descriptor >> 6
        if data[:4] != ZSTD_MAGIC or not single or field > 1:
            return ZSTD_BLOCK if data[1:4] in (ZSTD_MAGIC[1:], ZSTD_SKIPPED) else 0
        at = 5 + (0, 1, 2, 4)[descriptor & 3]
        return min(ZSTD_BLOCK, int.from_bytes(data[at : at + 1 + field], "little") + 256 * field)

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self.whole:
                self._open()
                self.whole = False
                yield b""
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


class Coding(NamedTuple):
    """A content coding and its cost."""

    layer: Callable[[], Layer]
    held: int  # bytes of memory from the start
    window: int  # the largest that it fills with its output
    byte_ns: int  # estimated for each byte of its output, digests included
    open_ns: int  # estimated for a decoder
    inner_ns: int  # estimated for a byte from another coding: its tables may cost more than their output
    measured: bool = False  # a few bytes on the wire may describe tables that cost much more


LAYERS: dict[bytes, Coding] = {
    b"gzip": Coding(Gzip, 48 << 10, 0, 5, 4_000, 160),
    b"x-gzip": Coding(Gzip, 48 << 10, 0, 5, 4_000, 160),
    b"deflate": Coding(Deflate, 48 << 10, 0, 5, 4_000, 160),
    b"br": Coding(Brotli, 256 << 10, 16 << 20, 4, 2_000, 1_700, measured=True),
    b"zstd": Coding(Zstd, 320 << 10, 8 << 20, 2, 12_000, 250),
}


def last_piece(coding: bytes, data: bytes) -> bytes:
    """Return the decoded beginning of a broken input, up to its fault; at most one small piece of it."""
    good, bad, found = 0, len(data), b""
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            piece = next(LAYERS[coding].layer().pieces(data[:middle]), b"")
        except FAULTS:
            bad = middle
        else:
            good, found = middle, piece
    return found
