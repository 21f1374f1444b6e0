"""Reading the feed from Python.

    with Subscriber("tcp://127.0.0.1:5556", ["http."]) as feed:
        for message in feed:
            for event in message.events:
                print(event.decode())
        print(feed.recovered, "messages recovered", feed.lost, "lost")

    async with AsyncSubscriber() as feed:
        async for message in feed:
            ...

Messages are numbered by topic, and heartbeats carry the last number of every topic. A subscriber requests missing
messages again. Later messages of the topic wait until the missing ones arrive or are known to be lost (sequencer.py).
So messages of a topic come in order, without duplicates, and each one arrives or is in a gap.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from appliance.config.defaults import FEED as DEFAULT_ENDPOINT
from appliance.ipc.sockets import Bus, Socket, Waiter
from appliance.pubsub.curve_keys import read_keys
from appliance.pubsub.protocol import FEED_HEADER, HEARTBEAT, Heartbeat, Word
from appliance.subscriber.sequencer import OUT_OF_ORDER_BYTES, Gap, Received, Sequencer
from appliance.subscriber.sockets import FeedClient, ReplayClient, readable

__all__ = ["DEFAULT_ENDPOINT", "AsyncSubscriber", "Gap", "Received", "Subscriber"]

OFF = "off"
QUEUE = 1000  # messages queued in this process; the feed queues the others
TURN = 64  # messages between two turns of the event loop in the asynchronous twin

_heartbeat = msgspec.json.Decoder(Heartbeat).decode


_word = msgspec.json.Decoder(Word).decode


class _Subscription:
    """The common part of both twins: two sockets, a Sequencer, and counters. For internal use."""

    def __init__(
        self,
        endpoint: str = DEFAULT_ENDPOINT,
        topics: Sequence[str] = (),
        *,
        timeout_s: float | None = None,
        on_gap: Callable[[Gap], None] | None = None,
        queue: int = QUEUE,
        replay: str = "",
        backfill: bool = False,
        held_bytes: int = OUT_OF_ORDER_BYTES,
        server_key: Path | str = "",
        key: Path | str = "",
    ) -> None:
        """Connect to a feed.

        topics: prefixes, such as "http." or "http.5xx."; none means all of them. timeout_s: iteration ends after this
        time without a message; None waits for ever. on_gap is called for each range of lost messages, in order with the
        messages. queue: messages queued here. replay: endpoint for requests of missing messages; "" takes it from the
        feed's heartbeats, "off" disables requests. backfill: start with the oldest message that the feed stores.
        held_bytes: maximum size of out-of-order messages. server_key, key: files of `appliance keygen`, the public key
        of a locked feed and the secret key of the reader.

        Raises BusError. Reconnects by itself. A new epoch means that the feed was restarted: its numbers start from 1.
        Heartbeats are processed here and not yielded.
        """
        self.endpoint = endpoint
        self.topics = tuple(topics) or ("",)
        self.timeout_s = timeout_s
        self.on_gap = on_gap
        self.received = 0  # events
        self.messages = 0
        self.invalid = 0  # messages of another protocol: another program or version serves the endpoint
        asks = {OFF: False, "": None}.get(replay, True)
        self._sequencer = Sequencer(self.topics, replay=asks, backfill=backfill, limit=held_bytes)
        self._bus = Bus()
        self._keys = read_keys(server_key, key) if server_key or key else None
        self._client = FeedClient(self._bus, endpoint, self.topics, queue, self._keys)
        self._replay: ReplayClient | None = None
        self._replay_at = ""
        self._told = asks is None  # whether heartbeats name the replay server
        if asks:
            self._ask_at(replay)

    def close(self) -> None:
        """Close the subscription."""
        self._bus.close()

    @property
    def lost(self) -> int:
        """Return the number of lost messages."""
        return self._sequencer.lost

    @property
    def recovered(self) -> int:
        """Return the number of missed messages that a replay request recovered."""
        return self._sequencer.recovered

    @property
    def backfilled(self) -> int:
        """Return the number of messages from before the first contact that `backfill` fetched."""
        return self._sequencer.backfilled

    @property
    def duplicates(self) -> int:
        """Return the number of duplicate messages, which were dropped."""
        return self._sequencer.duplicates

    @property
    def heartbeats(self) -> int:
        """Return the number of heartbeats received."""
        return self._sequencer.heartbeats

    @property
    def epoch(self) -> int:
        """Return the epoch of the current run of the feed; -1 before the first."""
        return self._sequencer.epoch

    @property
    def epochs(self) -> int:
        """Return the number of runs of the feed seen."""
        return self._sequencer.epochs

    @property
    def cut(self) -> int:
        """Return the number of runs with an unknown end: they may have losses that `lost` does not count."""
        return self._sequencer.cut

    # -- what both do -----------------------------------------------------------------------------------------------

    def _ask_at(self, endpoint: str) -> None:
        if endpoint != self._replay_at:
            if self._replay is not None:
                self._replay.close()
            self._replay, self._replay_at = ReplayClient(self._bus, endpoint, self._keys), endpoint

    def _next(self) -> Received | None:
        """Return the next message that is ready, and report gaps before it."""
        ready = self._sequencer.ready
        while ready:
            item = ready.popleft()
            if isinstance(item, Received):
                self.messages += 1
                self.received += len(item.events)
                return item
            if self.on_gap is not None:
                self.on_gap(item)
        return None

    def _pump(self) -> bool:
        """Receive one message, and send a request that is due. Return whether anything happened."""
        sequencer = self._sequencer
        if sequencer.missing:
            now = time.monotonic()
            parts = self._replay.receive() if self._replay is not None else None
            if parts is not None:
                self._answered(parts, now)
                return True
            question = sequencer.ask(now)
            if question is not None and self._replay is not None:
                self._replay.ask(msgspec.json.encode(question))
        parts = self._client.receive()
        if parts is None:
            return bool(sequencer.ready)
        self._published(parts)
        return True

    def _published(self, parts: list[bytes]) -> None:
        if len(parts) != 3 or len(parts[1]) != FEED_HEADER.size or not parts[0].isascii():
            self.invalid += 1
            return
        topic, body = parts[0].decode(), parts[2]
        epoch, sequence, _ = FEED_HEADER.unpack(parts[1])
        if topic != HEARTBEAT:
            self._sequencer.message(topic, epoch, sequence, body)
            return
        try:
            beat = _heartbeat(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.invalid += 1
            return
        if self._told:
            self._sequencer.replay = bool(beat.replay)
            if beat.replay:
                self._ask_at(_reachable(self.endpoint, beat.replay))
        self._sequencer.heartbeat(beat)

    def _answered(self, parts: list[bytes], now: float) -> None:
        if len(parts) == 3 and len(parts[1]) == FEED_HEADER.size and parts[0].isascii():
            epoch, sequence, _ = FEED_HEADER.unpack(parts[1])
            self._sequencer.answer(parts[0].decode(), epoch, sequence, parts[2], now)
            return
        try:
            word = _word(parts[0] if len(parts) == 1 else b"")
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.invalid += 1
            return
        if word.gone is not None:
            self._sequencer.gone(word.gone, now)
        if word.end:
            self._sequencer.end(word.topic, now)

    @property
    def refused(self) -> int:
        """Return the number of refused connections: the feed is locked, or another program serves the endpoint."""
        return self._client.refused

    def _sockets_to_wait_for(self) -> list[Socket]:
        """Return the sockets to wait for."""
        sockets = [self._client.socket, self._client.monitor]
        if self._replay is not None and self._sequencer.missing:
            sockets += [self._replay.socket, self._replay.monitor]
        return sockets

    def _wait_s(self, deadline: float | None) -> float | None:
        """Return how long to wait for a socket; None: until input arrives."""
        now = time.monotonic()
        times = [None if deadline is None else deadline - now, self._sequencer.wait_s(now), self._client.retry(now)]
        if self._replay is not None:
            times.append(self._replay.retry(now))
        return max(0.0, min(known)) if (known := [time for time in times if time is not None]) else None


class Subscriber(_Subscription):
    """Yields the messages of a feed in order, recovers missed messages, and reports gaps."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Received]:
        while (message := self.receive(self.timeout_s)) is not None:
            yield message

    def receive(self, timeout_s: float | None = None) -> Received | None:
        """Return the next message, or None if none came within timeout_s seconds (None: wait for ever)."""
        if (message := self._next()) is not None:
            return message
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            while self._pump():
                if (message := self._next()) is not None:
                    return message
            if deadline is not None and time.monotonic() >= deadline:
                return None
            waiter = Waiter()
            for socket in self._sockets_to_wait_for():
                waiter.watch(socket, read=True)
            waiter.wait(self._wait_s(deadline))


class AsyncSubscriber(_Subscription):
    """The asyncio twin. It belongs to the event loop in which it is read."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aiter__(self) -> AsyncIterator[Received]:
        while (message := await self.receive(self.timeout_s)) is not None:
            yield message

    async def receive(self, timeout_s: float | None = None) -> Received | None:
        """Return the next message, or None if none came within timeout_s seconds (None: wait for ever)."""
        from asyncio import sleep  # here: it is slow to load, and `appliance events` does not need it

        if self.messages % TURN == 0:
            await sleep(0)  # a continuous stream must not starve other tasks
        if (message := self._next()) is not None:
            return message
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            while self._pump():
                if (message := self._next()) is not None:
                    return message
            if deadline is not None and time.monotonic() >= deadline:
                return None
            await readable(self._sockets_to_wait_for(), self._wait_s(deadline))


def _reachable(endpoint: str, announced: str) -> str:
    """Return the replay endpoint of the feed at `endpoint`: the announced port, on the host by which the feed was
    reached.
    """
    if not (endpoint.startswith("tcp://") and announced.startswith("tcp://")):
        return announced
    return f"{endpoint.rpartition(':')[0]}:{announced.rpartition(':')[2]}"
