"""The link of copied events: from the feed to the keeper. The messages are those of event_batch.py, without runs."""

from __future__ import annotations

from pathlib import Path

from appliance.config.schema import Config
from appliance.ipc.channel import HANDLE, Begin, MessageReceiver, MessageSender
from appliance.ipc.event_batch import EVENT_HEADER, Body
from appliance.ipc.memory_sizes import copy_slots
from appliance.ipc.sockets import Bus
from appliance.runtime.paths import Paths


class CopySender(MessageSender):
    """Events from the feed to the keeper. A message that no slot can hold is not sent."""

    def __init__(self, bus: Bus, config: Config, run_dir: Path, epoch: int) -> None:
        quota, receivers = copy_slots(config), [Paths(run_dir).inbox("keeper")]
        slot_bytes = config.feed.event_batch_bytes + EVENT_HEADER.size
        super().__init__(bus, run_dir, "copies", 0, epoch, receivers, quota=quota, slots=quota, slot_bytes=slot_bytes)

    def takes(self, *parts: Body) -> bool:
        """Return whether there is room for a message of these parts now."""
        return sum(map(len, parts)) <= self.slot_bytes and self.room(0)


class CopyReceiver(MessageReceiver):
    """Events from the feed, in the keeper."""

    def __init__(self, bus: Bus, config: Config, run_dir: Path, begin: Begin | None = None) -> None:
        inbox = Paths(run_dir).inbox("keeper")
        super().__init__(bus, run_dir, inbox, "copies", 1, 0, begin, HANDLE.size, copies=True)

    def receive(self) -> memoryview | None:
        """Return a copy of the next message, or None if there is none now. Raises SharedMemoryError."""
        message = self.next_message()
        return None if message is None else memoryview(message)
