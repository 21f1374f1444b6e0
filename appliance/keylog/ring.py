"""KeyRing: the secrets that the supervisor keeps for its workers, the latest ones, up to a number and an age."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from appliance.keylog.secrets import Secret, packed

MOST_IN_MESSAGE = 1 << 16  # secrets: some MB


class KeyRing:
    """Numbered secrets, the oldest first. max_age_s: 0 is any; it counts from their arrival here."""

    def __init__(self, max_keys: int, max_age_s: float) -> None:
        self.added = 0  # secrets so far: the number of the newest
        self.configure(max_keys, max_age_s)
        self._kept: deque[tuple[float, bytearray]] = deque()

    def configure(self, max_keys: int, max_age_s: float) -> None:
        """Apply other limits from now on."""
        self._max_keys = max_keys
        self._max_age_s = max_age_s

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, secrets: Iterable[Secret], now: float) -> None:
        """Keep secrets that came at this time."""
        for secret in secrets:
            self._kept.append((now, bytearray(packed(secret))))
            self.added += 1
            if len(self._kept) > self._max_keys:
                self._drop()

    def sweep(self, now: float) -> None:
        """Drop what is too old."""
        while self._kept and self._max_age_s and self._kept[0][0] + self._max_age_s < now:
            self._drop()

    def since(self, number: int) -> tuple[int, bytes]:
        """Return (number of the last one, bytes) of secrets behind this number, at most MOST_IN_MESSAGE of them."""
        first = self.added - len(self._kept)
        start = max(0, number - first)
        stop = min(len(self._kept), start + MOST_IN_MESSAGE)
        if start == stop:
            return self.added, b""
        kept = list(self._kept)[start:stop]
        return first + stop, b"".join(secret for _, secret in kept)

    def _drop(self) -> None:
        _, secret = self._kept.popleft()
        secret[:] = bytes(len(secret))
