"""The feed process: events of all workers in, the numbered feed and the output file out.

`python -m appliance.feed.process RUN_DIR` gives every message the next sequence number of its topic, publishes it and
appends it to the output. A heartbeat carries the last number of every topic, so that a quiet subscriber detects missed
messages. It also names the replay socket, the stored messages, and the last numbers of earlier lives of the feed.

Exits with 0 after the end marks of all workers when the output is written. Exits with 2 if a socket or the output does
not open or a key is unusable, and with 3 if only a new process may write to the output. A new configuration makes it
read the folder of allowed keys again; SIGHUP makes it check the path of the output.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from appliance.config.address import OFF
from appliance.config.schema import Config
from appliance.feed.event_copies import EventCopies
from appliance.feed.numbering import Numbering
from appliance.ipc.event_batch import BadMessage, unpack_events
from appliance.ipc.event_link import EventReceiver
from appliance.ipc.event_runs import by_topic
from appliance.ipc.shared_memory import SharedMemoryError, SlotLease
from appliance.ipc.sockets import Bus, BusError, Waiter
from appliance.output.jsonlines import JsonLinesOutput
from appliance.output.output_path import OutOfReach, OutputError
from appliance.pubsub.protocol import HEARTBEAT, STATUS, Heartbeat, Status
from appliance.runtime import log, sandbox
from appliance.runtime.child import ChildRuntime, configuration, exit_now
from appliance.runtime.paths import ANNOUNCED, Paths, announcement
from appliance.stats.names import DONE, DRAINING, READY, STORED_TOPICS, TOPICS
from appliance.stats.page import Page
from appliance.stats.receive_cursor import AtMostOnceCursor
from appliance.stats.received_counters import ReceivedCounters
from appliance.stats.reconcile import close_feed

if TYPE_CHECKING:
    from appliance.feed.public_sockets import PublicSockets
    from appliance.feed.replay_server import Replay
    from appliance.output.parquet import ParquetOutput

TURN_MESSAGES = 64  # of the workers, per turn of the loop
AGAIN = 3  # exit code: start another feed
LONGEST_SLEEP_S = 0.1  # longest sleep: a stop and the death of the supervisor are noticed this late

LAST_HEARTBEAT_INTERVAL_S = 0.05  # between the last heartbeats
LAST_REQUESTS_S = 0.5  # after the last heartbeat: subscribers may still request messages whose loss they find only now


def now_text() -> str:
    """Return the wall clock, RFC 3339 in UTC."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def prepare(config: Config) -> None:
    """Load the modules of the public sockets; a run without a feed leaves them out."""
    if config.feed.bind != OFF:
        import appliance.feed.public_sockets  # noqa: F401


def _output(config: Config, page: Page) -> JsonLinesOutput | ParquetOutput:
    if not config.output.parquet:
        return JsonLinesOutput(
            config.output,
            page,
            config.link_bytes,
            lossless=config.lossless,
            reader_timeout_s=config.run.drain_s,
        )
    from appliance.output.parquet import ParquetOutput  # here: it brings a large library with it

    return ParquetOutput(config.output, page, config.link_bytes, lossless=config.lossless)


