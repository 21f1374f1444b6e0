"""The output as Parquet: the only file that knows pyarrow. The same face to the feed as Output has, see output.py.

A Parquet file can be read when its last bytes are there, so it is written under a name that ends with .part and gets
its own at one stroke, whole and on the disk: as output.path at the end of the run, or, where files rotate, under the
names of archive.py. What a killed process had not finished is lost, and counted by the next one.

A thread does the work, because a row group takes some tenths of a second; Arrow needs no lock of Python meanwhile. What
waits for it is bounded, in bytes.
"""

from __future__ import annotations

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

from appliance.archive import Archive
from appliance.columns import BOOL, COLUMNS, FLOAT, FRAMINGS, INT, INTS, JSON, NANOSECONDS, TEXT, TEXTS, TIME, Column
from appliance.eventbatch import Buffer
from appliance.options import Output as Options
from appliance.output import OutputError
from appliance.stats import Page

PATIENT_LIMIT = 64 << 20  # bytes; when the sender waits for us, there is no use in holding more
ROWS = 122_880  # of a row group: as many as DuckDB reads at a time
ROW_BYTES = 64 << 20  # of JSON in a row group, if that is less
PIECE = 4 << 20  # bytes of JSON that are made columns of at a time
AGAIN_S = 1.0  # between a write that failed and the next
MARK = b'"headers":'  # only events that hold it can have header fields


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
    """The columns of a file."""
    types = _types()
    return pyarrow.schema([(column.name, types[column.kind]) for column in COLUMNS])


def _reading() -> Any:
    """The events as Arrow reads them: fields inside each other, times to the nanosecond."""
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


class _Half(msgspec.Struct):
    headers: msgspec.Raw = msgspec.Raw()


class _Http(msgspec.Struct):
    request: _Half | None = None
    response: _Half | None = None


class _Headed(msgspec.Struct):
    http: _Http


_headed = msgspec.json.Decoder(_Headed)


def _text(half: _Half | None) -> str | None:
    return bytes(half.headers).decode() or None if half is not None else None


class Columns:
    """Makes tables of events."""

    def __init__(self) -> None:
        self.schema = schema()
        self._types = {column.name: self.schema.field(column.name).type for column in COLUMNS}
        parse = {"explicit_schema": _reading(), "unexpected_field_behavior": "ignore"}
        self._parse = pyarrow.json.ParseOptions(**parse)

    def table(self, lines: bytes) -> tuple[Any, int]:
        """The table of JSON lines, and how many lines could not be understood and are not in it."""
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
        return found.cast(wanted, safe=False)  # only the nanoseconds of times go

    def _headers(self, lines: bytes) -> dict[str, list[str | None]]:
        events = [_headed.decode(line).http for line in lines.split(b"\n")]
        sides = {"request": [event.request for event in events], "response": [event.response for event in events]}
        return {f"http.{side}.headers": [_text(half) for half in halves] for side, halves in sides.items()}


