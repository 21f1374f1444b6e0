"""MessageInflater: decode permessage-deflate of one side of a WebSocket connection (RFC 7692), to count its bytes.

The messages of a side are one stream of raw DEFLATE, in which the sender left out four bytes behind each message
(section 7.2.2). That holds with and without context takeover: a message without it refers to none before it.

Memory, size, ratio and time have the limits of [bodies], as if each message were a body. Slices begin at fixed places
of a message, so its division into segments and fragments changes nothing.
"""

from __future__ import annotations

import zlib

from appliance.config.section_bodies import Bodies as Options
from appliance.runtime import log
from workers.body.content_coding import RATIO_FLOOR, Budget, Reserve
from workers.body.content_codings import LAYERS, PIECE

TAIL = b"\0\0\xff\xff"
FAILED, LIMIT = -1, -2
_CODING = LAYERS[b"deflate"]


class Inflaters:
    """The options for the messages of one worker, and the memory and time that they share."""

    def __init__(self, wanted: Options, budget: Budget | None = None, reserve: Reserve | None = None) -> None:
        self.wanted = wanted
        self.budget = budget or Budget(wanted.max_memory_bytes)
        self.reserve = reserve or Reserve(wanted.decode_reserve_ms * 1_000_000, wanted.decode_reserve_ns)

    def begin(self) -> MessageInflater | None:
        """Return the inflater of a side; None if no memory is left for it."""
        return MessageInflater(self) if self.budget.take(_CODING.held) else None


class MessageInflater:
    """The decoder of one side; its memory is taken from the budget."""

    __slots__ = ("_drawn", "_inflater", "_inflaters", "_made", "_opened", "_seen", "_share")

    def __init__(self, inflaters: Inflaters) -> None:
        self._inflaters = inflaters
        self._inflater = zlib.decompressobj(-15)
        self._made = self._seen = self._drawn = self._opened = 0
        self._share = inflaters.reserve.share

    def __del__(self) -> None:
        self._inflaters.budget.give(_CODING.held)

    def take(self, data: bytes, last: bool) -> int:
        """Take the next slice of a message, and return how many bytes it becomes, FAILED or LIMIT.

        last: the message ends with this slice."""
        try:
            return self._take(data, last)
        except zlib.error:
            return FAILED
        except Exception as fault:
            log.bug("a WebSocket message cannot be decoded", fault)
            return FAILED

    def _take(self, data: bytes, last: bool) -> int:
        wanted = self._inflaters.wanted
        before = self._made
        self._seen += len(data)
        self._inflaters.reserve.earn(len(data))
        rest = data + TAIL if last else data
        full = False
        while rest or full:
            piece = self._inflater.decompress(rest, PIECE)
            full = len(piece) == PIECE  # the decoder may hold more
            self._made += len(piece)
            if self._inflater.eof:  # a message may have a final block, and another stream behind it (section 7.2.3.5)
                rest, full = self._inflater.unused_data, False
                self._inflater = zlib.decompressobj(-15)
                self._opened += 1
            else:
                rest = self._inflater.unconsumed_tail
            if self._made > wanted.max_decoded_bytes or not self._affords():
                return LIMIT
        if not last:
            return self._made - before
        made, seen = self._made, self._seen
        self._made = self._seen = self._drawn = self._opened = 0
        self._share = self._inflaters.reserve.share
        return LIMIT if made > max(RATIO_FLOOR, wanted.max_ratio * seen) else made - before

    def _affords(self) -> bool:
        """Charge the message its time, beyond its own from the reserve; return whether decoding continues."""
        reserve = self._inflaters.reserve
        cost = self._made * _CODING.byte_ns + self._opened * _CODING.open_ns
        beyond = cost - self._seen * self._inflaters.wanted.decode_ns
        if beyond > self._drawn:
            reserve.spend(beyond - self._drawn)
            self._drawn = beyond
        return beyond <= self._share and reserve.left >= 0
