"""Decoder: content decoding, piece by piece, within limits. RFC 9110 section 8.4.1, RFC 7932, RFC 9659.

For any bytes on the wire, memory is limited to the decoders' windows, and output comes in pieces of at most some
100 KiB: no body is ever expanded as a whole. The decoders get slices of SLICE bytes that begin at fixed places of the
body. So the segments in which it came do not affect the result, not even the decoded part of a broken body.

The cost of decoding is estimated, not measured: fixed nanoseconds for each byte produced and for each decoder opened,
about those of a core of 2020. So the same bodies end alike on every machine and in every run. A body has time of its
own for each of its bytes on the wire; any time beyond that comes from the shared Reserve.

The exception is brotli: 85 bytes can describe tables that take 140 µs and produce one byte. No estimate from outside
the decoder sees that. So its processor time is measured. Time beyond SLACK times the estimate comes from a second part
of the Reserve, and while that is used up, no brotli is decoded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Protocol

from workers.body.content_codings import FAULTS, FIRST_PIECE, LAYERS, LEAST_PIECE, PIECE, Layer, last_piece

SLICE = 4096
RATIO_FLOOR = 1 << 20  # decoded bytes of a body that are allowed at any ratio
SHARE = 4  # a body may take one part in this many of the time in the reserve
SLACK = 2  # measured time may exceed the estimate by this factor


class Verdict(Enum):
    """The outcome of decoding."""

    OK = "decoded"
    FAILED = "failed"
    UNKNOWN = "unknown"
    LIMIT = "limit"


class Budget:
    """Memory that all bodies of a worker share, in bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, count: int) -> bool:
        """Take `count` bytes, if they are there; return whether they were."""
        if self.used + count > self.limit:
            return False
        self.used += count
        return True

    def give(self, count: int) -> None:
        self.used -= count


class Reserve:
    """Decoding time that the bodies of a worker share, in estimated ns. It grows with their bytes on the wire, up to a
    limit. Each body may take a SHARE of the time left, so that the reserve refuses the most costly bodies first.

    unforeseen: as much again, for measured time that no estimate foresaw."""

    def __init__(self, limit: int, byte_ns: int) -> None:
        self.limit = limit
        self.left = self.unforeseen = limit
        self._byte_ns = byte_ns

    @property
    def share(self) -> int:
        """Return the ns that one body may take."""
        return max(0, self.left) // SHARE

    def earn(self, count: int) -> None:
        """Add the time for `count` bytes on the wire."""
        self.left = min(self.limit, self.left + self._byte_ns * count)
        self.unforeseen = min(self.limit, self.unforeseen + self._byte_ns * count)

    def spend(self, ns: int) -> None:
        """Subtract time that decoding took; an uninterruptible decoder may bring the reserve below zero."""
        self.left -= ns


class Limits(Protocol):
    """The options of the section [bodies] that limit decoding."""

    @property
    def max_decoded_bytes(self) -> int: ...
    @property
    def max_ratio(self) -> int: ...
    @property
    def max_layers(self) -> int: ...
    @property
    def max_decode_ms(self) -> int: ...
    @property
    def decode_ns(self) -> int: ...


