"""The feed process: events of all workers in, the numbered feed and the output file out.

`python -m appliance.feed RUN_DIR` gives every message the next sequence number of its topic, publishes it and appends
it to the output. A heartbeat carries the last number of every topic, so that a quiet subscriber sees what it missed;
it says what can be asked for again and where, and how earlier runs of the feed ended.
Ends with 0 when every worker has said END and the output is written, with 2 when a socket or the output does not open
or a key cannot be used. A new configuration makes it read the folder of allowed keys again.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from appliance import log, sandbox
from appliance.books import close_feed
from appliance.bus import Bus, BusError, EventInlet, Waiter
from appliance.channels import HEARTBEAT, REOPEN_S, STATUS, Door, FeedSocket, ReplaySocket
from appliance.config import OFF
from appliance.curve import Doorkeeper, KeyFault, read_allowed, read_pair
from appliance.eventbatch import BadMessage, Buffer, unpack_events
from appliance.hands import Once
from appliance.log import tell
from appliance.options import Config
from appliance.output import Output, OutputError
from appliance.replay import Replay
from appliance.station import Station, configuration, leave
from appliance.stats import DONE, DRAINING, READY, STORED_TOPICS, TOPICS, Page
from appliance.store import Store

if TYPE_CHECKING:
    from appliance.parquet import ParquetOutput

TURN_MESSAGES = 64  # of the workers, per turn of the loop
WAIT_S = 0.1  # longest sleep: a stop and the death of the supervisor are noticed this late

EPOCHS = "epochs"  # in the run directory: how earlier lives of this feed ended
MAX_EPOCHS = 8  # of them
LAST_BEATS_S = 0.05  # between the last heartbeats
QUIET_S = 0.5  # after the last word: subscribers that find out what they missed only now may still ask for it


class Epoch(msgspec.Struct):
    """A life of the feed that is over, and the last number of every topic in it."""

    epoch: int
    last: dict[str, int]


def now_text() -> str:
    """The wall clock, RFC 3339 in UTC."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _output(config: Config, page: Page) -> Output | ParquetOutput:
    if not config.output.parquet:
        return Output(config.output, page, config.link_bytes, patient=config.lossless)
    from appliance.parquet import ParquetOutput  # here: it brings a large library with it

    return ParquetOutput(config.output, page, config.link_bytes, patient=config.lossless)


