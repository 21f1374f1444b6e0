"""The links of events: from each worker to the feed."""

from __future__ import annotations

from pathlib import Path

import zmq

from appliance.config.schema import Config
from appliance.ipc.channel import Begin, MessageReceiver, MessageSender
from appliance.ipc.event_batch import EVENT_HEADER, Body
from appliance.ipc.memory_sizes import queue_length
from appliance.ipc.shared_memory import SlotLease
from appliance.ipc.sockets import Bus
from appliance.runtime.paths import Paths

MAX_EVENT_MESSAGE = 64 << 20  # bytes; a larger one closes its connection, and the loss shows in the next cumulative


class EventSender(MessageSender):
    """Encoded events from one worker to the feed. A message that no slot can hold goes through the socket."""

    def __init__(self, bus: Bus, config: Config, run_dir: Path, worker: int, epoch: int) -> None:
        batch_bytes = config.feed.event_batch_bytes
        quota = queue_length(config.link_bytes, batch_bytes)
        receivers, slot_bytes = (
            [Paths(run_dir).inbox("feed")],
            batch_bytes + EVENT_HEADER.size,
        )  # runs count as part of a batch
        super().__init__(
            bus, run_dir, "events", worker, epoch, receivers, quota=quota, slots=quota, slot_bytes=slot_bytes
        )
        self._sockets[0].setsockopt(zmq.SNDHWM, 2 * quota)

    def put(self, *parts: Body) -> bool:
        """Send a message, its parts behind each other, or return False at once if there is no room."""
        if not self.ready(0.0):
            return False
        if sum(map(len, parts)) <= self.slot_bytes:
            return self.send(0, *parts)
        self._sockets[0].send(b"".join(parts), zmq.DONTWAIT)
        return True

    def waiting(self) -> int:
        """Return how many messages in slots the feed has not released."""
        self._slots.reclaim()
        return self._slots.in_use(0)

    def ready(self, timeout_s: float) -> bool:
        """Wait until `put` has room, at most timeout_s; return whether it has."""
        return self.wait(0, timeout_s) and bool(self._sockets[0].poll(round(timeout_s * 1000), zmq.POLLOUT))


class EventReceiver(MessageReceiver):
    """Encoded events from every worker, in the feed."""

    def __init__(self, bus: Bus, config: Config, run_dir: Path, begin: Begin | None = None) -> None:
        most = max(MAX_EVENT_MESSAGE, 4 * config.feed.event_batch_bytes)
        workers = config.worker_count
        super().__init__(bus, run_dir, Paths(run_dir).inbox("feed"), "events", workers, 0, begin, most, copies=True)

    def receive(self) -> SlotLease | memoryview | None:
        """Return the next message, or None if there is none now. Reading the bytes of a SlotLease copies them."""
        return self.next_message()

    def _inline(self, announcement: memoryview) -> memoryview:
        return announcement
