"""The worker process: batches of frames in, events out.

`python -m workers.process.worker RUN_DIR INDEX` passes the captures' batches to the pipeline, and its events to the
feed, until every capture has sent END (or SIGTERM announces the end). Then it publishes the open events, and sends END.
It counts every batch before it parses it. Counters continue from those of a killed predecessor, and the start accounts
for the frames that died with it. The pipeline counts garbage on the wire; an exception here is a bug and ends the
process.
"""

from __future__ import annotations

import os
import sys
import time
from operator import add
from pathlib import Path

from appliance.config.schema import Config
from appliance.ipc.event_batch import BadMessage
from appliance.ipc.event_link import EventSender
from appliance.ipc.file_link import FileSender
from appliance.ipc.frame_batch import BadBatch, header
from appliance.ipc.frame_link import FrameReceiver
from appliance.ipc.memory_sizes import arena_bytes
from appliance.ipc.shared_memory import SharedMemoryError
from appliance.ipc.sockets import Bus, BusError, Waiter
from appliance.keylog.link import child_link
from appliance.runtime import log, sandbox
from appliance.runtime.child import ChildRuntime, configuration, exit_now
from appliance.runtime.paths import Paths
from appliance.stats.links import SentLink
from appliance.stats.names import DONE, DRAINING, READY
from appliance.stats.page import Page
from appliance.stats.pipeline_counters import PIPELINE_GAUGES
from appliance.stats.receive_cursor import AtLeastOnceCursor
from appliance.stats.received_counters import ReceivedCounters
from appliance.stats.reconcile import close_worker
from workers.pipeline import Pipeline, bodies_of
from workers.process.event_publisher import Publisher
from workers.process.file_publisher import FilePublisher
from workers.process.kept_memory import KeptMemory
from workers.process.quarantine import keep
from workers.quic.keys import load_ciphers

FINISHED = 4096  # connections that end between two messages to the feed: their events take some MB
TURN_BATCHES = 16  # per turn of the loop: some ms of work between two checks of the clock
COUNTER_INTERVAL_S = 0.05  # how old the pipeline's counters in the page may be
PCAPNG = b"\x0a\x0d\x0d\x0a"  # the first bytes of a pcapng capture
IDLE_SLACK_NS = 250_000_000  # the largest delay of a frame, beyond the expected one, on an idle link


