"""The `appliance forward` command: a consumer of the feed that publishes each event to NATS JetStream or Kafka.

Two tasks: one reads the feed while the window is hungry, the other keeps a connection to the server and sends what is
due. When the server is away the feed is not read: its messages wait there, first for us and then in its replay store,
from where the Subscriber fetches them afterwards. What had left the store by then is counted as gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from appliance.exporter import MetricsServer, Row, simple
from appliance.subscriber import AsyncSubscriber, Gap
from appliance.target import NATS, Answers, Credentials, Sink, SinkFault, Target
from appliance.window import Back, Place, Window

SUBSCRIBER_QUEUE = 100  # messages of up to feed.event_batch_bytes that wait here unread; the others wait at the feed
TURN_S = 1.0  # longest sleep: positions are written and the lag is measured this often
DRAIN_S = 5.0  # how long a stop waits for answers
HEALTHY_S = 30.0  # an answer that takes longer is trouble
SILENCE_S = 5.0  # without a heartbeat


class Wanted(NamedTuple):
    """What to forward, where to, and how. position: a file, or "" for none; metrics: HOST:PORT, or "" for none."""

    target: Target
    secret: Credentials
    endpoint: str
    topics: tuple[str, ...]
    replay: str = ""
    server_key: str = ""
    key: str = ""
    prefix: str = "appliance"
    window: int = 4096
    window_bytes: int = 64 << 20
    position: str = ""
    metrics: str = ""


def tell(text: str) -> None:
    """One line for a person."""
    print(f"appliance: {text}", file=sys.stderr, flush=True)


def make_sink(wanted: Wanted, on: Answers) -> Sink:
    """The sink for a target. Raises SinkFault when its library is not installed."""
    if wanted.target.kind == NATS:
        from appliance.jetstream import JetStream

        return JetStream(wanted.target, wanted.secret, wanted.prefix, wanted.topics, on)
    from appliance.kafka import Kafka

    return Kafka(wanted.target, wanted.secret, on)


class Positions:
    """The file that remembers which messages are answered, so that the next start does not send them again."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._written: dict[tuple[str, int], int] = {}

    def read(self) -> dict[tuple[str, int], int]:
        """What it says; nothing when it is not there yet. Raises SinkFault for a file that is something else."""
        if not self.path:
            return {}
        try:
            rows = msgspec.json.decode(Path(self.path).read_bytes(), type=list[Place])
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise SinkFault(f"--position {self.path}: {error.strerror}", final=True) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SinkFault(f"--position {self.path}: not a file of positions; name another", final=True) from error
        return {(row.topic, row.epoch): row.sequence for row in rows}

    def write(self, done: dict[tuple[str, int], int]) -> None:
        """Replaces the file, if something has changed. Raises OSError."""
        if not self.path or done == self._written:
            return
        part = f"{self.path}.part"
        with open(part, "wb") as file:
            file.write(msgspec.json.encode([Place(topic, epoch, last) for (topic, epoch), last in done.items()]))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self.path)
        self._written = dict(done)


