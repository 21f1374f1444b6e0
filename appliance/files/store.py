"""FileStore: one folder with files under the SHA-256 of their content, bounded by size and age.

    SHA-256      a file, whole: it gets this name when every byte is written
    part-W-N     one that is being written, the body N of worker W; the next start removes what a kill has left
    new/SHA-256  an empty file for each new file, if it is to be announced; a scanner removes it

All names are made here, of digits alone. No byte of the network is part of a path. Each append opens the part again, so
that bodies which last cost no descriptors.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from appliance.config.section_files import NEW, Files
from appliance.native.safe_files import OUTPUT_MODE, own_folder, write_all

BLOCK = 4096  # a file takes a multiple of this
NAME = re.compile(r"[0-9a-f]{64}")
PART = re.compile(r"part-\d+-\d+")
FLAGS = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
KEPT, DUPLICATE = "kept", "duplicates"
BUDGET, DISK, MISMATCH, LOST = "left_out.budget", "left_out.disk", "left_out.mismatch", "crash_lost"
RETRY_S = 1.0  # after a failed write; until then no file is begun

Key = tuple[int, int]  # worker, number of the body


class _Part:
    """A file that is being written."""

    __slots__ = ("collected", "digest", "fate", "size", "written")

    def __init__(self) -> None:
        self.size = 0  # bytes so far
        self.written = 0  # of these, in the part on the disk
        self.collected = bytearray()  # the others
        self.digest = hashlib.sha256(usedforsecurity=False)
        self.fate = ""  # the outcome, if it is decided before the end


class FileStore:
    """The folder, which only this process writes.

    alive: called during long work. Raises OSError, and FolderBusy if another process has the folder.
    """

    def __init__(self, options: Files, most_parts: int, alive: Callable[[], None] = lambda: None) -> None:
        self.path = Path(options.path)
        self.removed = {"budget": 0, "age": 0}
        self.write_errors = 0
        self.fault: OSError | None = None  # of the last failed write, until one succeeds
        self.kept_bytes = 0
        self._most_parts = most_parts
        self._parts: dict[Key, _Part] = {}
        self._open: set[Key] = set()  # those with collected bytes
        self._stored: dict[str, tuple[int, int]] = {}  # name: size, time of the last sight in ns; the oldest first
        self._used = 0  # bytes of files and parts, in blocks
        self._unfinished = 0  # bytes of parts, in blocks: at most half of the budget, so that they displace no more
        self._retry_at = 0.0
        self._folder = own_folder(self.path, "another process keeps files there")
        self.configure(options)
        self._recover(alive)

    def configure(self, options: Files) -> None:
        """Take new limits."""
        self._budget, self._age_ns, self._announce = options.budget_bytes, options.keep_s * 10**9, options.announce
        self._make_room(0)

    def _recover(self, alive: Callable[[], None]) -> None:
        """Find the files of earlier runs, and remove unfinished ones."""
        found = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                alive()
                if PART.fullmatch(entry.name):
                    os.unlink(entry.name, dir_fd=self._folder)
                elif NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    about = entry.stat(follow_symlinks=False)
                    found.append((about.st_mtime_ns, entry.name, about.st_size))
        for seen_ns, name, size in sorted(found):
            self._stored[name] = size, seen_ns
            self._used += _blocks(size)
        self._make_room(0)

    # -- what there is -------------------------------------------------------------------------------------------------

    @property
    def files(self) -> int:
        """Return how many whole files there are."""
        return len(self._stored)

    @property
    def size(self) -> int:
        """Return the bytes of all files in blocks, unfinished ones included."""
        return self._used

    @property
    def oldest_ns(self) -> int:
        """Return when the file was last seen that was seen longest ago; 0 if there is none."""
        return next(iter(self._stored.values()))[1] if self._stored else 0

    # -- bodies --------------------------------------------------------------------------------------------------------

    def add(self, key: Key, place: int, data: memoryview) -> None:
        """Add bytes of a body, behind its first `place` bytes. A body without its beginning is ignored."""
        part = self._parts.get(key)
        if part is None:
            if place or len(self._parts) >= self._most_parts:
                return
            part = self._parts[key] = _Part()
            if time.monotonic() < self._retry_at:
                part.fate = DISK
        if part.fate:
            return
        if place != part.size:
            self._give_up(key, part, LOST)
            return
        part.size += len(data)
        part.digest.update(data)
        part.collected += data
        self._open.add(key)

    def end(self, key: Key, size: int, digest: bytes, now_ns: int) -> str:
        """End a body, and return the slot that counts its outcome. size, digest: as its worker has counted them."""
        part = self._parts.pop(key, None)
        if part is None:
            return LOST
        if not part.fate and part.size != size:
            self._give_up(key, part, LOST)
        elif not part.fate and part.digest.digest() != digest:
            self._give_up(key, part, MISMATCH)
        name = digest.hex()
        if not part.fate and name in self._stored:
            self._give_up(key, part, DUPLICATE)
            self._see(name, now_ns)
        if not part.fate:
            self._flush(key, part)
        if not part.fate:
            self._name(key, part, name, now_ns)
        self._open.discard(key)
        return part.fate

    def abandon(self, key: Key) -> None:
        """Remove the part of a body that has no end."""
        part = self._parts.pop(key, None)
        if part is not None:
            self._give_up(key, part, LOST)

    def abandon_all(self, worker: int) -> None:
        """Remove the parts of a worker that is gone."""
        for key in [key for key in self._parts if key[0] == worker]:
            self.abandon(key)

    def flush(self) -> None:
        """Write what is collected, so that memory holds no more than one message."""
        for key in list(self._open):
            self._flush(key, self._parts[key])

    def expire(self, now_ns: int) -> None:
        """Remove the files that were last seen too long ago."""
        while self._age_ns and self._stored and self.oldest_ns < now_ns - self._age_ns:
            self._remove_oldest("age")

    # -- the folder ----------------------------------------------------------------------------------------------------

    def _flush(self, key: Key, part: _Part) -> None:
        """Append what is collected to the part; if that fails, its fate is decided."""
        self._open.discard(key)
        data, part.collected = part.collected, bytearray()
        if not data:
            return
        more = _blocks(part.written + len(data)) - _blocks(part.written)
        if self._unfinished + more > self._budget // 2 or not self._make_room(more):
            self._give_up(key, part, BUDGET)
            return
        self._used += more
        self._unfinished += more
        part.written += len(data)
        try:
            _append(self._folder, _name_of(key), bytes(data), new=part.written == len(data))
        except OSError as fault:
            self._fail(fault)
            self._give_up(key, part, DISK)
        else:
            self.fault = None

    def _name(self, key: Key, part: _Part, name: str, now_ns: int) -> None:
        """Give a whole part the name of its content."""
        try:
            os.rename(_name_of(key), name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except OSError as fault:
            self._fail(fault)
            self._give_up(key, part, DISK)
            return
        self._stored[name] = part.size, now_ns
        self._unfinished -= _blocks(part.written)
        self.kept_bytes += part.size
        part.fate = KEPT
        if self._announce:
            with suppress(OSError):
                os.close(os.open(f"{NEW}/{name}", FLAGS, OUTPUT_MODE, dir_fd=self._folder))

    def _see(self, name: str, now_ns: int) -> None:
        """Note that a content was seen again: it is the newest now."""
        size, _ = self._stored.pop(name)
        self._stored[name] = size, now_ns
        with suppress(OSError):
            os.utime(name, ns=(now_ns, now_ns), dir_fd=self._folder, follow_symlinks=False)

    def _give_up(self, key: Key, part: _Part, fate: str) -> None:
        """Decide the fate of a body, and remove its bytes."""
        part.fate = fate
        part.collected = bytearray()
        self._open.discard(key)
        if part.written:
            self._used -= _blocks(part.written)
            self._unfinished -= _blocks(part.written)
            part.written = 0
            with suppress(OSError):
                os.unlink(_name_of(key), dir_fd=self._folder)

    def _make_room(self, more: int) -> bool:
        """Remove the oldest files until there is room for `more` bytes; return whether there is."""
        while self._used + more > self._budget and self._stored:
            self._remove_oldest("budget")
        return self._used + more <= self._budget

    def _remove_oldest(self, why: str) -> None:
        name = next(iter(self._stored))
        size, _ = self._stored.pop(name)
        self._used -= _blocks(size)
        self.removed[why] += 1
        for path in (name, f"{NEW}/{name}"):
            with suppress(OSError):
                os.unlink(path, dir_fd=self._folder)

    def _fail(self, fault: OSError) -> None:
        self.write_errors += 1
        self.fault = fault
        self._retry_at = time.monotonic() + RETRY_S

    def close(self) -> None:
        """Remove the parts that are left, and release the folder."""
        for key in list(self._parts):
            self.abandon(key)
        os.close(self._folder)


def _blocks(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _name_of(key: Key) -> str:
    return f"part-{key[0]}-{key[1]}"


def _append(folder: int, name: str, data: bytes, *, new: bool) -> None:
    """Append to a file, or make it. Raises OSError."""
    descriptor = os.open(name, FLAGS | (os.O_EXCL if new else os.O_APPEND), OUTPUT_MODE, dir_fd=folder)
    try:
        write_all(descriptor, data)
    finally:
        os.close(descriptor)
