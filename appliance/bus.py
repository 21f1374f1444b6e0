"""Every link between two processes, and the feed: the only file that touches ZeroMQ.

    FrameLink  -> FrameInlet      batches, capture to worker      ipc, PUSH/PULL, one pair per worker
    EventLink  -> EventInlet      encoded events, worker to feed  ipc, PUSH/PULL
    FeedSocket -> FeedClient      the feed                        tcp, XPUB/SUB
    ReplaySocket <- ReplayClient  questions about the past        tcp, ROUTER/DEALER

The inlet binds and the link connects: a queue belongs to the side that connects, so it survives the death of the
process it leads to. Nothing in ZeroMQ acknowledges: what is lost is found from the cumulative counts in every message,
and a sender stays until the receiver's stats page says that its end mark came. It may not leave earlier, even when all
is flushed: a receiver whose queue is full at that moment throws away what it has not read from the connection yet.
Messages on the ipc links have one part: of a multipart message whose peer dies half way the sender never learns.
No socket blocks, except where a method takes a timeout. Sockets are owned by the thread that made them.
"""

from __future__ import annotations

import errno
import math
import os
import stat
import struct
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import zmq

from appliance.options import Config

MAX_IPC_PATH = 107  # bytes in sockaddr_un.sun_path, less the final NUL
MIN_QUEUE = 4  # messages: below, ZeroMQ's batched acknowledgements stall the sender
RECONNECT_MS = 10  # a restarted process is back on its link at once; both ends are on this machine
HANDSHAKE_MS = 3000  # a peer that connects and says nothing holds a descriptor no longer than this
FRAME_SLACK = 1 << 20  # a batch grows past batch_bytes only for one frame longer than a batch
MAX_EVENT_MESSAGE = 64 << 20  # bytes; a larger one closes its connection, and the loss shows in the next cumulative
MAX_SUBSCRIPTION = 4096  # bytes; topics are short, and whatever a stranger sends to the feed is held to this
MAX_TOPICS = 1000  # different subscriptions that are counted
MAX_REQUEST = 4096  # bytes of a replay request
REPLAY_QUEUE = 16  # messages of an answer that wait for one client: the rest waits in the store
SENT, FULL, LEFT = range(3)  # what became of an answer

EVENT_MAGIC = b"HCE1"
EVENT_HEADER = struct.Struct("<4sBBHIQQQ")  # magic, topic, flags, worker, events, epoch, sequence, cumulative
EVENT_END = 255  # the topic index that says: nothing more comes from this worker
FEED_HEADER = struct.Struct(">QQQ")  # epoch, sequence, events: network byte order, it leaves the machine
HEARTBEAT = "heartbeat."
STATUS = "status."

Buffer = bytes | bytearray | memoryview
Socket = zmq.Socket[bytes]


class BusError(Exception):
    """A socket cannot be opened as configured. The text is for a person and says what to change."""


class BadMessage(ValueError):
    """The bytes are not a message of this version of the links."""


class EventMessage(NamedTuple):
    """One message from a worker to the feed; `cumulative` is the worker's events sent before it, over all its lives."""

    topic: int
    worker: int
    events: int
    epoch: int
    sequence: int
    cumulative: int
    body: Buffer

    @property
    def end(self) -> bool:
        """Whether it says that nothing follows."""
        return self.topic == EVENT_END


def pack_events(message: EventMessage) -> bytes:
    """The wire form: one part, header and body. Copies the body once."""
    topic, worker, events, epoch, sequence, cumulative, body = message
    return EVENT_HEADER.pack(EVENT_MAGIC, topic, 0, worker, events, epoch, sequence, cumulative) + body


def unpack_events(data: Buffer) -> EventMessage:
    """Reads a message; its body is a view into `data`. Raises BadMessage."""
    if len(data) < EVENT_HEADER.size:
        raise BadMessage(f"a message of events has at least {EVENT_HEADER.size} bytes, not {len(data)}")
    magic, topic, _flags, worker, events, epoch, sequence, cumulative = EVENT_HEADER.unpack_from(data)
    if magic != EVENT_MAGIC:
        raise BadMessage("a message of events starts with HCE1")
    return EventMessage(topic, worker, events, epoch, sequence, cumulative, memoryview(data)[EVENT_HEADER.size :])