class Forwarder:
    """Everything the command does; `run` does it once."""

    def __init__(self, wanted: Wanted) -> None:
        """Raises SinkFault and BusError."""
        self.wanted = wanted
        on = Answers(self._accepted, self._failed, self._refused, self._lost, self._note)
        self.sink = make_sink(wanted, on)
        self.positions = Positions(wanted.position)
        answer_s = self.sink.answer_s
        done = self.positions.read()
        self.window = Window(wanted.window, wanted.window_bytes, answer_s=answer_s, done=done)
        self.connected = False
        self.connections = 0
        self.lag_s = 0.0
        self.code: int | None = None  # of the exit, once it is to end
        self.trouble = "not connected yet"
        self._notes: dict[str, float] = {}
        self._back = Back()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._heard_at = time.monotonic()
        self.feed = AsyncSubscriber(
            wanted.endpoint,
            wanted.topics,
            on_gap=self._gap,
            queue=SUBSCRIBER_QUEUE,
            replay=wanted.replay,
            backfill=True,
            server_key=wanted.server_key,
            key=wanted.key,
        )

    # -- what the sink tells ---------------------------------------------------------------------------------------

    def _accepted(self, number: int, duplicate: bool) -> None:
        self.window.accepted(number, duplicate=duplicate)
        self._wake.set()

    def _failed(self, number: int, why: str) -> None:
        self.window.failed(number, time.monotonic())
        self._note(f"{self.wanted.target}: {why}; trying again")
        self._wake.set()

    def _refused(self, number: int, why: str) -> None:
        if self.window.refused_for_good(number):
            self._note(f"{self.wanted.target} will not take an event, which is left out: {why}")
        self._wake.set()

    def _lost(self, why: str) -> None:
        if self.connected:
            self.connected = False
            self.trouble = why
            tell(f"{self.wanted.target}: lost the connection ({why}); trying again")
        self.window.lost_contact()
        self._wake.set()

    def _note(self, text: str) -> None:
        """Tells it, but the same not more often than once a minute."""
        now = time.monotonic()
        if now >= self._notes.get(text, 0.0):
            self._notes = {known: until for known, until in self._notes.items() if until > now}
            self._notes[text] = now + 60
            tell(text)

    def _gap(self, gap: Gap) -> None:
        tell(f"{gap.last - gap.first + 1} messages of {gap.topic} are gone ({gap.first} to {gap.last})")

    # -- the two tasks ---------------------------------------------------------------------------------------------

    async def run(self) -> int:
        """Forwards until told to stop, or until it turns out to be impossible; the exit code."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._stop, 130)
        loop.add_signal_handler(signal.SIGTERM, self._stop, 143)
        reader = asyncio.create_task(self._read())
        try:
            await self._publish(reader)
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            self._remember()
            await self.sink.close()
            self.feed.close()
        return self.code or 0

    def _stop(self, code: int) -> None:
        self.code = code if self.code is None else self.code
        self._wake.set()

    async def _read(self) -> None:
        """Feeds the window."""
        warned = False
        while True:
            await self._room.wait()
            message = await self.feed.receive(SILENCE_S)
            if message is not None:
                now = time.monotonic()
                self.window.offer(Place(message.topic, message.epoch, message.sequence), message.events, now)
                self._flow()
                self._wake.set()
            elif self.feed.heartbeats == 0 and not warned:
                warned = True
                refused = "refuses us; is it locked (--server-key and --key)? " if self.feed.refused else ""
                tell(f"nothing heard from {self.wanted.endpoint} yet; {refused}waiting")

    def _flow(self) -> None:
        """Lets the reader go on, or not."""
        if self.window.hungry and self.code is None:
            self._room.set()
        else:
            self._room.clear()

    async def _publish(self, reader: asyncio.Task[None]) -> None:
        """Keeps the connection and sends what is due, until there is an exit code and nothing is left to wait for."""
        open_at, drained_at = 0.0, None
        while True:
            self._wake.clear()
            now = time.monotonic()
            if reader.done():
                reader.result()  # raises what ended it
            if self.code is not None:
                drained_at = drained_at or now + (DRAIN_S if self.connected else 0)
                if not self.window.outstanding or now >= drained_at or not self.connected:
                    return
            elif not self.connected and now >= open_at and not await self._open():
                open_at = time.monotonic() + self._back.off()
            if self.connected:
                await self._send()
            self._flow()
            self.lag_s = self.window.lag_s(time.monotonic())
            await self._sleep(open_at)

    async def _send(self) -> None:
        for event in self.window.due(time.monotonic()) if self.code is None else ():
            try:
                await self.sink.send(event)
            except SinkFault as fault:
                self._lost(str(fault))
                return

    async def _sleep(self, open_at: float) -> None:
        now = time.monotonic()
        wait = self.window.wait_s(now) if self.connected else max(0.0, open_at - now)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), TURN_S if wait is None else min(TURN_S, wait))
        if time.monotonic() >= self._heard_at + TURN_S:
            self._heard_at = time.monotonic()
            self._remember()

    async def _open(self) -> bool:
        """Tries to connect; a server that says no when it is first asked ends the run."""
        try:
            about = await self.sink.open()
        except SinkFault as fault:
            self.trouble = str(fault)
            if fault.final and not self.connections:
                tell(str(fault))
                self.code = 1
            else:
                self._note(f"{fault}; trying again")
            return False
        self.connected = True
        self.connections += 1
        self._back.on()
        self._notes.clear()
        tell(f"forwarding to {self.wanted.target}: {about}")
        return True

    def _remember(self) -> None:
        try:
            self.positions.write(self.window.done)
        except OSError as error:
            self._note(f"--position {self.wanted.position}: {error.strerror}; a restart will send more again")

    # -- what others see -------------------------------------------------------------------------------------------

    def summary(self) -> str:
        """The last line."""
        window, feed = self.window, self.feed
        again = window.retries + self.sink.retries
        return (
            f"{window.forwarded:,} events forwarded, {window.duplicates:,} of them known there already, "
            f"{again:,} sent again, {window.refused:,} refused, {len(window):,} left for the next start; "
            f"{feed.recovered:,} messages recovered, {feed.lost:,} messages gone"
        )

    def rows(self) -> Iterator[Row]:
        """The metrics. Called from the threads of the metrics server: reads plain values only."""
        window, feed = self.window, self.feed
        yield "forward_events", "counter", "Events that the server has acknowledged.", window.forwarded
        known = "Acknowledged events that the server had already, and left out."
        yield "forward_duplicate_events", "counter", known, window.duplicates
        yield "forward_refused_events", "counter", "Events that the server will never take, left out.", window.refused
        yield "forward_retries", "counter", "Events sent again.", window.retries + self.sink.retries
        yield "forward_outstanding_events", "gauge", "Events sent and not acknowledged.", window.outstanding
        yield "forward_lag_seconds", "gauge", "For how long the oldest event not acknowledged waits.", self.lag_s
        last = "End of the newest acknowledged event, Unix time; 0 before the first."
        yield "forward_last_event_timestamp_seconds", "gauge", last, _unix(window.last)
        yield "forward_connected", "gauge", "Whether the server is connected.", float(self.connected)
        yield "forward_connections", "counter", "Connections made to the server.", self.connections
        yield "forward_received_events", "counter", "Events read from the feed.", window.offered
        recovered = "Messages of the feed that were missed and fetched again."
        yield "forward_recovered_messages", "counter", recovered, feed.recovered
        gone = "Messages of the feed that were missed and are gone."
        yield "forward_gone_messages", "counter", gone, feed.lost
        cut = "Runs of the feed that ended without a last word: their last messages may be missing."
        yield "forward_cut_feeds", "counter", cut, feed.cut

    def healthy(self) -> tuple[bool, str]:
        """Whether the server takes what we have."""
        if not self.connected:
            return False, self.trouble
        if self.lag_s > HEALTHY_S:
            return False, f"the server has left an event without an answer for {self.lag_s:.0f} s"
        return True, ""


def _unix(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp[:26].rstrip("Z") + "+00:00").timestamp() if timestamp else 0.0


def forward(wanted: Wanted) -> int:
    """Runs the command; the exit code. Raises BusError, SinkFault, and OSError when the metrics' address is taken."""

    async def life() -> int:
        forwarder = Forwarder(wanted)
        server = None
        if wanted.metrics:
            server = MetricsServer(wanted.metrics, lambda: simple(forwarder.rows()), forwarder.healthy)
            tell(f"metrics at port {server.port}")
        try:
            return await forwarder.run()
        finally:
            if server is not None:
                server.close()
            tell(forwarder.summary())

    return asyncio.run(life())
