"""The links of frames: from each capture to every worker, and to the recorder."""

from __future__ import annotations

import os
from pathlib import Path

from appliance.config.schema import Config
from appliance.ipc.channel import HANDLE, Begin, MessageReceiver, MessageSender
from appliance.ipc.event_batch import Buffer
from appliance.ipc.memory_sizes import (
    FILLED_SLOTS,
    LEAST_RECORD_SLOTS,
    LEAST_SLOTS,
    LONGEST_BATCH,
    arena_bytes,
    record_quota,
    slots,
)
from appliance.ipc.shared_memory import SlotLease
from appliance.ipc.sockets import Bus
from appliance.runtime.paths import Paths


class FrameSender(MessageSender):
    """Batches from one capture to every worker, which keeps the last few to compare retransmissions with.

    The recorder, if there is one, reads the same batches where they lie. It is the last receiver, and can only keep as
    many from the capture as `record_quota` says.
    """

    def __init__(self, bus: Bus, config: Config, run_dir: Path, capture: int, epoch: int) -> None:
        shard, workers = config.shard, config.worker_count
        quota, count = slots(config)
        recorders = [Paths(run_dir).inbox("recorder")] if config.record.path else []
        super().__init__(
            bus,
            run_dir,
            "frames",
            capture,
            epoch,
            [Paths(run_dir).inbox("worker", worker) for worker in range(workers)] + recorders,
            quota=quota,
            slots=count,
            slot_bytes=max(shard.batch_bytes, LONGEST_BATCH),
            shared=bool(recorders),
        )
        self.batch_bytes = shard.batch_bytes
        self._recorder = workers
        self._record_quota = record_quota(config)
        about = os.statvfs(run_dir)
        if about.f_bavail * about.f_frsize < arena_bytes(config):  # neither frames nor events may take all
            self._slots.limit(workers * LEAST_SLOTS + FILLED_SLOTS + min(self._record_quota, LEAST_RECORD_SLOTS))
            self._record_quota = min(self._record_quota, LEAST_RECORD_SLOTS)

    def record_room(self) -> bool:
        """Return whether the recorder may have another batch now."""
        if self._slots.in_use(self._recorder) >= self._record_quota:
            self._slots.reclaim()
        return self._slots.in_use(self._recorder) < self._record_quota

    def record(self, message: Buffer, before: int) -> bool:
        """Grant the recorder a batch, or return False at once if it has no room.

        message: the batch that `send` has taken last, or if `sent_slot` is -1 one for the recorder alone, which is
        copied. before: the frames that the recorder got before it.
        """
        if not self.record_room():
            return False
        slot, length = self.sent_slot, len(message)
        if slot < 0:
            acquired = self._slots.acquire()
            if acquired is None:
                return False
            acquired[:length] = message
            slot = self._slots.slot_of(acquired)
        self._announce(self._recorder, slot, length, *self._slots.share(slot, self._recorder, length, before))
        return True

    def acquire(self) -> memoryview | None:
        """Return a slot of batch_bytes to write a batch into, None if there is none."""
        slot = self._slots.acquire()
        return None if slot is None else slot[: self.batch_bytes]

    def release(self, message: Buffer) -> bool:
        """Release a slot whose message will not be sent. Return False if the message lies in no slot."""
        slot = self._slots.slot_of(message)
        if slot >= 0:
            self._slots.release(slot)
        return slot >= 0


class FrameReceiver(MessageReceiver):
    """Batches from every capture, in one worker."""

    def __init__(self, bus: Bus, config: Config, run_dir: Path, worker: int, begin: Begin | None = None) -> None:
        captures = config.capture_count
        super().__init__(
            bus, run_dir, Paths(run_dir).inbox("worker", worker), "frames", captures, worker, begin, HANDLE.size
        )

    def receive(self) -> memoryview | None:
        """Return the next batch, or None if there is none now."""
        message = self.next_message()
        return None if message is None else memoryview(message)


class RecordReceiver(MessageReceiver):
    """Batches from every capture, in the recorder."""

    def __init__(self, bus: Bus, config: Config, run_dir: Path, begin: Begin | None = None) -> None:
        captures, place = config.capture_count, config.worker_count
        inbox = Paths(run_dir).inbox("recorder")
        super().__init__(bus, run_dir, inbox, "frames", captures, place, begin, HANDLE.size, shared=True)

    def receive(self) -> tuple[memoryview, int] | None:
        """Return the next batch, and how many frames the recorder was given before it; None if there is none now."""
        message = self.next_message()
        return (memoryview(message), message.beside()) if isinstance(message, SlotLease) else None