class Worker:
    """One shard: its receiver, its pipeline, its link to the feed. `run` is its whole life, once."""

    def __init__(self, config: Config, run_dir: Path, index: int, page: Page, runtime: ChildRuntime) -> None:
        self.config = config
        self.run_dir = run_dir
        self.index = index
        self.page = page
        self.received = [ReceivedCounters(page, capture) for capture in range(config.capture_count)]
        self.runtime = runtime
        self.cursor = AtLeastOnceCursor(page)
        self.bus = Bus()
        self.receiver = FrameReceiver(self.bus, config, run_dir, index, self.cursor.first)
        self._forget_unfinished()
        close_worker(page, config.capture_count)
        self.base = page.snapshot()
        self.bases: list[int] = []  # of the pipeline's counters, in their order
        epoch = time.time_ns()
        events = EventSender(self.bus, config, run_dir, index, epoch)
        self.publisher = Publisher(config, index, page, events, runtime, epoch)
        self.files: FilePublisher | None = None
        if config.files.path:
            pieces = FileSender(self.bus, config, run_dir, index, epoch)
            self.files = FilePublisher(config, index, page, pieces, runtime, epoch)
        self.pipeline = Pipeline(config, live=not config.lossless, files=self.files)
        self._keep_connections()
        self.counted_at = 0.0
        self.pending_since: float | None = None  # when the oldest event not yet published was made
        self.secrets = child_link()
        self._take_secrets()
        self.clock_at_last_batch: tuple[int, int] | None = None  # the pipeline's clock and the monotonic one

    def run(self) -> int:
        """Run the worker until its end, and return its exit code."""
        waiter = Waiter()
        waiter.watch(self.receiver.socket, read=True)
        if self.secrets:
            waiter.watch(self.secrets.fileno(), read=True)
        age_s = min(self.config.feed.event_batch_age_ms / 1000, 0.02)
        self.runtime.state(READY)
        while not self._ended():
            self.runtime.heartbeat()
            stopping = self.runtime.stopping
            if fresh := self.runtime.poll_config(self.run_dir):
                self._publish()
                self.pipeline.configure(fresh)
            self._take_secrets()
            if not self._receive():
                if stopping:
                    self._count_missing()
                    break
                self._idle()
                waiter.wait(age_s)
            self._publish_if_due()
            if self.files:
                self.files.flush()
        return self._finish()

    def _keep_connections(self) -> None:
        """Keep connections for a successor, and take over those of a predecessor.

        A run over a file keeps none: it fails if a worker dies, and the file is still there to be read again.
        """
        count = self.config.workers.kept_connections
        if not count or self.config.lossless:
            return
        try:
            kept = KeptMemory(
                Paths(self.run_dir).kept_connections(self.index),
                count,
                self.pipeline.kept_bytes,
                spare=arena_bytes(self.config),
                sharers=self.config.worker_count,
            )
        except OSError as error:
            log.warning(f"worker {self.index}: no connection is kept for its successor: {error.strerror}")
            return
        self.pipeline.keep(kept.memory, kept.allocate)

    def _take_secrets(self) -> None:
        """Take the secrets of TLS sessions that the supervisor has sent."""
        for message in self.secrets.receive() if self.secrets else ():
            self.pipeline.add_keys(message.content)
            self.page["keys_taken"] = message.number

    def _ended(self) -> bool:
        return all(counters.ended for counters in self.received)

    def _receive(self) -> int:
        """Process the batches that wait on the link, at most TURN_BATCHES; return their number."""
        for count in range(TURN_BATCHES):
            self.runtime.heartbeat()
            try:
                message = self.receiver.receive()
            except (BadMessage, SharedMemoryError) as fault:
                log.warning(f"worker {self.index}: not from a capture: {fault}; it is passed over", reason="link")
                continue
            if message is None:
                return count
            self._process(message)
            if self.pipeline.pending_output >= self.config.feed.event_batch_bytes:
                self._publish()
        return TURN_BATCHES

    def _process(self, message: memoryview) -> None:
        cursor, capture = self.cursor, self.receiver.sender
        sound = cursor.take(capture, self.receiver.number)
        batch = header(message)
        self._account(batch.capture, batch.cumulative, batch.frames, len(message), batch.end)
        if batch.end:
            self.pipeline.feed(message)  # its clock: all workers end a file with the same one
            cursor.done(capture)
        elif sound:
            cursor.begin(capture)
            self._report_backlog()
            self.pipeline.feed(message)
            cursor.done(capture)  # its events leave after this: a restart processes no batch twice
            self.clock_at_last_batch = self.pipeline.now_ns, time.monotonic_ns()
            self.page["lag_ns"] = max(0, self.clock_at_last_batch[1] - batch.sealed_ns)
        else:
            cursor.done(capture)
            self._quarantine(message, batch.frames)
        self.pipeline.done()

    def _report_backlog(self) -> None:
        """Update the backlog's state in a live run, to limit each connection to its share; a run over a file waits."""
        if not self.config.lossless:
            self.pipeline.backlog(*self.publisher.backlog())

    def _quarantine(self, message: memoryview, frames: int) -> None:
        page, capture = self.page, self.receiver.sender
        page.add("quarantined", frames)
        page.add("quarantined_batches", 1)
        text = f"worker {self.index}: two workers died of a batch of {frames} frames; it is left out"
        link_type = Page.open(Paths(self.run_dir).capture_page(capture), writable=False)["link_type"]
        try:
            path = keep(self.run_dir, self.index, message, link_type, self.config.workers.quarantine_files)
            text += f", see {path}" if path else ""
        except OSError as error:
            text += f"; it could not be kept: {error.strerror}"
        except BadBatch as error:
            text += f"; it could not be kept: {error}"
        log.warning(text, reason="loss")

    def _forget_unfinished(self) -> None:
        """Subtract the batches that a predecessor had counted as received when it died: they come again."""
        for capture, number, message in self.receiver.queued:
            if self.cursor.hold(capture, number):
                batch = header(message)
                if self.received[capture].accounted > batch.cumulative:
                    self.received[capture].add(-batch.frames)
                    self.received[capture].add_batches(-1, -len(message))

    def _account(self, capture: int, cumulative: int, frames: int, length: int, end: bool) -> None:
        counters = self.received[capture]
        counters.close_gap(cumulative)
        counters.add(frames)
        counters.add_batches(1, length)
        counters.ended = end

    def _count_missing(self) -> None:
        """Count frames that the captures sent and this worker never got as lost, if it stops without every END."""
        for c in range(self.config.capture_count):
            page = Page.open(Paths(self.run_dir).capture_page(c), writable=False)
            self.received[c].close_gap(SentLink(page, self.index).sent)

    def _idle(self) -> None:
        """Advance the pipeline's clock while no batch comes; only when live, and never by a step of the clock."""
        if self.clock_at_last_batch is None or self.config.lossless:
            return
        clock, monotonic = self.clock_at_last_batch
        self._report_backlog()
        late = (self.config.capture.timeout_ms + self.config.shard.batch_age_ms) * 1_000_000 + IDLE_SLACK_NS
        self.pipeline.advance(clock + time.monotonic_ns() - monotonic - late)

    def _publish_if_due(self) -> None:
        now = time.monotonic()
        if self.pipeline.pending_events == 0:
            self.pending_since = None
        elif self.pending_since is None:
            self.pending_since = now
        elif self._is_due(now - self.pending_since):
            self._publish()
        if now - self.counted_at >= COUNTER_INTERVAL_S:
            self._publish_counters()

    def _is_due(self, age_s: float) -> bool:
        """Return whether events of this age leave in a body that is not full."""
        if age_s < self.config.feed.event_batch_age_ms / 1000:
            return False
        return self.config.lossless or not self.publisher.behind

    def _publish(self) -> None:
        taken = self.pipeline.take()
        self._publish_counters()
        self.publisher.publish(taken)
        self.pending_since = None

    def _publish_counters(self) -> None:
        # Once for each body of events, so it is some of the work of a busy worker.
        counts = self.pipeline.counts()
        if len(self.bases) != len(counts):
            self.bases = [0 if name in PIPELINE_GAUGES else self.base[name] for name in counts]
        self.page.update(dict(zip(counts, map(add, counts.values(), self.bases), strict=True)))
        self.counted_at = time.monotonic()

    def _finish(self) -> int:
        """End every connection, publish their events, send END and wait for the feed; return the exit code."""
        self.runtime.state(DRAINING)
        if not self.config.lossless or self.runtime.stopping:
            self.publisher.deadline = time.monotonic() + self.config.run.drain_s
            if self.files:
                self.files.deadline = self.publisher.deadline
        while self.pipeline.finish(FINISHED):
            self.runtime.heartbeat()
            self._publish()
        self._publish()
        feed = Page.open(Paths(self.run_dir).feed_page, writable=False)
        delivered = self.publisher.end(feed)
        if self.files and not self.files.finish(Page.open(Paths(self.run_dir).files_page, writable=False)):
            log.warning(f"worker {self.index}: the files process did not take the last files", reason="link")
        self.bus.close()
        if not delivered:
            log.warning(f"worker {self.index}: the feed did not take the last events", reason="link")
            self.page["error"] = 1
            return 1
        self.runtime.state(DONE)
        return 0


