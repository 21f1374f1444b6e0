"""One decoding of a frame: the layers found, where each of them lies, and the first thing that went wrong."""

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

HEADER, INNER, LEAF = "header", "inner", "leaf"


class DecodeError(NamedTuple):
    """Why decoding ended early: the layer that did not decode, its offset in the frame, and the reason. A value."""

    layer: str
    offset: int
    reason: str

    def __str__(self) -> str:
        return f"{self.layer} at byte {self.offset}: {self.reason}"


@dataclass(slots=True, eq=False)
class Part:
    """Where a layer lies in the frame. Offsets from the first byte of the frame, ends exclusive."""

    layer: Any
    start: int
    head: int  # the end of its own header
    body: int  # where begins what it carries: behind its tags, labels or extension headers
    stop: int  # the end of what it carries, as its length field says
    end: int  # the end of the room it has; what lies behind `stop` is padding
    kind: str  # HEADER: linked by .data; INNER: in a list of the header before; LEAF: dpkt's business to its end
    gap: int = 0  # bytes before `body` that are in no layer: an MPLS control word


Decode = Callable[["Walk", int, int], "Next | None"]
Step = tuple[str, Decode]


class Next(NamedTuple):
    """The next layer: its name, what decodes it, and its room."""

    name: str
    decode: Decode
    start: int
    end: int


class Short(Exception):
    """A header is not there to its end."""

    def __init__(self, needed: int, start: int, end: int) -> None:
        self.needed, self.start, self.end = needed, start, end


class Unknown(Exception):
    """A layer that nothing here decodes; the text says which."""


class Walk:
    """One decoding: `parts` outermost first, and the first error that was met."""

    def __init__(self, data: bytes, wirelen: int = 0, quoted: bool = False) -> None:
        self.data = data
        self.wirelen = wirelen
        self.quoted = quoted  # this is what an ICMP error quotes
        self.limit = QUOTE_LAYERS if quoted else MAX_LAYERS
        self.parts: list[Part] = []
        self.error: DecodeError | None = None
        self.fragment = False  # inside the first fragment of a packet: what is there is less than lengths say

    @property
    def rest(self) -> bool:
        """Whether the innermost header carries bytes of which no layer was made."""
        return not self.parts or [part.kind for part in self.parts if part.kind != INNER][-1] == HEADER

    def run(self, step: Next | None) -> Walk:
        """Decodes until nothing follows or something fails. Never raises."""
        while step is not None:
            name, decode_one, start, end = step
            try:
                self.allow()
                step = decode_one(self, start, end)
            except Exception as error:  # dpkt raises whatever its author did not think of
                self._failed(name, start, error)
                break
        self._link()
        if self.error is None and self.wirelen > len(self.data):
            name = type(self.parts[-1].layer).__name__ if self.parts else "frame"
            self.fail(name, len(self.data), self._truncated())
        return self

    def fail(self, name: str, offset: int, reason: str) -> None:
        """Notes an error; the first stays."""
        if self.error is None:
            self.error = DecodeError(name, offset, reason)

    def head(self, cls: Any, start: int, end: int, kind: str = HEADER) -> Part:
        """A layer with the fixed fields of its header, and nothing decoded behind them. Raises Short."""
        size = cls.__hdr_len__
        self.need(size, start, end)
        layer = _blank(cls)
        dpkt.Packet.unpack(layer, self.data[start : start + size])
        return self.add(layer, start, start + size, end, kind)

    def inner(self, owner: Part, cls: Any) -> Part:
        """A tag, label or the like between the header of `owner` and what it carries. Raises Short, Unknown."""
        self.allow()
        part = self.head(cls, owner.body, owner.stop, INNER)
        owner.body = part.head
        return part

    def add(self, layer: Any, start: int, head: int, end: int, kind: str) -> Part:
        """Notes a layer."""
        part = Part(layer, start, head, head, end, end, kind)
        self.parts.append(part)
        return part

    def grow(self, part: Part, size: int) -> bytes:
        """The next `size` bytes, which belong to the header too. Raises Short."""
        self.need(part.head - part.start + size, part.start, part.end)
        extra = self.data[part.head : part.head + size]
        part.head += size
        part.body = part.head
        return extra

    def need(self, size: int, start: int, end: int) -> None:
        """Raises Short unless there are `size` bytes."""
        if end - start < size:
            raise Short(size, start, end)

    def claim(self, part: Part, stop: int) -> None:
        """A length field says where the layer stops; an error is noted where there is less."""
        if stop > part.end:
            if not self.fragment:
                self._failed(type(part.layer).__name__, part.start, Short(stop - part.start, part.start, part.end))
        elif stop < part.body:
            self.fail(type(part.layer).__name__, part.start, "its length is less than its header")
        else:
            part.stop = stop

    def allow(self) -> None:
        """Raises Unknown when there are enough layers."""
        if len(self.parts) >= self.limit:
            raise Unknown(f"more than {self.limit} layers are not decoded")

    def _truncated(self) -> str:
        return f"truncated: the capture kept {len(self.data)} of {self.wirelen} bytes"

    def _failed(self, name: str, offset: int, error: Exception) -> None:
        if isinstance(error, Short):
            if error.end == len(self.data) < self.wirelen:
                reason = self._truncated()
            else:
                reason = f"cut short: {error.needed} bytes needed, {max(0, error.end - error.start)} are there"
        elif isinstance(error, dpkt.NeedData):
            reason = "cut short"
        elif isinstance(error, (Unknown, dpkt.UnpackError)):
            reason = str(error).partition(":")[0]  # behind the colon dpkt quotes the bytes
        else:
            reason = f"dpkt does not decode it ({type(error).__name__})"
        self.fail(name, offset, reason)

    def _link(self) -> None:
        """Gives each layer what it carries: the next one, under .data and its name, or bytes."""
        chain = [part for part in self.parts if part.kind != INNER]
        for part, following in pairwise(chain):
            part.layer.data = following.layer
            setattr(part.layer, type(following.layer).__name__.lower(), following.layer)
        if chain and chain[-1].kind == HEADER:
            chain[-1].layer.data = self.data[chain[-1].body : chain[-1].stop]


def _blank(cls: Any) -> Any:
    """An object of a dpkt class as its constructor leaves it, without the defaults, which all are about to go."""
    layer = cls.__new__(cls)
    layer._pack_hdr = partial(struct.pack, cls.__hdr_fmt__)
    if cls is dpkt.ethernet.Ethernet:
        layer._next_type = None
    return layer
