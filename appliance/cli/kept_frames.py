"""Kept frames for a command: the folder of `record.only` below a ring, or one that `appliance keep` writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from appliance.config.section_record import KEPT
from appliance.extract.kept_folder import kept_pairs
from appliance.native.safe_files import Unusable

_decode = msgspec.json.Decoder(dict[str, Any]).decode
Connection = tuple[object, ...]


def kept_lines(record: str) -> Iterator[tuple[Path, list[bytes]]]:
    """Yield the files of events beside kept frames, with their lines. record: the folder of --record.

    Raises Unusable.
    """
    for _, path in _pairs(record):
        yield path, _lines(path)


def kept_of(record: str, events: Iterable[dict[str, Any]]) -> list[Path]:
    """Return the files with frames of these events' connections, the oldest first. Raises Unusable."""
    wanted = set(map(_connection, events))
    return [frames for frames, path in _pairs(record) if not wanted.isdisjoint(_connections(path))]


def _pairs(record: str) -> list[tuple[Path, Path]]:
    try:
        folders = [folder for folder in (Path(record), Path(record, KEPT)) if folder.is_dir()]
        return [pair for folder in folders for pair in kept_pairs(folder)]
    except OSError as error:
        raise Unusable(f"--record {error.filename or record}: {error.strerror}") from error


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().splitlines()
    except FileNotFoundError:
        return []  # the keeper has removed it
    except OSError as error:
        raise Unusable(f"--record {path}: {error.strerror}") from error


def _connections(path: Path) -> Iterator[Connection]:
    try:
        for line in _lines(path):
            yield _connection(_decode(line))
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as error:
        raise Unusable(f"--record {path}: not the events of kept frames: {error}") from error


def _connection(event: dict[str, Any]) -> Connection:
    """Return the connection of an event: its id, or else its ends."""
    named = event["appliance"].get("connection")
    if named:
        return (named,)
    ends = sorted((event[side]["ip"], event[side]["port"]) for side in ("source", "destination"))
    return (event["network"]["transport"], *ends)
