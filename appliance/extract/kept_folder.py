"""KeptFolder: capture files with the frames of chosen events, each beside those events, bounded in size.

    kept-20261130T194121Z-000001.pcapng     frames of the connections of some events
    kept-20261130T194121Z-000001.jsonl      those events, one a line

A pair gets its names when both are whole, and the oldest pair goes when the folder is full.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from appliance.native.safe_files import own_folder, whole_file

FRAMES, EVENTS = ".pcapng", ".jsonl"
NAME = re.compile(r"kept-\d{8}T\d{6}Z-(\d{6,12})\.(?:pcapng|jsonl)")


class KeptFolder:
    """The folder, which one process at a time writes. Raises OSError, and FolderBusy."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        self.path = path
        self.most_bytes = most_bytes
        self.removed = 0  # pairs
        path.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._folder = own_folder(path, "another process keeps frames there")
        self._pairs: dict[int, dict[str, int]] = {}  # number: sizes by name; the oldest first
        found = sorted((int(match[1]), name) for name in os.listdir(path) if (match := NAME.fullmatch(name)))
        for number, name in found:
            self._pairs.setdefault(number, {})[name] = os.stat(path / name, follow_symlinks=False).st_size
        self._number = found[-1][0] if found else 0
        self._make_room()

    @property
    def size(self) -> int:
        """Return the bytes of all files."""
        return sum(sum(sizes.values()) for sizes in self._pairs.values())

    def add(self, write: Callable[[BinaryIO], None], events: bytes, now: datetime) -> Path | None:
        """Add a pair, and return the file of frames; None: it alone exceeds the limit, and is removed again.

        write: write the frames. Raises what it raises, and OSError; then there is no pair.
        """
        stem = f"kept-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{self._number + 1:06}"
        frames, lines = self.path / (stem + FRAMES), self.path / (stem + EVENTS)
        with whole_file(str(lines)) as out:  # its name comes when the frames are there
            with whole_file(str(frames)) as file:
                write(file)
            out.write(events)
        self._number += 1
        self._pairs[self._number] = {path.name: path.stat().st_size for path in (frames, lines)}
        self._make_room()
        return frames if self._number in self._pairs else None

    def close(self) -> None:
        """Release the folder."""
        os.close(self._folder)

    def _make_room(self) -> None:
        while self._pairs and self.size > self.most_bytes:
            for name in self._pairs.pop(next(iter(self._pairs))):
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=self._folder)
            self.removed += 1
