"""Encoders of content codings, for tests."""

import gzip
import sys
import zlib

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def raw_deflate(data: bytes) -> bytes:
    """RFC 1951 without the wrapping that RFC 9110 asks for."""
    made = zlib.compressobj(6, zlib.DEFLATED, -15)
    return made.compress(data) + made.flush()


def zeros(coding: str, size: int) -> bytes:
    """So many zero bytes, in one coding; whole MiB."""
    if coding == "gzip":
        made = zlib.compressobj(9, zlib.DEFLATED, 31)
        return b"".join(made.compress(bytes(1 << 20)) for _ in range(size >> 20)) + made.flush()
    if coding == "zstd":
        frame = zstd.ZstdCompressor()
        return b"".join(frame.compress(bytes(1 << 20)) for _ in range(size >> 20)) + frame.flush()
    made = brotli.Compressor(quality=5)
    return b"".join(made.process(bytes(1 << 20)) for _ in range(size >> 20)) + made.finish()


def brotli_tables(count: int) -> bytes:
    """`count` bytes of content; the tables that each of them needs are filled for 140 µs, and described in 86 bytes."""
    block = bytes.fromhex("0000f0ff001019" + "00" * 67 + "207e3800a0088aa040200003")
    return b"\x0c" + block * count + b"\3"


ENCODERS = {
    "gzip": lambda data: gzip.compress(data, 6, mtime=0),
    "x-gzip": lambda data: gzip.compress(data, 1, mtime=0),
    "deflate": zlib.compress,
    "br": lambda data: brotli.compress(data, quality=4),
    "zstd": zstd.compress,
}
ENCODINGS = [*ENCODERS.items(), ("deflate", raw_deflate)]