class Decoder:
    """The decoder of one body. It decodes the codings in reverse order, and passes the pieces to `sink`, which must not
    hold this object. After any verdict but OK it ignores further input.

    limits: the section [bodies]. budget: memory for the decoders; close() returns it. reserve: the time that bodies
    share. head: bytes on the wire before the body. An empty body is valid in any coding, because some servers announce
    a coding and then send no byte.
    """

    def __init__(
        self,
        codings: Sequence[bytes],
        limits: Limits,
        budget: Budget,
        reserve: Reserve,
        sink: Callable[[bytes], None],
        head: int = 0,
    ) -> None:
        self.verdict = Verdict.OK
        self.starved = False  # other bodies had taken the memory, or the time, that it would have had alone
        self.out_of_time = False  # the time ran out
        self._limits = limits
        self._budget = budget
        self._reserve = reserve
        self._share = reserve.share
        self._cost = self._drawn = 0  # estimated time; its part out of the reserve
        self._unforeseen, self._unforeseen_share = 0, max(0, reserve.unforeseen) // SHARE
        self._own = limits.decode_ns * head
        self._risks = [0] * len(codings)  # bytes that a layer may produce in one step, once it has begun
        self._sink = sink
        self._codings = list(reversed(codings))
        self._layers: list[Layer] = []
        self._made = [0] * len(codings)
        self._windows = [0] * len(codings)
        self._held = 0
        self._fed = [False] * len(codings)
        self._buffer = bytearray()
        self._seen = 0
        self._spent_ns = self._began_ns = 0
        self._measured = False
        if any(coding not in LAYERS for coding in codings):
            self.verdict = Verdict.UNKNOWN
            return
        used = [LAYERS[coding] for coding in self._codings]
        self._measured = any(coding.measured for coding in used)
        if len(codings) > limits.max_layers or not self._hold(SLICE + sum(coding.held for coding in used)):
            self.verdict = Verdict.LIMIT
            return

    def take(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the body."""
        at = 0
        if self.verdict is not Verdict.OK:
            return
        if self._buffer:
            at = min(SLICE - len(self._buffer), len(data))
            self._buffer += data[:at]
            if len(self._buffer) < SLICE:
                return
            self._flush()
        while len(data) - at >= SLICE and self.verdict is Verdict.OK:
            self._slice(bytes(data[at : at + SLICE]))
            at += SLICE
        if self.verdict is Verdict.OK:
            self._buffer += data[at:]

    def end(self, complete: bool) -> None:
        """End the body. complete: the body ends here, so its codings must end here too."""
        self._flush()
        if complete and self._seen and self.verdict is Verdict.OK and not self._is_whole():
            self.verdict = Verdict.FAILED
        self.close()

    def _is_whole(self) -> bool:
        """Return whether all codings end here. A coding that no byte has reached is not whole."""
        return len(self._layers) == len(self._codings) and all(layer.whole for layer in self._layers)

    def close(self) -> None:
        """Release the decoders and their memory."""
        self._layers = []
        self._buffer = bytearray()
        self._budget.give(self._held)
        self._held = 0

    def _hold(self, count: int) -> bool:
        taken = self._budget.take(count)
        self._held += count if taken else 0
        self.starved = self.starved or not taken
        return taken

    def _flush(self) -> None:
        if self._buffer and self.verdict is Verdict.OK:
            data = bytes(self._buffer)
            self._buffer.clear()
            self._slice(data)

    def _charge(self, ns: int) -> bool:
        """Charge the body `ns` of time, beyond its own from the reserve; return whether decoding continues."""
        self._cost += ns
        beyond = self._cost - self._own
        if beyond > self._drawn:
            self._reserve.spend(beyond - self._drawn)
            self._drawn = beyond
            if beyond > self._share or self._reserve.left < 0:
                self._run_out()
        return self.verdict is Verdict.OK

    def _run_out(self) -> None:
        if self.verdict is Verdict.OK:
            self.verdict = Verdict.LIMIT
            self.out_of_time = True
            self.starved = self._share < self._reserve.limit // SHARE

    def _affordable(self) -> int:
        """Return the time that the body has left, in ns."""
        return self._own + self._drawn - self._cost + max(0, min(self._share - self._drawn, self._reserve.left))

    def _begin(self, depth: int, data: bytes) -> bool:
        """Open a layer for its first input; return whether the body can afford the layer's largest step."""
        coding = LAYERS[self._codings[depth]]
        if not self._charge(coding.open_ns):
            return False
        layer = coding.layer()
        risk = layer.risk(data)
        if risk * coding.byte_ns > self._affordable():
            self._run_out()
            return False
        layer.room = self._room(depth, FIRST_PIECE)
        self._risks[depth] = risk
        self._layers.append(layer)
        return True

    def _charge_inner(self, depth: int, count: int) -> bool:
        """Charge bytes from another layer, if the body can afford them; return whether decoding continues."""
        ns = LAYERS[self._codings[depth]].inner_ns * count
        if ns > self._affordable():
            self._run_out()
            return False
        return self._charge(ns)

    def _room(self, depth: int, most: int) -> int:
        """Return the size of the next piece of a layer: at least LEAST_PIECE, else what the body can afford."""
        ns = LAYERS[self._codings[depth]].byte_ns
        if depth + 1 < len(self._codings):
            ns += LAYERS[self._codings[depth + 1]].inner_ns
        return max(LEAST_PIECE, min(most, self._affordable() // ns))

    def _hidden(self) -> int:
        """Return the largest time for bytes that the decoders have produced and not yielded."""
        ns = 0
        for risk, made, coding in zip(self._risks, self._made, self._codings, strict=True):
            ns += (-made % risk if made and risk else risk) * LAYERS[coding].byte_ns
        return ns

    def _charge_unforeseen(self) -> None:
        """Charge the measured time that no estimate foresaw."""
        beyond = self._spent_ns - SLACK * max(self._cost, self._own)
        if beyond > self._unforeseen:
            self._reserve.unforeseen -= beyond - self._unforeseen
            self._unforeseen = beyond
            if beyond > self._unforeseen_share:
                self._run_out_unforeseen()

    def _run_out_unforeseen(self) -> None:
        if self.verdict is Verdict.OK:
            self.verdict = Verdict.LIMIT
            self.out_of_time = True
            self.starved = self._unforeseen_share < self._reserve.limit // SHARE

    def _slice(self, data: bytes) -> None:
        self._seen += len(data)
        self._own += self._limits.decode_ns * len(data)
        self._reserve.earn(len(data))
        if self._measured and self._reserve.unforeseen < 0:
            self._run_out_unforeseen()
            self.close()
            return
        self._began_ns = time.thread_time_ns()
        try:
            for piece in self._through(0, data):
                self._sink(piece)
        except FAULTS:
            self.verdict = Verdict.FAILED
        self._spent_ns += time.thread_time_ns() - self._began_ns
        if self._measured:
            self._charge_unforeseen()
        if self.verdict is not Verdict.OK:
            self._charge(self._hidden())
            self.close()

    def _through(self, depth: int, data: bytes) -> Iterator[bytes]:
        """Yield these bytes decoded by the layers from `depth` on, within the limits."""
        if depth == len(self._codings):
            yield data
            return
        if depth == len(self._layers) and not self._begin(depth, data):
            return
        if depth and not self._charge_inner(depth, len(data)):
            return
        layer, fed, coding = self._layers[depth], self._fed[depth], LAYERS[self._codings[depth]]
        try:
            for piece in layer.pieces(data):
                if piece:
                    self._fed[depth] = True
                    piece = self._allowed(depth, piece)
                    yield from self._through(depth + 1, piece)
                else:
                    self._charge(coding.open_ns)
                if self.verdict is not Verdict.OK:
                    return
                layer.room = self._room(depth, PIECE)
        except FAULTS:
            if not fed and not self._fed[depth]:
                self._fed[depth] = True
                yield from self._through(depth + 1, self._rescued(depth, data))
            raise
        self._fed[depth] = True

    def _rescued(self, depth: int, data: bytes) -> bytes:
        """Return the decoded part of a broken first input up to its fault, if there is time to search for that."""
        coding = LAYERS[self._codings[depth]]
        ns = len(data).bit_length() * (coding.open_ns + (self._risks[depth] + FIRST_PIECE) * coding.byte_ns)
        if ns > self._affordable() or not self._charge(ns):
            return b""
        return self._allowed(depth, last_piece(self._codings[depth], data))

    def _allowed(self, depth: int, piece: bytes) -> bytes:
        """Return the part of a piece that is within the limits; set the verdict where they end."""
        room = self._limits.max_decoded_bytes - self._made[depth]
        if len(piece) > room:
            piece = piece[:room]
            self.verdict = Verdict.LIMIT
        self._made[depth] += len(piece)
        self._charge(len(piece) * LAYERS[self._codings[depth]].byte_ns)
        if self._made[depth] > max(RATIO_FLOOR, self._limits.max_ratio * self._seen):
            self.verdict = Verdict.LIMIT
        window = min(self._made[depth], LAYERS[self._codings[depth]].window)
        if window > self._windows[depth]:
            if not self._hold(window - self._windows[depth]):
                self.verdict = Verdict.LIMIT
            self._windows[depth] = window
        spent_ns = self._spent_ns + time.thread_time_ns() - self._began_ns
        if spent_ns > self._limits.max_decode_ms * 1_000_000:
            self.verdict = Verdict.LIMIT
        return piece
