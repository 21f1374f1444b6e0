"""The worker process: batches of frames in, events out.

`python -m workers.worker RUN_DIR INDEX` feeds the pipeline with what the captures send and the feed with what comes
out, until every capture has said END (or SIGTERM says that no more will come), then brings out what is open and says
END. Every batch is counted before it is looked at; counters go on where a killed predecessor's stopped, and what died
with it is accounted at the start. Garbage on the wire is counted by the pipeline; an exception here is a bug and ends
the process.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from appliance import log, sandbox
from appliance.batch import header
from appliance.books import close_worker
from appliance.bus import Bus, BusError, EventOutlet, FrameInlet, Waiter
from appliance.hands import Hands
from appliance.log import tell
from appliance.options import Config
from appliance.station import Station, configuration, leave
from appliance.stats import DONE, DRAINING, PIPELINE_GAUGES, READY, Page
from workers.pipeline import Pipeline, bodies_of
from workers.publish import Publisher
from workers.quarantine import keep

TURN_BATCHES = 16  # per turn of the loop: some ms of work between two looks at the clock
COUNT_S = 0.05  # how old the pipeline's counters in the page may be
IDLE_SLACK_NS = 250_000_000  # on an idle link, how much later than expected a frame may still come


class Worker:
    """One shard: its inlet, its pipeline, its link to the feed. `run` does everything, once."""

    def __init__(self, config: Config, run_dir: Path, index: int, page: Page, station: Station) -> None:
        self.config = config
        self.run_dir = run_dir
        self.index = index
        self.page = page
        self.station = station
        self.hands = Hands(page)
        self.bus = Bus()
        self.inlet = FrameInlet(self.bus, config, run_dir, index, self.hands.first)
        self._forget_unfinished()
        close_worker(page, config.capture_count)
        self.base = page.snapshot()
        epoch = time.time_ns()
        events = EventOutlet(self.bus, config, run_dir, index, epoch)
        self.publisher = Publisher(config, index, page, events, station, epoch)
        self.pipeline = Pipeline(config, live=not config.lossless)
        self.counted_at = 0.0
        self.pending_since: float | None = None  # when the oldest event not yet published was made
        self.heard: tuple[int, int] | None = None  # the pipeline's clock and the monotonic one when a batch last came

    def run(self) -> int:
        """The whole life of the process; its exit code."""
        waiter = Waiter()
        waiter.watch(self.inlet.socket, read=True)
        age_s = min(self.config.feed.event_batch_age_ms / 1000, 0.02)
        self.station.state(READY)
        while not self._ended():
            self.station.turn()
            stopping = self.station.stopping
            if news := self.station.news(self.run_dir):
                self._publish()
                self.pipeline.configure(news)
            if not self._take_in():
                if stopping:
                    self._settle()
                    break
                self._idle()
                waiter.wait(age_s)
            self._bring_out()
        return self._finish()

    def _ended(self) -> bool:
        return all(self.page[f"ended.{c}"] for c in range(self.config.capture_count))

    def _take_in(self) -> int:
        """Feeds what waits on the link, up to a turn's worth; how many batches that were."""
        for count in range(TURN_BATCHES):
            self.station.turn()
            message = self.inlet.receive()
            if message is None:
                return count
            self._take(message)
            if self.pipeline.pending_output >= self.config.feed.event_batch_bytes:
                self._publish()
        return TURN_BATCHES

    def _take(self, message: memoryview) -> None:
        hands, capture = self.hands, self.inlet.sender
        sound = hands.take(capture, self.inlet.number)
        batch = header(message)
        self._account(batch.capture, batch.cumulative, batch.frames, len(message), batch.end)
        if batch.end:
            hands.done(capture)
        elif sound:
            hands.begin(capture)
            self.pipeline.feed(message)
            hands.done(capture)  # its events come behind this: none of it is done twice
            self.heard = self.pipeline.now_ns, time.monotonic_ns()
            self.page["lag_ns"] = max(0, self.heard[1] - batch.sealed_ns)
        else:
            hands.done(capture)
            self._quarantine(message, batch.frames)

    def _quarantine(self, message: memoryview, frames: int) -> None:
        page, capture = self.page, self.inlet.sender
        page.add("quarantined", frames)
        page.add("quarantined_batches", 1)
        said = f"worker {self.index}: two workers died of a batch of {frames} frames; it is left out"
        link_type = Page.open(self.run_dir / f"capture-{capture}.stats")["link_type"]
        try:
            path = keep(self.run_dir, f"worker-{self.index}", message, link_type, self.config.workers.quarantine_files)
            said += f", see {path}" if path else ""
        except OSError as error:
            said += f"; it could not be kept: {error.strerror}"
        tell(said, reason="loss")

    def _forget_unfinished(self) -> None:
        """A batch that a predecessor had in its hands when it died was received; now it comes again."""
        page = self.page
        for capture, number, message in self.inlet.left:
            if self.hands.hold(capture, number):
                batch = header(message)
                if page[f"received.{capture}"] + page[f"lost.{capture}"] > batch.cumulative:
                    page.add(f"received.{capture}", -batch.frames)
                    page.add(f"received_batches.{capture}", -1)
                    page.add(f"received_bytes.{capture}", -len(message))

    def _account(self, capture: int, cumulative: int, frames: int, length: int, end: bool) -> None:
        page = self.page
        known = page[f"received.{capture}"] + page[f"lost.{capture}"]
        page.add(f"lost.{capture}", max(0, cumulative - known))
        page.add(f"received.{capture}", frames)
        page.add(f"received_batches.{capture}", 1)
        page.add(f"received_bytes.{capture}", length)
        page[f"ended.{capture}"] = int(end)

    def _settle(self) -> None:
        """Told that nothing more comes although not every capture said so: what it sent and we never saw is lost."""
        for c in range(self.config.capture_count):
            sent = Page.open(self.run_dir / f"capture-{c}.stats")[f"sent.{self.index}"]
            self.page.add(f"lost.{c}", max(0, sent - self.page[f"received.{c}"] - self.page[f"lost.{c}"]))

    def _idle(self) -> None:
        """Lets time pass for the pipeline while nothing comes; only when live, and never by a step of the clock."""
        if self.heard is None or self.config.lossless:
            return
        clock, monotonic = self.heard
        late = (self.config.capture.timeout_ms + self.config.shard.batch_age_ms) * 1_000_000 + IDLE_SLACK_NS
        self.pipeline.advance(clock + time.monotonic_ns() - monotonic - late)

    def _bring_out(self) -> None:
        now = time.monotonic()
        if self.pipeline.pending_events == 0:
            self.pending_since = None
        elif self.pending_since is None:
            self.pending_since = now
        elif now - self.pending_since >= self.config.feed.event_batch_age_ms / 1000:
            self._publish()
        if now - self.counted_at >= COUNT_S:
            self._count()

    def _publish(self) -> None:
        taken = self.pipeline.take()
        self._count()
        self.publisher.publish(taken)
        self.pending_since = None

    def _count(self) -> None:
        counts = self.pipeline.counts()
        self.page.update({name: n if name in PIPELINE_GAUGES else n + self.base[name] for name, n in counts.items()})
        self.counted_at = time.monotonic()

    def _finish(self) -> int:
        """Brings out everything that is open, says END, and waits until the feed has it."""
        self.station.state(DRAINING)
        if not self.config.lossless or self.station.stopping:
            self.publisher.deadline = time.monotonic() + self.config.run.drain_s
        self.pipeline.finish()
        self._publish()
        feed = Page.open(self.run_dir / "feed.stats")
        told = self.publisher.end(feed)
        self.bus.close()
        if not told:
            tell(f"worker {self.index}: the feed did not take the last events", reason="link")
            self.page["error"] = 1
            return 1
        self.station.state(DONE)
        return 0


def main(argv: list[str]) -> int:
    """The process; see the module."""
    run_dir, index = Path(argv[1]), int(argv[2])
    page = Page.open(run_dir / f"worker-{index}.stats")
    config = configuration(run_dir, page)
    log.start(config, f"worker {index}", page, of=config.worker_count)
    station = Station(page, live=not config.lossless)
    if not config.lossless or bodies_of(config):  # a live run may be asked for it later: then there are no files
        import workers.body  # noqa: F401
    sandbox.enter("worker", config, run_dir, page, first=index == 0)
    try:
        worker = Worker(config, run_dir, index, page, station)
    except BusError as error:
        tell(str(error), reason="link", level=log.ERROR)
        page["error"] = 1
        return 2
    return worker.run()


if __name__ == "__main__":
    leave(main(sys.argv))
