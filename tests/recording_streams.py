"""Streams for tests of the Assembler: they write down what they are given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pcapfile import Frame

from appliance.config.schema import Tcp
from workers.assembly import Assembler, Flow, Piece, StreamPool

CLIENT, SERVER = 40000, 80  # source ports of a Conversation's directions


@dataclass
class Written:
    """One direction as its stream was given it."""

    net: Flow[str]
    transport: Flow[int]
    log: list[tuple[int, str]]
    lists: list[list[Piece]] = field(default_factory=list)
    completed: int = 0

    def reassembled(self, pieces: list[Piece]) -> None:
        assert pieces
        assert not self.completed
        self.log.append((self.transport.src, "reassembled"))
        self.lists.append(pieces)

    def complete(self) -> None:
        self.log.append((self.transport.src, "complete"))
        self.completed += 1

    @property
    def pieces(self) -> list[Piece]:
        return [piece for pieces in self.lists for piece in pieces]

    @property
    def data(self) -> bytes:
        """All bytes, with a question mark for each that is known to be missing."""
        return b"".join(b"?" * max(0, piece.skip) + piece.data for piece in self.pieces)

    @property
    def skips(self) -> list[int]:
        return [piece.skip for piece in self.pieces if piece.skip]


class Writing:
    """A factory of Written streams: all of them, and the order of events over all of them."""

    def __init__(self) -> None:
        self.streams: list[Written] = []
        self.log: list[tuple[int, str]] = []

    def new(self, net: Flow[str], transport: Flow[int]) -> Any:
        self.log.append((transport.src, "new"))
        self.streams.append(Written(net, transport, self.log))
        return self.streams[-1]

    def of(self, port: int) -> Written:
        """The only stream from this source port."""
        (found,) = [stream for stream in self.streams if stream.transport.src == port]
        return found


def assembler(factory: object, **tcp: Any) -> Assembler:
    """An Assembler with some limits of [tcp]."""
    return Assembler(StreamPool(factory), Tcp(**tcp))  # type: ignore[arg-type]


def feed(into: Assembler, frames: Iterable[Frame], snaplen: int = 1 << 18) -> Assembler:
    """Every frame, cut to snaplen."""
    for ts_ns, frame in frames:
        into.assemble_frame(frame[:snaplen], ts_ns, wirelen=len(frame))
    return into


def written(frames: Iterable[Frame], snaplen: int = 1 << 18, **tcp: Any) -> Writing:
    """Return the record of the streams over some frames, to the end."""
    factory = Writing()
    with assembler(factory, **tcp) as into:
        feed(into, frames, snaplen)
    return factory
