"""The bytes that each type of filetype looks for: its matchers are given what they compare with."""

from __future__ import annotations

import io
import zipfile

from filetype.types import TYPES
from filetype.types.base import Type

LENGTH = 4096


class _Byte(int):
    """A byte that becomes whatever it is compared with."""

    made: bytearray
    at: int

    def __eq__(self, other: object) -> bool:
        if isinstance(other, int):
            self.made[self.at] = other
        return True

    def __hash__(self) -> int:
        return int.__hash__(self)


class _Slice(bytearray):
    """Some bytes that become whatever they are compared with."""

    made: bytearray
    at: int

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (bytes, bytearray)):
            self.made[self.at : self.at + len(other)] = other
        return True

    __hash__ = None  # type: ignore[assignment]


class _Asked(bytearray):
    """A content that is all that is asked of it."""

    def __getitem__(self, key):  # type: ignore[no-untyped-def]
        found = super().__getitem__(key)
        made = _Byte(found) if isinstance(key, int) else _Slice(found)
        made.made, made.at = self, key if isinstance(key, int) else key.start or 0
        return made

    def startswith(self, start):  # type: ignore[no-untyped-def]
        self[0 : len(start)] = start
        return True

    def find(self, word, *place):  # type: ignore[no-untyped-def]
        self[64 : 64 + len(word)] = word
        return 64

    def index(self, word, start=0, end=LENGTH):  # type: ignore[no-untyped-def]
        self[start : start + len(word)] = word
        return start


def signature(kind: Type) -> bytes:
    """A content that this type's matcher may take for its own."""
    asked = _Asked(LENGTH)
    try:
        kind.match(asked)
    except (ValueError, TypeError, IndexError, RecursionError):
        pass  # what it had asked for by then is there
    return bytes(asked)


# What a matcher works out, beyond what it compares.
FILMS = [
    (24).to_bytes(4, "big") + b"ftyp" + brand + bytes(4) + brand + b"isom" + bytes(64)
    for brand in (b"isom", b"mp41", b"avc1", b"heic", b"mif1", b"avif", b"qt  ", b"M4V ", b"3gp5", b"\xff\xfe\xff\xfe")
]


def _office(folder: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        for name in ("[Content_Types].xml", "_rels/.rels", "docProps/app.xml", f"{folder}/document.xml"):
            made.writestr(name, "x" * 40)
    return out.getvalue()


WHOLE = [
    *FILMS,
    *map(_office, ("word", "xl", "ppt")),
    b"\x89PNG\r\n\x1a\n" + b"".join(bytes(4) + kind + bytes(4) for kind in (b"IHDR", b"acTL", b"IDAT")),
    b"II*\0\x08\0\0\0\x10\0" + bytes(64),
    b"\0\0\x01\xb3" + bytes(64),
    b"%PDF-1.7\n" + bytes(64),
    bytes(128) + b"DICM" + bytes(64),
    b"\x50\x2a\x4d\x18\x04\0\0\0abcd" * 300 + b"\x28\xb5\x2f\xfd",  # frames of zstd that are skipped
]
SIGNATURES = [*WHOLE, *map(signature, TYPES)]
