"""Events on their way out of a worker: counted, sent to the feed.

In: what Pipeline.take() gives. Out: a message for each body. Live, what the feed does not take is dropped and counted
by topic; reading a file, it is waited for.
"""

from __future__ import annotations

import time

from appliance.bus import EventOutlet
from appliance.eventbatch import EVENT_END, EventMessage, event_header
from appliance.options import Config
from appliance.station import Station
from appliance.stats import TOPICS, Page

END_AGAIN_S = 0.5  # between two attempts to say that nothing more comes


class Publisher:
    """The worker's end of the link to the feed. Owns the counters of events sent and dropped in the worker's page."""

    def __init__(
        self, config: Config, worker: int, page: Page, link: EventOutlet, station: Station, epoch: int
    ) -> None:
        self.worker = worker
        self.page = page
        self.link = link
        self.station = station
        self.patient = config.lossless
        self.deadline: float | None = None  # time.monotonic(); set by a stop: the end of all waiting
        self.epoch = epoch
        self.sequence = 0

    def publish(self, taken: list[tuple[int, int, bytes]]) -> None:
        """Sends every (topic index, events, body); the page must already hold them as made."""
        for topic, events, body in taken:
            if not self._send(topic, events, body):
                self.page.add(f"dropped_backlog.{TOPICS[topic]}", events)

    def end(self, feed: Page) -> bool:
        """Says that nothing follows until the feed's page shows that it was heard; whether it was before the deadline.

        Said again from time to time: the feed may be killed with it in its hands."""
        say_at = 0.0
        while not feed[f"ended.{self.worker}"]:
            if not self.station.until(self.deadline):
                return False
            if time.monotonic() >= say_at and self.link.ready(0):
                say_at = time.monotonic() + END_AGAIN_S
                self._send(EVENT_END, 0, b"")
                self.page["events_end_sent"] = 1
            time.sleep(0.002)
        return True

    def _send(self, topic: int, events: int, body: bytes) -> bool:
        ready = self.link.ready(0)
        while not ready and (self.patient or self.deadline is not None) and self.station.until(self.deadline):
            ready = self.link.ready(0.02)
        if not ready:
            return False
        page = self.page
        message = EventMessage(topic, self.worker, events, self.epoch, self.sequence, page["events_sent"], body)
        self.sequence += 1
        # Counted first: killed in between, they are missing from the next cumulative and so counted as lost. By topic
        # before the sum: books.close_worker() makes the sum again from the topics.
        if topic != EVENT_END:
            page.add(f"sent.{TOPICS[topic]}", events)
        page.add("events_sent", events)
        if not self.link.put(event_header(message), body):
            raise RuntimeError("the link to the feed had room and took nothing")
        return True
