"""The sockets of the feed, on both sides, with or without a lock.

    FeedSocket   -> FeedClient    the feed                        tcp, XPUB/SUB
    ReplaySocket <- ReplayClient  questions about the past        tcp, ROUTER/DEALER

No socket blocks. Sockets are owned by the thread that made them.
"""

from __future__ import annotations

import errno
import struct
from collections import Counter
from collections.abc import Sequence

import zmq

from appliance.bus import MAX_EVENT_MESSAGE, Bus, BusError, Socket, bind
from appliance.curve import Keys, Pair, client_options, server_options
from appliance.eventbatch import Buffer

MAX_SUBSCRIPTION = 4096  # bytes; topics are short, and whatever a stranger sends to the feed is held to this
MAX_TOPICS = 1000  # different subscriptions that are counted
MAX_REQUEST = 4096  # bytes of a replay request
REPLAY_QUEUE = 16  # messages of an answer that wait for one client: the rest waits in the store
SENT, FULL, LEFT = range(3)  # what became of an answer
FAILED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL  # of a peer, before it was in
REFUSED = FAILED | zmq.EVENT_HANDSHAKE_FAILED_AUTH  # of us, by the other side
AGAIN_S = 1.0  # between two tries to be let in
REOPEN_S = 2.0  # an address is free again soon after its socket was closed, not at once

FEED_HEADER = struct.Struct(">QQQ")  # epoch, sequence, events: network byte order, it leaves the machine
HEARTBEAT = "heartbeat."
STATUS = "status."

_KEEPALIVE = {"tcp_keepalive": 1, "tcp_keepalive_idle": 30, "tcp_keepalive_intvl": 10, "tcp_keepalive_cnt": 3}


class Door:
    """A socket that strangers may try; `failed` says how many did not come as far as a greeting."""

    def __init__(self, bus: Bus, socket: Socket) -> None:
        self.socket = socket
        self.endpoint = ""
        self._bus = bus
        self.monitor = _monitor(bus, socket, FAILED)

    def open(self, endpoint: str, where: str) -> None:
        """Binds it. Raises BusError, and is closed then."""
        try:
            bind(self.socket, endpoint, where)
        except BusError:
            self.close()
            raise
        self.endpoint = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def failed(self) -> int:
        """How many peers have failed since the last call."""
        return _count(self.monitor)

    def close(self) -> None:
        """Closes it for good; everybody connected is out."""
        self.socket.disable_monitor()
        self._bus.drop(self.monitor)
        self._bus.drop(self.socket)


class FeedSocket(Door):
    """Publishes to whoever subscribes. A subscriber whose queue is full loses its own messages and nobody else's:
    ZeroMQ skips it without a word, and it finds out from the sequence numbers."""

    def __init__(self, bus: Bus, endpoint: str, subscriber_queue: int, pair: Pair | None = None) -> None:
        options = {"sndhwm": subscriber_queue, "maxmsgsize": MAX_SUBSCRIPTION, "xpub_verboser": 1}
        super().__init__(bus, bus.socket(zmq.XPUB, **options, **_KEEPALIVE, **server_options(pair)))
        self.open(endpoint, "feed.bind (--feed)")
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


class ReplaySocket(Door):
    """Takes questions and sends answers, to any number of clients."""

    def __init__(self, bus: Bus, endpoint: str, pair: Pair | None = None) -> None:
        options = {"router_mandatory": 1, "sndhwm": REPLAY_QUEUE, "rcvhwm": REPLAY_QUEUE, "maxmsgsize": MAX_REQUEST}
        super().__init__(bus, bus.socket(zmq.ROUTER, **options, **_KEEPALIVE, **server_options(pair)))
        self.open(endpoint, "feed.replay")

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


class Visit:
    """A socket that wants in. ZeroMQ reconnects by itself, but not to where it was refused: that is done here, for the
    lock may be opened for us later, and whatever else was there may give way to a feed."""

    def __init__(self, bus: Bus, socket: Socket, endpoint: str) -> None:
        self.socket = socket
        self.monitor = _monitor(bus, socket, REFUSED)
        self.refused = 0
        self._endpoint = endpoint
        self._bus = bus
        self._again_at: float | None = None
        try:
            socket.connect(endpoint)
        except zmq.ZMQError as error:
            raise BusError(f"{endpoint}: {error.strerror}; an endpoint looks like tcp://127.0.0.1:5556") from error

    def again(self, now: float) -> float | None:
        """Tries again when it is time to; after how many seconds it will be, None if nothing is to be done."""
        refused = _count(self.monitor)
        self.refused += refused
        if refused and self._again_at is None:
            self._again_at = now + AGAIN_S
        if self._again_at is None:
            return None
        if now >= self._again_at:
            self._again_at = None
            try:
                self.socket.disconnect(self._endpoint)
            except zmq.ZMQError:
                pass  # it has forgotten about it
            self.socket.connect(self._endpoint)
            return None
        return self._again_at - now

    def take(self) -> list[bytes] | None:
        """The parts of the next message, or None when there is none now."""
        return _take(self.socket)

    def close(self) -> None:
        """Closes it before the rest of its Bus."""
        self.socket.disable_monitor()
        self._bus.drop(self.monitor)
        self._bus.drop(self.socket)


class FeedClient(Visit):
    """Subscribes to a feed, and to its heartbeats; reconnects by itself."""

    def __init__(self, bus: Bus, endpoint: str, topics: Sequence[str], queue: int, keys: Keys | None = None) -> None:
        lock = client_options(keys)
        socket = bus.socket(zmq.SUB, rcvhwm=queue, maxmsgsize=MAX_EVENT_MESSAGE, **_KEEPALIVE, **lock)
        # In this order: the first heartbeat then proves that every other topic is already subscribed.
        for topic in [*(topic for topic in topics if topic != HEARTBEAT), HEARTBEAT]:
            socket.subscribe(topic)
        super().__init__(bus, socket, endpoint)


class ReplayClient(Visit):
    """Asks a feed for what was lost; reconnects by itself, but a question dies with its connection."""

    def __init__(self, bus: Bus, endpoint: str, keys: Keys | None = None) -> None:
        options = {"sndhwm": REPLAY_QUEUE, "maxmsgsize": MAX_EVENT_MESSAGE}
        super().__init__(bus, bus.socket(zmq.DEALER, **options, **_KEEPALIVE, **client_options(keys)), endpoint)

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


def _monitor(bus: Bus, socket: Socket, events: int) -> Socket:
    address = f"inproc://monitor-{int(socket.getsockopt(zmq.FD))}"
    socket.monitor(address, events)
    monitor = bus.socket(zmq.PAIR, rcvhwm=0)  # unlimited: a full one would hold up the thread of all sockets
    monitor.connect(address)
    return monitor


def _count(monitor: Socket) -> int:
    count = 0
    while _take(monitor) is not None:
        count += 1
    return count


def _take(socket: Socket) -> list[bytes] | None:
    try:
        return socket.recv_multipart(zmq.DONTWAIT)
    except zmq.Again:
        return None
