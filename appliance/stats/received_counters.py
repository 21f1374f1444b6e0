"""The counters of a receiver for one sender of a link, in the receiver's stats page."""

from __future__ import annotations

from appliance.stats.page import Page


class ReceivedCounters:
    """The slots `received`, `lost` and `ended` of one sender: frames of a capture, or events of a worker.

    Each message carries the sender's count of everything that it sent before. So the sum of received and lost is the
    sender's count as of the last message, and a kill between the two updates is found by the next message.
    """

    __slots__ = ("_batches", "_bytes", "_ended", "_lost", "_page", "_received")

    def __init__(self, page: Page, sender: int) -> None:
        self._page = page
        self._received, self._lost, self._ended = f"received.{sender}", f"lost.{sender}", f"ended.{sender}"
        self._batches, self._bytes = f"received_batches.{sender}", f"received_bytes.{sender}"

    @property
    def received(self) -> int:
        """Return the frames or events received."""
        return self._page[self._received]

    @property
    def accounted(self) -> int:
        """Return the frames or events received or lost."""
        return self._page[self._received] + self._page[self._lost]

    @property
    def ended(self) -> bool:
        """Return whether the end mark has come, behind which the sender sends nothing."""
        return bool(self._page[self._ended])

    @ended.setter
    def ended(self, ended: bool) -> None:
        self._page[self._ended] = int(ended)

    def add(self, count: int) -> None:
        """Count as received; a negative number takes back."""
        self._page.add(self._received, count)

    def add_batches(self, count: int, size: int) -> None:
        """Count batches and their bytes as received, in the page of a worker; negative numbers take back."""
        self._page.add(self._batches, count)
        self._page.add(self._bytes, size)

    def close_gap(self, sent: int) -> None:
        """Count what is missing of the `sent` ones as lost."""
        self._page.add(self._lost, max(0, sent - self.accounted))

    def find(self, count: int) -> None:
        """Take back up to `count` of the lost ones: they have come late."""
        self._page.add(self._lost, -min(count, self._page[self._lost]))
