"""BodyReader: the contents of one body, computed while it passes. Bodies makes them if options ask for it.

The content is the body without its framing, after content decoding (Content-Encoding, and Transfer-Encoding beyond
chunked). Hashes cover the whole content. They cover the encoded bytes when bodies.decode is false, and for a part of a
content (206), which no decoder could begin with. There are no hashes when a byte of the body was not captured, when its
end was not captured, or when decoding failed, stopped, or could not begin. Type and excerpt are those of the beginning
of the content, up to the first missing byte.

Memory is constant for any length of the body, and comes from a budget that all bodies of a worker share.

An exception in here, of a library or of this code, ends with its body: the body counts as failed, its event leaves
without any field of its content, and the log reports it once.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from appliance.config.section_bodies import Bodies as Options
from appliance.runtime import log
from appliance.stats.names import BODY_OUTCOMES
from workers.body.content_coding import Budget, Decoder, Reserve, Verdict
from workers.body.file_tap import FileFacts, FileTap, FileTaps, is_whole_range
from workers.body.form_tap import MULTIPART_FORM, FormTap, boundary_of
from workers.body.mime_patterns import fits
from workers.body.mime_sniff import SNIFFED, mime_type
from workers.body.redact import Parameters

FORM = b"application/x-www-form-urlencoded"
OVERHEAD = 2048  # bytes of memory that a reader takes without its excerpt
PART = 206  # status of a response with partial content
PLAIN, DECODED, INCOMPLETE, FAILED, UNKNOWN, LIMIT = range(len(BODY_OUTCOMES))
_OUTCOME = {Verdict.OK: DECODED, Verdict.FAILED: FAILED, Verdict.UNKNOWN: UNKNOWN, Verdict.LIMIT: LIMIT}
_FIELD = re.compile(rb"\n(content-(?:type|encoding|range)|transfer-encoding)[ \t]*:([^\r\n]*)", re.I)
_NOT_WHOLE = {INCOMPLETE: "missing", FAILED: "undecoded", UNKNOWN: "undecoded", LIMIT: "limit"}  # reasons of files


class BodyFacts(NamedTuple):
    """The results of a finished body. Absent is None (or empty)."""

    outcome: int  # place in BODY_OUTCOMES
    size: int  # bytes of the content that decoding produced
    codings: Sequence[str] = ()  # decoded, in that order
    sha256: str | None = None
    md5: str | None = None
    mime_type: str | None = None
    text: bytes | None = None  # the excerpt, if it is UTF-8
    base64: str | None = None  # … if it is not
    bomb: bool = False  # it reached a limit of its own, not one that all bodies share
    out_of_time: bool = False  # there was no decoding time left for it
    file: FileFacts | None = None  # of the file that it became, or could have become


class Bodies:
    """The options for the bodies of one worker, and the memory that they share.

    wanted: the section [bodies]. parameters: names of form parameters whose values excerpts hide. taps: those of files,
    if files are kept.
    """

    def __init__(self, wanted: Options, parameters: Sequence[str] = (), taps: FileTaps | None = None) -> None:
        self.taps = taps
        self.wanted = wanted
        self.parameters = Parameters(parameters)
        self.budget = Budget(wanted.max_memory_bytes)
        self.reserve = Reserve(wanted.decode_reserve_ms * 1_000_000, wanted.decode_reserve_ns)
        self._types = [pattern.lower() for pattern in wanted.excerpt_types]

    def begin(self, head: bytes, status: int = 0, bombs: int = 0) -> BodyReader:
        """Return the reader of the body behind this head.

        status: 0 of a request. bombs: bodies of its connection that have reached a limit."""
        reader = BodyReader(self)
        try:
            self._open(reader, head, status, bombs)
        except Exception as fault:
            reader.fail(fault)
        return reader

    def _open(self, reader: BodyReader, head: bytes, status: int, bombs: int) -> None:
        codings: list[bytes] = []
        transfer: list[bytes] = []
        content_type = declared = content_range = b""
        for name, value in _FIELD.findall(head):
            if len(name) == len("content-type"):
                content_type = value
                declared = value.partition(b";")[0].strip().lower()
            elif len(name) == len("content-range"):
                content_range = value.strip()
            else:
                tokens = (token.partition(b";")[0].strip().lower() for token in value.split(b","))
                (transfer if name[:1] in b"tT" else codings).extend(
                    token for token in tokens if token not in (b"", b"identity", b"chunked")
                )
        codings += transfer
        part = status == PART
        undone = codings if self.wanted.decode and not part else []
        shown = not (part and codings) and (not declared or self.shows(declared))
        self.reserve.earn(len(head))
        tap: FileTap | FormTap | None = None
        if self.taps is not None:
            refusal = "part" if part and not is_whole_range(content_range) else "undecoded" if codings != undone else ""
            boundary = b"" if refusal else boundary_of(content_type)
            tap = FormTap(self.taps, boundary) if boundary else FileTap(self.taps, declared, refusal)
        reader.open(undone, declared, shown=shown, sniffed=not part, bombs=bombs, head=len(head), tap=tap)

    def shows(self, kind: bytes) -> bool:
        """Return whether a content of this type gets an excerpt."""
        if self.parameters and kind == MULTIPART_FORM:
            return False  # no code here separates its values
        return any(fits(kind.decode("latin-1"), pattern) for pattern in self._types)


class Content:
    """The kept parts of a content: digests, size, and the beginning up to `room` bytes."""

    __slots__ = ("hashes", "head", "room", "size", "tap")

    def __init__(self, hashes: Iterable[str], room: int, tap: FileTap | FormTap | None = None) -> None:
        self.tap = tap
        self.hashes = {name: hashlib.new(name, usedforsecurity=False) for name in hashes}
        self.head = bytearray()
        self.room = room
        self.size = 0

    def add(self, data: bytes | memoryview) -> None:
        """Add the next bytes."""
        self.size += len(data)
        for digest in self.hashes.values():
            digest.update(data)
        if self.room:
            self.head += data[: self.room]
            self.room -= min(self.room, len(data))
        if self.tap is not None:
            self.tap.add(data)


class BodyReader:
    """The reader of one body: it takes the bytes in order, and end() returns the facts. `facts` is None until then."""

    __slots__ = (
        "_bodies",
        "_broken",
        "_charge",
        "_codings",
        "_content",
        "_declared",
        "_decoder",
        "_missing",
        "_refused",
        "_shown",
        "_sniffed",
        "_tap",
        "facts",
    )

    def __init__(self, bodies: Bodies) -> None:
        self.facts: BodyFacts | None = None
        self._bodies = bodies
        self._codings: Sequence[bytes] = ()
        self._declared = b""
        self._shown = self._sniffed = False
        self._broken = self._missing = self._refused = False
        self._charge = 0
        self._decoder: Decoder | None = None
        self._tap: FileTap | FormTap | None = None
        self._content = Content((), 0)

    def open(
        self,
        codings: Sequence[bytes],
        declared: bytes,
        *,
        shown: bool,
        sniffed: bool,
        bombs: int,
        head: int,
        tap: FileTap | FormTap | None = None,
    ) -> None:
        """Set the options and the codings of the body. Call it once, before any other method."""
        wanted, bodies = self._bodies.wanted, self._bodies
        self._codings = codings
        self._declared = declared
        self._shown = shown and wanted.excerpt_bytes > 0
        self._sniffed = sniffed and wanted.mime_type
        room = wanted.excerpt_bytes if self._shown else 0
        if self._sniffed or (self._shown and not declared):
            room = max(room, SNIFFED)
        charge = OVERHEAD + room + (tap.held if tap is not None else 0)
        self._tap = tap
        self._refused = (bool(codings) and bombs >= wanted.max_bombs) or not bodies.budget.take(charge)
        if self._refused:
            return
        self._charge = charge
        self._content = Content(wanted.hashes, room, tap)
        if codings:
            self._decoder = Decoder(codings, wanted, bodies.budget, bodies.reserve, self._content.add, head)

    def __del__(self) -> None:
        if self._decoder is not None:
            self._decoder.close()
        if self._tap is not None:
            self._tap.leave_out("missing")  # it was not ended
        self._bodies.budget.give(self._charge)

    def take(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the body, without a reference to them."""
        try:
            if self._decoder is not None:
                self._decoder.take(data)
            elif not self._refused and not (self._missing and self._codings):
                self._content.add(data)
                self._bodies.reserve.earn(len(data))
        except Exception as fault:
            self.fail(fault)

    def gap(self) -> None:
        """Record that some bytes were not captured."""
        try:
            if self._decoder is not None and not self._missing:
                self._decoder.end(False)
        except Exception as fault:
            self.fail(fault)
        self._missing = True
        if self._tap is not None:
            self._tap.lose()
        self._content.room = 0
        self._content.hashes = {}

    def fail(self, fault: Exception) -> None:
        """Fail this body after an exception: it reports no content, and ignores further bytes."""
        log.bug("a body cannot be read and counts as failed", fault)
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None
        tap, self._tap = self._tap, None
        if tap is not None:
            tap.leave_out("undecoded")
        self._content = Content((), 0)
        self._broken = self._refused = True

    def end(self, complete: bool) -> BodyFacts:
        """End the body and return its facts. complete: the end of the body was captured."""
        try:
            if not self._broken:
                self.facts = self._seen(complete)
        except Exception as fault:
            self.fail(fault)
        if self.facts is None:
            self.facts = BodyFacts(outcome=FAILED, size=0)
        self._content = Content((), 0)
        self._decoder = None
        return self.facts

    def _seen(self, complete: bool) -> BodyFacts:
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
        tap, self._tap = self._tap, None
        return BodyFacts(
            outcome=outcome,
            size=content.size,
            codings=self._undone(outcome),
            mime_type=kind if self._sniffed else None,
            text=text,
            base64=encoded,
            bomb=outcome == LIMIT and self._decoder is not None and not self._decoder.starved,
            out_of_time=outcome == LIMIT and self._decoder is not None and self._decoder.out_of_time,
            file=tap.end(_NOT_WHOLE.get(outcome, "")) if tap is not None else None,
            **digests,
        )

    def _undone(self, outcome: int) -> Sequence[str]:
        if self._decoder is None or outcome == UNKNOWN or (outcome == LIMIT and not self._content.size):
            return ()
        return [coding.decode("ascii", "replace") for coding in reversed(self._codings)]

    def _excerpt(self, head: bytes, kind: str | None) -> tuple[bytes | None, str | None]:
        """Return the excerpt as UTF-8, or in base64 if it is not."""
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