class _File:
    """One file being written, under its name for the time being."""

    def __init__(self, columns: Columns, path: Path) -> None:
        self.path = path
        self.events = 0  # that it was given
        self.bytes = 0  # of their JSON
        self.bad = 0  # of these events, those that could not be understood
        self._columns = columns
        self._lines: list[bytes] = []
        self._lines_size = 0
        self._tables: list[Any] = []
        self._rows = self._row_bytes = 0
        self._sink = pyarrow.OSFile(str(path), "wb")
        self._writer = pyarrow.parquet.ParquetWriter(self._sink, columns.schema, compression="zstd")

    def add(self, body: bytes, events: int) -> None:
        """Takes events. Raises OSError, and is good for nothing then."""
        self._lines.append(body)
        self._lines_size += len(body)
        self.events += events
        self.bytes += len(body) + 1
        if self._lines_size >= PIECE:
            self._settle()

    @property
    def size(self) -> int:
        """Of the file so far."""
        return int(self._sink.tell())

    def _settle(self) -> None:
        """Makes columns of the lines, and a row group when there are enough."""
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
        """Writes the rest and gives the file its name. Raises OSError."""
        self._settle()
        self._row_group()
        self._writer.close()
        self._sink.close()
        _to_disk(self.path)
        os.replace(self.path, name)
        _to_disk(name.parent)

    def abandon(self) -> None:
        """Takes it away."""
        with suppress(OSError, ValueError):
            self._writer.close()
        with suppress(OSError, ValueError):
            self._sink.close()
        with suppress(OSError):
            self.path.unlink()


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class ParquetOutput:
    """See the module, and Output for what the feed expects. Owns the output counters of the feed's page.

    An event counts as written when its file has its name; until then it is in `open_events`."""

    fd = -1
    pollable = False

    def __init__(self, options: Options, page: Page, limit: int, *, patient: bool) -> None:
        self.options = options
        self.path = Path(options.path)
        self.page = page
        self.limit = PATIENT_LIMIT if patient else limit
        self.patient = patient
        self.closed = False
        self._archive = Archive(self.path, options, page) if options.rotates else None
        self._part = Path(options.opened)
        self._queue: queue.SimpleQueue[tuple[bytes, int] | None] = queue.SimpleQueue()
        self._size = 0  # bytes of what was given to the thread
        self._done_size = 0  # of these, what it has taken in
        self._told: queue.SimpleQueue[dict[str, int]] = queue.SimpleQueue()  # what the thread counted
        self._open: _File | None = None
        self._due = float("inf")  # time.time() at which the file is old enough
        self._again_at = 0.0  # time.monotonic()
        self._crash: BaseException | None = None
        page.add("dropped_output", page["open_events"])  # of the process before us
        page["open_events"] = 0
        if self._archive:
            self._archive.start()
        elif self.path.is_dir():
            raise OutputError(f"output.path (-o) {self.path}: Is a directory")
        self._part.unlink(missing_ok=True)
        self._thread = threading.Thread(target=self._run, name="parquet", daemon=True)
        self._thread.start()

    # -- the feed's side -------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        """Whether the thread has not taken in everything."""
        return self._done_size < self._size

    @property
    def full(self) -> bool:
        """Whether more is waiting than should."""
        return self._size - self._done_size >= self.limit

    def write(self, body: Buffer, events: int) -> None:
        """Takes one message of that many events."""
        if self.closed or (self.full and not self.patient):
            self.page.add("dropped_output", events)
            return
        self._size += len(body)
        self.page.add("open_events", events)
        self._queue.put((bytes(body), events))

    def flush(self) -> None:
        """Counts what the thread has done."""
        while not self._told.empty():
            for key, count in self._told.get().items():
                self.page.add(key, count)
        if self._crash is not None:
            raise self._crash

    def tick(self) -> None:
        """The same. Files that are old enough are closed by the thread."""
        self.flush()

    def pause(self, timeout_s: float) -> None:
        """Waits a while for the thread."""
        time.sleep(timeout_s)

    def close(self, wait: Callable[[], bool] = lambda: False) -> None:
        """Ends the file and waits until it has its name. Closed files are seen to while wait()."""
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
        except BaseException as error:  # ours: the feed ends with it, see flush
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
            if self._open is not None and self._is_full(self._open):
                self._finish(self._open)
        if self._open is None and not self._archive:
            self._begin(columns)  # a run without events has a file without rows
        if self._open is not None:
            self._finish(self._open)

    def _is_full(self, file: _File) -> bool:
        most = self.options.rotate_bytes
        return time.time() >= self._due or bool(most and file.size >= most)

    def _begin(self, columns: Columns) -> None:
        if time.monotonic() < self._again_at:
            return
        try:
            self._open = _File(columns, self._part)
        except OSError:
            self._again_at = time.monotonic() + AGAIN_S
            self._tell(write_errors=1)
            return
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
        except OSError:
            self._give_up(self._open)

    def _finish(self, file: _File) -> None:
        try:
            name = self._archive.free_name(datetime.now(UTC)) if self._archive else self.path
            file.finish(name)
        except OSError:
            self._give_up(file)
            return
        self._open, self._due = None, float("inf")
        good = {"written_events": file.events - file.bad, "written_bytes": file.bytes, "dropped_output": file.bad}
        self._tell(open_events=-file.events, **good)
        if self._archive:
            self._tell(rotations=1)
            self._archive.add(name)

    def _give_up(self, file: _File) -> None:
        """The disk does not take it: this file is lost, the next event begins another."""
        file.abandon()
        self._open, self._due = None, float("inf")
        self._again_at = time.monotonic() + AGAIN_S
        self._tell(write_errors=1, dropped_output=file.events, open_events=-file.events)

    def _tell(self, **counts: int) -> None:
        self._told.put(counts)
