"""The links of files: from each worker to the files process."""

from __future__ import annotations

from pathlib import Path

from appliance.config.schema import Config
from appliance.ipc.channel import HANDLE, Begin, MessageReceiver, MessageSender
from appliance.ipc.file_batch import FILE_BATCH_BYTES
from appliance.ipc.memory_sizes import file_slots
from appliance.ipc.sockets import Bus
from appliance.runtime.paths import Paths


class FileSender(MessageSender):
    """Pieces of bodies from one worker to the files process. Each message is written in a slot."""

    def __init__(self, bus: Bus, config: Config, run_dir: Path, worker: int, epoch: int) -> None:
        quota, receivers = file_slots(config), [Paths(run_dir).inbox("files")]
        super().__init__(
            bus, run_dir, "files", worker, epoch, receivers, quota=quota, slots=quota + 2, slot_bytes=FILE_BATCH_BYTES
        )

    def acquire(self) -> memoryview | None:
        """Return a slot to write a message into, None if there is none now."""
        return self._slots.acquire() if self.room(0) else None

    def put(self, message: memoryview) -> None:
        """Send a message in a slot that was acquired."""
        slot, length = self._slots.slot_of(message), len(message)
        self._announce(0, slot, length, *self._slots.grant(slot, 0, length))


class FileReceiver(MessageReceiver):
    """Pieces of bodies from every worker, in the files process."""

    def __init__(self, bus: Bus, config: Config, run_dir: Path, begin: Begin | None = None) -> None:
        inbox, workers = Paths(run_dir).inbox("files"), config.worker_count
        super().__init__(bus, run_dir, inbox, "files", workers, 0, begin, HANDLE.size, copies=True)

    def receive(self) -> memoryview | None:
        """Return a copy of the next message, or None if there is none now. Raises SharedMemoryError."""
        message = self.next_message()
        return None if message is None else memoryview(message)