class Feed:
    """Everything the process does; `run` does it once. One instance is one epoch of the feed."""

    def __init__(self, config: Config, run_dir: Path, page: Page, station: Station) -> None:
        self.config = config
        self.run_dir = run_dir
        self.page = page
        self.station = station
        self.before = self._close_epoch()
        self.epoch = max(time.time_ns(), page["epoch"] + 1)  # whatever the clock did since
        self.sequences = dict.fromkeys(STORED_TOPICS, 0)
        self.events = dict.fromkeys(STORED_TOPICS, 0)
        self.beats = 0
        self.store = Store(config.feed.replay_bytes)
        close_feed(page, config.worker_count)
        page.update({f"sequence.{topic}": 0 for topic in STORED_TOPICS})
        page.update({"epoch": self.epoch, "store_messages": 0, "store_bytes": 0})
        self.output = _output(config, page)
        self.bus = Bus()
        self.waiter = Waiter()
        self.once = Once(page)
        self.inlet = EventInlet(self.bus, config, run_dir, self.once.first)
        self.feed: FeedSocket | None = None
        self.replay: Replay | None = None
        self.replay_endpoint = ""
        self.lock = read_pair(config.feed.curve_key) if config.feed.curve_key else None
        self.doorkeeper = self._hire() if self.lock else None
        if config.feed.bind != OFF:
            self._open(config.feed.bind, config.feed.replay)
        self.beat_at = 0.0
        self.state = ""

    def _open(self, bind: str, replay: str) -> None:
        """Opens the feed and, unless it is off, the replay. Raises BusError."""
        options = self.config.feed
        doors: list[Door] = []
        if replay != OFF:
            socket = ReplaySocket(self.bus, replay, self.lock)
            doors.append(socket)
        try:
            self.feed = FeedSocket(self.bus, bind, options.subscriber_queue, self.lock)
        except BusError:
            for door in doors:
                door.close()
            raise
        doors.append(self.feed)
        self._announce("feed.endpoint", self.feed.endpoint)
        if replay != OFF:
            self.replay = Replay(socket, self.store, self.page, options, self.epoch, self.sequences)
            self.replay_endpoint = socket.endpoint
            self._announce("replay.endpoint", socket.endpoint)
        for door in doors:
            self.waiter.watch(door.socket, read=True)
            self.waiter.watch(door.monitor, read=True)

    def _hire(self) -> Doorkeeper:
        doorkeeper = Doorkeeper(self.bus, self._allowed())
        self.waiter.watch(doorkeeper.socket, read=True)
        return doorkeeper

    def _allowed(self) -> dict[bytes, str]:
        """The keys that may come in. Raises KeyFault."""
        allowed, faults = read_allowed(self.config.feed.curve_clients)
        for fault in faults:
            tell(f"{fault}; left out", reason="keys")
        self.page["clients_allowed"] = len(allowed)
        return allowed

    def _admit(self) -> None:
        """Lets in who may come in, counts who may not, and reads the folder again with each new configuration."""
        news = self.station.news(self.run_dir)
        self.config = news or self.config
        if self.doorkeeper is None:
            return
        if news:
            self._reload(self.doorkeeper)
        self.page.add("refused.key", self.doorkeeper.serve())

    def _reload(self, doorkeeper: Doorkeeper) -> None:
        """A key that is gone from the folder is out at once: all sockets are opened anew, and who may comes back.

        Nobody who may loses anything by it: what is published meanwhile can be asked for again."""
        try:
            allowed = self._allowed()
        except KeyFault as fault:
            self.station.cannot_follow(f"{fault}; the keys read before stay")
            return
        removed = doorkeeper.allowed.keys() - allowed.keys()
        doorkeeper.allowed = allowed
        self.page.add("reloads", 1)
        if not removed or self.feed is None:
            return
        doors: list[Door] = [self.feed, *([self.replay.socket] if self.replay else [])]
        bind, replay = self.feed.endpoint, self.replay_endpoint or OFF
        for door in doors:
            self._count_failed(door)
            self.waiter.forget(door.socket)
            self.waiter.forget(door.monitor)
            door.close()
        deadline = time.monotonic() + REOPEN_S
        while True:
            try:
                self._open(bind, replay)
                return
            except BusError:
                if time.monotonic() >= deadline:
                    raise
                self.station.turn()
                time.sleep(0.01)

    def _count_failed(self, door: Door) -> None:
        self.page.add("refused.handshake", door.failed())

    def _close_epoch(self) -> list[Epoch]:
        """How the lives before this one ended: each is told to subscribers, who may have missed its last messages."""
        path, page = self.run_dir / EPOCHS, self.page
        before = msgspec.json.decode(path.read_bytes(), type=list[Epoch]) if path.exists() else []
        if page["epoch"] and page["epoch"] not in [life.epoch for life in before]:
            before.append(Epoch(page["epoch"], {topic: page[f"sequence.{topic}"] for topic in STORED_TOPICS}))
            part = path.with_name(f"{EPOCHS}.part")
            part.write_bytes(msgspec.json.encode(before[-MAX_EPOCHS:]))
            part.replace(path)
        return before[-MAX_EPOCHS:]

    def _announce(self, name: str, endpoint: str) -> None:
        """Where the socket is, for those who asked for any free port: a file in the run directory."""
        part = self.run_dir / f"{name}.part"
        part.write_text(endpoint)
        part.rename(self.run_dir / name)

    # -- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """The whole life of the process; its exit code."""
        self.station.state(READY)
        self._status("ready")
        while not self._ended():
            self.station.turn()
            self._beat()
            self._watch()
            ready = self.waiter.wait(self._patience())
            stopping = self.station.stopping
            if self.output.waiting or self.output.fd in ready:
                self.output.flush()
            self.output.tick()
            taken = self._take_in()
            self._attend(ready)
            if stopping and not taken and not self._choked():
                self._settle()
                break
        return self._finish()

    def _patience(self) -> float:
        """Seconds until the clock or a replay has something to do."""
        replay = self.replay.wait_s() if self.replay else None
        return max(0.0, min(WAIT_S if replay is None else replay, WAIT_S, self.beat_at - time.monotonic()))

    def _ended(self) -> bool:
        return all(self.page[f"ended.{w}"] for w in range(self.config.worker_count))

    def _choked(self) -> bool:
        """Whether events have to wait at the workers for the output's reader: only when reading a file."""
        return self.config.lossless and self.output.full

    def _watch(self) -> None:
        if self._choked():
            self.waiter.forget(self.inlet.socket)
        else:
            self.waiter.watch(self.inlet.socket, read=True)
        if self.replay and self.replay.listening:
            self.waiter.watch(self.replay.socket.socket, read=True)
        elif self.replay:
            self.waiter.forget(self.replay.socket.socket)
        if self.output.pollable:
            self.waiter.watch(self.output.fd, write=self.output.waiting, broken=True)
        elif self.output.fd >= 0:
            self.waiter.forget(self.output.fd)

    def _take_in(self) -> int:
        """Takes what the workers sent, up to a turn's worth; how many messages that were."""
        for count in range(TURN_MESSAGES):
            data = None if self._choked() else self.inlet.receive()
            if data is None:
                return count
            if self.inlet.sender >= 0:
                self.once.take(self.inlet.sender, self.inlet.number)
            self._take(data)
        return TURN_MESSAGES

    def _take(self, data: memoryview) -> None:
        page = self.page
        try:
            message = unpack_events(data)
            if message.worker >= self.config.worker_count or (not message.end and message.topic >= len(TOPICS)):
                raise BadMessage("a message of events from a worker or for a topic that does not exist")
        except BadMessage:
            page.add("invalid_messages", 1)
            return
        worker = message.worker
        known = page[f"received.{worker}"] + page[f"lost.{worker}"]
        page.add(f"lost.{worker}", max(0, message.cumulative - known))
        if message.cumulative < known:  # too long for the arena, and overtaken by what waited in there: it was not lost
            page.add(f"lost.{worker}", -min(message.events, page[f"lost.{worker}"]))
        page[f"ended.{worker}"] = int(message.end)
        if message.end:
            self._status("draining")
            return
        page.add(f"received.{worker}", message.events)
        topic, body = TOPICS[message.topic], message.body
        self._publish(topic, message.events, body)
        page.add(f"published.{topic}", message.events)
        page.add(f"published_messages.{topic}", 1)
        page.add(f"published_bytes.{topic}", len(body))
        self.output.write(body, message.events)

    def _publish(self, topic: str, events: int, body: Buffer) -> None:
        """Numbers a message, keeps a copy and sends it. The page has the number first: killed in between, it is a loss
        that subscribers are told of."""
        page = self.page
        sequence = self.sequences[topic] + 1
        page[f"sequence.{topic}"] = sequence
        self.sequences[topic] = sequence
        self.events[topic] += events
        if self.feed:
            body = bytes(body)
            self.store.put(topic, sequence, events, body)
            page["store_messages"], page["store_bytes"] = len(self.store), self.store.size
            page["store_evicted"] += self.store.take_evicted()
            self.feed.publish(topic, (self.epoch, sequence, events), body)

    def _beat(self, *, now: bool = False) -> None:
        if time.monotonic() < self.beat_at and not now:
            return
        self.beat_at = time.monotonic() + self.config.feed.heartbeat_s
        self.beats += 1
        if self.feed:
            self.feed.publish(HEARTBEAT, (self.epoch, self.beats, 1), self._heartbeat())
        self.page.add("heartbeats", 1)

    def _heartbeat(self) -> bytes:
        body = {
            "epoch": self.epoch,
            "last": self.sequences,
            "events": self.events,
            "first": {topic: self.store.first(topic) for topic in STORED_TOPICS},
            "replay": self.replay_endpoint,
            "before": self.before,
            "state": self.state,
            "time": now_text(),
        }
        return msgspec.json.encode(body)

    def _status(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self._publish(STATUS, 1, msgspec.json.encode({"state": state, "epoch": self.epoch, "time": now_text()}))

    def _attend(self, ready: set[Any]) -> None:
        """Everything that the readers of the feed want."""
        self._admit()
        if self.feed and self.feed.socket in ready:
            self.feed.read_subscriptions()
            self.page["subscribers"] = self.feed.subscribers
        if self.replay and self.replay.socket.socket in ready:
            self.replay.take()
        if self.replay:
            self.replay.turn()
        for door in [self.feed, self.replay.socket if self.replay else None]:
            if door and door.monitor in ready:
                self._count_failed(door)

    # -- the end -----------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Told that nothing more comes although not every worker said so: what it sent and we never saw is lost."""
        for w in range(self.config.worker_count):
            sent = Page.open(self.run_dir / f"worker-{w}.stats")["events_sent"]
            self.page.add(f"lost.{w}", max(0, sent - self.page[f"received.{w}"] - self.page[f"lost.{w}"]))

    def _finish(self) -> int:
        """Writes and publishes the rest."""
        self.station.state(DRAINING)
        self._status("draining")
        drain_s = self.config.run.drain_s
        deadline = None if self.config.lossless else time.monotonic() + drain_s
        while self.output.waiting and self.station.until(deadline):
            if self.station.stopping and deadline is None:
                deadline = time.monotonic() + drain_s
            self._beat()
            self.output.flush()
            self.output.pause(0.02)
        # Live, the drain has a limit that others share: what is merely good to have gets a part of it.
        spare = None if self.config.lossless else time.monotonic() + drain_s / 4
        self.output.close(lambda: self.station.until(spare) and not self.station.stopping)
        self._status("done")
        self._beat(now=True)
        if self.replay and self.feed and self.feed.subscribers:
            self._last_answers(self.replay, time.monotonic() + (drain_s if self.config.lossless else drain_s / 4))
        self.bus.close(linger_s=drain_s)
        self.station.state(DONE)
        return 0

    def _last_answers(self, replay: Replay, deadline: float) -> None:
        """The store ends with the process: whoever asks now, or is being answered, is served first.

        The last numbers are said again and again: a queue that is full now may have room in a moment."""
        replay.heard_at = time.monotonic()
        while self.station.until(deadline) and (replay.busy or time.monotonic() - replay.heard_at < QUIET_S):
            self._attend(self.waiter.wait(min(self._patience(), LAST_BEATS_S)))
            self.beat_at = min(self.beat_at, time.monotonic() + LAST_BEATS_S)
            self._beat()


def main(argv: list[str]) -> int:
    """The process; see the module."""
    run_dir = Path(argv[1])
    page = Page.open(run_dir / "feed.stats")
    config = configuration(run_dir, page)
    log.start(config, "feed", page)
    station = Station(page, live=not config.lossless)
    sandbox.enter("feed", config, run_dir, page)
    try:
        feed = Feed(config, run_dir, page, station)
    except (BusError, OutputError) as error:
        tell(str(error), reason="feed", level=log.ERROR)
        page["error"] = 1
        return 2
    return feed.run()


if __name__ == "__main__":
    leave(main(sys.argv))
