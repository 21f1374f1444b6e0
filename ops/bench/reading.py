"""Reads a file while somebody writes it, and gives its memory back behind the reader.

A minute of events is gigabytes, and a virtual machine pays its host for every page that it has not had lately: whoever
writes most events would be charged for that.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

_BLOCK = 1 << 22  # bytes read at once, and given back at once
_PAUSE_S = 0.05
_PUNCH_HOLE = 3  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, fallocate(2)
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class Reading(Generic[T]):
    """A thread that gives `judge` the file's blocks of whole lines, as they come; it may begin before the file does."""

    def __init__(self, path: Path, judge: Callable[[Iterable[bytes]], T]) -> None:
        self._path = path
        self._judge = judge
        self._over = threading.Event()
        self._said: list[T] = []
        self._fault: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._said.append(self._judge(self._blocks()))
        except Exception as fault:
            self._fault = fault

    def _blocks(self) -> Iterator[bytes]:
        while not self._path.exists() and not self._over.wait(_PAUSE_S):
            pass
        with open(self._path, "r+b", buffering=0) as source:
            rest, read = b"", 0
            while True:
                over = self._over.is_set()  # asked first: what is written before it is set is still read
                block = source.read(_BLOCK)
                if block:
                    read += len(block)
                    # Where that cannot be, the file stays as long as it is.
                    _libc.fallocate(source.fileno(), _PUNCH_HOLE, 0, read // _BLOCK * _BLOCK)
                    whole, end, part = (rest + block).rpartition(b"\n")
                    rest = part
                    if end:
                        yield whole + end
                elif over:
                    if rest:
                        yield rest
                    return
                if len(block) < _BLOCK:
                    self._over.wait(_PAUSE_S)

    def result(self) -> T:
        """Return the result of `judge` for the whole file, written to its end. Raises what it raised, and OSError."""
        self._over.set()
        self._thread.join()
        if self._fault:
            raise self._fault
        return self._said[0]

    def abandon(self) -> None:
        """Ends the thread; nobody asks for the result."""
        self._over.set()
        self._thread.join()
