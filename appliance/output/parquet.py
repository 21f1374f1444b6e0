"""The output as Parquet: the only module that uses pyarrow. Same interface as JsonLinesOutput.

A Parquet file is readable only with its last bytes. So it is written under a name that ends with .part, and renamed
atomically when it is whole and on the disk: to output.path at the end of the run or, with rotation, to the names of
rotation.py. The unfinished file of a killed process is lost, and the next process counts its events. A file that is
moved meanwhile is finished in its new place, and another begins; the events of a removed one are lost.

A thread does the work, because a row group takes some tenths of a second; Arrow does not hold the interpreter's lock.
Its queue is bounded, in bytes.
"""

from __future__ import annotations

import errno
import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pyarrow
import pyarrow.compute
import pyarrow.json
import pyarrow.parquet

from appliance.config.schema import Output as Options
from appliance.ipc.event_batch import Body
from appliance.native.file_identity import is_still
from appliance.output.jsonlines import CHECK_INTERVAL_S, OutputError, SandboxedPath
from appliance.output.output_file import open_output
from appliance.output.parquet_columns import (
    BOOL,
    COLUMNS,
    FLOAT,
    FRAMINGS,
    INT,
    INTS,
    JSON,
    NANOSECONDS,
    TEXT,
    TEXTS,
    TIME,
    Column,
)
from appliance.output.rotation import Archive
from appliance.runtime import log
from appliance.stats.page import Page

LOSSLESS_LIMIT = 64 << 20  # bytes; the sender waits for us, so a longer queue is of no use
ROWS = 122_880  # per row group: as many as DuckDB reads at a time
ROW_BYTES = 64 << 20  # of JSON per row group, if that is less
PIECE = 4 << 20  # bytes of JSON that are converted at a time
RETRY_INTERVAL_S = 1.0  # between a failed write and the next
MARK = b'"headers":'  # only events that contain it can have header fields


def _types() -> dict[str, Any]:
    arrow = pyarrow
    framing = arrow.struct([("framing", arrow.string()), ("body_bytes", arrow.int64())])
    return {
        TEXT: arrow.string(),
        INT: arrow.int64(),
        FLOAT: arrow.float64(),
        BOOL: arrow.bool_(),
        TEXTS: arrow.list_(arrow.string()),
        INTS: arrow.list_(arrow.int64()),
        TIME: arrow.timestamp("us", "UTC"),
        NANOSECONDS: arrow.int64(),
        FRAMINGS: arrow.list_(framing),
        JSON: arrow.string(),
    }


def schema() -> Any:
    """Return the schema of a file."""
    types = _types()
    return pyarrow.schema([(column.name, types[column.kind]) for column in COLUMNS])


def _reading() -> Any:
    """Return the schema with which Arrow reads the events: nested fields, times in nanoseconds."""
    types = {**_types(), TIME: pyarrow.timestamp("ns", "UTC")}
    tree: dict[str, Any] = {}
    for column in COLUMNS:
        if column.kind in (JSON, NANOSECONDS):
            continue
        *parents, leaf = column.path.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = types[column.kind]

    def fields(node: dict[str, Any]) -> list[tuple[str, Any]]:
        return [(name, pyarrow.struct(fields(sub)) if isinstance(sub, dict) else sub) for name, sub in node.items()]

    return pyarrow.schema(fields(tree))


class _Half(msgspec.Struct, frozen=True):
    headers: msgspec.Raw = msgspec.Raw()


class _Http(msgspec.Struct, frozen=True):
    request: _Half | None = None
    response: _Half | None = None


class _Headed(msgspec.Struct):
    http: _Http = _Http()  # events of other datasets have none


_headed = msgspec.json.Decoder(_Headed)


def _text(half: _Half | None) -> str | None:
    return bytes(half.headers).decode() or None if half is not None else None


