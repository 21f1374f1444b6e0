"""Every link between two of our processes. ZeroMQ is known here, in channels.py (the feed) and in curve.py (its lock).

    FrameOutlet -> FrameInlet     batches, capture to worker      one pair of sockets per worker
    EventOutlet -> EventInlet     encoded events, worker to feed

What crosses lies in shared memory (arena.pyx), where its sender wrote it; what ZeroMQ carries (ipc, PUSH/PULL) is
whose turn it is. The inlet binds and the outlet connects: a queue belongs to the side that connects, so it survives
the death of the process it leads to. Nothing in ZeroMQ acknowledges: what is lost is found from the cumulative counts
in every message, and a sender stays until the receiver's stats page says that its end mark came. It may not leave
earlier, even when all is flushed: a receiver whose queue is full at that moment throws away what it has not read from
the connection yet. Messages on the ipc links have one part: of a multipart message whose peer dies half way the
sender never learns. No socket blocks, except where a method takes a timeout. Sockets are owned by the thread that
made them.
"""

from __future__ import annotations

import errno
import math
import os
import stat
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import zmq

from appliance.arena import Arena, ArenaError, View
from appliance.batch import KEPT_BATCHES
from appliance.eventbatch import EVENT_HEADER, BadMessage, Buffer
from appliance.options import Config

MAX_IPC_PATH = 107  # bytes in sockaddr_un.sun_path, less the final NUL
MIN_QUEUE = 4  # messages: below, ZeroMQ's batched acknowledgements stall the sender
RECONNECT_MS = 10  # a restarted process is back on its link at once; both ends are on this machine
HANDSHAKE_MS = 3000  # a peer that connects and says nothing holds a descriptor no longer than this
LONGEST_FRAME = (1 << 18) + 128  # bytes of a batch of one frame: libpcap's longest, with header and record
SPARE_SLOTS = 32  # what the capture fills, and has filled, while the workers have all that they may have
NAP_S = 0.0005  # between two looks at what a receiver has let go; messages take it about as long
MAX_EVENT_MESSAGE = 64 << 20  # bytes; a larger one closes its connection, and the loss shows in the next cumulative

HANDLE_MAGIC = b"HCH1"
HANDLE = struct.Struct("<4sIIQQQQ")  # magic, sender, slot, epoch, number, turn, length

Socket = zmq.Socket[bytes]


class BusError(Exception):
    """A socket cannot be opened as configured. The text is for a person and says what to change."""


