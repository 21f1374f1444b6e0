"""Rotation of output files: names, compression, retention.

`events.jsonl` is closed as `events-20261122T100000.000000Z.jsonl` (UTC): names sort by time, and no other file in the
folder is touched. A thread of low priority does the slow steps: it syncs the file to the disk, compresses it to `….zst`
and removes it, and removes the oldest files. Each step can be repeated after a kill or a full disk, and a compressed
file is renamed only when it is complete.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from appliance.config.schema import Output
from appliance.output.output_file import open_output
from appliance.stats.page import Page

STAMP = "%Y%m%dT%H%M%S.%fZ"
COMPRESSED = ".zst"
PART = ".part"
LEVEL = 3  # of zstd: on events some 15:1 at several hundred MB/s
RETRY_INTERVAL_S = 30.0  # after a failed step
CLOSE_RETRY_INTERVAL_S = 1.0  # between two attempts to close a file, after a failure
NICE = 19


class Rotation:
    """The end of each file of a path: its size, its age, and the file after it."""

    def __init__(self, path: Path, options: Output, page: Page) -> None:
        self.path = path
        self.options = options
        self.page = page
        self.archive = Archive(path, options, page)
        self._begun = False
        self._due = float("inf")  # time.time() at which the file reaches its maximum age
        self._retry_at = 0.0  # time.monotonic() of the next attempt

    def begin(self, written: float) -> None:
        """Adopt the open file. written: time.time() of its last change."""
        self._due = self._next_due(written)
        if not self._begun:
            self._begun = True
            self.archive.start()

    def exceeds(self, size: int) -> bool:
        """Return whether a file of this size is too large."""
        return 0 < self.options.rotate_bytes < size

    @property
    def is_due(self) -> bool:
        """Return whether the file has reached its maximum age."""
        return time.time() >= self._due

    @property
    def may_try(self) -> bool:
        """Return whether enough time has passed since a failure."""
        return time.monotonic() >= self._retry_at

    def postpone(self) -> None:
        """Wait for the next age: an empty file is not closed."""
        self._due = self._next_due(time.time())

    def next_file(self) -> int:
        """Rename the file, and return the descriptor of a new one; -1 after a failure, and the file stays."""
        try:
            closed = self.archive.free_name(datetime.now(UTC))
            os.rename(self.path, closed)
            try:
                fresh = open_output(self.path, new=True)
            except OSError:
                os.rename(closed, self.path)
                raise
        except OSError:
            self._retry_at = time.monotonic() + CLOSE_RETRY_INTERVAL_S
            self.page.add("rotation_errors", 1)
            return -1
        self._due = self._next_due(time.time())
        self.page.add("rotations", 1)
        self.archive.add(closed)
        return fresh

    def _next_due(self, now: float) -> float:
        """Return the end time of the file: files end at multiples of their age, hourly ones at the full hour, UTC."""
        age = self.options.rotate_s
        return (now // age + 1) * age if age else float("inf")


class Archive:
    """The closed files of one output path. Owns the counters of compression and retention in the feed's page."""

    def __init__(self, path: Path, options: Output, page: Page) -> None:
        self.path = path
        self.options = options
        self.page = page
        pattern = rf"{re.escape(path.stem)}-(\d{{8}}T\d{{6}}\.\d{{6}}Z){re.escape(path.suffix)}"
        self._name = re.compile(rf"{pattern}({re.escape(COMPRESSED)})?")
        self._part = re.compile(rf"{pattern}{re.escape(COMPRESSED + PART)}")
        self._fresh: list[Path] = []  # closed, perhaps not synced yet
        self._work = threading.Event()
        self._ending = False
        self._failed = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Resume the work of an earlier process: remove partial files, process closed ones."""
        for name in self._names():
            if self._part.fullmatch(name):
                with suppress(OSError):
                    (self.path.parent / name).unlink()
        if self.closed():
            self._wake()

    def closed(self) -> list[Path]:
        """Return the closed files, oldest first."""
        return [self.path.parent / name for name in sorted(self._names()) if self._name.fullmatch(name)]

    def free_name(self, now: datetime) -> Path:
        """Return the name for a file closed now: later than all others, whatever the clock did. Raises OSError."""
        moment = now.astimezone(UTC)
        known = [found[1] for name in self._names() if (found := self._name.fullmatch(name))]
        if known and moment.strftime(STAMP) <= max(known):
            moment = datetime.strptime(max(known), STAMP).replace(tzinfo=UTC) + timedelta(microseconds=1)
        return self.path.with_name(f"{self.path.stem}-{moment.strftime(STAMP)}{self.path.suffix}")

    def add(self, closed: Path) -> None:
        """Add a file that was closed."""
        self._fresh.append(closed)
        self._wake()

    def finish(self, wait: Callable[[], bool]) -> None:
        """Let the thread finish its current work while wait() returns True; the next process does the rest."""
        if self._thread is None:
            return
        self._ending = True
        self._work.set()
        while self._thread.is_alive() and wait():
            self._thread.join(0.02)

    def _names(self) -> list[str]:
        try:
            return os.listdir(self.path.parent)
        except OSError:
            return []

    # -- the thread ------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="archive", daemon=True)
            self._thread.start()
        self._work.set()

    def _run(self) -> None:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)  # on Linux, of this thread alone
        while True:
            self._work.wait(RETRY_INTERVAL_S if self._failed else None)
            self._work.clear()
            ending = self._ending
            self._failed = False
            self._sweep()
            if ending:
                return

    def _sweep(self) -> None:
        while self._fresh:
            self._try(self._to_disk, self._fresh.pop(0))
        closed = self.closed()
        if self.options.compress == "zstd":
            for path in closed:
                if path.suffix != COMPRESSED:
                    self._try(self._compress, path)
        if closed:
            self._retire(closed[-1].name.removesuffix(COMPRESSED))

    def _try(self, step: Callable[[Path], None], path: Path) -> None:
        try:
            step(path)
        except FileNotFoundError:
            pass  # another program removed it
        except OSError:
            self._failed = True
            self.page.add("archive_errors", 1)

    def _to_disk(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _compress(self, path: Path) -> None:
        import zstandard  # here: few runs need it

        whole = path.with_name(path.name + COMPRESSED)
        part = path.with_name(whole.name + PART)
        if not whole.exists():
            try:
                with path.open("rb") as source, part.open("wb") as target:
                    size = os.fstat(source.fileno()).st_size
                    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
                    compressor.copy_stream(source, target, size=size)
                    target.flush()
                    os.fsync(target.fileno())
                part.rename(whole)
            except OSError:
                part.unlink(missing_ok=True)
                raise
            self.page.add("compressed_files", 1)
        path.unlink()

    def _retire(self, last: str) -> None:
        """Remove the oldest files beyond the limits. Files closed after `last` count in the next sweep, compressed."""
        keep_files, keep_bytes = self.options.keep_files, self.options.keep_bytes
        kept, size = 0, 0
        for path in reversed(self.closed()):
            if path.name.removesuffix(COMPRESSED) > last:
                continue
            try:
                kept += 1
                size += path.stat().st_size
                if (keep_files and kept > keep_files) or (keep_bytes and size > keep_bytes):
                    path.unlink()
                    self.page.add("removed_files", 1)
            except FileNotFoundError:
                pass
            except OSError:
                self._failed = True
                self.page.add("archive_errors", 1)
