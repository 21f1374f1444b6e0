"""Loss notices of a running appliance: the first loss of each kind at once, with the option that helps, then few.

Losses are counters, so a million of them need no more lines than one: a line at the start of a burst, one a minute
while it lasts, and one with the exact sum at its end.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from appliance.report.losses import Loss

BURST_END_S = 10.0  # without a loss: the burst has ended
REPEAT_INTERVAL_S = 60.0


class LossNotice(NamedTuple):
    """One line, and its subject."""

    loss: Loss
    text: str
    fresh: int  # lost since the last line of this kind


class _LossBurst:
    __slots__ = ("grew_at", "lasts", "reported", "reported_at", "seen")

    def __init__(self) -> None:
        self.seen = self.reported = 0
        self.grew_at = self.reported_at = 0.0
        self.lasts = False


class LossNotifier:
    """Follows the losses of one run. `now` is any clock in seconds."""

    def __init__(self) -> None:
        self._bursts: dict[str, _LossBurst] = {}

    def update(self, now: float, losses: Iterable[Loss]) -> list[LossNotice]:
        """Return the notices that are due."""
        return [item for loss in losses if (item := self._judge(now, loss)) is not None]

    def _judge(self, now: float, loss: Loss) -> LossNotice | None:
        burst = self._bursts.setdefault(loss.kind, _LossBurst())
        grew, burst.seen = loss.total > burst.seen, loss.total
        fresh = loss.total - burst.reported
        if grew:
            burst.grew_at = now
        if grew and not burst.lasts:
            burst.lasts = True
            before = f", {loss.total:,} in all" if burst.reported else ""
            return self._notice(burst, now, loss, f"{fresh:,} {loss.what}{before}; {loss.remedy}")
        if burst.lasts and now - burst.grew_at >= BURST_END_S:
            burst.lasts = False
            if fresh:
                return self._notice(
                    burst, now, loss, f"{fresh:,} more {loss.what}, {loss.total:,} in all; it has stopped"
                )
        elif burst.lasts and fresh and now - burst.reported_at >= REPEAT_INTERVAL_S:
            return self._notice(burst, now, loss, f"{fresh:,} more {loss.what}, {loss.total:,} in all; {loss.remedy}")
        return None

    @staticmethod
    def _notice(burst: _LossBurst, now: float, loss: Loss, text: str) -> LossNotice:
        fresh = loss.total - burst.reported
        burst.reported, burst.reported_at = loss.total, now
        return LossNotice(loss, text, fresh)