class Feed:
    """Everything the process does; `run` does it once. One instance is one epoch of the feed."""

    def __init__(self, config: Config, run_dir: Path, page: Page, runtime: ChildRuntime) -> None:
        self.config = config
        self.run_dir = run_dir
        self.paths = Paths(run_dir)
        self.page = page
        self.received = [ReceivedCounters(page, worker) for worker in range(config.worker_count)]
        self.runtime = runtime
        self.numbering = Numbering(config, page, self.paths.epochs)
        close_feed(page, config.worker_count)
        self.numbering.begin()
        self.output = _output(config, page)
        self.output_fd = -1  # its writes block
        if not config.lossless:  # else when the first events prove that the file is a capture
            self.output.begin()
        self.bus = Bus()
        self.waiter = Waiter()
        self.cursor = AtMostOnceCursor(page)
        self.receiver = EventReceiver(self.bus, config, run_dir, self.cursor.first)
        self.copies: EventCopies | None = None  # without a keeper
        if config.record.keeps:
            self.copies = EventCopies(config, run_dir, page, self.bus, self.numbering.epoch)
        self.public: PublicSockets | None = None  # without a feed
        if config.feed.bind != OFF:
            from appliance.feed.public_sockets import PublicSockets

            self.public = PublicSockets(config, self.paths, page, self.bus, self.waiter, self.numbering)
        self.heartbeats = 0
        self.heartbeat_at = 0.0
        self.state = ""

    # -- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Run the whole life of the process; return its exit code."""
        self.runtime.state(READY)
        self._status("ready")
        while not self._ended():
            self.runtime.heartbeat()
            self._send_heartbeat_if_due()
            self._watch_output()
            ready = self.waiter.wait(self._wait_s())
            stopping = self.runtime.stopping
            if self.output.waiting or self.output.fd in ready:
                self.output.flush()
            if self.runtime.called:
                self.runtime.called = False
                self.output.check_path_soon()
            try:
                self.output.tick()
            except OutOfReach as why:
                return self._end_for_restart(why)
            received = self._receive()
            self._serve_readers(ready)
            if stopping and not received and not self._blocked():
                self._count_missing()
                break
        return self._finish()

    def _wait_s(self) -> float:
        """Return the seconds until the next task of the clock or of a replay."""
        replay = self.public.replay.wait_s() if self.public and self.public.replay else None
        until_heartbeat = self.heartbeat_at - time.monotonic()
        return max(0.0, min(LONGEST_SLEEP_S, LONGEST_SLEEP_S if replay is None else replay, until_heartbeat))

    def _ended(self) -> bool:
        return all(counters.ended for counters in self.received)

    def _blocked(self) -> bool:
        """Return whether events have to wait at the workers for the output's reader or the keeper: only of a file."""
        return self.config.lossless and (self.output.full or (self.copies is not None and self.copies.full))

    def _watch_output(self) -> None:
        if self._blocked():
            self.waiter.forget(self.receiver.socket)
        else:
            self.waiter.watch(self.receiver.socket, read=True)
        if self.public:
            self.public.watch()
        fd = self.output.fd if self.output.pollable else -1
        if self.output_fd not in (fd, -1):
            self.waiter.forget(self.output_fd)
        self.output_fd = fd
        if fd >= 0:
            self.waiter.watch(fd, write=self.output.waiting, broken=True)

    def _receive(self) -> int:
        """Receive messages of the workers, up to a turn's worth; return how many."""
        for count in range(TURN_MESSAGES):
            try:
                data = None if self._blocked() else self.receiver.receive()
            except (BadMessage, SharedMemoryError):
                self.page.add("invalid_messages", 1)
                continue
            if data is None:
                return count
            if self.receiver.sender >= 0:
                self.cursor.take(self.receiver.sender, self.receiver.number)
            self._process(data)
        return TURN_MESSAGES

    def _process(self, data: SlotLease | memoryview) -> None:
        page = self.page
        copied = (
            self.public is not None or self.copies is not None or self.config.output.parquet
        )  # else the lines lie where they are until written
        try:
            message = unpack_events(memoryview(data) if copied else data)
            if message.worker >= self.config.worker_count:
                raise BadMessage("a message of events from a worker that does not exist")
            parts = [] if message.end else by_topic(message.runs, message.body, len(TOPICS), self.public is not None)
            if sum(events for _, events, _, _ in parts) != message.events:
                raise BadMessage("a message of other events than its table of topics says")
        except (BadMessage, SharedMemoryError):
            page.add("invalid_messages", 1)
            return
        counters = self.received[message.worker]
        if message.cumulative < counters.accounted:  # too long for the shared memory, and late behind those in there
            counters.find(message.events)
        else:
            counters.close_gap(message.cumulative)
        counters.ended = message.end
        if message.end:
            self._status("draining")
            return
        counters.add(message.events)
        for index, events, length, lines in parts:
            topic = TOPICS[index]
            self._publish(topic, events, lines)
            page.add(f"published.{topic}", events)
            page.add(f"published_messages.{topic}", 1)
            page.add(f"published_bytes.{topic}", length)
        if self.copies:
            self.copies.send(message)
        self.output.begin()
        self.output.write(message.body, message.events)  # as the worker wrote it: in the order in which they ended

    def _publish(self, topic: str, events: int, body: bytes) -> None:
        """Number a message, store a copy and send it."""
        sequence = self.numbering.add(topic, events, body)
        if self.public:
            self.public.feed.publish(topic, (self.numbering.epoch, sequence, events), body)

    def _send_heartbeat_if_due(self, *, now: bool = False) -> None:
        if time.monotonic() < self.heartbeat_at and not now:
            return
        self.heartbeat_at = time.monotonic() + self.config.feed.heartbeat_s
        self.heartbeats += 1
        if self.public:
            header = (self.numbering.epoch, self.heartbeats, 1)
            self.public.feed.publish(HEARTBEAT, header, self._heartbeat(self.public.replay_endpoint))
        self.page.add("heartbeats", 1)

    def _heartbeat(self, replay_endpoint: str) -> bytes:
        numbers = self.numbering
        return msgspec.json.encode(
            Heartbeat(
                epoch=numbers.epoch,
                last=numbers.sequences,
                events=numbers.events,
                first={topic: numbers.store.first(topic) for topic in STORED_TOPICS},
                replay=replay_endpoint,
                before=numbers.past_epochs,
                state=self.state,
                time=now_text(),
            )
        )

    def _status(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self._publish(STATUS, 1, msgspec.json.encode(Status(state, self.numbering.epoch, now_text())))

    def _serve_readers(self, ready: set[Any]) -> None:
        fresh = self.runtime.poll_config(self.run_dir)
        if fresh:
            self.config = fresh
        if self.public and fresh:
            self.public.reload(fresh, self.runtime)
        if self.public:
            self.public.serve(ready)

    # -- the end -----------------------------------------------------------------------------------------------------

    def _source_is_proven(self) -> bool:
        """Return whether a capture could read the head of its file."""
        path = self.paths.capture_page(0)
        return not path.exists() or bool(Page.open(path, writable=False)["opened"])

    def _end_for_restart(self, why: OutOfReach) -> int:
        """Drop and count events for the output; the feed that the supervisor starts next receives everything else."""
        log.warning(str(why), reason="output")
        self.output.close()
        self.bus.close(linger_s=1.0)
        return AGAIN

    def _count_missing(self) -> None:
        """Count messages without an end mark as lost: the supervisor says that none will follow."""
        for w in range(self.config.worker_count):
            sent = Page.open(self.paths.worker_page(w), writable=False)["events_sent"]
            self.received[w].close_gap(sent)

    def _finish(self) -> int:
        """Write and publish the rest."""
        self.runtime.state(DRAINING)
        self._status("draining")
        drain_s = self.config.run.drain_s
        deadline = None if self.config.lossless else time.monotonic() + drain_s
        if self.config.lossless and self._source_is_proven():
            self.output.begin()  # also without events
        while self.output.waiting and self.runtime.heartbeat_until(deadline):
            if (self.runtime.stopping or self.output.lost) and deadline is None:
                deadline = time.monotonic() + drain_s
            self._send_heartbeat_if_due()
            self.output.flush()
            with suppress(OutOfReach):
                self.output.tick()
            self.output.pause(0.02)
        # Live, the processes share the limit of the drain; optional work gets a part of it.
        spare = None if self.config.lossless else time.monotonic() + drain_s / 4
        self.output.close(lambda: self.runtime.heartbeat_until(spare) and not self.runtime.stopping)
        if self.copies:
            self.copies.end(lambda: self.runtime.heartbeat_until(spare))
        self._status("done")
        self._send_heartbeat_if_due(now=True)
        if self.public and self.public.replay and self.public.feed.subscribers:
            timeout_s = drain_s if self.config.lossless else drain_s / 4
            self._serve_last_requests(self.public.replay, time.monotonic() + timeout_s)
        self.bus.close(linger_s=drain_s)
        self.runtime.state(DONE)
        return 0

    def _serve_last_requests(self, replay: Replay, deadline: float) -> None:
        """Answer the last questions, because the store ends with the process.

        The last numbers are sent repeatedly, because a full queue may have room in a moment.
        """
        replay.last_question_at = time.monotonic()
        while self.runtime.heartbeat_until(deadline) and (
            replay.busy or time.monotonic() - replay.last_question_at < LAST_REQUESTS_S
        ):
            self._serve_readers(self.waiter.wait(min(self._wait_s(), LAST_HEARTBEAT_INTERVAL_S)))
            self.heartbeat_at = min(self.heartbeat_at, time.monotonic() + LAST_HEARTBEAT_INTERVAL_S)
            self._send_heartbeat_if_due()


def main(argv: list[str]) -> int:
    """Run the process; the module describes it."""
    run_dir = Path(argv[1])
    page = Page.open(Paths(run_dir).feed_page)
    config = configuration(run_dir, page)
    log.start(config, "feed", page)
    runtime = ChildRuntime(page, live=not config.lossless)
    prepare(config)
    for name in ANNOUNCED:
        with suppress(FileExistsError):  # the supervisor has made it
            target, link = announcement(name)
            (run_dir / link).symlink_to(target)
    sandbox.enter("feed", config, run_dir, page)
    try:
        feed = Feed(config, run_dir, page, runtime)
    except (BusError, OutputError) as error:
        return runtime.fail(str(error), reason="feed")
    return feed.run()


if __name__ == "__main__":
    exit_now(main(sys.argv))
