"""The feed process: events of all workers in, the numbered feed and the output file out.

`python -m appliance.feed.process RUN_DIR` gives every message the next sequence number of its topic, publishes it and
appends it to the output. A heartbeat carries the last number of every topic, so that a quiet subscriber detects missed
messages. It also names the replay socket, the stored messages, and the last numbers of earlier lives of the feed.

Exits with 0 after the end marks of all workers when the output is written. Exits with 2 if a socket or the output does
not open or a key is unusable, and with 3 if only a new process may write to the output. A new configuration makes it
read the folder of allowed keys again; SIGHUP makes it check the path of the output.
"""

from __future__ import annotations

import resource
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from appliance.config.address import OFF
from appliance.config.schema import Config
from appliance.feed.replay_store import Store
from appliance.ipc.event_batch import BadMessage, unpack_events
from appliance.ipc.event_link import EventReceiver
from appliance.ipc.event_runs import by_topic
from appliance.ipc.shared_memory import SharedMemoryError, SlotLease
from appliance.ipc.sockets import Bus, BusError, Waiter
from appliance.native.safe_files import make_folder
from appliance.output.jsonlines import JsonLinesOutput
from appliance.output.output_path import OutOfReach, OutputError
from appliance.pubsub.curve_keys import KeyFault, read_allowed, read_pair
from appliance.pubsub.protocol import HEARTBEAT, STATUS, Epoch, Heartbeat, Status
from appliance.runtime import log, sandbox
from appliance.runtime.child import ChildRuntime, configuration, exit_now
from appliance.runtime.paths import ANNOUNCED, Paths, announcement, part_of
from appliance.stats.names import DONE, DRAINING, READY, STORED_TOPICS, TOPICS
from appliance.stats.page import Page
from appliance.stats.receive_cursor import AtMostOnceCursor
from appliance.stats.received_counters import ReceivedCounters
from appliance.stats.reconcile import close_feed

if TYPE_CHECKING:
    from appliance.feed.authenticator import ZapAuthenticator
    from appliance.feed.replay_server import Replay
    from appliance.feed.sockets import FeedSocket, GuardedSocket
    from appliance.output.parquet import ParquetOutput

TURN_MESSAGES = 64  # of the workers, per turn of the loop
AGAIN = 3  # exit code: start another feed
LONGEST_SLEEP_S = 0.1  # longest sleep: a stop and the death of the supervisor are noticed this late

OWN_DESCRIPTORS = 128  # of the process, beside one a worker: more than it needs
MIN_PEERS = 8
PORTS = 2

MAX_EPOCHS = 8  # earlier lives of the feed in a heartbeat
LAST_HEARTBEAT_INTERVAL_S = 0.05  # between the last heartbeats
LAST_REQUESTS_S = 0.5  # after the last heartbeat: subscribers may still request messages whose loss they find only now


