"""The counters of the links between processes, as the page of each end has them."""

from __future__ import annotations

from typing import Protocol

from appliance.stats.names import EVENT_DROPS, LINK_DROPS


class Readable(Protocol):
    """A page, or its counters at one moment."""

    def __getitem__(self, name: str, /) -> int: ...


class SentLink:
    """The frames of a capture for one worker, in the capture's page."""

    __slots__ = ("_page", "_worker")

    def __init__(self, page: Readable, worker: int) -> None:
        self._page = page
        self._worker = worker

    @property
    def offered(self) -> int:
        """Return the frames for the worker, sent or not."""
        return self._page[f"offered.{self._worker}"]

    @property
    def sent(self) -> int:
        """Return the frames sent."""
        return self._page[f"sent.{self._worker}"]

    @property
    def dropped(self) -> int:
        """Return the frames dropped before they were sent, for any reason."""
        return sum(self._page[f"{reason}.{self._worker}"] for reason in LINK_DROPS)


class ReceivedLink:
    """The frames or events of one sender, in the receiver's page."""

    __slots__ = ("_page", "_sender")

    def __init__(self, page: Readable, sender: int) -> None:
        self._page = page
        self._sender = sender

    @property
    def received(self) -> int:
        """Return the frames or events received."""
        return self._page[f"received.{self._sender}"]

    @property
    def lost(self) -> int:
        """Return those that were sent and did not arrive."""
        return self._page[f"lost.{self._sender}"]

    @property
    def accounted(self) -> int:
        """Return the frames or events received or lost."""
        return self.received + self.lost


class TopicEvents:
    """The events of a worker with one topic, in the worker's page."""

    __slots__ = ("_page", "_topic")

    def __init__(self, page: Readable, topic: str) -> None:
        self._page = page
        self._topic = topic

    @property
    def made(self) -> int:
        """Return the events made, sent or not."""
        return self._page[f"made.{self._topic}"]

    @property
    def sent(self) -> int:
        """Return the events sent to the feed."""
        return self._page[f"sent.{self._topic}"]

    @property
    def dropped(self) -> int:
        """Return the events dropped before they were sent, for any reason."""
        return sum(self._page[f"{reason}.{self._topic}"] for reason in EVENT_DROPS)
