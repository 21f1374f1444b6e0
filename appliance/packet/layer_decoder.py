"""One decoding of a frame: its layers, the position of each, and the first error."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import dpkt

MAX_LAYERS = 32  # tags, labels and extension headers count; deeper than any real encapsulation
QUOTE_LAYERS = 8  # of the packet that an ICMP error quotes
LEAF_BYTES = 4096  # limit of layers that dpkt decodes to their end, in quadratic time

HEADER, INNER, LEAF = "header", "inner", "leaf"


class Header(dpkt.Packet):  # type: ignore[misc]
    """A header with fixed fields and `extra`, the variable bytes behind them."""

    extra = b""


class DecodeError(NamedTuple):
    """The error that ended decoding early: the layer, its offset in the frame, and the reason. A value."""

    layer: str
    offset: int
    reason: str

    def __str__(self) -> str:
        return f"{self.layer} at byte {self.offset}: {self.reason}"


@dataclass(slots=True, eq=False)
class LayerSpan:
    """The position of a layer in the frame. Offsets from the first byte of the frame, ends exclusive."""

    layer: Any
    start: int
    head: int  # the end of its own header
    body: int  # the start of its payload, behind its tags, labels or extension headers
    stop: int  # the end of its payload according to its length field
    end: int  # the end of its room; the bytes behind `stop` are padding
    kind: str  # HEADER: linked by .data; INNER: in a list of the header before; LEAF: decoded by dpkt to its end
    gap: int = 0  # bytes before `body` that belong to no layer: an MPLS control word


Decode = Callable[["LayerDecoder", int, int], "NextLayer | None"]
Step = tuple[str, Decode]


class NextLayer(NamedTuple):
    """The next layer: its name, its decoder, and its room."""

    name: str
    decode: Decode
    start: int
    end: int


class TruncatedHeader(Exception):
    """A header is truncated."""

    def __init__(self, needed: int, start: int, end: int) -> None:
        self.needed, self.start, self.end = needed, start, end


class UnknownLayer(Exception):
    """A layer without a decoder here; the text names it."""


class LayerDecoder:
    """One decoding: `parts` outermost first, and the first error."""

    def __init__(self, data: bytes, wirelen: int = 0, quoted: bool = False) -> None:
        self.data = data
        self.wirelen = wirelen
        self.quoted = quoted  # this is the packet that an ICMP error quotes
        self.limit = QUOTE_LAYERS if quoted else MAX_LAYERS
        self.parts: list[LayerSpan] = []
        self.error: DecodeError | None = None
        self.fragment = False  # inside the first fragment of a packet: length fields exceed the bytes present

    @property
    def rest(self) -> bool:
        """Return whether the innermost header has a payload that is no layer."""
        return not self.parts or [part.kind for part in self.parts if part.kind != INNER][-1] == HEADER

    def run(self, step: NextLayer | None) -> LayerDecoder:
        """Decode until nothing follows or a layer fails. Never raises."""
        while step is not None:
            name, decode_one, start, end = step
            try:
                self.allow()
                step = decode_one(self, start, end)
            except Exception as error:  # dpkt raises exceptions of any type
                self._failed(name, start, error)
                break
        self._link()
        if self.error is None and self.wirelen > len(self.data):
            name = type(self.parts[-1].layer).__name__ if self.parts else "frame"
            self.fail(name, len(self.data), self._truncated())
        return self

    def fail(self, name: str, offset: int, reason: str) -> None:
        """Record an error; the first one stays."""
        if self.error is None:
            self.error = DecodeError(name, offset, reason)

    def head(self, cls: Any, start: int, end: int, kind: str = HEADER) -> LayerSpan:
        """Add a layer with the fixed fields of its header, and nothing decoded behind them. Raises TruncatedHeader."""
        size = cls.__hdr_len__
        self.need(size, start, end)
        layer = _blank(cls)
        dpkt.Packet.unpack(layer, self.data[start : start + size])
        return self.add(layer, start, start + size, end, kind)

    def inner(self, owner: LayerSpan, cls: Any) -> LayerSpan:
        """Add a tag or label between the header of `owner` and its payload. Raises TruncatedHeader, UnknownLayer."""
        self.allow()
        part = self.head(cls, owner.body, owner.stop, INNER)
        owner.body = part.head
        return part

    def add(self, layer: Any, start: int, head: int, end: int, kind: str) -> LayerSpan:
        """Add a layer."""
        part = LayerSpan(layer, start, head, head, end, end, kind)
        self.parts.append(part)
        return part

    def grow(self, part: LayerSpan, size: int) -> bytes:
        """Extend the header by the next `size` bytes, and return them. Raises TruncatedHeader."""
        self.need(part.head - part.start + size, part.start, part.end)
        extra = self.data[part.head : part.head + size]
        part.head += size
        part.body = part.head
        return extra

    def need(self, size: int, start: int, end: int) -> None:
        """Raise TruncatedHeader unless `size` bytes are present."""
        if end - start < size:
            raise TruncatedHeader(size, start, end)

    def claim(self, part: LayerSpan, stop: int) -> None:
        """Set the end of a layer from its length field; record an error if fewer bytes are present."""
        if stop > part.end:
            if not self.fragment:
                self._failed(
                    type(part.layer).__name__, part.start, TruncatedHeader(stop - part.start, part.start, part.end)
                )
        elif stop < part.body:
            self.fail(type(part.layer).__name__, part.start, "its length field is less than its header")
        else:
            part.stop = stop

    def allow(self) -> None:
        """Raise UnknownLayer if the limit of layers is reached."""
        if len(self.parts) >= self.limit:
            raise UnknownLayer(f"more than {self.limit} layers are not decoded")

    def _truncated(self) -> str:
        return f"truncated: the capture kept {len(self.data)} of {self.wirelen} bytes"

    def _failed(self, name: str, offset: int, error: Exception) -> None:
        if isinstance(error, TruncatedHeader):
            if error.end == len(self.data) < self.wirelen:
                reason = self._truncated()
            else:
                reason = f"cut short: {error.needed} bytes needed, {max(0, error.end - error.start)} are there"
        elif isinstance(error, dpkt.NeedData):
            reason = "cut short"
        elif isinstance(error, (UnknownLayer, dpkt.UnpackError)):
            reason = str(error).partition(":")[0]  # behind the colon dpkt quotes the bytes
        else:
            reason = f"dpkt does not decode it ({type(error).__name__})"
        self.fail(name, offset, reason)

    def _link(self) -> None:
        """Link each layer to its payload: the next layer, under .data and its name, or bytes."""
        chain = [part for part in self.parts if part.kind != INNER]
        for part, following in pairwise(chain):
            part.layer.data = following.layer
            setattr(part.layer, type(following.layer).__name__.lower(), following.layer)
        if chain and chain[-1].kind == HEADER:
            chain[-1].layer.data = self.data[chain[-1].body : chain[-1].stop]


def _blank(cls: Any) -> Any:
    """Return an object of a dpkt class without the defaults of its constructor, which the caller replaces."""
    layer = cls.__new__(cls)
    layer._pack_hdr = partial(struct.pack, cls.__hdr_fmt__)
    if cls is dpkt.ethernet.Ethernet:
        layer._next_type = None
    return layer


def leaf(cls: Any, decoder: LayerDecoder, start: int, end: int, limit: int = LEAF_BYTES) -> None:
    """Add a layer that dpkt decodes to its end. Raises UnknownLayer if it is too long, and dpkt's exceptions."""
    if end - start > limit:
        raise UnknownLayer(f"more than {limit} bytes of it are not decoded")
    decoder.add(cls(decoder.data[start:end]), start, end, end, LEAF)
