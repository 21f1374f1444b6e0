"""One Parquet file, from its first event to its last bytes."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from appliance.native.file_identity import is_still
from appliance.output.output_file import open_output
from appliance.output.parquet_table import Columns

ROWS = 122_880  # per row group: as many as DuckDB reads at a time
ROW_BYTES = 64 << 20  # of JSON per row group, if that is less
PIECE = 4 << 20  # bytes of JSON that are converted at a time


class ParquetFile:
    """One file being written, under its temporary name."""

    def __init__(self, columns: Columns, path: Path) -> None:
        self.path = path
        self.events = 0  # added to the file
        self.bytes = 0  # of their JSON
        self.bad = 0  # of these events, invalid ones
        self._columns = columns
        self._lines: list[bytes] = []
        self._lines_size = 0
        self._tables: list[Any] = []
        self._rows = self._row_bytes = 0
        descriptor = open_output(path)
        os.ftruncate(descriptor, 0)
        self._sink = os.fdopen(descriptor, "wb")
        self._writer = pyarrow.parquet.ParquetWriter(self._sink, columns.schema, compression="zstd")

    def add(self, body: bytes, events: int) -> None:
        """Add events. Raises OSError, after which the file is unusable."""
        self._lines.append(body)
        self._lines_size += len(body)
        self.events += events
        self.bytes += len(body) + 1
        if self._lines_size >= PIECE:
            self._settle()

    @property
    def size(self) -> int:
        """Return the size of the file so far."""
        return int(self._sink.tell())

    def _settle(self) -> None:
        """Convert the lines to columns, and write a row group if there are enough."""
        if not self._lines:
            return
        table, bad = self._columns.table(b"\n".join(self._lines))
        self._tables.append(table)
        self._rows += len(table)
        self._row_bytes += self._lines_size
        self._lines, self._lines_size = [], 0
        self.bad += bad
        if self._rows >= ROWS or self._row_bytes >= ROW_BYTES:
            self._row_group()

    def _row_group(self) -> None:
        if self._rows:
            table = pyarrow.concat_tables(self._tables)
            self._tables, self._rows, self._row_bytes = [], 0, 0
            self._writer.write_table(table, row_group_size=ROWS)

    def finish(self, name: Path) -> None:
        """Write the rest and rename the file. Raises OSError."""
        self.complete()
        _to_disk(self.path)
        os.replace(self.path, name)
        _to_disk(name.parent)

    def complete(self) -> None:
        """Write the rest, wherever the file is now. Raises OSError."""
        self._settle()
        self._row_group()
        self._writer.close()
        self._sink.close()

    @property
    def moved(self) -> bool:
        """Return whether its name belongs to another file now, or to none."""
        return not is_still(str(self.path), self._sink.fileno())

    @property
    def removed(self) -> bool:
        """Return whether it has no name at all any more."""
        return os.fstat(self._sink.fileno()).st_nlink == 0

    def abandon(self) -> None:
        """Remove the file."""
        ours = not self._sink.closed and not self.moved
        with suppress(OSError, ValueError):
            self._writer.close()
        with suppress(OSError, ValueError):
            self._sink.close()
        if ours:
            with suppress(OSError):
                self.path.unlink()


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
