"""The feed process: events of all workers in, the numbered feed and the output file out.

`python -m appliance.feed RUN_DIR` gives every message the next sequence number of its topic, publishes it and appends
it to the output. A heartbeat carries the last number of every topic, so that a quiet subscriber sees what it missed.
Ends with 0 when every worker has said END and the output is written, with 2 when a socket or the output does not open.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from appliance.books import close_feed
from appliance.bus import (
    HEARTBEAT,
    STATUS,
    BadMessage,
    Buffer,
    Bus,
    BusError,
    EventInlet,
    FeedSocket,
    ReplaySocket,
    Waiter,
    unpack_events,
)
from appliance.config import OFF, load_resolved
from appliance.options import Config
from appliance.output import Output, OutputError
from appliance.station import Station
from appliance.stats import DONE, DRAINING, READY, TOPICS, Page

TURN_MESSAGES = 64  # of the workers, per turn of the loop
TURN_REQUESTS = 64  # replay requests per turn: a client that floods us slows down itself
WAIT_S = 0.1  # longest sleep: a stop and the death of the supervisor are noticed this late


class ReplayRequest(msgspec.Struct, rename={"first": "from", "last": "to"}):
    """A question for stored messages: sequence numbers first to last of a topic in an epoch."""

    topic: str
    epoch: int
    first: int
    last: int


def now_text() -> str:
    """The wall clock, RFC 3339 in UTC."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class Feed:
    """Everything the process does; `run` does it once. One instance is one epoch of the feed."""

    def __init__(self, config: Config, run_dir: Path, page: Page, station: Station) -> None:
        self.config = config
        self.run_dir = run_dir
        self.page = page
        self.station = station
        self.epoch = time.time_ns()
        self.sequences = dict.fromkeys([*TOPICS, STATUS, HEARTBEAT], 0)
        self.events = dict.fromkeys([*TOPICS, STATUS, HEARTBEAT], 0)
        close_feed(page, config.worker_count)
        page["epoch"] = self.epoch
        self.output = Output(config.output.path, page, config.shard.link_bytes, patient=config.lossless)
        self.bus = Bus()
        self.waiter = Waiter()
        self.inlet = EventInlet(self.bus, config, run_dir)
        self.feed: FeedSocket | None = None
        self.replay: ReplaySocket | None = None
        if config.feed.bind != OFF:
            self.feed = FeedSocket(self.bus, config.feed.bind, config.feed.subscriber_queue)
            self.waiter.watch(self.feed.socket, read=True)
            self._announce("feed.endpoint", self.feed.endpoint)
            if config.feed.replay != OFF:
                self.replay = ReplaySocket(self.bus, config.feed.replay)
                self.waiter.watch(self.replay.socket, read=True)
                self._announce("replay.endpoint", self.replay.endpoint)
        self.beat_at = 0.0
        self.state = ""

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
            ready = self.waiter.wait(max(0.0, min(WAIT_S, self.beat_at - time.monotonic())))
            stopping = self.station.stopping
            if self.output.waiting or self.output.fd in ready:
                self.output.flush()
            taken = self._take_in()
            if self.feed and self.feed.socket in ready:
                self.feed.read_subscriptions()
                self.page["subscribers"] = self.feed.subscribers
            if self.replay and self.replay.socket in ready:
                self._answer(self.replay)
            if stopping and not taken and not self._choked():
                self._settle()
                break
        return self._finish()

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
        page[f"ended.{worker}"] = int(message.end)
        if message.end:
            self._status("draining")
            return
        page.add(f"received.{worker}", message.events)
        topic = TOPICS[message.topic]
        self._publish(topic, message.events, message.body)
        page.add(f"published.{topic}", message.events)
        page.add(f"published_messages.{topic}", 1)
        page.add(f"published_bytes.{topic}", len(message.body))
        self.output.write(message.body, message.events)

    def _publish(self, topic: str, events: int, body: Buffer) -> None:
        self.sequences[topic] += 1
        self.events[topic] += events
        if self.feed:
            self.feed.publish(topic, (self.epoch, self.sequences[topic], events), body)

    def _beat(self, *, now: bool = False) -> None:
        if time.monotonic() < self.beat_at and not now:
            return
        self.beat_at = time.monotonic() + self.config.feed.heartbeat_s
        others = [topic for topic in self.sequences if topic != HEARTBEAT]
        body = {
            "epoch": self.epoch,
            "last": {topic: self.sequences[topic] for topic in others},
            "events": {topic: self.events[topic] for topic in others},
            "time": now_text(),
        }
        self._publish(HEARTBEAT, 1, msgspec.json.encode(body))
        self.page.add("heartbeats", 1)

    def _status(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self._publish(STATUS, 1, msgspec.json.encode({"state": state, "epoch": self.epoch, "time": now_text()}))

    def _answer(self, replay: ReplaySocket) -> None:
        """Answers waiting requests: no message is stored yet, so every range is gone."""
        for _ in range(TURN_REQUESTS):
            asked = replay.receive()
            if asked is None:
                return
            who, question = asked
            try:
                request = msgspec.json.decode(question, type=ReplayRequest)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                self.page.add("replay_invalid", 1)
                replay.answer(who, [msgspec.json.encode({"error": str(error)})])
            else:
                self.page.add("replay_gone", 1)
                gone = {"gone": request, "reason": "this feed stores no messages"}
                replay.answer(who, [msgspec.json.encode(gone)])
            replay.answer(who, [msgspec.json.encode({"end": True})])

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
        self.output.close()
        self._status("done")
        self._beat(now=True)
        self.bus.close(linger_s=drain_s)
        self.station.state(DONE)
        return 0


def main(argv: list[str]) -> int:
    """The process; see the module."""
    run_dir = Path(argv[1])
    config = load_resolved(run_dir)
    page = Page.open(run_dir / "feed.stats")
    station = Station(page)
    try:
        feed = Feed(config, run_dir, page, station)
    except (BusError, OutputError) as error:
        print(f"appliance: {error}", file=sys.stderr)
        page["error"] = 1
        return 2
    return feed.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv))
