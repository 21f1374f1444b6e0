"""The capture's end of the links: what is sealed leaves, waits in a backlog, or is dropped and counted.

Live nothing waits for a worker: what a link does not take is copied into a backlog of half its size, and dropped
when that is full. While a file is read, and in a drain until its end, it is waited for. The page has a count before
the thing it counts can be lost.
"""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path

from appliance.batch import stamp
from appliance.bus import Bus, FrameOutlet
from appliance.options import Config
from appliance.shard import Sharder
from appliance.station import Station
from appliance.stats import Counts, Page

SLOTS_AHEAD = 12  # batches that a turn of frames of 1500 bytes fills
END_AGAIN_S = 0.5  # between two attempts to say that nothing more comes
GAUGES = ("last_frame_ns", "fragments.held")


class Links:
    """From the batches of a sharder to every worker. Owns the counters of what was sent and dropped in the page.

    base: the page as an earlier life of the capture left it."""

    def __init__(
        self, config: Config, run_dir: Path, index: int, page: Page, station: Station, sharder: Sharder, base: Counts
    ) -> None:
        self.config = config
        self.run_dir = run_dir
        self.index = index
        self.page = page
        self.station = station
        self.sharder = sharder
        self.base = base
        self.live = not config.lossless
        self.deadline: float | None = None  # time.monotonic(); set by a stop: the end of all waiting
        self.connected = False
        self.sequences = [0] * config.worker_count
        self.backlogs: list[deque[tuple[int, bytearray]]] = [deque() for _ in self.sequences]  # (frames, message)
        self.backlog_bytes = [0] * config.worker_count
        self.backlog_limit = config.link_bytes // 2 // config.capture_count

    def connect(self) -> None:
        """Opens them. Raises BusError."""
        self.connected = True
        self.bus = Bus()
        self.outlet = FrameOutlet(self.bus, self.config, self.run_dir, self.index, time.time_ns())

    def fill(self) -> list[float]:
        """Of each worker, how full its backlog is, from 0 to 1."""
        return [count / self.backlog_limit for count in self.backlog_bytes]

    def drain(self) -> None:
        """From now on waiting has an end."""
        self.deadline = time.monotonic() + self.config.run.drain_s

    def count(self) -> None:
        """Brings the sharder's counters to the page."""
        counts = self.sharder.counts()
        self.page.update({name: n if name in GAUGES else n + self.base[name] for name, n in counts.items()})

    def pass_on(self) -> None:
        """Sends what is sealed. What a link does not take joins the backlog when live, and is waited for otherwise."""
        for worker, backlog in enumerate(self.backlogs):
            while backlog and self._sendable(worker):
                held, copy = backlog.popleft()
                self.backlog_bytes[worker] -= len(copy)
                self._send(worker, held, copy)
        self._supply()
        if not self.sharder.ready:
            return
        self.count()
        for worker, frames, message in self.sharder.take():
            if not self.backlogs[worker] and self._sendable(worker):
                self._send(worker, frames, message)
                continue
            if self.deadline is not None:
                self.page.add(f"dropped_stopping.{worker}", frames)
            elif self.backlog_bytes[worker] + len(message) > self.backlog_limit:
                self.page.add(f"dropped_backlog.{worker}", frames)
            else:
                self.backlogs[worker].append((frames, bytearray(message)))
                self.backlog_bytes[worker] += len(message)
            self._return(message)
        self._supply()

    def _supply(self) -> None:
        """Gives the sharder slots for what the next turn may fill; what it fills beyond is copied into one later."""
        while self.sharder.supplied < SLOTS_AHEAD:
            slot = self.outlet.lend()
            if slot is None:
                return
            self.sharder.supply(slot)

    def _return(self, message: memoryview) -> None:
        """The memory of a batch that was not sent, or was copied."""
        if self.outlet.take_back(message):
            message.release()
        else:
            self.sharder.recycle(message)

    def give_up(self) -> None:
        """What still waits is dropped."""
        for worker, backlog in enumerate(self.backlogs):
            self.page.add(f"dropped_stopping.{worker}", sum(frames for frames, _ in backlog))
            backlog.clear()

    def _sendable(self, worker: int) -> bool:
        """Whether the link has room. Waits for it when reading a file, and in a drain until its end."""
        ready = self.outlet.wait(worker, 0)
        patient = not self.live or self.deadline is not None
        while not ready and patient and self.station.until(self._end_of_patience()):
            ready = self.outlet.wait(worker, 0.02)
        return ready

    def _send(self, worker: int, frames: int, message: memoryview | bytearray) -> None:
        stamp(message, self.sequences[worker], self.page[f"sent.{worker}"])
        self.sequences[worker] += 1
        # Counted first: killed in between, the frames are missing from the next cumulative and so counted as lost.
        self.page.add(f"sent.{worker}", frames)
        self.page.add(f"sent_batches.{worker}", 1)
        self.page.add(f"sent_bytes.{worker}", len(message))
        if not self.outlet.send(worker, message):
            raise RuntimeError(f"the link to worker {worker} had room and took nothing")

    def say_end(self) -> bool:
        """Whether every worker has heard it. It is said again and again: a worker may be killed before it has."""
        pages = [Page.open(self.run_dir / f"worker-{worker}.stats") for worker in range(len(self.sequences))]
        heard = f"ended.{self.index}"
        say_at = [0.0] * len(pages)
        while deaf := [worker for worker, page in enumerate(pages) if not page[heard]]:
            if not self.station.until(self._end_of_patience()):
                return False
            now = time.monotonic()
            due = [worker for worker in deaf if now >= say_at[worker] and self.outlet.wait(worker, 0)]
            for worker, frames, message in self.sharder.end() if due else ():
                if worker in due:
                    self._send(worker, frames, message)
                    say_at[worker] = now + END_AGAIN_S
                else:
                    self._return(message)
            time.sleep(0.002)
        return True

    def _end_of_patience(self) -> float | None:
        """The deadline of all waiting; a stop sets it if nothing did before."""
        if self.deadline is None and self.station.stopping:
            self.drain()
        return self.deadline