def now_text() -> str:
    """Return the wall clock, RFC 3339 in UTC."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def prepare(config: Config) -> None:
    """Load the modules of the public sockets; a run without a feed leaves them out."""
    if config.feed.bind != OFF:
        import appliance.feed.authenticator
        import appliance.feed.replay_server  # noqa: F401


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


def _max_peers(config: Config) -> int:
    """Return the peers of a port: the feed keeps the descriptors that it needs, whatever the limit of the process."""
    from appliance.ipc.peer_limits import STRANGERS

    own = OWN_DESCRIPTORS + config.worker_count
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = own + PORTS * (config.feed.peers + config.feed.peers // STRANGERS)
    if limit < wanted:
        with suppress(OSError, ValueError):  # the limit cannot be raised: there are fewer places
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, most), most))
            limit = min(wanted, most)
    return max(MIN_PEERS, min(config.feed.peers, (limit - own) // PORTS * STRANGERS // (STRANGERS + 1)))


class Feed:
    """Everything the process does; `run` does it once. One instance is one epoch of the feed."""

    def __init__(self, config: Config, run_dir: Path, page: Page, runtime: ChildRuntime) -> None:
        self.config = config
        self.run_dir = run_dir
        self.paths = Paths(run_dir)
        self.page = page
        self.received = [ReceivedCounters(page, worker) for worker in range(config.worker_count)]
        self.runtime = runtime
        self.past_epochs = self._close_epoch()
        self.epoch = max(time.time_ns(), page["epoch"] + 1)  # also after the clock went back
        self.sequences = dict.fromkeys(STORED_TOPICS, 0)
        self.events = dict.fromkeys(STORED_TOPICS, 0)
        self.heartbeats = 0
        self.store = Store(config.feed.replay_bytes)
        close_feed(page, config.worker_count)
        page.update({f"sequence.{topic}": 0 for topic in STORED_TOPICS})
        page.update({"epoch": self.epoch, "store_messages": 0, "store_bytes": 0})
        self.output = _output(config, page)
        self.output_fd = -1  # its writes block
        if not config.lossless:  # else when the first events prove that the file is a capture
            self.output.begin()
        self.bus = Bus()
        self.waiter = Waiter()
        self.cursor = AtMostOnceCursor(page)
        self.receiver = EventReceiver(self.bus, config, run_dir, self.cursor.first)
        self.feed: FeedSocket | None = None
        self.replay: Replay | None = None
        self.replay_endpoint = ""
        self.lock = read_pair(config.feed.curve_key) if config.feed.curve_key else None
        self.authenticator = self._start_authenticator() if self.lock else None
        if config.feed.bind != OFF:
            self._open(config.feed.bind, config.feed.replay)
        self.heartbeat_at = 0.0
        self.state = ""

    def _open(self, bind: str, replay: str) -> None:
        """Open the feed and, unless it is off, the replay. Raises BusError."""
        from appliance.feed.replay_server import Replay
        from appliance.feed.sockets import FeedSocket, ReplaySocket

        options = self.config.feed
        guarded_sockets: list[GuardedSocket] = []
        peers = _max_peers(self.config)
        if replay != OFF:
            socket = ReplaySocket(self.bus, replay, self.lock, peers, options.peer_bytes)
            guarded_sockets.append(socket)
        try:
            self.feed = FeedSocket(self.bus, bind, options.subscriber_queue, self.lock, peers, options.peer_bytes)
        except BusError:
            for guarded in guarded_sockets:
                guarded.close()
            raise
        guarded_sockets.append(self.feed)
        self._announce("feed", self.feed.endpoint)
        if replay != OFF:
            self.replay = Replay(socket, self.store, self.page, options, self.epoch, self.sequences)
            self.replay_endpoint = socket.endpoint
            self._announce("replay", socket.endpoint)
        for guarded in guarded_sockets:
            self.waiter.watch(guarded.socket, read=True)

    def _start_authenticator(self) -> ZapAuthenticator:
        from appliance.feed.authenticator import ZapAuthenticator

        authenticator = ZapAuthenticator(self.bus, self._allowed())
        self.waiter.watch(authenticator.socket, read=True)
        return authenticator

    def _allowed(self) -> dict[bytes, str]:
        """Return the allowed keys. Raises KeyFault."""
        allowed, faults = read_allowed(self.config.feed.curve_clients)
        for fault in faults:
            log.warning(f"{fault}; left out", reason="keys")
        self.page["clients_allowed"] = len(allowed)
        return allowed

    def _admit(self) -> None:
        """Accept allowed peers, count the others, and read the folder again with each new configuration."""
        fresh = self.runtime.poll_config(self.run_dir)
        self.config = fresh or self.config
        if self.authenticator is None:
            return
        if fresh:
            self._reload(self.authenticator)
        self.page.add("refused.key", self.authenticator.serve())

    def _reload(self, authenticator: ZapAuthenticator) -> None:
        """Disconnect removed keys at once: reopen all sockets, and allowed peers reconnect.

        These lose nothing, because they can request the messages published meanwhile.
        """
        try:
            allowed = self._allowed()
        except KeyFault as fault:
            self.runtime.reject_config(f"{fault}; the keys read before stay")
            return
        from appliance.feed.sockets import REOPEN_INTERVAL_S

        removed = authenticator.allowed.keys() - allowed.keys()
        authenticator.allowed = allowed
        self.page.add("reloads", 1)
        if not removed or self.feed is None:
            return
        guarded_sockets: list[GuardedSocket] = [self.feed, *([self.replay.socket] if self.replay else [])]
        bind, replay = self.feed.endpoint, self.replay_endpoint or OFF
        for guarded in guarded_sockets:
            self._count_refused(guarded)
            self.waiter.forget(guarded.socket)
            guarded.close()
        deadline = time.monotonic() + REOPEN_INTERVAL_S
        while True:
            try:
                self._open(bind, replay)
                return
            except BusError:
                if time.monotonic() >= deadline:
                    raise
                self.runtime.heartbeat()
                time.sleep(0.01)

    def _count_refused(self, guarded: GuardedSocket) -> None:
        for reason, count in guarded.refused().items():
            self.page.add(f"refused.{reason}", count)

    def _close_epoch(self) -> list[Epoch]:
        """Return how the epochs before this one ended, for subscribers that may have missed their last messages."""
        path, page = self.paths.epochs, self.page
        make_folder(path.parent)
        past_epochs = []
        with suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):  # there is none, or a dying one wrote it
            past_epochs = msgspec.json.decode(path.read_bytes(), type=list[Epoch])
        if page["epoch"] and page["epoch"] not in [life.epoch for life in past_epochs]:
            past_epochs.append(Epoch(page["epoch"], {topic: page[f"sequence.{topic}"] for topic in STORED_TOPICS}))
            part = part_of(path)
            part.write_bytes(msgspec.json.encode(past_epochs[-MAX_EPOCHS:]))
            part.replace(path)
        return past_epochs[-MAX_EPOCHS:]

    def _announce(self, name: str, endpoint: str) -> None:
        """Publish the address of a socket, which may have any free port: a file, with a link in the run directory."""
        path = self.paths.own_endpoint(name)
        part = part_of(path)
        part.write_text(endpoint)
        part.rename(path)

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
            self._serve_sockets(ready)
            if stopping and not received and not self._output_blocked():
                self._count_missing()
                break
        return self._finish()

    def _wait_s(self) -> float:
        """Return the seconds until the next task of the clock or of a replay."""
        replay = self.replay.wait_s() if self.replay else None
        until_heartbeat = self.heartbeat_at - time.monotonic()
        return max(0.0, min(LONGEST_SLEEP_S, LONGEST_SLEEP_S if replay is None else replay, until_heartbeat))

    def _ended(self) -> bool:
        return all(counters.ended for counters in self.received)

    def _output_blocked(self) -> bool:
        """Return whether events have to wait at the workers for the output's reader: only when reading a file."""
        return self.config.lossless and self.output.full

    def _watch_output(self) -> None:
        if self._output_blocked():
            self.waiter.forget(self.receiver.socket)
        else:
            self.waiter.watch(self.receiver.socket, read=True)
        if self.replay and self.replay.listening:
            self.waiter.watch(self.replay.socket.socket, read=True)
        elif self.replay:
            self.waiter.forget(self.replay.socket.socket)
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
                data = None if self._output_blocked() else self.receiver.receive()
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
        copied = self.feed is not None or self.config.output.parquet  # else the lines lie where they are until written
        try:
            message = unpack_events(memoryview(data) if copied else data)
            if message.worker >= self.config.worker_count:
                raise BadMessage("a message of events from a worker that does not exist")
            parts = [] if message.end else by_topic(message.runs, message.body, len(TOPICS), self.feed is not None)
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
        self.output.begin()
        self.output.write(message.body, message.events)  # as the worker wrote it: in the order in which they ended

    def _publish(self, topic: str, events: int, body: bytes) -> None:
        """Number a message, store a copy and send it.

        The page has the number first, so that subscribers learn of the loss if the feed dies in between.
        """
        page = self.page
        sequence = self.sequences[topic] + 1
        page[f"sequence.{topic}"] = sequence
        self.sequences[topic] = sequence
        self.events[topic] += events
        if self.feed:
            self.store.put(topic, sequence, events, body)
            page["store_messages"], page["store_bytes"] = len(self.store), self.store.size
            page["store_evicted"] += self.store.take_evicted()
            self.feed.publish(topic, (self.epoch, sequence, events), body)

    def _send_heartbeat_if_due(self, *, now: bool = False) -> None:
        if time.monotonic() < self.heartbeat_at and not now:
            return
        self.heartbeat_at = time.monotonic() + self.config.feed.heartbeat_s
        self.heartbeats += 1
        if self.feed:
            self.feed.publish(HEARTBEAT, (self.epoch, self.heartbeats, 1), self._heartbeat())
        self.page.add("heartbeats", 1)

    def _heartbeat(self) -> bytes:
        first = {topic: self.store.first(topic) for topic in STORED_TOPICS}
        return msgspec.json.encode(
            Heartbeat(
                epoch=self.epoch,
                last=self.sequences,
                events=self.events,
                first=first,
                replay=self.replay_endpoint,
                before=self.past_epochs,
                state=self.state,
                time=now_text(),
            )
        )

    def _status(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self._publish(STATUS, 1, msgspec.json.encode(Status(state, self.epoch, now_text())))

    def _serve_sockets(self, ready: set[Any]) -> None:
        """Serve the sockets of the feed's readers."""
        self._admit()
        if self.feed and self.feed.socket in ready:
            self.feed.read_subscriptions()
        if self.feed:
            self.page["subscribers"] = self.feed.subscribers
        if self.replay and self.replay.socket.socket in ready:
            self.replay.receive()
        if self.replay:
            self.replay.serve()
        for guarded in [self.feed, self.replay.socket if self.replay else None]:
            if guarded:
                self._count_refused(guarded)

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
        self._status("done")
        self._send_heartbeat_if_due(now=True)
        if self.replay and self.feed and self.feed.subscribers:
            timeout_s = drain_s if self.config.lossless else drain_s / 4
            self._serve_last_requests(self.replay, time.monotonic() + timeout_s)
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
            self._serve_sockets(self.waiter.wait(min(self._wait_s(), LAST_HEARTBEAT_INTERVAL_S)))
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
