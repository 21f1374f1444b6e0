"""The `appliance forward` command: consumes the feed and publishes each event to NATS JetStream or Kafka.

One task reads the feed while the window has room. The other keeps a connection to the server and sends the events that
are due. While the server is unreachable, nothing is read: messages wait in the feed's queue, then in its replay store,
from which the Subscriber fetches them. Messages that left the store count as lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import msgspec

from appliance.forward.in_flight import InFlightWindow, MessageId, RetryDelay
from appliance.forward.sinks import SINKS
from appliance.forward.target import Credentials, Sink, SinkCallbacks, SinkFault, Target
from appliance.metrics.collector import Row, simple
from appliance.metrics.http_server import MetricsServer
from appliance.subscriber.subscriber import AsyncSubscriber, Gap
from appliance.text.terminal import stderr_line

SUBSCRIBER_QUEUE = 100  # unread messages of up to feed.event_batch_bytes in our queue; the feed queues the others
LONGEST_SLEEP_S = 1.0  # longest sleep: positions and lag are updated this often
DRAIN_TIMEOUT_S = 5.0  # maximum wait for answers at the end
ANSWER_TIMEOUT_S = 30.0  # a longer answer time makes the forwarder unhealthy
HEARTBEAT_TIMEOUT_S = 5.0  # without a heartbeat


class ForwardArgs(NamedTuple):
    """The arguments of the command. position: a file, or "" for none; metrics: HOST:PORT, or "" for none."""

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


def make_sink(args: ForwardArgs, on: SinkCallbacks) -> Sink:
    """Return the sink for a target. Raises SinkFault if its library is not installed."""
    module = import_module(SINKS[args.target.kind].module)
    sink: Sink = module.make_sink(args.target, args.secret, args.prefix, args.topics, on)
    return sink


class Positions:
    """The file of answered positions, so that a restart does not send those messages again."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._written: dict[tuple[str, int], int] = {}

    def read(self) -> dict[tuple[str, int], int]:
        """Return the positions in the file; none if it does not exist. Raises SinkFault for any other file."""
        if not self.path:
            return {}
        try:
            rows = msgspec.json.decode(Path(self.path).read_bytes(), type=list[MessageId])
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise SinkFault(f"--position {self.path}: {error.strerror}", final=True) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SinkFault(f"--position {self.path}: not a file of positions; name another", final=True) from error
        return {(row.topic, row.epoch): row.sequence for row in rows}

    def prove(self) -> None:
        """Verify that the file can be replaced. Raises SinkFault."""
        if not self.path:
            return
        part = f"{self.path}.part"
        known = os.path.exists(part)
        try:
            os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
            if not known:
                os.unlink(part)
        except OSError as error:
            raise SinkFault(f"--position {self.path}: {error.strerror}", final=True) from error

    def write(self, done: dict[tuple[str, int], int]) -> None:
        """Replace the file if a position has changed. Raises OSError."""
        if not self.path or done == self._written:
            return
        part = f"{self.path}.part"
        with open(part, "wb") as file:
            file.write(msgspec.json.encode([MessageId(topic, epoch, last) for (topic, epoch), last in done.items()]))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self.path)
        self._written = dict(done)


