"""KeptFolder: capture files with the frames of chosen events, each beside those events, bounded in size.

    kept-20261130T194121Z-000001.pcapng     frames of the connections of some events
    kept-20261130T194121Z-000001.jsonl      those events, one a line

A pair gets its names when both are whole, and the oldest pair goes when the folder is full. So the events beside the
frames are an index of them.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

from appliance.native.safe_files import own_folder, whole_file

FRAMES, EVENTS = ".pcapng", ".jsonl"
NAME = re.compile(r"kept-\d{8}T\d{6}Z-(\d{6,12})\.(?:pcapng|jsonl)")
PART = re.compile(NAME.pattern + r"\.part")  # of a killed process


class _Full(Exception):
    """A file exceeds the limit of the folder."""


class _Limited(io.RawIOBase):
    """A file of at most some bytes. Raises _Full."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        self._file, self._left = file, most

    def write(self, data: Any) -> int:
        self._left -= len(data)
        if self._left < 0:
            raise _Full
        return self._file.write(data)


def kept_pairs(path: Path) -> list[tuple[Path, Path]]:
    """Return the files of frames in a folder, each with its file of events; the oldest first. Raises OSError."""
    numbered = sorted((int(match[1]), name) for name in os.listdir(path) if (match := NAME.fullmatch(name)))
    frames = [path / name for _, name in numbered if name.endswith(FRAMES)]
    return [(one, lines) for one in frames if (lines := one.with_suffix(EVENTS)).exists()]


class KeptFolder:
    """The folder, which one process at a time writes. Raises OSError, and FolderBusy."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        self.path = path
        self.most_bytes = most_bytes
        self.removed = 0  # pairs
        path.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._folder = own_folder(path, "another process keeps frames there")
        self._pairs: dict[int, dict[str, int]] = {}  # number: sizes by name; the oldest first
        names = os.listdir(path)
        for name in filter(PART.fullmatch, names):
            os.unlink(name, dir_fd=self._folder)
        found = sorted((int(match[1]), name) for name in names if (match := NAME.fullmatch(name)))
        for number, name in found:
            self._pairs.setdefault(number, {})[name] = os.stat(path / name, follow_symlinks=False).st_size
        self._number = found[-1][0] if found else 0
        self._make_room()

    @property
    def files(self) -> int:
        """Return how many files of frames there are."""
        return len(self._pairs)

    @property
    def size(self) -> int:
        """Return the bytes of all files."""
        return sum(sum(sizes.values()) for sizes in self._pairs.values())

    def add(self, write: Callable[[BinaryIO], None], events: bytes, now: datetime) -> Path | None:
        """Add a pair, and return the file of frames; None: it alone exceeds the limit.

        write: write the frames. Raises what it raises, and OSError; then there is no pair.
        """
        stem = f"kept-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{self._number + 1:06}"
        frames, lines = self.path / (stem + FRAMES), self.path / (stem + EVENTS)
        try:
            with whole_file(str(lines)) as out:  # its name comes when the frames are there
                with whole_file(str(frames)) as file:
                    write(cast(BinaryIO, _Limited(file, self.most_bytes - len(events))))
                out.write(events)
        except _Full:
            return None
        self._number += 1
        self._pairs[self._number] = {path.name: path.stat().st_size for path in (frames, lines)}
        self._make_room()
        return frames

    def close(self) -> None:
        """Release the folder."""
        os.close(self._folder)

    def _make_room(self) -> None:
        while self._pairs and self.size > self.most_bytes:
            for name in self._pairs.pop(next(iter(self._pairs))):
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=self._folder)
            self.removed += 1