def prepare(config: Config) -> None:
    """Load the modules that only some workers need, because a worker in its sandbox has no files."""
    if (
        not config.lossless or bodies_of(config) or config.files.path or config.websocket.decode
    ):  # a reload may need them later
        import workers.body.message_inflater
        import workers.body.reader
    if not config.lossless or config.tls.keylog or "tls" in config.events.datasets:
        import workers.tls.settings  # noqa: F401
    if config.opens_quic:
        load_ciphers()
    if not config.lossless or config.tls.keylog or (config.decrypts and _may_hold_secrets(config.source.file)):
        from workers.tls import key_schedule

        key_schedule.load()


def _may_hold_secrets(source: str) -> bool:
    """Return whether a capture may have secrets in it: a pcapng file, or a stream."""
    if not os.path.isfile(source):
        return True
    try:
        with open(source, "rb") as file:
            return file.read(len(PCAPNG)) == PCAPNG
    except OSError:
        return True


def main(argv: list[str]) -> int:
    """Run the process and return its exit code; see the module."""
    run_dir, index = Path(argv[1]), int(argv[2])
    page = Page.open(Paths(run_dir).worker_page(index))
    config = configuration(run_dir, page)
    log.start(config, f"worker {index}", page, of=config.worker_count)
    runtime = ChildRuntime(page, live=not config.lossless)
    prepare(config)
    sandbox.enter("worker", config, run_dir, page, first=index == 0)
    try:
        worker = Worker(config, run_dir, index, page, runtime)
    except BusError as error:
        return runtime.fail(str(error), reason="link")
    try:
        return worker.run()
    except Exception:  # exit here, while a reference keeps the batch: freed, its slot would return to the capture
        log.current().exception(*sys.exc_info())
        exit_now(1)


if __name__ == "__main__":
    exit_now(main(sys.argv))