def queue_length(budget_bytes: int, message_bytes: int, links: int = 1) -> int:
    """High-water mark of one end of a link, in messages: ZeroMQ counts messages, and both ends hold a queue."""
    return max(MIN_QUEUE, budget_bytes // (message_bytes * links * 2))


def slots(config: Config) -> tuple[int, int]:
    """Batches of one worker of one capture, and all slots of that capture's shared memory."""
    shard, workers = config.shard, config.worker_count
    quota = KEPT_BATCHES + queue_length(config.link_bytes, shard.batch_bytes, config.capture_count)
    return quota, workers * (quota + 2) + SPARE_SLOTS


def arena_bytes(config: Config) -> int:
    """What batches, of frames and of events, take in the run directory at most."""
    captures, batch_bytes = config.capture_count, config.feed.event_batch_bytes
    frames = captures and captures * slots(config)[1] * max(config.shard.batch_bytes, LONGEST_FRAME)
    return frames + config.worker_count * queue_length(config.link_bytes, batch_bytes) * batch_bytes


def shard_path(run_dir: Path, worker: int) -> Path:
    """Where worker `worker` takes its batches."""
    return run_dir / f"shard-{worker}"


def _arena_path(run_dir: Path, kind: str, sender: int, epoch: int) -> Path:
    return run_dir / f"{kind}-{sender}-{epoch:x}"


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

    def socket(self, kind: int, **options: int | bytes) -> Socket:
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


class Outlet:
    """Messages to one or several processes. They lie in shared memory, where this process writes and the others read
    them; what ZeroMQ carries is which slot may be read now. A receiver has at most `quota` of them; so a slow one costs
    the others nothing.

    kind and sender: which arena this is, of the run's. Raises BusError when there is no room for a single message."""

    def __init__(
        self,
        bus: Bus,
        run_dir: Path,
        kind: str,
        sender: int,
        epoch: int,
        receivers: Sequence[Path],
        *,
        quota: int,
        slots: int,
        slot_bytes: int,
    ) -> None:
        self.quota = quota
        self.slot_bytes = slot_bytes
        path = _arena_path(run_dir, kind, sender, epoch)
        try:
            for old in run_dir.glob(f"{kind}-{sender}-*"):
                old.unlink()
            self._arena = Arena(path, len(receivers), slots, slot_bytes)
            first = self._arena.lend()
        except (OSError, ArenaError) as error:
            raise BusError(f"no memory for {kind}: {error}; choose another run directory (--run-dir)") from error
        if first is None:
            raise BusError(f"{path}: no room for {slot_bytes} bytes; choose another run directory")
        self._arena.take_back(self._arena.slot_of(first))
        self._sender, self._epoch = sender, epoch
        self._sockets = [bus.socket(zmq.PUSH, sndhwm=0) for _ in receivers]
        for receiver, made in zip(receivers, self._sockets, strict=True):
            made.connect(_ipc(receiver))

    def room(self, receiver: int) -> bool:
        """Whether the receiver may be given another message now."""
        if self._arena.out(receiver) >= self.quota:
            self._arena.collect()
        return self._arena.out(receiver) < self.quota and self._arena.available()

    def send(self, receiver: int, *parts: Buffer) -> bool:
        """Passes a message on, or returns False at once when there is no room. One that lies in a slot is not the
        caller's any more; any other is copied into one, its parts behind each other."""
        if not self.room(receiver):
            return False
        slot, length = self._arena.slot_of(parts[0]), len(parts[0])
        if slot < 0:
            lent = self._arena.lend()
            assert lent is not None  # there is room
            slot, length = self._arena.slot_of(lent), 0
            for part in parts:
                lent[length : length + len(part)] = part
                length += len(part)
        turn, number = self._arena.give(slot, receiver, length)
        said = HANDLE.pack(HANDLE_MAGIC, self._sender, slot, self._epoch, number, turn, length)
        self._sockets[receiver].send(said, zmq.DONTWAIT)
        return True

    def wait(self, receiver: int, timeout_s: float) -> bool:
        """Waits until the receiver may be given a message, at most timeout_s; whether it may."""
        end = time.monotonic() + timeout_s
        while not self.room(receiver):
            if time.monotonic() >= end:
                return False
            time.sleep(NAP_S)
        return True


Begin = Callable[[int, int], int]


class Inlet:
    """Messages from every Outlet of a kind that has a socket at `path`, which is taken over from a dead predecessor.

    What the predecessor was given and had not done with comes first. receiver: which of the outlets' receivers this is.
    begin(sender, epoch): the number of the first message that is wanted of this memory of a sender. max_bytes: of a
    message that comes through the socket itself, and has no number."""

    def __init__(
        self, bus: Bus, path: Path, kind: str, senders: int, receiver: int, begin: Begin | None, max_bytes: int
    ) -> None:
        self.socket = bus.socket(zmq.PULL, rcvhwm=0, maxmsgsize=max_bytes)
        bind(self.socket, _private_ipc(path), "the run directory")
        self._run_dir, self._kind, self._receiver, self._begin = path.parent, kind, receiver, begin
        self._views: dict[int, tuple[int, View]] = {}  # by sender: epoch and arena of the one that lives
        self._next: dict[int, int] = {}  # by sender: what was announced before this is known
        self.left: deque[tuple[int, int, memoryview]] = deque()  # sender, number, message
        self.sender = self.number = -1  # of the message that was received last
        for sender in range(senders):
            for found in self._run_dir.glob(f"{kind}-{sender}-*"):
                try:
                    self._view(sender, int(found.name.rpartition("-")[2], 16))
                except ArenaError:
                    pass  # it is being made: there is nothing in it, and what comes is announced

    def receive(self) -> memoryview | None:
        """The next message, or None when there is none now. Its slot goes back to the sender when the view is let go.

        A message whose sender and memory are gone is passed over: the next cumulative count shows what was lost."""
        while not self.left:
            try:
                said = self.socket.recv(zmq.DONTWAIT, copy=False).buffer
            except zmq.Again:
                return None
            if len(said) != HANDLE.size or said[:4] != HANDLE_MAGIC:
                self.sender = self.number = -1
                return self._plain(said)
            _, sender, slot, epoch, number, turn, length = HANDLE.unpack(said)
            view = self._view(sender, epoch, number)
            if view is not None and number >= self._next[sender]:
                self._next[sender] = number + 1
                self.left.append((sender, number, memoryview(view.batch(slot, turn, length))))
        self.sender, self.number, message = self.left.popleft()
        return message

    def _plain(self, said: memoryview) -> memoryview:
        """What came through the socket itself."""
        raise BadMessage(f"a message is announced by {HANDLE.size} bytes that start with HCH1")

    def _view(self, sender: int, epoch: int, announced: int = 1 << 64) -> View | None:
        """The memory of a sender, and what is left in it. announced: its first message of which we heard ourselves."""
        known, view = self._views.get(sender, (-1, None))
        if known == epoch:
            return view
        try:
            view = View(_arena_path(self._run_dir, self._kind, sender, epoch))
        except FileNotFoundError:
            return None
        first = self._begin(sender, epoch) if self._begin else 0
        left = [one for one in view.begin(self._receiver, first) if one[0] < announced]
        self._views[sender] = epoch, view
        self._next[sender] = left[-1][0] + 1 if left else first
        self.left.extend((sender, number, memoryview(view.batch(*place))) for number, *place in left)
        return view


class FrameOutlet(Outlet):
    """Batches from one capture to every worker, which keeps the last few to compare retransmissions with."""

    def __init__(self, bus: Bus, config: Config, run_dir: Path, capture: int, epoch: int) -> None:
        shard, workers = config.shard, config.worker_count
        quota, count = slots(config)
        super().__init__(
            bus,
            run_dir,
            "frames",
            capture,
            epoch,
            [shard_path(run_dir, worker) for worker in range(workers)],
            quota=quota,
            slots=count,
            slot_bytes=max(shard.batch_bytes, LONGEST_FRAME),
        )
        self.batch_bytes = shard.batch_bytes

    def lend(self) -> memoryview | None:
        """A slot of batch_bytes to write a batch into, None when there is none."""
        slot = self._arena.lend()
        return None if slot is None else slot[: self.batch_bytes]

    def take_back(self, message: Buffer) -> bool:
        """Ends a loan: the message will not be sent. False if it lies in no slot."""
        slot = self._arena.slot_of(message)
        if slot >= 0:
            self._arena.take_back(slot)
        return slot >= 0


class FrameInlet(Inlet):
    """Batches from every capture, in one worker."""

    def __init__(self, bus: Bus, config: Config, run_dir: Path, worker: int, begin: Begin | None = None) -> None:
        captures = config.capture_count
        super().__init__(bus, shard_path(run_dir, worker), "frames", captures, worker, begin, HANDLE.size)


class EventOutlet(Outlet):
    """Encoded events from one worker to the feed. A message that no slot can hold goes through the socket."""

    def __init__(self, bus: Bus, config: Config, run_dir: Path, worker: int, epoch: int) -> None:
        batch_bytes = config.feed.event_batch_bytes
        quota = queue_length(config.link_bytes, batch_bytes)
        receivers, slot_bytes = [events_path(run_dir)], batch_bytes + EVENT_HEADER.size
        super().__init__(
            bus, run_dir, "events", worker, epoch, receivers, quota=quota, slots=quota, slot_bytes=slot_bytes
        )
        self._sockets[0].setsockopt(zmq.SNDHWM, 2 * quota)

    def put(self, *parts: Buffer) -> bool:
        """Passes a message on, its parts behind each other, or returns False at once when there is no room."""
        if not self.ready(0.0):
            return False
        if sum(map(len, parts)) <= self.slot_bytes:
            return self.send(0, *parts)
        self._sockets[0].send(b"".join(parts), zmq.DONTWAIT)
        return True

    def ready(self, timeout_s: float) -> bool:
        """Waits until `put` has room, at most timeout_s; whether it has."""
        return self.wait(0, timeout_s) and bool(self._sockets[0].poll(round(timeout_s * 1000), zmq.POLLOUT))


class EventInlet(Inlet):
    """Encoded events from every worker, in the feed."""

    def __init__(self, bus: Bus, config: Config, run_dir: Path, begin: Begin | None = None) -> None:
        most = max(MAX_EVENT_MESSAGE, 4 * config.feed.event_batch_bytes)
        super().__init__(bus, events_path(run_dir), "events", config.worker_count, 0, begin, most)

    def _plain(self, said: memoryview) -> memoryview:
        return said


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


def bind(bound: Socket, endpoint: str, where: str) -> None:
    try:
        bound.bind(endpoint)
    except zmq.ZMQError as error:
        advice = "; another program, or another run of this one, has it" if error.errno == errno.EADDRINUSE else ""
        raise BusError(f"{where}: cannot open {endpoint}: {error.strerror}{advice}") from error
