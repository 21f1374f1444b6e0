"""Capture files: the nanosecond, little-endian pcap format, written."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

ETHERNET = 1
Frame = tuple[int, bytes]  # time stamp in nanoseconds since the epoch, bytes from the link header on

_MAGIC_NS = 0xA1B23C4D
_BUFFER_BYTES = 4 << 20  # written at once: fewer system calls, still nothing beside a shape's gigabyte
_record = struct.Struct("<IIII").pack


class PcapWriter:
    """Writes frames to a path or an open binary file; closes only what it opened; counts what it wrote."""

    def __init__(self, target: str | Path | BinaryIO, *, link_type: int = ETHERNET, snaplen: int = 262144) -> None:
        self._mine = isinstance(target, (str, Path))
        self._file: BinaryIO = open(target, "wb", buffering=0) if isinstance(target, (str, Path)) else target  # noqa: SIM115
        self._buffer = bytearray(struct.pack("<IHHiIII", _MAGIC_NS, 2, 4, 0, 0, snaplen, link_type))
        self._snaplen = snaplen
        self.frames = 0
        self.frame_bytes = 0  # as captured, after snaplen
        self.file_bytes = len(self._buffer)

    def write(self, ts_ns: int, frame: bytes) -> None:
        """Append one frame, cut to snaplen."""
        seconds, nanos = divmod(ts_ns, 1_000_000_000)
        wire = kept = len(frame)
        if kept > self._snaplen:
            kept = self._snaplen
            frame = frame[:kept]
        buffer = self._buffer
        buffer += _record(seconds, nanos, kept, wire)
        buffer += frame
        self.frames += 1
        self.frame_bytes += kept
        if len(buffer) > _BUFFER_BYTES:
            self._flush()

    def write_burst(self, ts_ns: int, frames: Iterable[bytes]) -> int:
        """Append whole frames that follow each other at 10 Gbit/s; returns the time after the last."""
        buffer = self._buffer
        kept = 0
        for frame in frames:
            size = len(frame)
            seconds, nanos = divmod(ts_ns, 1_000_000_000)
            buffer += _record(seconds, nanos, size, size)
            buffer += frame
            ts_ns += 80 + size * 8 // 10
            kept += size
            self.frames += 1
        self.frame_bytes += kept
        if len(buffer) > _BUFFER_BYTES:
            self._flush()
        return ts_ns

    def write_all(self, frames: Iterable[Frame]) -> PcapWriter:
        """Append many frames, in the order given."""
        for ts_ns, frame in frames:
            self.write(ts_ns, frame)
        return self

    def _flush(self) -> None:
        view = memoryview(self._buffer)
        while view:
            view = view[self._file.write(view) :]
        view.release()
        self._buffer = bytearray()

    def close(self) -> None:
        """Write what is held and close the file if it was opened here."""
        self._flush()
        self.file_bytes = 24 + 16 * self.frames + self.frame_bytes
        if self._mine:
            self._file.close()

    def __enter__(self) -> PcapWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
