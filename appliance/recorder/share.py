"""The share of connections that are left out while the recorder is behind. Pure: fill levels and times in."""

from __future__ import annotations

WHOLE = 256  # the share that is all connections
HIGH_FILL, LOW_FILL = 0.4, 0.1  # of the room for batches that wait
INTERVAL_S = 0.05  # between two changes
FIRST_STEP = 16
HOLD_S = 2.0  # after the last rise
RELEASE_S = 10.0  # from all to none


class LeftOutShare:
    """Rises by half while too many batches wait, and falls slowly once hardly any does.

    A connection that is left out stays so until the share falls below its place, so few are cut more than once.
    """

    def __init__(self) -> None:
        self.share = 0  # in 256ths
        self._exact = 0.0
        self._looked_at = self._risen_at = 0.0

    def look(self, now: float, fill: float) -> None:
        """Update the share. fill: the part of the room that is in use, from 0 to 1."""
        passed = now - self._looked_at
        if passed < INTERVAL_S:
            return
        self._looked_at = now
        if fill >= HIGH_FILL:
            self._exact = min(float(WHOLE), max(self._exact * 1.5, self._exact + FIRST_STEP))
            self._risen_at = now
        elif fill <= LOW_FILL and now - self._risen_at >= HOLD_S:
            self._exact = max(0.0, self._exact - WHOLE * min(passed, 1.0) / RELEASE_S)
        self.share = round(self._exact)
