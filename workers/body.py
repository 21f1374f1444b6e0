"""BodyReader: what a body contains, said while it passes by. One for each body, made by Bodies only when options ask.

The content is the body without its framing, with its codings undone (Content-Encoding, and Transfer-Encoding beyond
chunked). Hashes are those of the whole content; as it was sent when there is no coding, when bodies.decode is false,
and when it is a part of something (206), which no decoder could begin with. There are none when a byte of the body was
not captured, when its end was not seen, or when decoding failed, stopped, or could not begin. Type and excerpt are
those of the beginning of the content, up to the first byte that is missing.

Memory is constant however long the body is, and taken from a budget that all bodies of a worker share.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from appliance.option_bodies import Bodies as Options
from appliance.stats import BODY_OUTCOMES
from workers.decoding import Budget, Decoder, Verdict
from workers.redact import Parameters
from workers.sniff import SNIFFED, mime_type

FORM = b"application/x-www-form-urlencoded"
MULTIPART_FORM = b"multipart/form-data"
OVERHEAD = 2048  # bytes of memory that a reader takes without its excerpt
PART = 206  # status of a response that holds a part of something
PLAIN, DECODED, INCOMPLETE, FAILED, UNKNOWN, LIMIT = range(len(BODY_OUTCOMES))
_OUTCOME = {Verdict.OK: DECODED, Verdict.FAILED: FAILED, Verdict.UNKNOWN: UNKNOWN, Verdict.LIMIT: LIMIT}
_FIELD = re.compile(rb"^(content-type|content-encoding|transfer-encoding)[ \t]*:([^\r\n]*)", re.I | re.M)


class BodyFacts(NamedTuple):
    """What is known of a body when it is over. Absent is None (or empty)."""

    outcome: int  # place in BODY_OUTCOMES
    size: int  # of the content, as far as it was decoded
    codings: Sequence[str] = ()  # that were undone, in that order
    sha256: str | None = None
    md5: str | None = None
    mime_type: str | None = None
    text: bytes | None = None  # the excerpt, if it is UTF-8
    base64: str | None = None  # … if it is not
    bomb: bool = False  # it reached a limit of its own, not that of what all bodies hold


class Bodies:
    """What is wanted of the bodies of one worker, and the memory that they share.

    wanted: the section [bodies]. parameters: names of form parameters whose values are hidden in excerpts.
    """

    def __init__(self, wanted: Options, parameters: Sequence[str] = ()) -> None:
        self.wanted = wanted
        self.parameters = Parameters(parameters)
        self.budget = Budget(wanted.max_memory_bytes)
        self._types = [pattern.lower().encode() for pattern in wanted.excerpt_types]

    def begin(self, head: bytes, status: int = 0, bombs: int = 0) -> BodyReader:
        """The reader of the body behind this head. status: 0 of a request. bombs: bodies of its connection that have
        reached a limit."""
        codings: list[bytes] = []
        transfer: list[bytes] = []
        declared = b""
        for name, value in _FIELD.findall(head):
            if len(name) == len("content-type"):
                declared = value.partition(b";")[0].strip().lower()
            else:
                tokens = (token.partition(b";")[0].strip().lower() for token in value.split(b","))
                (transfer if name[:1] in b"tT" else codings).extend(
                    token for token in tokens if token not in (b"", b"identity", b"chunked")
                )
        codings += transfer
        part = status == PART
        undone = codings if self.wanted.decode and not part else ()
        shown = not (part and codings) and (not declared or self.shows(declared))
        return BodyReader(self, undone, declared, shown=shown, sniffed=not part, bombs=bombs)

    def shows(self, kind: bytes) -> bool:
        """Is there an excerpt of a content of this type?"""
        if self.parameters and kind == MULTIPART_FORM:
            return False  # its values are not told apart here
        return any(
            kind == pattern
            or (pattern.endswith(b"*") and kind.startswith(pattern[:-1].removesuffix(b"*/")))
            or (pattern.startswith(b"*") and kind.endswith(pattern[1:]))
            for pattern in self._types
        )


class Content:
    """What is kept of a content: digests, size, and the beginning up to `room` bytes."""

    __slots__ = ("hashes", "head", "room", "size")

    def __init__(self, hashes: Iterable[str], room: int) -> None:
        self.hashes = {name: hashlib.new(name, usedforsecurity=False) for name in hashes}
        self.head = bytearray()
        self.room = room
        self.size = 0

    def add(self, data: bytes | memoryview) -> None:
        """The next bytes."""
        self.size += len(data)
        for digest in self.hashes.values():
            digest.update(data)
        if self.room:
            self.head += data[: self.room]
            self.room -= min(self.room, len(data))


class BodyReader:
    """Takes the bytes of one body in order, then says what it was. `facts` is None until end()."""

    __slots__ = (
        "_bodies",
        "_charge",
        "_codings",
        "_content",
        "_declared",
        "_decoder",
        "_missing",
        "_refused",
        "_shown",
        "_sniffed",
        "facts",
    )

    def __init__(
        self,
        bodies: Bodies,
        codings: Sequence[bytes],
        declared: bytes,
        *,
        shown: bool,
        sniffed: bool,
        bombs: int,
    ) -> None:
        wanted = bodies.wanted
        self.facts: BodyFacts | None = None
        self._bodies = bodies
        self._codings = codings
        self._declared = declared
        self._shown = shown and wanted.excerpt_bytes > 0
        self._sniffed = sniffed and wanted.mime_type
        self._missing = False
        room = wanted.excerpt_bytes if self._shown else 0
        if self._sniffed or (self._shown and not declared):
            room = max(room, SNIFFED)
        self._charge = OVERHEAD + room
        self._decoder: Decoder | None = None
        self._content = Content((), 0)
        self._refused = (bool(codings) and bombs >= wanted.max_bombs) or not bodies.budget.take(self._charge)
        if self._refused:
            self._charge = 0
            return
        self._content = Content(wanted.hashes, room)
        if codings:
            self._decoder = Decoder(codings, wanted, bodies.budget, self._content.add)

    def __del__(self) -> None:
        if self._decoder is not None:
            self._decoder.close()
        self._bodies.budget.give(self._charge)

    def take(self, data: bytes | memoryview) -> None:
        """The next bytes of the body; they are not kept."""
        if self._decoder is not None:
            self._decoder.take(data)
        elif not self._refused and not (self._missing and self._codings):
            self._content.add(data)

    def gap(self) -> None:
        """Some bytes were not captured."""
        if self._decoder is not None and not self._missing:
            self._decoder.end(False)
        self._missing = True
        self._content.room = 0
        self._content.hashes = {}

    def end(self, complete: bool) -> BodyFacts:
        """No more comes. complete: the end of the body was seen."""
        content = self._content
        outcome = PLAIN
        if self._refused:
            outcome = LIMIT
        elif self._decoder is not None:
            if not self._missing:
                self._decoder.end(complete)
            outcome = _OUTCOME[self._decoder.verdict]
        if outcome in (PLAIN, DECODED) and (self._missing or not complete):
            outcome = INCOMPLETE
        digests = {}
        if outcome in (PLAIN, DECODED):
            digests = {name: digest.hexdigest() for name, digest in content.hashes.items()}
        head = bytes(content.head)
        kind = mime_type(head) if self._sniffed or (self._shown and not self._declared) else None
        text, encoded = self._excerpt(head, kind)
        self.facts = BodyFacts(
            outcome=outcome,
            size=content.size,
            codings=self._undone(outcome),
            mime_type=kind if self._sniffed else None,
            text=text,
            base64=encoded,
            bomb=outcome == LIMIT and self._decoder is not None and not self._decoder.starved,
            **digests,
        )
        self._content = Content((), 0)
        self._decoder = None
        return self.facts

    def _undone(self, outcome: int) -> Sequence[str]:
        if self._decoder is None or outcome == UNKNOWN or (outcome == LIMIT and not self._content.size):
            return ()
        return [coding.decode("ascii", "replace") for coding in reversed(self._codings)]

    def _excerpt(self, head: bytes, kind: str | None) -> tuple[bytes | None, str | None]:
        """The excerpt as UTF-8, or in base64 if it is not."""
        wanted = self._bodies.wanted.excerpt_bytes
        if not self._shown or (not self._declared and not self._bodies.shows((kind or "").encode())):
            return None, None
        cut = len(head) > wanted or self._content.size > len(head)
        head = head[:wanted]
        if not head:
            return None, None
        if self._bodies.parameters and self._declared == FORM:
            head = self._bodies.parameters.hide(head, form=True)
        try:
            head.decode()
        except UnicodeDecodeError as fault:
            if not (cut and fault.reason == "unexpected end of data" and fault.start):
                return None, base64.b64encode(head).decode()
            head = head[: fault.start]
        return head, None
