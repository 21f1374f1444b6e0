"""Copies of events for the keeper. Owns the counters of events sent to it and past it in the feed's page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from appliance.config.schema import Config
from appliance.ipc.copy_link import CopySender
from appliance.ipc.event_batch import Body, EventMessage, event_header
from appliance.ipc.sockets import Bus
from appliance.runtime.end_marks import send_end_marks
from appliance.runtime.paths import Paths
from appliance.stats.page import Page
from appliance.stats.received_counters import ReceivedCounters


class EventCopies:
    """The feed's end of the link to the keeper. It waits for nothing but the end mark."""

    def __init__(self, config: Config, run_dir: Path, page: Page, bus: Bus, epoch: int) -> None:
        self._page = page
        self._epoch = epoch
        self._sequence = 0
        self._keeper = Paths(run_dir).keeper_page
        self._link = CopySender(bus, config, run_dir, epoch)

    @property
    def full(self) -> bool:
        """Return whether the link has no room for a message."""
        return not self._link.room(0)

    def send(self, message: EventMessage) -> None:
        """Send the events of a message once more, or count them as past the keeper."""
        header = self._header(message.events, message.body)
        if not self._link.takes(header, message.body):
            self._page.add("past_keeper", message.events)
            return
        self._page.add("to_keeper", message.events)  # first: after a kill in between they count as lost
        self._send(header, message.body)

    def end(self, go_on: Callable[[], bool]) -> None:
        """Send the end mark until the keeper has it, or go_on() returns False."""

        def send(due: list[int]) -> list[int]:
            header = self._header(0, b"", end=True)
            if not self._link.takes(header):
                return []
            self._send(header)
            return due

        send_end_marks([ReceivedCounters(Page.open(self._keeper, writable=False), 0)], send, go_on)

    def _header(self, events: int, body: Body, *, end: bool = False) -> bytes:
        sent = self._page["to_keeper"]
        return event_header(EventMessage(0, events, self._epoch, self._sequence, sent, b"", body, end))

    def _send(self, *parts: Body) -> None:
        self._sequence += 1
        if not self._link.send(0, *parts):
            raise RuntimeError("the link to the keeper had room and took nothing")
