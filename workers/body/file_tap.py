"""FileTap: it passes the decoded content of one body on to be kept as a file, if its type and size are wanted.

A body counts as offered as soon as its type is known to be wanted: after SNIFFED bytes, or at its end. From then on it
has exactly one outcome: it was sent as a whole, with its SHA-256, or it was left out for one of the reasons in
stats.FILES_LEFT_OUT. A tap holds at most SNIFFED bytes.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple, Protocol

from appliance.config.section_files import Files
from workers.body.mime_patterns import fits
from workers.body.mime_sniff import SNIFFED, mime_type

_WHOLE_RANGE = re.compile(rb"bytes[ \t]+0-([0-9]{1,19})/([0-9]{1,19})[ \t]*", re.I)


class FileSink(Protocol):
    """The receiver of files. It counts each one, from begin() to its outcome, and copies what it is given."""

    def begin(self) -> int:
        """Return the number of a new file, or -1 if there are too many; then it has counted its outcome."""
        ...

    def add(self, number: int, place: int, data: memoryview) -> bool:
        """Take the next bytes; `place` came before. Return False if there is no room: its outcome is counted."""
        ...

    def end(self, number: int, size: int, digest: bytes) -> bool:
        """End a file. Return False if there is no room: its outcome is counted."""
        ...

    def leave_out(self, number: int, reason: str) -> None:
        """Count the reason for which a file has no end."""
        ...

    def path_of(self, sha256: str) -> str:
        """Return the path that a file with this digest gets."""
        ...


class FileFacts(NamedTuple):
    """The facts of a file for events."""

    reason: str = ""  # why it was left out; "": it was sent as a whole
    size: int = 0
    sha256: str = ""
    path: str = ""
    mime_type: str | None = None  # of its content
    name: bytes = b""  # that a form gives it
    parts: tuple[FileFacts, ...] = ()  # of a form: all its files


class FileTaps:
    """The wanted types and sizes, and the sink, which the files of one worker share."""

    def __init__(self, wanted: Files, sink: FileSink) -> None:
        self.wanted = wanted
        self.sink = sink
        self._types = [pattern.lower() for pattern in wanted.types]

    def wants(self, *kinds: str | None) -> bool:
        """Return whether one of these types is wanted. A body without any known type is wanted if every one is."""
        return any(fits(kind or "", pattern) for kind in kinds for pattern in self._types)


def is_whole_range(content_range: bytes) -> bool:
    """Return whether a Content-Range covers the whole content (RFC 9110 section 14.4)."""
    found = _WHOLE_RANGE.fullmatch(content_range)
    return found is not None and int(found[1]) + 1 == int(found[2])


class FileTap:
    """The tap of one body, or of a part of a form.

    refusal: why it cannot become a file, whatever comes; "" if it can. name: that a form gives it."""

    held = SNIFFED  # bytes of memory at most

    __slots__ = ("_declared", "_digest", "_done", "_head", "_name", "_number", "_refusal", "_size", "_taps", "facts")

    def __init__(self, taps: FileTaps, declared: bytes, refusal: str = "", name: bytes = b"") -> None:
        self.facts: FileFacts | None = None  # once it has an outcome; None then: its type is not wanted
        self._taps = taps
        self._declared = declared.decode("latin-1")
        self._refusal = refusal
        self._name = name
        self._head = bytearray()  # the beginning, until the type is decided
        self._done = False
        self._number = -1  # of the sink; -1: not offered, or done
        self._size = 0  # bytes that the sink has
        self._digest = hashlib.sha256(usedforsecurity=False)

    def add(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the content."""
        if self._number >= 0:
            self._pass_on(data)
        elif self._refusal:
            self.leave_out(self._refusal)
        elif not self._done:
            count = min(len(data), SNIFFED - len(self._head))
            self._head += data[:count]
            if len(self._head) == SNIFFED and self._offer():
                self._pass_on(self._head)
                self._head = bytearray()
                if self._number >= 0 and count < len(data):
                    self._pass_on(data[count:])

    def lose(self) -> None:
        """Record that some bytes were not captured."""
        self.leave_out("missing")

    def refuse(self, reason: str) -> None:
        """Count the body as left out, whatever its type."""
        self._number = self._taps.sink.begin()
        if self._number >= 0:
            self._taps.sink.leave_out(self._number, reason)
        self._close(reason if self._number >= 0 else "open")

    def leave_out(self, reason: str) -> None:
        """Give the body up: it will not become a file."""
        if not self._done and (self._number >= 0 or self._offer()):
            self._taps.sink.leave_out(self._number, reason)
            self._close(reason)
        self._done = True

    def end(self, reason: str) -> FileFacts | None:
        """End the body and return its facts; None: it was not offered. reason: why its content is not whole, or ""."""
        if reason:
            self.leave_out(reason)
        elif not self._done and self._number < 0 and self._head and self._offer():
            self._pass_on(self._head)
        if self._number >= 0:
            self._finish()
        self._done = True
        self._head = bytearray()
        return self.facts

    def _offer(self) -> bool:
        """Offer the body if its type is wanted; return whether the sink has taken it."""
        kind = mime_type(bytes(self._head))
        self._done = not self._taps.wants(self._declared, kind)
        if self._done:
            return False
        self.facts = FileFacts(mime_type=kind)
        self._number = self._taps.sink.begin()
        if self._number < 0:
            self._close("open")
        return self._number >= 0

    def _pass_on(self, data: bytes | bytearray | memoryview) -> None:
        if self._size + len(data) > self._taps.wanted.max_bytes:
            self.leave_out("large")
        elif self._taps.sink.add(self._number, self._size, memoryview(data)):
            self._digest.update(data)
            self._size += len(data)
        else:
            self._close("link")

    def _finish(self) -> None:
        sink, size = self._taps.sink, self._size
        if size < self._taps.wanted.min_bytes:
            self.leave_out("small")
        elif not sink.end(self._number, size, self._digest.digest()):
            self._close("link")
        else:
            sha256 = self._digest.hexdigest()
            kind = self.facts.mime_type if self.facts else None
            self.facts = FileFacts("", size, sha256, sink.path_of(sha256), kind, self._name)
            self._number = -1

    def _close(self, reason: str) -> None:
        self.facts = FileFacts(reason, name=self._name)
        self._number, self._done = -1, True
        self._head = bytearray()
