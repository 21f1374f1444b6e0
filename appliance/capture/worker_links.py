"""The capture's end of the links: a sealed batch is sent, queued in a backlog, or dropped and counted.

Live, the capture never waits for a worker. A batch that a link refuses is copied into a backlog of half the link's
size, and dropped if that is full. While reading a file, and in a drain until its end, the capture waits. The page has a
count before the counted frames can be lost.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from appliance.capture.sharder import Sharder
from appliance.config.schema import Config
from appliance.ipc.channel import MAKE_ROOM, ROOM_CHECK_INTERVAL_S
from appliance.ipc.frame_batch import stamp
from appliance.ipc.frame_link import FrameSender
from appliance.ipc.sockets import Bus, BusError
from appliance.runtime.child import ChildRuntime
from appliance.runtime.end_marks import send_end_marks
from appliance.runtime.paths import Paths
from appliance.stats.links import SentLink
from appliance.stats.page import Page
from appliance.stats.received_counters import ReceivedCounters
from appliance.stats.snapshot import Counts

SLOTS_AHEAD = 12  # batches that a turn of frames of 1500 bytes fills
MEMORY_TIMEOUT_S = 3.0  # with every batch returned: then a file waits for memory that will not come
GAUGES = ("last_frame_ns", "fragments.held")


class Links:
    """From the batches of a sharder to every worker. Owns the counters of what was sent and dropped in the page.

    base: the page as an earlier life of the capture left it."""

    def __init__(
        self,
        config: Config,
        run_dir: Path,
        index: int,
        page: Page,
        runtime: ChildRuntime,
        sharder: Sharder,
        base: Counts,
    ) -> None:
        self.config = config
        self.run_dir = run_dir
        self.index = index
        self.page = page
        self.runtime = runtime
        self.sharder = sharder
        self.base = base
        self.live = not config.lossless
        self.deadline: float | None = None  # time.monotonic(); set by a stop: the end of all waiting
        self.connected = False
        self.worker_pages: list[Page] = []
        self.sequences = [0] * config.worker_count
        self.backlogs: list[deque[tuple[int, bytearray]]] = [deque() for _ in self.sequences]  # (frames, message)
        self.backlog_bytes = [0] * config.worker_count
        self.backlog_limit = config.link_bytes // 2 // config.capture_count
        self.records = bool(config.record.path)

    def connect(self) -> None:
        """Open them. Raises BusError."""
        self.connected = True
        self.bus = Bus()
        self.sender = FrameSender(self.bus, self.config, self.run_dir, self.index, time.time_ns())

    def backlog_fill(self) -> list[float]:
        """Return how full the backlog of each worker is, from 0 to 1."""
        return [count / self.backlog_limit for count in self.backlog_bytes]

    def drain(self) -> None:
        """Give all waiting a deadline."""
        self.deadline = time.monotonic() + self.config.run.drain_s

    def publish_counters(self) -> None:
        """Publish the sharder's counters in the page."""
        counts = self.sharder.counts()
        self.page.update({name: n if name in GAUGES else n + self.base[name] for name, n in counts.items()})

    def send_ready(self) -> None:
        """Send sealed batches. A batch that a link refuses joins the backlog when live; else the capture waits."""
        for worker, backlog in enumerate(self.backlogs):
            while backlog and self._sendable(worker):
                held, copy = backlog.popleft()
                self.backlog_bytes[worker] -= len(copy)
                self._send(worker, held, copy)
        # Sealed batches are sent before others get slots: while a file waits here, neither may have the last slot.
        if not self.sharder.ready:
            self._supply()
            return
        self.publish_counters()
        for worker, frames, message in self.sharder.take():
            if not self.backlogs[worker] and self._sendable(worker):
                self._send(worker, frames, message)
                continue
            if self.deadline is not None:
                self.page.add(f"dropped_stopping.{worker}", frames)
            elif self.backlog_bytes[worker] + len(message) > self.backlog_limit:
                reason = "memory" if self.sender.out_of_memory(worker) else "backlog"
                self.page.add(f"dropped_{reason}.{worker}", frames)
            else:
                self.backlogs[worker].append((frames, bytearray(message)))
                self.backlog_bytes[worker] += len(message)
            self._return_memory(message)
        self._supply()

    def _supply(self) -> None:
        """Supply the sharder with slots for the next turn; batches beyond these are copied into a slot later."""
        while self.sharder.supplied < SLOTS_AHEAD:
            slot = self.sender.acquire()
            if slot is None:
                return
            self.sharder.supply(slot)

    def _return_memory(self, message: memoryview) -> None:
        """Return the memory of a batch that was copied or not sent."""
        if self.sender.release(message):
            message.release()
        else:
            self.sharder.recycle(message)

    def drop_backlogs(self) -> None:
        """Drop the backlogs."""
        for worker, backlog in enumerate(self.backlogs):
            self.page.add(f"dropped_stopping.{worker}", sum(frames for frames, _ in backlog))
            backlog.clear()

    def _sendable(self, worker: int) -> bool:
        """Return whether the link has room; wait for it when reading a file, and in a drain until its end."""
        ready = self.sender.wait(worker, 0)
        waits = not self.live or self.deadline is not None
        stuck_at = 0.0
        while not ready and waits and self.runtime.heartbeat_until(self._wait_deadline()):
            ready = self.sender.wait(worker, 0.02)
            if not ready and not self.live and self.sender.out_of_memory(worker):
                now = time.monotonic()
                stuck_at = stuck_at or now + MEMORY_TIMEOUT_S
                if now >= stuck_at and self._all_arrived():
                    why = "no memory for more frames, and the workers keep what there is"
                    raise BusError(f"{self.sender.path}: {why}; {MAKE_ROOM}")
        return ready

    def _all_arrived(self) -> bool:
        """Return whether the workers have received every message; they release none before more comes."""
        if not self.worker_pages:
            paths = [Paths(self.run_dir).worker_page(worker) for worker in range(len(self.sequences))]
            self.worker_pages = [Page.open(path, writable=False) for path in paths]
        return all(
            ReceivedCounters(page, self.index).accounted >= SentLink(self.page, worker).sent
            for worker, page in enumerate(self.worker_pages)
        )

    def _send(self, worker: int, frames: int, message: memoryview | bytearray) -> None:
        stamp(message, self.sequences[worker], SentLink(self.page, worker).sent)
        self.sequences[worker] += 1
        # Counted first: killed in between, the frames are missing from the next cumulative and so counted as lost.
        self.page.add(f"sent.{worker}", frames)
        self.page.add(f"sent_batches.{worker}", 1)
        self.page.add(f"sent_bytes.{worker}", len(message))
        if not self.sender.send(worker, message):
            raise RuntimeError(f"the link to worker {worker} had room and took nothing")
        if self.records and frames:
            self._record(frames, message)

    def _record(self, frames: int, message: memoryview | bytearray) -> None:
        """Grant the recorder the batch that was sent. Live, a recorder that is behind does without."""
        if not self.live:
            while not self.sender.record_room() and self.runtime.heartbeat_until(self._wait_deadline()):
                time.sleep(ROOM_CHECK_INTERVAL_S)
        before = self.page["to_recorder"]
        if not self.sender.record_room():
            self.page.add("past_recorder", frames)
            return
        self.page.add("to_recorder", frames)  # first, as for a worker
        self.page.add("to_recorder_batches", 1)
        if not self.sender.record(message, before):
            raise RuntimeError("the link to the recorder had room and took nothing")

    def send_end_marks(self) -> bool:
        """Send end marks to the workers and the recorder. Return whether all have received theirs before the deadline.

        Each call sends them anew, as a worker may restart.
        """
        paths = [Paths(self.run_dir).worker_page(worker) for worker in range(len(self.sequences))]
        received = [ReceivedCounters(Page.open(path, writable=False), self.index) for path in paths]
        if self.records:
            received.append(ReceivedCounters(Page.open(Paths(self.run_dir).recorder_page, writable=False), self.index))
        recorder = len(paths)  # its place behind the workers

        def send(due: list[int]) -> Iterator[int]:
            ready = [receiver for receiver in due if self._takes_end(receiver, recorder)]
            for worker, frames, message in self.sharder.end() if ready else ():
                if worker == 0 and recorder in ready:
                    self.sender.sent_slot = -1
                    if self.sender.record(bytes(message), self.page["to_recorder"]):
                        yield recorder
                if worker in ready:
                    self._send(worker, frames, message)
                    yield worker
                else:
                    self._return_memory(message)

        return send_end_marks(received, send, lambda: self.runtime.heartbeat_until(self._wait_deadline()))

    def _takes_end(self, receiver: int, recorder: int) -> bool:
        return self.sender.record_room() if receiver == recorder else self.sender.wait(receiver, 0)

    def _wait_deadline(self) -> float | None:
        """Return the deadline of all waiting; a stop sets it unless it is set."""
        if self.deadline is None and self.runtime.stopping:
            self.drain()
        return self.deadline
