"""Reading the feed from Python.

    with Subscriber("tcp://127.0.0.1:5556", ["http."]) as feed:
        for message in feed:
            for event in message.events:
                print(event.decode())
        print(feed.recovered, "messages fetched again", feed.lost, "gone")

    async with AsyncSubscriber() as feed:
        async for message in feed:
            ...

Messages are numbered by topic, and heartbeats say the last number of every topic. What is missing is asked for again;
until it is there or known to be gone, later messages of its topic wait (see follower.py), so nothing comes twice or out
of order within a topic, and every message comes or is in a gap.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from appliance.bus import Bus, Socket, Waiter
from appliance.channels import FEED_HEADER, HEARTBEAT, FeedClient, ReplayClient, readable
from appliance.curve import read_keys
from appliance.follower import HELD_BYTES, Follower, Gap, Heartbeat, Question, Received

__all__ = ["DEFAULT_ENDPOINT", "AsyncSubscriber", "Gap", "Received", "Subscriber"]

DEFAULT_ENDPOINT = "tcp://127.0.0.1:5556"
OFF = "off"
QUEUE = 1000  # messages that wait in this process; what exceeds them waits at the feed
TURN = 64  # messages between two looks of the asynchronous twin at the rest of its program

_heartbeat = msgspec.json.Decoder(Heartbeat).decode


class _Range(msgspec.Struct, rename={"first": "from", "last": "to"}):
    topic: str
    epoch: int
    first: int
    last: int


class _Word(msgspec.Struct):
    """What an answer says beside its messages."""

    gone: _Range | None = None
    end: bool = False
    topic: str | None = None


_word = msgspec.json.Decoder(_Word).decode


class _Subscription:
    """What both twins are: two sockets, a follower, and counters. Not a thing to use by itself."""

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
        held_bytes: int = HELD_BYTES,
        server_key: Path | str = "",
        key: Path | str = "",
    ) -> None:
        """topics: prefixes, such as "http." or "http.5xx."; none means all of them. timeout_s: iteration ends when no
        message came for so long; None waits for ever. on_gap is called for each run of messages that is gone, in its
        place among them. queue: messages that may wait here. replay: where lost messages are asked for; "" where the
        feed's heartbeat says, "off" not at all. backfill: begins with the oldest message that the feed still has.
        held_bytes: what may wait here for something that is missing. server_key, key: files of `appliance keygen`, the
        public key of a locked feed and the secret key of who reads. Raises BusError.

        Reconnects by itself. A new epoch means that the feed was started again: its numbers start from 1. Heartbeats
        are read here and not yielded."""
        self.endpoint = endpoint
        self.topics = tuple(topics) or ("",)
        self.timeout_s = timeout_s
        self.on_gap = on_gap
        self.received = 0  # events
        self.messages = 0
        self.invalid = 0  # messages that are not a feed's: something else is behind the endpoint, or another version
        asks = {OFF: False, "": None}.get(replay, True)
        self._follower = Follower(self.topics, replay=asks, backfill=backfill, limit=held_bytes)
        self._bus = Bus()
        self._keys = read_keys(server_key, key) if server_key or key else None
        self._client = FeedClient(self._bus, endpoint, self.topics, queue, self._keys)
        self._replay: ReplayClient | None = None
        self._replay_at = ""
        self._told = asks is None  # whether heartbeats say whom to ask
        if asks:
            self._ask_at(replay)

    def close(self) -> None:
        """Ends the subscription."""
        self._bus.close()

    @property
    def lost(self) -> int:
        """Messages that are gone."""
        return self._follower.lost

    @property
    def recovered(self) -> int:
        """Messages that were missing and came when they were asked for."""
        return self._follower.recovered

    @property
    def duplicates(self) -> int:
        """Messages that came once more, and were left out."""
        return self._follower.duplicates

    @property
    def heartbeats(self) -> int:
        """Heartbeats that came."""
        return self._follower.heartbeats

    @property
    def epoch(self) -> int:
        """Of the run of the feed that is being read; -1 before the first."""
        return self._follower.epoch

    @property
    def epochs(self) -> int:
        """Runs of the feed seen."""
        return self._follower.epochs

    @property
    def cut(self) -> int:
        """Runs of the feed that ended, nobody knows with which message: there may be a loss that is not in `lost`."""
        return self._follower.cut

    # -- what both do -----------------------------------------------------------------------------------------------

    def _ask_at(self, endpoint: str) -> None:
        if endpoint != self._replay_at:
            if self._replay is not None:
                self._replay.close()
            self._replay, self._replay_at = ReplayClient(self._bus, endpoint, self._keys), endpoint

    def _next(self) -> Received | None:
        """The next message that is ready; gaps before it are told."""
        ready = self._follower.ready
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
        """Takes one message from a socket, and asks what is to be asked; whether anything happened."""
        follower = self._follower
        if follower.missing:
            now = time.monotonic()
            parts = self._replay.take() if self._replay is not None else None
            if parts is not None:
                self._answered(parts, now)
                return True
            question = follower.ask(now)
            if question is not None and self._replay is not None:
                self._replay.ask(msgspec.json.encode(_Range(*question)))
        parts = self._client.take()
        if parts is None:
            return bool(follower.ready)
        self._published(parts)
        return True

    def _published(self, parts: list[bytes]) -> None:
        if len(parts) != 3 or len(parts[1]) != FEED_HEADER.size or not parts[0].isascii():
            self.invalid += 1
            return
        topic, body = parts[0].decode(), parts[2]
        epoch, sequence, _ = FEED_HEADER.unpack(parts[1])
        if topic != HEARTBEAT:
            self._follower.message(topic, epoch, sequence, body)
            return
        try:
            beat = _heartbeat(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.invalid += 1
            return
        if self._told:
            self._follower.replay = bool(beat.replay)
            if beat.replay:
                self._ask_at(_reachable(self.endpoint, beat.replay))
        self._follower.heartbeat(beat)

    def _answered(self, parts: list[bytes], now: float) -> None:
        if len(parts) == 3 and len(parts[1]) == FEED_HEADER.size and parts[0].isascii():
            epoch, sequence, _ = FEED_HEADER.unpack(parts[1])
            self._follower.answer(parts[0].decode(), epoch, sequence, parts[2], now)
            return
        try:
            word = _word(parts[0] if len(parts) == 1 else b"")
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.invalid += 1
            return
        if word.gone is not None:
            self._follower.gone(Question(word.gone.topic, word.gone.epoch, word.gone.first, word.gone.last), now)
        if word.end:
            self._follower.end(word.topic, now)

    @property
    def refused(self) -> int:
        """Times that we were not let in: the feed is locked, or something else is behind the endpoint."""
        return self._client.refused

    def _awaited(self) -> list[Socket]:
        """The sockets that may bring something that is wanted."""
        sockets = [self._client.socket, self._client.monitor]
        if self._replay is not None and self._follower.missing:
            sockets += [self._replay.socket, self._replay.monitor]
        return sockets

    def _patience(self, deadline: float | None) -> float | None:
        """How long to wait for a socket; None: until something comes."""
        now = time.monotonic()
        times = [None if deadline is None else deadline - now, self._follower.wait_s(now), self._client.again(now)]
        if self._replay is not None:
            times.append(self._replay.again(now))
        return max(0.0, min(known)) if (known := [time for time in times if time is not None]) else None


class Subscriber(_Subscription):
    """Yields the messages of a feed in order, fetches what it missed, and says what is gone."""

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
        """The next message, or None when none came within timeout_s seconds (None: waits for ever)."""
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
            for socket in self._awaited():
                waiter.watch(socket, read=True)
            waiter.wait(self._patience(deadline))


class AsyncSubscriber(_Subscription):
    """The same for asyncio. It belongs to the event loop in which it is read."""

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
        """The next message, or None when none came within timeout_s seconds (None: waits for ever)."""
        from asyncio import sleep  # here: it is slow to load, and `appliance events` does without

        if self.messages % TURN == 0:
            await sleep(0)  # a stream that never pauses lets others run, too
        if (message := self._next()) is not None:
            return message
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            while self._pump():
                if (message := self._next()) is not None:
                    return message
            if deadline is not None and time.monotonic() >= deadline:
                return None
            await readable(self._awaited(), self._patience(deadline))


def _reachable(endpoint: str, announced: str) -> str:
    """Where the feed at `endpoint` answers questions: what it announces, on the host by which it was reached."""
    if not (endpoint.startswith("tcp://") and announced.startswith("tcp://")):
        return announced
    return f"{endpoint.rpartition(':')[0]}:{announced.rpartition(':')[2]}"
