"""FormTap: the files of one form (multipart/form-data, RFC 7578), each with a FileTap of its own.

A part with a filename is a file. Its content begins behind the empty line of its header and ends at the next delimiter.
Other parts are skipped. Any split of the form gives the same files. A gap costs the part that it lies in, and those
whose delimiter it hides: the next file begins at a whole delimiter.

A tap holds at most MAX_HEAD bytes and one delimiter. The number of parts is limited, and so is that of lines which
begin like a delimiter and are none; with all of them, work is linear in the bytes of the form.
"""

from __future__ import annotations

import re

from workers.body.file_tap import FileFacts, FileTap, FileTaps

MULTIPART_FORM = b"multipart/form-data"
MAX_BOUNDARY = 70  # characters (RFC 2046 section 5.1.1)
MAX_HEAD = 4096  # bytes of the header of a part
MAX_PADDING = 64  # blanks behind a delimiter
MAX_NAME = 128  # bytes of a file name in an event
_PARAMETER = re.compile(rb'[ \t]*([^\s=;"]*)[ \t]*(?:=[ \t]*("(?:[^"\\]|\\.)*"?|[^;]*))?[^;]*;?', re.S)
_FIELD = re.compile(rb"\n(content-(?:disposition|type|transfer-encoding))[ \t]*:([^\r\n]*)", re.I)
_ESCAPED = re.compile(rb'\\(["\\])')
_PLAIN = (b"", b"binary", b"8bit", b"7bit")  # Content-Transfer-Encodings that change no byte
_PREAMBLE, _HEAD, _CONTENT, _DONE = range(4)


def parameters(value: bytes) -> dict[bytes, bytes]:
    """Return the parameters of a header field by their names in lower case, the first of each; quotes are removed."""
    found: dict[bytes, bytes] = {}
    at = value.find(b";") + 1
    while 0 < at < len(value):
        match = _PARAMETER.match(value, at)
        if match is None or match.end() == at:
            break
        name, text = match[1].lower(), match[2] or b""
        if text.startswith(b'"'):
            text = _ESCAPED.sub(rb"\1", text[1:].removesuffix(b'"'))
        found.setdefault(name, text.strip())
        at = match.end()
    return found


def boundary_of(content_type: bytes) -> bytes:
    """Return the boundary of a form, b"" if this is no form, or none whose parts can be found."""
    if content_type.partition(b";")[0].strip().lower() != MULTIPART_FORM:
        return b""
    boundary = parameters(content_type).get(b"boundary", b"")
    return boundary if len(boundary) <= MAX_BOUNDARY else b""


class FormTap:
    """The tap of one form. It has the methods of a FileTap."""

    held = MAX_HEAD + MAX_BOUNDARY + FileTap.held  # bytes of memory at most

    __slots__ = ("_count", "_delimiter", "_files", "_part", "_rest", "_state", "_taps", "_touched")

    def __init__(self, taps: FileTaps, boundary: bytes) -> None:
        self._taps = taps
        self._delimiter = b"\r\n--" + boundary
        self._rest = b"\r\n"  # bytes that are not decided; the first delimiter has no line before it
        self._state = _PREAMBLE
        self._part: FileTap | None = None  # of the part at hand, if it is a file
        self._files: list[FileFacts] = []
        self._count = 0  # delimiters, and lines that begin like one
        self._touched = False

    def add(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the form."""
        if self._state == _DONE or not data:
            return
        self._touched = True
        text = self._rest + data
        at = 0
        while self._state != _DONE:
            next_at = self._head(text, at) if self._state == _HEAD else self._content(text, at)
            if next_at < 0:
                return
            at = next_at

    def lose(self) -> None:
        """Record that some bytes were not captured."""
        self._end_part("missing")
        if self._state in (_PREAMBLE, _HEAD):
            self._unread("missing")
        if self._state != _DONE:
            self._rest, self._touched = b"", True
            self._state = _CONTENT  # of a part that is no file

    def leave_out(self, reason: str) -> None:
        """Give the rest of the form up."""
        self._end_part(reason)
        self._state = _DONE

    def end(self, reason: str) -> FileFacts | None:
        """End the form; return the facts of the first whole file with those of all, or None if there is no file.

        reason: why the content of the form is not whole, or "".
        """
        if self._state == _HEAD or (self._state == _PREAMBLE and (reason or self._touched)):
            self._unread(reason or "undecoded")
        self.leave_out(reason or "undecoded")
        files = tuple(self._files)
        if not files:
            return None
        return next((file for file in files if not file.reason), files[0])._replace(parts=files)

    def _content(self, text: bytes, at: int) -> int:
        """Pass bytes on up to the next delimiter; return where to go on, -1: the rest waits for more."""
        found = text.find(self._delimiter, at)
        if found < 0:
            kept = max(at, len(text) - len(self._delimiter) + 1)
            self._pass_on(text[at:kept])
            self._rest = text[kept:]
            return -1
        behind = found + len(self._delimiter)
        line = text[behind : behind + MAX_PADDING + 2]
        padding = len(line) - len(line.lstrip(b" \t"))
        tail = line[padding:]
        is_end, is_next = line.startswith(b"--"), tail.startswith(b"\r\n")
        if not (is_end or is_next) and len(line) < MAX_PADDING + 2 and (tail in (b"", b"\r") or line == b"-"):
            self._pass_on(text[at:found])
            self._rest = text[found:]
            return -1
        self._count += 1
        if is_end or is_next:
            self._pass_on(text[at:found])
            self._end_part("")
            self._state = _DONE if is_end else _HEAD
        else:
            self._pass_on(text[at : found + 2])
        if self._count > self._taps.wanted.max_parts and not is_end:
            if self._part is None:
                self._refuse("parts")
            self.leave_out("parts")
        return behind + padding if is_next else found + 2

    def _head(self, text: bytes, at: int) -> int:
        """Read the header of a part, which begins with the end of its delimiter's line; return as _content() does."""
        end = text.find(b"\r\n\r\n", at, at + MAX_HEAD)
        if end < 0 and len(text) - at < MAX_HEAD:
            self._rest = text[at:]
            return -1
        self._state = _CONTENT
        if end < 0:
            self._unread("undecoded")
            return at
        declared = coding = disposition = b""
        for name, value in _FIELD.findall(text[at : end + 2]):
            if len(name) == len(b"content-type"):
                declared = value.partition(b";")[0].strip().lower()
            elif len(name) == len(b"content-disposition"):
                disposition = value
            else:
                coding = value.strip().lower()
        said = parameters(disposition)
        name = said.get(b"filename") or said.get(b"filename*")
        if name:
            self._part = FileTap(self._taps, declared, "" if coding in _PLAIN else "undecoded", name[:MAX_NAME])
        return end + 4

    def _pass_on(self, data: bytes) -> None:
        if self._part is not None and data:
            self._part.add(data)

    def _end_part(self, reason: str) -> None:
        part, self._part = self._part, None
        if part is not None:
            self._tell(part.end(reason))

    def _unread(self, reason: str) -> None:
        """Count what may be a file and cannot be read as one, if forms as a whole are of a wanted type."""
        self._tell(FileTap(self._taps, MULTIPART_FORM, reason).end(reason))

    def _refuse(self, reason: str) -> None:
        """Count the parts beyond a limit as one file, whatever their types."""
        part = FileTap(self._taps, b"")
        part.refuse(reason)
        self._tell(part.facts)

    def _tell(self, facts: FileFacts | None) -> None:
        if facts is not None:
            self._files.append(facts)