class Forwarder:
    """The whole command; `run` runs it once."""

    def __init__(self, args: ForwardArgs) -> None:
        """Open the sink and the subscription. Raises SinkFault and BusError."""
        self.args = args
        on = SinkCallbacks(self._accepted, self._failed, self._refused, self._lost, self._note)
        self.sink = make_sink(args, on)
        self.positions = Positions(args.position)
        answer_s = self.sink.answer_s
        done = self.positions.read()
        self.positions.prove()
        self.window = InFlightWindow(args.window, args.window_bytes, answer_s=answer_s, done=done)
        self.connected = False
        self.connections = 0
        self.lag_s = 0.0
        self.code: int | None = None  # the exit code, once the command has to end
        self.trouble = "not connected yet"
        self._notes: dict[str, float] = {}
        self._delay = RetryDelay()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._heard_at = time.monotonic()
        self.feed = AsyncSubscriber(
            args.endpoint,
            args.topics,
            on_gap=self._gap,
            queue=SUBSCRIBER_QUEUE,
            replay=args.replay,
            backfill=True,
            server_key=args.server_key,
            key=args.key,
        )

    # -- what the sink tells ---------------------------------------------------------------------------------------

    def _accepted(self, number: int, duplicate: bool) -> None:
        self.window.accepted(number, duplicate=duplicate)
        self._wake.set()

    def _failed(self, number: int, why: str) -> None:
        self.window.failed(number, time.monotonic())
        self._note(f"{self.args.target}: {why}; trying again")
        self._wake.set()

    def _refused(self, number: int, why: str) -> None:
        if self.window.refused_for_good(number):
            self._note(f"{self.args.target} permanently refuses an event, which is dropped: {why}")
        self._wake.set()

    def _lost(self, why: str) -> None:
        if self.connected:
            self.connected = False
            self.trouble = why
            stderr_line(f"{self.args.target}: lost the connection ({why}); trying again")
        self.window.lost_contact()
        self._wake.set()

    def _note(self, text: str) -> None:
        """Print a line, but the same one at most once a minute."""
        now = time.monotonic()
        if now >= self._notes.get(text, 0.0):
            self._notes = {known: until for known, until in self._notes.items() if until > now}
            self._notes[text] = now + 60
            stderr_line(text)

    def _gap(self, gap: Gap) -> None:
        stderr_line(f"{gap.last - gap.first + 1} messages of {gap.topic} are lost ({gap.first} to {gap.last})")

    # -- the two tasks ---------------------------------------------------------------------------------------------

    async def run(self) -> int:
        """Forward until a signal or a permanent failure. Return the exit code."""
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
        """Read the feed into the window."""
        warned = False
        while True:
            await self._room.wait()
            message = await self.feed.receive(HEARTBEAT_TIMEOUT_S)
            if message is not None:
                now = time.monotonic()
                self.window.offer(MessageId(message.topic, message.epoch, message.sequence), message.events, now)
                self._flow()
                self._wake.set()
            elif self.feed.heartbeats == 0 and not warned:
                warned = True
                refused = "refuses us; is it locked (--server-key and --key)? " if self.feed.refused else ""
                stderr_line(f"no message from {self.args.endpoint} yet; {refused}waiting")

    def _flow(self) -> None:
        """Pause or resume the reader."""
        if self.window.hungry and self.code is None:
            self._room.set()
        else:
            self._room.clear()

    async def _publish(self, reader: asyncio.Task[None]) -> None:
        """Keep the connection and send due events, until the exit code is set and every answer has arrived."""
        open_at, drained_at = 0.0, None
        while True:
            self._wake.clear()
            now = time.monotonic()
            if reader.done():
                reader.result()  # raises the exception that ended it
            if self.code is not None:
                drained_at = drained_at or now + (DRAIN_TIMEOUT_S if self.connected else 0)
                if not self.window.outstanding or now >= drained_at or not self.connected:
                    return
            elif not self.connected and now >= open_at and not await self._open():
                open_at = time.monotonic() + self._delay.next_s()
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
            await asyncio.wait_for(self._wake.wait(), LONGEST_SLEEP_S if wait is None else min(LONGEST_SLEEP_S, wait))
        if time.monotonic() >= self._heard_at + LONGEST_SLEEP_S:
            self._heard_at = time.monotonic()
            self._remember()

    async def _open(self) -> bool:
        """Connect. A permanent refusal of the first attempt ends the run."""
        try:
            about = await self.sink.open()
        except SinkFault as fault:
            self.trouble = str(fault)
            if fault.final and not self.connections:
                stderr_line(str(fault))
                self.code = 1
            else:
                self._note(f"{fault}; trying again")
            return False
        self.connected = True
        self.connections += 1
        self._delay.reset()
        self._notes.clear()
        stderr_line(f"forwarding to {self.args.target}: {about}")
        return True

    def _remember(self) -> None:
        try:
            self.positions.write(self.window.done)
        except OSError as error:
            self._note(f"--position {self.args.position}: {error.strerror}; a restart will send more events again")

    # -- what others see -------------------------------------------------------------------------------------------

    def summary(self) -> str:
        """Return the closing line."""
        window, feed = self.window, self.feed
        again = window.retries + self.sink.retries
        return (
            f"{window.forwarded:,} events forwarded, {window.duplicates:,} of them already stored there, "
            f"{again:,} sent again, {window.refused:,} refused, {len(window):,} left for the next start; "
            f"{feed.backfilled:,} stored messages, {feed.recovered:,} messages recovered, {feed.lost:,} messages "
            "lost"
        )

    def rows(self) -> Iterator[Row]:
        """Yield the metrics. The threads of the metrics server call this, so it reads plain values only."""
        window, feed = self.window, self.feed
        yield "forward_events", "counter", "Events acknowledged by the server.", window.forwarded
        known = "Acknowledged events that the server had stored before."
        yield "forward_duplicate_events", "counter", known, window.duplicates
        yield (
            "forward_refused_events",
            "counter",
            "Events that the server permanently refused; dropped.",
            window.refused,
        )
        yield "forward_retries", "counter", "Events retransmitted.", window.retries + self.sink.retries
        yield "forward_outstanding_events", "gauge", "Events sent but not yet acknowledged.", window.outstanding
        yield "forward_lag_seconds", "gauge", "Age of the oldest unacknowledged event.", self.lag_s
        last = "End of the newest acknowledged event, Unix time; 0 before the first."
        yield "forward_last_event_timestamp_seconds", "gauge", last, _unix(window.last)
        yield "forward_connected", "gauge", "1 while the server is connected.", float(self.connected)
        yield "forward_connections", "counter", "Connections made to the server.", self.connections
        yield "forward_received_events", "counter", "Events read from the feed.", window.offered
        recovered = "Missed messages of the feed that replay recovered."
        yield "forward_recovered_messages", "counter", recovered, feed.recovered
        stored = "Messages fetched from the feed's store from before this process began."
        yield "forward_backfilled_messages", "counter", stored, feed.backfilled
        gone = "Missed messages of the feed that replay could not recover."
        yield "forward_gone_messages", "counter", gone, feed.lost
        cut = "Runs of the feed that ended without an end message: their last messages may be missing."
        yield "forward_cut_feeds", "counter", cut, feed.cut

    def healthy(self) -> tuple[bool, str]:
        """Return whether the server accepts events, and a reason."""
        if not self.connected:
            return False, self.trouble
        if self.lag_s > ANSWER_TIMEOUT_S:
            return False, f"the server has not answered an event for {self.lag_s:.0f} s"
        return True, ""


def _unix(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp[:26].rstrip("Z") + "+00:00").timestamp() if timestamp else 0.0


def forward(args: ForwardArgs) -> int:
    """Run the command. Return the exit code. Raises BusError, SinkFault, and OSError if the metrics
    address is in use.
    """

    async def life() -> int:
        forwarder = Forwarder(args)
        server = None
        if args.metrics:
            server = MetricsServer(args.metrics, lambda: simple(forwarder.rows()), forwarder.healthy)
            stderr_line(f"metrics at port {server.port}")
        try:
            return await forwarder.run()
        finally:
            if server is not None:
                server.close()
            stderr_line(forwarder.summary())

    return asyncio.run(life())
