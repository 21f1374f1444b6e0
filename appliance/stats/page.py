"""Stats pages: the counters of each process, in files that outlive it.

A page is a file of unsigned 64-bit counters. The process that writes it maps it (`Page`). Other processes read it as a
file (`SharedPage`), because truncating a mapped file kills its readers. The supervisor owns the pages and makes them
before it starts a process, so that a counter survives kill -9 and continues from its value. Layout of the file, numbers
in the byte order of the machine:

    magic 8 | version u32 | slots u32 | offset of slot 0 u32 | length of names u32 | names, a JSON list | pad | u64 …

One aligned 8-byte access stores or loads a slot, so a reader sees the old value or the new one. Two slots are not read
at one moment: sums over several are exact once the writer is at rest.
"""

from __future__ import annotations

import json
import mmap
import os
import stat
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from appliance.native.safe_files import STRANGE
from appliance.stats.snapshot import Counts

MAGIC = b"APPSTATS"
VERSION = 1
_HEADER = struct.Struct("=8sIIII")
_SLOT = 8
LARGEST = (1 << 64) - 1  # in a slot
LONGEST_HEAD = 1 << 24  # bytes; the names of a page for a thousand workers are a few hundred thousand


class PageError(ValueError):
    """The file is not a stats page of this version."""


class Page:
    """A mapped page. One process writes it, others read; `close` it, or leave that to the end of the process."""

    def __init__(self, path: Path, memory: mmap.mmap, first: int, names: Sequence[str]) -> None:
        self.path = path
        self.names = tuple(names)
        self._slot = {name: slot for slot, name in enumerate(self.names)}
        self._memory = memory
        self._bytes = memoryview(memory)
        self._slots = self._bytes[first : first + _SLOT * len(self.names)].cast("Q")

    @staticmethod
    def make(path: Path, names: Sequence[str], mode: int = 0o600) -> None:
        """Make a page whose slots are all 0.

        It replaces an older file; mappings of that file stay valid. Raises OSError.
        """
        if len(set(names)) != len(names):
            raise ValueError(f"{path}: two slots have the same name")
        part = path.with_name(f"{path.name}.part")
        part.unlink(missing_ok=True)
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
            # Written, not left sparse: a full file system is an error here instead of a SIGBUS at some store later.
            file.write(_head(names) + bytes(_SLOT * len(names)))
        part.replace(path)

    @classmethod
    def create(cls, path: Path, names: Sequence[str]) -> Page:
        """Make a page and open it."""
        cls.make(path, names)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path, *, writable: bool = True) -> Page:
        """Map the page of this process, or open another process's page for reading.

        Raises OSError, or PageError if the file is not a stats page.
        """
        if not writable:
            return SharedPage.open(path)
        descriptor = os.open(path, os.O_RDWR | STRANGE)
        try:
            first, names = _look(path, descriptor)
            memory = mmap.mmap(descriptor, first + _SLOT * len(names))
        finally:
            os.close(descriptor)
        return cls(path, memory, first, names)

    def __getitem__(self, name: str) -> int:
        return self._slots[self._slot[name]]

    def __setitem__(self, name: str, value: int) -> None:
        """Store 0 to 2**64 - 1. Raises KeyError for an unknown name, ValueError for another value."""
        self._slots[self._slot[name]] = value

    def add(self, name: str, amount: int) -> None:
        """Add to a slot that only this process writes."""
        slot = self._slot[name]
        self._slots[slot] += amount

    def update(self, values: Counts) -> None:
        """Store absolute values; costs some 60 ns each. Raises KeyError for an unknown name."""
        slots, slot = self._slots, self._slot
        for name, value in values.items():
            slots[slot[name]] = value

    def snapshot(self) -> dict[str, int]:
        """Return every slot by name."""
        return dict(zip(self.names, self._slots.tolist(), strict=True))

    def repair(self) -> bool:
        """Return False: a page that this process maps needs no repair."""
        return False

    def close(self) -> None:
        """Unmap the page; the file stays."""
        self._slots.release()
        self._bytes.release()
        self._memory.close()


