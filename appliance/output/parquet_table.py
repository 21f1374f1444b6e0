"""Events as Arrow tables with the columns of parquet_columns.py."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import msgspec
import pyarrow
import pyarrow.compute
import pyarrow.json

from appliance.output.parquet_columns import (
    BOOL,
    COLUMNS,
    FLOAT,
    FRAMINGS,
    INT,
    INTS,
    JSON,
    NANOSECONDS,
    PARTS,
    TEXT,
    TEXTS,
    TIME,
    Column,
)

MARK = b'"headers":'  # only events that contain it can have header fields


def _types() -> dict[str, Any]:
    arrow = pyarrow
    framing = arrow.struct([("framing", arrow.string()), ("body_bytes", arrow.int64())])
    text = arrow.string()
    members = {"name": text, "complete": arrow.bool_(), "reason": text, "hash": arrow.struct([("sha256", text)])}
    part = arrow.struct([*members.items(), ("size", arrow.int64()), ("mime_type", text)])
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
        PARTS: arrow.list_(part),
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
