"""What a running appliance says of its losses: the first of each kind at once, with the option to turn; then little.

Losses are counters, so a million of them are as few lines as one: one at the start of a burst, one a minute while it
lasts, and one with the exact sum when it is over."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from appliance.summary import Loss

OVER_S = 10.0  # without a loss: the burst is over
AGAIN_S = 60.0


class Item(NamedTuple):
    """One line, and what it is about."""

    loss: Loss
    text: str
    fresh: int  # lost since the last line of its kind


class _Burst:
    __slots__ = ("grew_at", "lasts", "said", "said_at", "seen")

    def __init__(self) -> None:
        self.seen = self.said = 0
        self.grew_at = self.said_at = 0.0
        self.lasts = False


class News:
    """Follows the losses of one run. `now` is any clock in seconds."""

    def __init__(self) -> None:
        self._bursts: dict[str, _Burst] = {}

    def see(self, now: float, losses: Iterable[Loss]) -> list[Item]:
        """What is to be said now."""
        return [item for loss in losses if (item := self._judge(now, loss)) is not None]

    def _judge(self, now: float, loss: Loss) -> Item | None:
        burst = self._bursts.setdefault(loss.kind, _Burst())
        grew, burst.seen = loss.total > burst.seen, loss.total
        fresh = loss.total - burst.said
        if grew:
            burst.grew_at = now
        if grew and not burst.lasts:
            burst.lasts = True
            before = f", {loss.total:,} in all" if burst.said else ""
            return self._say(burst, now, loss, f"{fresh:,} {loss.what}{before}; {loss.remedy}")
        if burst.lasts and now - burst.grew_at >= OVER_S:
            burst.lasts = False
            if fresh:
                return self._say(burst, now, loss, f"{fresh:,} more {loss.what}, {loss.total:,} in all; it has stopped")
        elif burst.lasts and fresh and now - burst.said_at >= AGAIN_S:
            return self._say(burst, now, loss, f"{fresh:,} more {loss.what}, {loss.total:,} in all; {loss.remedy}")
        return None

    @staticmethod
    def _say(burst: _Burst, now: float, loss: Loss, text: str) -> Item:
        fresh = loss.total - burst.said
        burst.said, burst.said_at = loss.total, now
        return Item(loss, text, fresh)