class SharedPage(Page):
    """The page of another process, which may be compromised: access goes by pread and pwrite, without a mapping.

    If the owner truncates a mapped file, its readers die of SIGBUS. A SharedPage keeps the last values of missing
    slots, and `repair` writes them again. Values are clamped to the range of a slot.
    """

    def __init__(self, path: Path, descriptor: int, first: int, names: Sequence[str]) -> None:
        self.path = path
        self.names = tuple(names)
        self._slot = {name: slot for slot, name in enumerate(self.names)}
        self._descriptor = descriptor
        self._first = first
        self._seen = bytearray(_SLOT * len(self.names))
        self._values = memoryview(self._seen).cast("Q")

    @classmethod
    def open(cls, path: Path, *, writable: bool = False) -> SharedPage:
        """Open the page of another process. Raises OSError, or PageError if the file is not a stats page."""
        descriptor = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | STRANGE)
        try:
            first, names = _look(path, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, descriptor, first, names)

    @classmethod
    def create(cls, path: Path, names: Sequence[str]) -> SharedPage:
        """Make a page and open it for writing."""
        cls.make(path, names)
        return cls.open(path, writable=True)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def __getitem__(self, name: str) -> int:
        slot = self._slot[name]
        value = os.pread(self._descriptor, _SLOT, self._first + _SLOT * slot)
        if len(value) == _SLOT:
            self._seen[_SLOT * slot : _SLOT * (slot + 1)] = value
        return self._values[slot]

    def __setitem__(self, name: str, value: int) -> None:
        """Store a value, clamped to the range of a slot. Raises KeyError for an unknown name."""
        slot = self._slot[name]
        self._values[slot] = min(max(value, 0), LARGEST)
        with suppress(OSError):  # the file system is full; the value stays known here
            os.pwrite(self._descriptor, self._seen[_SLOT * slot : _SLOT * (slot + 1)], self._first + _SLOT * slot)

    def add(self, name: str, amount: int) -> None:
        """Add to a slot that no other process writes now."""
        self[name] = self[name] + amount

    def update(self, values: Counts) -> None:
        """Store absolute values. Raises KeyError for an unknown name."""
        for name, value in values.items():
            self[name] = value

    def snapshot(self) -> dict[str, int]:
        """Return every slot by name."""
        seen = os.pread(self._descriptor, len(self._seen), self._first)
        self._seen[: len(seen)] = seen
        return dict(zip(self.names, self._values.tolist(), strict=True))

    def repair(self) -> bool:
        """Rewrite a damaged page from its last known values, and return whether it was damaged.

        The supervisor calls it while no other process has the page open. Raises OSError.
        """
        self.snapshot()
        head = _head(self.names)
        whole = self._first + len(self._seen)
        if os.fstat(self._descriptor).st_size == whole and os.pread(self._descriptor, self._first, 0) == head:
            return False
        os.ftruncate(self._descriptor, whole)
        os.pwrite(self._descriptor, head + self._seen, 0)
        return True

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def _head(names: Sequence[str]) -> bytes:
    """Return the header of a page, up to slot 0."""
    listed = json.dumps(list(names)).encode()
    first = -(-(_HEADER.size + len(listed)) // 64) * 64
    return (_HEADER.pack(MAGIC, VERSION, len(names), first, len(listed)) + listed).ljust(first, b"\0")


def _look(path: Path, descriptor: int) -> tuple[int, list[str]]:
    """Return (offset of slot 0, names) of an open page. Raises PageError."""
    about = os.fstat(descriptor)
    head = os.pread(descriptor, _HEADER.size, 0) if stat.S_ISREG(about.st_mode) else b""
    if len(head) < _HEADER.size:
        raise PageError(f"{path}: too short for a stats page")
    magic, version, slots, first, listed = _HEADER.unpack(head)
    fits = _HEADER.size + listed <= first <= about.st_size - _SLOT * slots and first % _SLOT == 0
    if magic == MAGIC and version != VERSION:
        raise PageError(f"{path}: a stats page of version {version}; this version of the appliance reads {VERSION}")
    if magic != MAGIC or not fits or first > LONGEST_HEAD:
        raise PageError(f"{path}: not a stats page of version {VERSION}")
    try:
        names = json.loads(os.pread(descriptor, listed, _HEADER.size))
    except (ValueError, RecursionError):  # nested without end
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise PageError(f"{path}: not a stats page of version {VERSION}")
    if len(names) != slots:
        raise PageError(f"{path}: {len(names)} names for {slots} slots")
    return first, names