class Columns:
    """Converts events to tables."""

    def __init__(self) -> None:
        self.schema = schema()
        self._types = {column.name: self.schema.field(column.name).type for column in COLUMNS}
        parse = {"explicit_schema": _reading(), "unexpected_field_behavior": "ignore"}
        self._parse = pyarrow.json.ParseOptions(**parse)

    def table(self, lines: bytes) -> tuple[Any, int]:
        """Return the table of JSON lines, and the number of invalid lines, which it lacks."""
        try:
            return self._table(lines), 0
        except pyarrow.ArrowInvalid:
            tables, bad = [self.schema.empty_table()], 0
            for line in lines.split(b"\n"):
                try:
                    tables.append(self._table(line))
                except pyarrow.ArrowInvalid:
                    bad += 1
            return pyarrow.concat_tables(tables), bad

    def _table(self, lines: bytes) -> Any:
        reading = pyarrow.json.ReadOptions(use_threads=False, block_size=max(1 << 20, len(lines) + 1))
        read = pyarrow.json.read_json(BytesIO(lines), read_options=reading, parse_options=self._parse).combine_chunks()
        headers = self._headers(lines) if MARK in lines else {}
        columns = [self._column(read, column, headers) for column in COLUMNS]
        return pyarrow.table(columns, schema=self.schema)

    def _column(self, read: Any, column: Column, headers: dict[str, list[str | None]]) -> Any:
        wanted = self._types[column.name]
        if column.kind == JSON:
            values = headers.get(column.path)
            return pyarrow.nulls(len(read), wanted) if values is None else pyarrow.array(values, wanted)
        found = read.column(column.path.partition(".")[0])
        parts = column.path.split(".")[1:]
        if parts:
            found = pyarrow.compute.struct_field(found, parts)
        return found.cast(wanted, safe=False)  # drops only the nanoseconds of times

    def _headers(self, lines: bytes) -> dict[str, list[str | None]]:
        events = [_headed.decode(line).http for line in lines.split(b"\n")]
        sides = {"request": [event.request for event in events], "response": [event.response for event in events]}
        return {f"http.{side}.headers": [_text(half) for half in halves] for side, halves in sides.items()}


class _File:
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


