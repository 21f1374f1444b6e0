"""Publisher: it counts a worker's events, and sends them to the feed.

In: the result of Pipeline.take(). Out: a message for each body. Live, the publisher drops bodies that the feed does not
receive, and counts their events by topic; in a run over a file it waits for the feed. It reports the room of the link
to the pipeline, which drops a connection's events beyond its share before the link is full.
"""

from __future__ import annotations

from collections import deque

from appliance.config.schema import Config
from appliance.ipc.event_batch import EventMessage, event_header
from appliance.ipc.event_link import EventSender
from appliance.ipc.event_runs import by_topic
from appliance.runtime.child import ChildRuntime
from appliance.runtime.end_marks import send_end_marks
from appliance.stats.names import TOPICS
from appliance.stats.page import Page
from appliance.stats.received_counters import ReceivedCounters

FEW = 8  # one of this many slots of the link may hold a body that is not full


class Publisher:
    """The worker's end of the link to the feed. Owns the counters of events sent and dropped in the worker's page."""

    def __init__(
        self, config: Config, worker: int, page: Page, link: EventSender, runtime: ChildRuntime, epoch: int
    ) -> None:
        self.worker = worker
        self.page = page
        self.link = link
        self.runtime = runtime
        self.lossless = config.lossless
        self.deadline: float | None = None  # time.monotonic(); set by a stop: the end of all waiting
        self.epoch = epoch
        self.sequence = 0
        self.bodies = 0  # published, sent or not
        self.waiting: deque[int] = deque()  # numbers of those that the feed may not have received yet

    def backlog(self) -> tuple[int, int]:
        """Return (bytes that fit into the link, bodies that the feed has received), for Pipeline.backlog()."""
        waiting, link = self.link.waiting(), self.link
        while len(self.waiting) > waiting:
            self.waiting.popleft()
        return (link.quota - waiting) * link.slot_bytes, self.waiting[0] if self.waiting else self.bodies

    @property
    def behind(self) -> bool:
        """Return whether the link holds enough bodies for the feed, so that one that is not full would gain no time."""
        return self.link.waiting() > self.link.quota // FEW

    def publish(self, taken: list[tuple[bytes, int, bytes]]) -> None:
        """Send every (runs, events, body); the page must already count them as made."""
        for runs, events, body in taken:
            counts = [(TOPICS[topic], n) for topic, n, _, _ in by_topic(runs, body, len(TOPICS), False)]
            message = self._message(events, runs, body)
            if self._send(message, counts):
                if len(event_header(message)) + len(body) <= self.link.slot_bytes:  # a longer one is sent, not shared
                    self.waiting.append(self.bodies)
            else:
                reason = "memory" if self.link.out_of_memory(0) else "backlog"
                for topic, count in counts:
                    self.page.add(f"dropped_{reason}.{topic}", count)
            self.bodies += 1

    def end(self, feed: Page) -> bool:
        """Send END until the feed's page shows that it arrived; return whether that was before the deadline."""

        def send(due: list[int]) -> list[int]:
            if not self.link.ready(0):
                return []
            self._send(self._message(0, b"", b"", end=True), [])
            self.page["events_end_sent"] = 1
            return due

        received = ReceivedCounters(feed, self.worker)
        return send_end_marks([received], send, lambda: self.runtime.heartbeat_until(self.deadline))

    def _message(self, events: int, runs: bytes, body: bytes, *, end: bool = False) -> EventMessage:
        sent = self.page["events_sent"]
        return EventMessage(self.worker, events, self.epoch, self.sequence, sent, runs, body, end)

    def _send(self, message: EventMessage, counts: list[tuple[str, int]]) -> bool:
        """Send a message and return whether the link took it. counts: its events by topic."""
        ready = self.link.ready(0)
        while (
            not ready and (self.lossless or self.deadline is not None) and self.runtime.heartbeat_until(self.deadline)
        ):
            ready = self.link.ready(0.02)
        if not ready:
            return False
        page = self.page
        self.sequence += 1
        # Count first: after a kill in between, the next cumulative misses them, which counts them as lost. By topic
        # before the sum: reconcile.close_worker() computes the sum again from the topics.
        for topic, count in counts:
            page.add(f"sent.{topic}", count)
        page.add("events_sent", message.events)
        if not self.link.put(event_header(message), message.body):
            raise RuntimeError("the link to the feed had room and took nothing")
        return True
