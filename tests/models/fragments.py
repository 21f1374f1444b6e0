"""One datagram and its fragments as a map from offset to byte: what defragmentation has to equal, without any hurry.

Two policies. IPv4: the first copy of a byte wins; a fragment that denies the end is left out; either makes the datagram
ambiguous. IPv6: an overlap that is no exact copy, or a fragment that denies the end, discards the datagram for good.
"""

from __future__ import annotations

from collections import Counter


class FragmentMap:
    """The fragments of one key, in order of arrival; `counts` are outcomes, `held` have none yet."""

    def __init__(self, family: int) -> None:
        self.family = family
        self.counts: Counter[str] = Counter()
        self.conflicts = 0
        self._begin()

    def _begin(self) -> None:
        self.bytes: dict[int, int] = {}
        self.end = -1
        self.seen: list[tuple[int, bytes, bool]] = []
        self.held = 0
        self.complete = False
        self.ambiguous = False
        self.discarded = ""

    def offer(self, start: int, data: bytes, more: bool) -> tuple[bytes, bool] | None:
        """(payload, ambiguous) when the fragment completes the datagram."""
        stop = start + len(data)
        if not data or (more and len(data) % 8):
            self.counts["too_short"] += 1
            return None
        if stop + (20 if self.family == 4 else 0) > 65535:
            self.counts["too_long"] += 1
            return None
        if self.complete:
            known = all(self.bytes.get(place) == byte for place, byte in enumerate(data, start))
            if known and (more or stop == self.end):
                self.counts["merged"] += 1
                return None
            self._begin()
        if self.discarded:
            self.counts[self.discarded] += 1
            return None
        self.held += 1
        if self._denies_end(stop, more):
            if self.family == 6:
                self._discard("inconsistent")
            else:
                self.ambiguous = True
                self.held -= 1
                self.counts["inconsistent"] += 1
            return None
        taken = [place for place in range(start, stop) if place in self.bytes]
        if self.family == 6 and taken and (start, data, more) not in self.seen:
            self._discard("overlapping")
            return None
        if any(self.bytes[place] != data[place - start] for place in taken):
            self.ambiguous = True
            self.conflicts += 1
        self.seen.append((start, data, more))
        for place, byte in enumerate(data, start):
            self.bytes.setdefault(place, byte)
        if not more:
            self.end = stop
        if len(self.bytes) != self.end:
            return None
        self.complete = True
        self.counts["merged"] += self.held
        self.held = 0
        return bytes(self.bytes[place] for place in range(self.end)), self.ambiguous

    def _denies_end(self, stop: int, more: bool) -> bool:
        if self.end >= 0:
            return stop > self.end or (not more and stop != self.end)
        return not more and any(place >= stop for place in self.bytes)

    def _discard(self, reason: str) -> None:
        self.counts[reason] += self.held
        self.held = 0
        self.discarded = reason