class ParquetOutput:
    """The Parquet output; see the module. Owns the output counters of the feed's page.

    An event counts as written when its file is complete; until then it counts in `open_events`.
    """

    fd = -1
    pollable = False
    lost = False  # events that cannot be written are dropped

    def __init__(self, options: Options, page: Page, limit: int, *, lossless: bool) -> None:
        self.options = options
        self.path = Path(options.path)
        self.page = page
        self.limit = LOSSLESS_LIMIT if lossless else limit
        self.lossless = lossless
        self.closed = False
        self._archive = Archive(self.path, options, page) if options.rotates else None
        self._part = Path(options.opened)
        self._queue: queue.SimpleQueue[tuple[bytes, int] | None] = queue.SimpleQueue()
        self._size = 0  # bytes given to the thread
        self._done_size = 0  # of these, bytes that it has processed
        self._told: queue.SimpleQueue[dict[str, int]] = queue.SimpleQueue()  # counts of the thread
        self._open: _File | None = None
        self._due = float("inf")  # time.time() at which the file reaches its maximum age
        self._retry_at = 0.0  # time.monotonic()
        self._crash: BaseException | None = None
        self._begun = False
        self._check_at = 0.0  # time.monotonic() of the thread's next check of the path
        self._failing = False  # the last write failed
        self._fault: OSError | None = None  # the last one, for the feed
        self._sandboxed_path = SandboxedPath(options.opened)
        page.add("dropped_output", page["open_events"])  # of the previous process
        page["open_events"] = 0
        if self._archive:
            self._archive.start()
        elif self.path.is_dir():
            raise OutputError(f"output.path (-o) {self.path}: Is a directory")
        self._thread = threading.Thread(target=self._run, name="parquet", daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """Start the thread. There will be a file even without events, but no existing one changes until
        it is complete.
        """
        if not self._begun:
            self._begun = True
            self.page.add("output_opened", 1)
            self._part.unlink(missing_ok=True)

    # -- the feed's side -------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        """Return whether the thread has work left."""
        return self._done_size < self._size

    @property
    def full(self) -> bool:
        """Return whether the queue exceeds its limit."""
        return self._size - self._done_size >= self.limit

    def write(self, body: Body, events: int) -> None:
        """Queue one message of `events` events."""
        if self.closed or (self.full and not self.lossless):
            self.page.add("dropped_output", events)
            return
        self._size += len(body)
        self.page.add("open_events", events)
        self._queue.put((bytes(body), events))

    def flush(self) -> None:
        """Add the counts of the thread to the page."""
        while not self._told.empty():
            for key, count in self._told.get().items():
                self.page.add(key, count)
        if self._crash is not None:
            raise self._crash

    def tick(self) -> None:
        """Add the counts of the thread to the page; the thread closes old files. Raises OutOfReach."""
        self.flush()
        fault, self._fault = self._fault, None
        if fault is not None:
            self._sandboxed_path.check(fault)

    def check_path_soon(self) -> None:
        """Make the thread check the path at once."""
        self._check_at = 0.0
        self._queue.put((b"", 0))

    def pause(self, timeout_s: float) -> None:
        """Wait a while for the thread."""
        time.sleep(timeout_s)

    def close(self, wait: Callable[[], bool] = lambda: False) -> None:
        """End the file and wait until it is complete. Process closed files while wait() returns True."""
        self.closed = True
        self._queue.put(None)
        self._thread.join()
        self.flush()
        if self._archive:
            self._archive.finish(wait)

    # -- the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._work(Columns())
        except BaseException as error:  # a fault of ours: it ends the feed, see flush
            self._crash = error

    def _work(self, columns: Columns) -> None:
        while True:
            try:
                got = self._queue.get(timeout=max(0.01, min(1.0, self._due - time.time())))
            except queue.Empty:
                got = b"", 0
            if got is None:
                break
            body, events = got
            if events:
                self._add(columns, body, events)
                self._done_size += len(body)
            if self._open is not None and time.monotonic() >= self._check_at:
                self._check_path(self._open)
            if self._open is not None and self._is_full(self._open):
                self._finish(self._open)
        if self._open is None and not self._archive and self._begun:
            self._begin(columns)  # a run without events makes a file without rows
        if self._open is not None:
            self._finish(self._open)

    def _is_full(self, file: _File) -> bool:
        most = self.options.rotate_bytes
        return time.time() >= self._due or bool(most and file.size >= most)

    def _begin(self, columns: Columns) -> None:
        if time.monotonic() < self._retry_at:
            return
        try:
            self._open = _File(columns, self._part)
        except OSError as error:
            self._retry_at = time.monotonic() + RETRY_INTERVAL_S
            self._tell(write_errors=1)
            self._log_once(error)
            return
        self._check_at = time.monotonic() + CHECK_INTERVAL_S
        age = self.options.rotate_s
        self._due = (time.time() // age + 1) * age if age else float("inf")

    def _add(self, columns: Columns, body: bytes, events: int) -> None:
        if self._open is None:
            self._begin(columns)
        if self._open is None:
            self._tell(dropped_output=events, open_events=-events)
            return
        try:
            self._open.add(body, events)
        except OSError as error:
            self._drop_file(self._open, error)

    def _check_path(self, file: _File) -> None:
        """Begin another file if this one was moved or removed."""
        self._check_at = time.monotonic() + CHECK_INTERVAL_S
        if not file.moved:
            return
        self._tell(output_opened=1)
        if file.removed:
            self._drop_file(file, FileNotFoundError(errno.ENOENT, "the file was removed while it was written"))
            self._retry_at = 0.0
            return
        log.warning(
            f"output.path (-o) {file.path}: the file was moved; it is finished in its new place, and another begins",
            reason="output",
        )
        self._end(file, None)

    def _finish(self, file: _File) -> None:
        """Complete a file under its last name, unless it was moved."""
        self._check_path(file)
        if self._open is file:
            self._end(file, self.path)

    def _end(self, file: _File, name: Path | None) -> None:
        """Write the rest of a file. name: its final name without rotation; None: keep the current one."""
        try:
            if name is None:
                file.complete()
            else:
                name = self._archive.free_name(datetime.now(UTC)) if self._archive else name
                file.finish(name)
        except OSError as error:
            self._drop_file(file, error)
            return
        self._open, self._due = None, float("inf")
        self._failing = False
        good = {"written_events": file.events - file.bad, "written_bytes": file.bytes, "dropped_output": file.bad}
        self._tell(open_events=-file.events, **good)
        if self._archive and name is not None:
            self._tell(rotations=1)
            self._archive.add(name)

    def _drop_file(self, file: _File, error: OSError) -> None:
        """Drop this file after a write error; the next event begins another."""
        file.abandon()
        self._open, self._due = None, float("inf")
        self._retry_at = time.monotonic() + RETRY_INTERVAL_S
        self._tell(write_errors=1, dropped_output=file.events, open_events=-file.events)
        self._log_once(error)

    def _log_once(self, error: OSError) -> None:
        """Log an error once, until a write succeeds again."""
        self._fault = error
        if not self._failing:
            self._failing = True
            text = f"output.path (-o) {self._part}: {error.strerror or error}; events are not written"
            log.warning(text, reason="output")

    def _tell(self, **counts: int) -> None:
        self._told.put(counts)