def queue_length(budget_bytes: int, message_bytes: int, links: int = 1) -> int:
    """High-water mark of one end of a link, in messages: ZeroMQ counts messages, and both ends hold a queue."""
    return max(MIN_QUEUE, budget_bytes // (message_bytes * links * 2))


def shard_path(run_dir: Path, worker: int) -> Path:
    """Where worker `worker` takes its batches."""
    return run_dir / f"shard-{worker}"


def events_path(run_dir: Path) -> Path:
    """Where the feed takes the workers' events."""
    return run_dir / "events"


def _ipc(path: Path) -> str:
    length = len(os.fsencode(path))
    if length > MAX_IPC_PATH:
        raise BusError(
            f"{path}: {length} bytes are too long for a socket, at most {MAX_IPC_PATH}; choose a shorter run directory"
        )
    return f"ipc://{path}"


def _private_ipc(path: Path) -> str:
    """The address to bind. Access to an ipc socket is access to its directory, so that has to be ours alone."""
    about = path.parent.stat()
    if about.st_uid != os.geteuid() or stat.S_IMODE(about.st_mode) & 0o077:
        raise BusError(f"{path.parent}: a run directory belongs to its user alone; do: chmod 0700 {path.parent}")
    return _ipc(path)


class Bus:
    """The sockets of one process, with one I/O thread. Close it last; see `close` for what that waits for."""

    def __init__(self) -> None:
        self._context = zmq.Context(io_threads=1)
        self._sockets: list[Socket] = []

    def socket(self, kind: int, **options: int) -> Socket:
        """A socket with the options every socket here needs, and `options` by their lower-case ZeroMQ names."""
        made = self._context.socket(kind)
        made.setsockopt(zmq.LINGER, 0)
        made.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        made.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        for name, value in options.items():
            made.setsockopt(getattr(zmq, name.upper()), value)
        self._sockets.append(made)
        return made

    def drop(self, socket: Socket) -> None:
        """Closes one socket before the others."""
        self._sockets.remove(socket)
        socket.close(linger=0)

    def close(self, linger_s: float = 0.0) -> None:
        """Closes every socket, after giving what waits in their queues linger_s seconds to leave."""
        for made in self._sockets:
            made.close(linger=round(linger_s * 1000))
        self._context.term()


class _Link:
    """The sending end of an ipc link. Its queue outlives the process it leads to."""

    def __init__(self, bus: Bus, path: Path, queue: int) -> None:
        self.socket = bus.socket(zmq.PUSH, sndhwm=queue)
        self.socket.connect(_ipc(path))

    def send(self, message: Buffer) -> bool:
        """Queues the message, or returns False at once when the queue is full. The buffer is free afterwards."""
        # Measured over ipc on 2 cores, 1 MiB messages from reused buffers: copying into the message 2.1-2.4 GB/s at
        # 0.43 s of CPU per GB (both threads), sharing the buffer 1.6-2.2 GB/s at 0.5-0.75 s: pyzmq's reference counting
        # costs a message between threads for each send, and every shared buffer is a fresh one, not in the cache.
        try:
            self.socket.send(message, zmq.DONTWAIT, copy=True)
        except zmq.Again:
            return False
        return True

    def wait(self, timeout_s: float) -> bool:
        """Waits until `send` has room, at most timeout_s; whether it has."""
        return bool(self.socket.poll(max(0, round(timeout_s * 1000)), zmq.POLLOUT))


class _Inlet:
    """The receiving end of an ipc link. It takes over the path from a dead predecessor."""

    def __init__(self, bus: Bus, path: Path, queue: int, max_bytes: int) -> None:
        self.socket = bus.socket(zmq.PULL, rcvhwm=queue, maxmsgsize=max_bytes)
        _bind(self.socket, _private_ipc(path), "the run directory")

    def receive(self) -> memoryview | None:
        """The next message, or None when there is none now. The view keeps the message alive; nothing is copied."""
        try:
            return self.socket.recv(zmq.DONTWAIT, copy=False).buffer
        except zmq.Again:
            return None


class FrameLink(_Link):
    """Batches from a capture to one worker. Its queues take half of the link's budget: they count messages, and on a
    quiet network messages are small. The other half is the capture's own backlog, which counts bytes."""

    def __init__(self, bus: Bus, config: Config, run_dir: Path, worker: int) -> None:
        shard = config.shard
        queue = queue_length(shard.link_bytes // 2, shard.batch_bytes, config.capture_count)
        super().__init__(bus, shard_path(run_dir, worker), queue)


class FrameInlet(_Inlet):
    """Batches from every capture, in one worker."""

    def __init__(self, bus: Bus, config: Config, run_dir: Path, worker: int) -> None:
        shard = config.shard
        queue = queue_length(shard.link_bytes // 2, shard.batch_bytes, config.capture_count)
        most = shard.batch_bytes + config.capture.snaplen + FRAME_SLACK
        super().__init__(bus, shard_path(run_dir, worker), queue, most)


class EventLink(_Link):
    """Encoded events from one worker to the feed."""

    def __init__(self, bus: Bus, config: Config, run_dir: Path) -> None:
        queue = queue_length(config.shard.link_bytes, config.feed.event_batch_bytes)
        super().__init__(bus, events_path(run_dir), queue)


class EventInlet(_Inlet):
    """Encoded events from every worker, in the feed."""

    def __init__(self, bus: Bus, config: Config, run_dir: Path) -> None:
        queue = queue_length(config.shard.link_bytes, config.feed.event_batch_bytes)
        super().__init__(bus, events_path(run_dir), queue, max(MAX_EVENT_MESSAGE, 4 * config.feed.event_batch_bytes))


class FeedSocket:
    """Publishes to whoever subscribes. A subscriber whose queue is full loses its own messages and nobody else's:
    ZeroMQ skips it without a word, and it finds out from the sequence numbers."""

    def __init__(self, bus: Bus, endpoint: str, subscriber_queue: int) -> None:
        self.socket = bus.socket(
            zmq.XPUB, sndhwm=subscriber_queue, maxmsgsize=MAX_SUBSCRIPTION, xpub_verboser=1, **_KEEPALIVE
        )
        _bind(self.socket, endpoint, "feed.bind (--feed)")
        self.endpoint = _last_endpoint(self.socket)
        self._topics: Counter[bytes] = Counter()

    def publish(self, topic: str, header: tuple[int, int, int], body: Buffer) -> None:
        """Sends one message of three parts; header is epoch, sequence, events."""
        self.socket.send_multipart([topic.encode(), FEED_HEADER.pack(*header), body], zmq.DONTWAIT)

    def read_subscriptions(self) -> None:
        """Takes in who came and who went. Call it whenever the socket is readable."""
        while True:
            try:
                said = self.socket.recv(zmq.DONTWAIT)
            except zmq.Again:
                return
            if said[:1] == b"\x01" and (said[1:] in self._topics or len(self._topics) < MAX_TOPICS):
                self._topics[said[1:]] += 1
            elif said[:1] == b"\x00" and self._topics[said[1:]] > 1:
                self._topics[said[1:]] -= 1
            elif said[:1] == b"\x00":
                self._topics.pop(said[1:], None)

    @property
    def subscribers(self) -> int:
        """How many subscribe to the most wanted topic: exact when they share one, as those who read heartbeats do."""
        return max(self._topics.values(), default=0)


class ReplaySocket:
    """Takes questions and sends answers, to any number of clients."""

    def __init__(self, bus: Bus, endpoint: str) -> None:
        options = {"router_mandatory": 1, "sndhwm": REPLAY_QUEUE, "rcvhwm": REPLAY_QUEUE, "maxmsgsize": MAX_REQUEST}
        self.socket = bus.socket(zmq.ROUTER, **options, **_KEEPALIVE)
        _bind(self.socket, endpoint, "feed.replay")
        self.endpoint = _last_endpoint(self.socket)

    def receive(self) -> tuple[bytes, bytes] | None:
        """(who, question), or None when there is none now. Empty delimiter parts are taken off."""
        try:
            parts = self.socket.recv_multipart(zmq.DONTWAIT)
        except zmq.Again:
            return None
        return parts[0], b"".join(parts[1:])

    def answer(self, who: bytes, parts: Sequence[Buffer]) -> int:
        """Sends one message of an answer, behind an empty delimiter: SENT, FULL (try again) or LEFT (it is gone)."""
        try:
            self.socket.send_multipart([who, b"", *parts], zmq.DONTWAIT)
        except zmq.Again:
            return FULL
        except zmq.ZMQError as error:
            if error.errno != errno.EHOSTUNREACH:
                raise
            return LEFT
        return SENT


class FeedClient:
    """Subscribes to a feed, and to its heartbeats; reconnects by itself."""

    def __init__(self, bus: Bus, endpoint: str, topics: Sequence[str], queue: int) -> None:
        self.socket = bus.socket(zmq.SUB, rcvhwm=queue, maxmsgsize=MAX_EVENT_MESSAGE, **_KEEPALIVE)
        # In this order: the first heartbeat then proves that every other topic is already subscribed.
        for topic in [*(topic for topic in topics if topic != HEARTBEAT), HEARTBEAT]:
            self.socket.subscribe(topic)
        try:
            self.socket.connect(endpoint)
        except zmq.ZMQError as error:
            raise BusError(f"{endpoint}: {error.strerror}; an endpoint looks like tcp://127.0.0.1:5556") from error

    def take(self) -> list[bytes] | None:
        """The parts of the next message, or None when there is none now."""
        return _take(self.socket)


class ReplayClient:
    """Asks a feed for what was lost; reconnects by itself, but a question dies with its connection."""

    def __init__(self, bus: Bus, endpoint: str) -> None:
        self.socket = bus.socket(zmq.DEALER, sndhwm=REPLAY_QUEUE, maxmsgsize=MAX_EVENT_MESSAGE, **_KEEPALIVE)
        try:
            self.socket.connect(endpoint)
        except zmq.ZMQError as error:
            raise BusError(f"{endpoint}: {error.strerror}; an endpoint looks like tcp://127.0.0.1:5557") from error

    def ask(self, question: bytes) -> None:
        """Sends a question, unless too many wait already."""
        try:
            self.socket.send_multipart([b"", question], zmq.DONTWAIT)
        except zmq.Again:
            pass

    def take(self) -> list[bytes] | None:
        """The parts of the next message of an answer, without the empty one before them; None when there is none."""
        parts = _take(self.socket)
        return parts and parts[1:]


class Waiter:
    """Waits for any of several sockets and file descriptors."""

    def __init__(self) -> None:
        self._poller = zmq.Poller()

    def watch(
        self, thing: zmq.Socket[Any] | int, *, read: bool = False, write: bool = False, broken: bool = False
    ) -> None:
        """Adds or changes what to wait for: readable, writable, or (descriptors only) the other end gone."""
        self._poller.register(thing, read * zmq.POLLIN | write * zmq.POLLOUT | broken * zmq.POLLERR)

    def forget(self, thing: zmq.Socket[Any] | int) -> None:
        """Removes it; nothing happens when it is not watched."""
        if thing in self._poller:
            self._poller.unregister(thing)

    def wait(self, timeout_s: float | None) -> set[zmq.Socket[Any] | int]:
        """What is ready, after at most timeout_s (None: no limit). A descriptor whose other end is gone is ready."""
        return {thing for thing, _ in self._poller.poll(None if timeout_s is None else math.ceil(timeout_s * 1000))}


async def readable(sockets: Sequence[Socket], timeout_s: float | None) -> None:
    """Waits in the running event loop until something may be there to take, or timeout_s is over."""
    import asyncio  # here: none of our own processes needs it, and it is slow to load

    loop, woken = asyncio.get_running_loop(), asyncio.Event()
    descriptors = [int(socket.getsockopt(zmq.FD)) for socket in sockets]
    for descriptor in descriptors:
        loop.add_reader(descriptor, woken.set)
    try:
        # In this order: asking for EVENTS takes in what woke us, and what comes later makes the descriptor readable.
        if not any(int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN for socket in sockets):
            await asyncio.wait_for(woken.wait(), timeout_s)
    except TimeoutError:
        pass
    finally:
        for descriptor in descriptors:
            loop.remove_reader(descriptor)


_KEEPALIVE = {"tcp_keepalive": 1, "tcp_keepalive_idle": 30, "tcp_keepalive_intvl": 10, "tcp_keepalive_cnt": 3}


def _bind(bound: Socket, endpoint: str, where: str) -> None:
    try:
        bound.bind(endpoint)
    except zmq.ZMQError as error:
        advice = "; another program, or another run of this one, has it" if error.errno == errno.EADDRINUSE else ""
        raise BusError(f"{where}: cannot open {endpoint}: {error.strerror}{advice}") from error


def _take(socket: Socket) -> list[bytes] | None:
    try:
        return socket.recv_multipart(zmq.DONTWAIT)
    except zmq.Again:
        return None


def _last_endpoint(bound: Socket) -> str:
    return bound.getsockopt_string(zmq.LAST_ENDPOINT)
