"""The links between processes, over real sockets and with real processes on the other side."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import zmq
from eventually import PATIENCE_S, eventually, read_line
from feed_process import ROOT
from hypothesis import given
from hypothesis import strategies as st

from appliance.config.schema import Config, Feed, Shard, Source
from appliance.feed.sockets import FeedSocket, ReplaySocket
from appliance.ipc.event_batch import EVENT_HEADER, BadMessage, EventMessage, pack_events, unpack_events
from appliance.ipc.event_link import EventReceiver, EventSender
from appliance.ipc.frame_batch import KEPT_BATCHES
from appliance.ipc.frame_link import FrameReceiver, FrameSender
from appliance.ipc.memory_sizes import queue_length
from appliance.ipc.shared_memory import SharedMemoryError, SlotLease
from appliance.ipc.sockets import Bus, BusError
from appliance.pubsub.protocol import FEED_HEADER
from appliance.subscriber.sockets import FeedClient

pytestmark = pytest.mark.slow

SMALL = Config(
    source=Source(interfaces=["lo"]), shard=Shard(batch_bytes=4096, link_bytes=8 * 4096 * 4)
)  # 8 messages at each end

# A worker that tells on its standard output the number in each message it takes.
RECEIVER = """
import sys
from pathlib import Path
from appliance.ipc.frame_link import FrameReceiver
from appliance.ipc.sockets import Bus, Waiter
from appliance.config.schema import Config, Feed, Shard, Source
config = Config(source=Source(interfaces=["lo"]), shard=Shard(batch_bytes=4096, link_bytes=8 * 4096 * 4))
receiver, waiter = FrameReceiver(Bus(), config, Path(sys.argv[1]), 0, lambda *_: int(sys.argv[2])), Waiter()
waiter.watch(receiver.socket, read=True)
kept = []
print("ready", flush=True)
while True:
    waiter.wait(1.0)
    while (message := receiver.receive()) is not None:
        kept += [message] * len(sys.argv[3:])
        print(int.from_bytes(message[:8], "little"), flush=True)
"""

PEERS = (Feed().peers, Feed().peer_bytes)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


@pytest.fixture
def bus() -> Iterator[Bus]:
    made = Bus()
    yield made
    made.close()


def next_of(receiver: FrameReceiver | EventReceiver) -> SlotLease | memoryview:
    got: list[SlotLease | memoryview] = []
    eventually(lambda: (message := receiver.receive()) is not None and (got.append(message) or True), "a batch")
    return got[0]


def receiver(run_dir: Path, *, first: int = 0, keep: bool = False) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", RECEIVER, str(run_dir), str(first), *["keep"] * keep],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert read_line(process.stdout) == "ready\n"
    return process


def said(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(read_line(process.stdout))


def numbered(number: int) -> bytearray:
    return bytearray(number.to_bytes(8, "little") + bytes(4000))


def frame_sender(bus: Bus, run_dir: Path, capture: int = 0, epoch: int = 1) -> FrameSender:
    return FrameSender(bus, SMALL, run_dir, capture, epoch)


def lent(made: FrameSender, number: int) -> memoryview:
    """A batch that is written where it will be read."""
    slot = made.acquire()
    assert slot is not None
    slot[:4008] = numbered(number)
    return slot[:4008]


@pytest.mark.parametrize(
    "batch", [lent, lambda _, number: numbered(number)], ids=["written in a slot", "copied into one"]
)
def test_frames_arrive_in_order_in_another_process(run_dir: Path, bus: Bus, batch: Any) -> None:
    made = frame_sender(bus, run_dir)
    with receiver(run_dir) as process:
        for number in range(200):
            assert made.wait(0, PATIENCE_S)
            assert made.send(0, batch(made, number))
        assert [said(process) for _ in range(200)] == list(range(200))
        process.kill()


def test_a_batch_that_was_copied_is_its_owners_again(run_dir: Path, bus: Bus) -> None:
    made, buffer = frame_sender(bus, run_dir), numbered(0)
    for number in range(4):
        buffer[:8] = number.to_bytes(8, "little")
        assert made.send(0, buffer)
    with receiver(run_dir) as process:
        assert [said(process) for _ in range(4)] == list(range(4))
        process.kill()


def test_what_a_killed_worker_had_not_done_with_goes_to_the_next_one(run_dir: Path, bus: Bus) -> None:
    made = frame_sender(bus, run_dir)
    with receiver(run_dir) as process:
        assert made.send(0, numbered(0))
        assert said(process) == 0
        process.kill()
    for number in range(1, 5):
        assert made.send(0, numbered(number))
    with receiver(run_dir) as process:
        got = [said(process)]
        while got[-1] < 4:
            got.append(said(process))
        assert got in ([0, 1, 2, 3, 4], [1, 2, 3, 4])  # it may have been killed before it let the first one go
        process.kill()


def test_a_worker_has_no_more_than_its_quota_and_the_link_refuses_at_once(run_dir: Path, bus: Bus) -> None:
    made = frame_sender(bus, run_dir)
    taken = 0
    while made.send(0, numbered(taken)):
        taken += 1
    assert taken == made.quota == KEPT_BATCHES + queue_length(SMALL.shard.link_bytes, SMALL.shard.batch_bytes)
    assert not made.wait(0, 0)
    assert made.acquire() is not None  # the capture goes on filling
    with receiver(run_dir) as process:
        assert [said(process) for _ in range(taken)] == list(range(taken))
        assert made.wait(0, PATIENCE_S)
        assert made.send(0, numbered(taken))
        assert said(process) == taken
        process.kill()


def test_a_batch_stays_as_it_is_until_its_reader_lets_it_go(run_dir: Path, bus: Bus) -> None:
    receiver, made = FrameReceiver(bus, SMALL, run_dir, 0), frame_sender(bus, run_dir)
    assert made.send(0, numbered(7))
    held = next_of(receiver)
    for number in range(5 * made.quota):
        assert made.wait(0, PATIENCE_S)
        assert made.send(0, numbered(number))
        assert bytes(next_of(receiver)[:8]) == number.to_bytes(8, "little")
    assert bytes(held) == bytes(numbered(7))
    with pytest.raises(TypeError, match="read-only"):
        held[0] = 1


def test_a_killed_worker_gives_everything_back_through_its_successor(run_dir: Path, bus: Bus) -> None:
    made = frame_sender(bus, run_dir)
    with receiver(run_dir, keep=True) as process:
        for number in range(made.quota):
            assert made.send(0, numbered(number))
        assert [said(process) for _ in range(made.quota)] == list(range(made.quota))
        assert not made.wait(0, 0.01)  # it keeps them all
        process.kill()
    with receiver(run_dir, first=made.quota - 1) as process:
        eventually(lambda: made.wait(0, 0.01), "room")
        assert made.send(0, numbered(99))
        assert [said(process), said(process)] == [made.quota - 1, 99]
        process.kill()


def test_a_batch_that_waits_for_a_successor_and_is_announced_to_it_comes_once(run_dir: Path, bus: Bus) -> None:
    made = frame_sender(bus, run_dir)
    for number in range(5):
        assert made.send(0, numbered(number))
    with receiver(run_dir) as process:
        assert made.send(0, numbered(5))
        assert [said(process) for _ in range(6)] == list(range(6))
        process.kill()


# A capture that sends numbers as fast as they are taken, in small batches, as many as the link holds.
SENDER = """
import sys
from pathlib import Path
from appliance.ipc.frame_link import FrameSender
from appliance.ipc.sockets import Bus
from appliance.config.schema import Config, Feed, Shard, Source
config = Config(source=Source(interfaces=["lo"]), shard=Shard(batch_bytes=4096, link_bytes=8 * 4096 * 4))
made, number = FrameSender(Bus(), config, Path(sys.argv[1]), 0, 1), 0
print("ready", flush=True)
while True:
    if made.wait(0, 0.1):
        made.send(0, number.to_bytes(8, "little"))
        number += 1
"""


def test_nothing_is_lost_or_comes_twice_while_one_worker_follows_the_other(run_dir: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, "-c", SENDER, str(run_dir)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment) as sender:
        try:
            assert sender.stdout is not None
            assert read_line(sender.stdout) == "ready\n"
            wanted, graves = 0, list[object]()
            for life in range(100):
                wanted = lived(run_dir, wanted, life % 40, graves)
        finally:
            sender.kill()


def lived(run_dir: Path, wanted: int, batches: int, graves: list[object]) -> int:
    """A worker that takes so many batches, each the one that is its turn, and dies; the number of the next."""
    bus = Bus()
    try:
        receiver = FrameReceiver(bus, SMALL, run_dir, 0, lambda *_: wanted)
        for number in range(wanted, wanted + batches):
            assert int.from_bytes(next_of(receiver), "little") == number
        graves.append(receiver.queued)  # a killed process releases nothing
    finally:
        bus.close()
    return wanted + batches


class LossySocket:
    """A receiver's socket that loses some announcements, as a connection does whose other end has died."""

    def __init__(self, socket: zmq.Socket[bytes], lost: Callable[[int], bool]) -> None:
        self._socket, self._lost, self._count = socket, lost, 0

    def recv(self, *arguments: Any, **options: Any) -> Any:
        while True:
            frame = self._socket.recv(*arguments, **options)
            self._count += 1
            if not self._lost(self._count - 1):
                return frame


@pytest.mark.parametrize(
    "lost",
    [lambda count: count == 0, lambda count: count in (3, 4, 6), lambda count: True, lambda count: count >= 2],
    ids=["the first", "some", "all", "the last"],
)
def test_a_message_comes_once_and_in_order_when_its_announcement_is_lost(
    run_dir: Path, bus: Bus, lost: Callable[[int], bool]
) -> None:
    receiver, made = FrameReceiver(bus, SMALL, run_dir, 0), frame_sender(bus, run_dir)
    receiver.socket = cast("zmq.Socket[bytes]", LossySocket(receiver.socket, lost))
    for number in range(made.quota):
        assert made.send(0, numbered(number))
    got = [int.from_bytes(next_of(receiver)[:8], "little") for _ in range(made.quota)]
    assert got == list(range(made.quota))
    assert made.wait(0, PATIENCE_S)  # the quota is free again: the link does not stall
    assert made.send(0, numbered(99))
    assert int.from_bytes(next_of(receiver)[:8], "little") == 99


def test_a_capture_is_found_whose_every_announcement_was_lost(run_dir: Path, bus: Bus) -> None:
    receiver = FrameReceiver(bus, SMALL, run_dir, 0)
    receiver.socket = cast("zmq.Socket[bytes]", LossySocket(receiver.socket, lambda _: True))
    made = frame_sender(bus, run_dir)
    assert made.send(0, numbered(5))
    assert int.from_bytes(next_of(receiver)[:8], "little") == 5


def test_a_search_without_a_descriptor_is_put_off(run_dir: Path, bus: Bus) -> None:
    receiver, made = FrameReceiver(bus, SMALL, run_dir, 0), frame_sender(bus, run_dir)
    inbox = receiver.socket
    receiver.socket = cast("zmq.Socket[bytes]", LossySocket(inbox, lambda _: True))
    assert made.send(0, numbered(5))
    inbox.poll(PATIENCE_S * 1000)  # the two are connected: ZeroMQ's thread aborts if it gets no descriptor for that
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, before[1]))
    try:
        receiver._search_at = 0.0
        assert receiver.next_message() is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert int.from_bytes(next_of(receiver)[:8], "little") == 5


def test_a_search_overtakes_no_message_that_lies_in_no_slot(run_dir: Path, bus: Bus) -> None:
    feed, worker = EventReceiver(bus, SMALL, run_dir), EventSender(bus, SMALL, run_dir, 0, 1)
    assert worker.put(bytes(worker.slot_bytes + 1))
    assert worker.put(b"small")
    feed._search_at = 0.0  # it is time to search
    assert not feed._search()  # the second message is there, and the first may still be on its way
    assert [len(next_of(feed)), len(next_of(feed))] == [worker.slot_bytes + 1, len(b"small")]


def test_a_batch_from_each_capture_meets_in_one_inlet(run_dir: Path, bus: Bus) -> None:
    receiver = FrameReceiver(bus, SMALL, run_dir, 0)
    for capture in range(2):
        assert frame_sender(bus, run_dir, capture).send(0, numbered(capture))
    assert {bytes(next_of(receiver)) for _ in range(2)} == {bytes(numbered(0)), bytes(numbered(1))}


def test_a_capture_that_starts_again_has_new_memory_and_the_old_batches_stay_readable(run_dir: Path, bus: Bus) -> None:
    receiver = FrameReceiver(bus, SMALL, run_dir, 0)
    assert frame_sender(bus, run_dir, epoch=1).send(0, numbered(1))
    first = next_of(receiver)
    assert frame_sender(bus, run_dir, epoch=2).send(0, numbered(2))
    assert bytes(next_of(receiver)) == bytes(numbered(2))
    assert bytes(first) == bytes(numbered(1))
    assert [path.name for path in (run_dir / "capture-0").iterdir()] == ["frames-2"]
    assert [path.name for path in (run_dir / "worker-0").glob("returned-*")] == ["returned-frames-0-2"]


def test_a_batch_whose_memory_is_gone_is_passed_over(run_dir: Path, bus: Bus) -> None:
    assert frame_sender(bus, run_dir, epoch=1).send(0, numbered(1))
    assert frame_sender(bus, run_dir, epoch=2).send(0, numbered(2))
    assert bytes(next_of(FrameReceiver(bus, SMALL, run_dir, 0))) == bytes(numbered(2))


@pytest.mark.parametrize(
    "said",
    [b"", b"HCH1", b"x" * 44, b"HCH1\xff\xff\xff\xff\0\0\0\0" + b"\xff" * 32],
    ids=["empty", "short", "other", "too long for a slot"],
)
def test_what_announces_no_batch_is_refused(run_dir: Path, bus: Bus, said: bytes) -> None:
    receiver, stranger = FrameReceiver(bus, SMALL, run_dir, 0), bus.socket(zmq.PUSH)
    stranger.connect(f"ipc://{run_dir}/worker-0/in")
    frame_sender(bus, run_dir, 0xFFFFFFFF, (1 << 64) - 1)  # the file that the last one names
    stranger.send(said)
    with pytest.raises((BadMessage, SharedMemoryError)):
        eventually(receiver.receive, "the message")


def test_events_arrive_in_order_whatever_fits_a_slot(run_dir: Path, bus: Bus) -> None:
    receiver, made = EventReceiver(bus, SMALL, run_dir), EventSender(bus, SMALL, run_dir, 0, 1)
    sizes = [0, 10, made.slot_bytes - 4, made.slot_bytes - 3, 3 * made.slot_bytes, 1]
    for number, size in enumerate(sizes):
        assert made.put(b"%4d" % number, b"x" * size)
    assert [bytes(next_of(receiver)) for _ in sizes] == [b"%4d" % n + b"x" * size for n, size in enumerate(sizes)]


@pytest.mark.parametrize("larger", [0, 1], ids=["in slots", "larger than a slot"])
def test_what_waits_for_a_feed_that_reads_nothing_is_bounded(run_dir: Path, bus: Bus, larger: int) -> None:
    made = EventSender(bus, SMALL, run_dir, 0, 1)
    message = bytes(larger + made.slot_bytes)
    put = sum(made.put(message) for _ in range(10 * made.quota))
    assert made.quota <= put <= 2 * made.quota
    assert not made.put(b"{}")


def test_a_run_directory_without_room_is_named(run_dir: Path, bus: Bus) -> None:
    (run_dir / "capture-0" / "frames-1").mkdir(parents=True)
    with pytest.raises(BusError, match="choose another run directory"):
        frame_sender(bus, run_dir)


def test_close_lets_what_was_said_leave(run_dir: Path) -> None:
    bus, other = Bus(), Bus()
    receiver, made = FrameReceiver(other, SMALL, run_dir, 0), frame_sender(bus, run_dir)
    assert made.send(0, numbered(0))
    bus.close(linger_s=PATIENCE_S)
    assert bytes(next_of(receiver)) == bytes(numbered(0))
    other.close()


def test_close_does_not_wait_for_nobody(run_dir: Path) -> None:
    bus = Bus()
    assert frame_sender(bus, run_dir).send(0, numbered(0))
    bus.close()


def test_an_inlet_needs_a_private_directory(run_dir: Path, bus: Bus) -> None:
    run_dir.chmod(0o750)
    with pytest.raises(BusError, match=f"chmod 0700 {run_dir}"):
        FrameReceiver(bus, SMALL, run_dir, 0)


def test_a_path_that_is_too_long_for_a_socket_is_named(run_dir: Path, bus: Bus) -> None:
    deep = run_dir / ("d" * 100)
    deep.mkdir(mode=0o700)
    with pytest.raises(BusError, match="choose a shorter run directory"):
        EventReceiver(bus, SMALL, deep)
    with pytest.raises(BusError, match="choose a shorter run directory"):
        EventSender(bus, SMALL, deep, 0, 1)


def test_an_address_in_use_is_named(bus: Bus) -> None:
    feed = FeedSocket(bus, "tcp://127.0.0.1:*", 10, None, *PEERS)
    with pytest.raises(BusError, match=rf"feed\.replay: cannot open {feed.endpoint}.*has it"):
        ReplaySocket(bus, feed.endpoint, None, *PEERS)


def test_a_malformed_endpoint_is_named(bus: Bus) -> None:
    with pytest.raises(BusError, match="looks like tcp://"):
        FeedClient(bus, "127.0.0.1:5556", [""], 10)


def test_subscribers_are_counted_as_they_come_and_go(bus: Bus) -> None:
    feed = FeedSocket(bus, "tcp://127.0.0.1:*", 10, None, *PEERS)

    def count() -> int:
        feed.read_subscriptions()
        return feed.subscribers

    visitors = [Bus(), Bus(), Bus()]
    wanted = [["http.2xx.", "http.5xx."], ["http.5xx."], [""]]
    for number, (visitor, topics) in enumerate(zip(visitors, wanted, strict=True), 1):
        FeedClient(visitor, feed.endpoint, topics, 10)
        eventually(lambda number=number: count() == number, f"{number} subscribers")
    for number, visitor in reversed(list(enumerate(visitors))):
        visitor.close()
        eventually(lambda number=number: count() == number, f"{number} subscribers are left")


def test_a_subscriber_is_counted_whatever_it_subscribes_to(bus: Bus) -> None:
    feed = FeedSocket(bus, "tcp://127.0.0.1:*", 10, None, *PEERS)
    readers = [bus.socket(zmq.SUB) for _ in range(3)]
    for number, reader in enumerate(readers):
        for topic in (f"http.{number}.", f"status.{number}."):
            reader.subscribe(topic)
        reader.connect(feed.endpoint)

    def count() -> int:
        feed.read_subscriptions()
        return feed.subscribers

    eventually(lambda: count() == 3, "three subscribers of six topics")
    readers[0].unsubscribe("http.0.")
    readers[1].unsubscribe("http.1.")
    readers[1].unsubscribe("status.1.")
    eventually(lambda: count() == 2, "one that wants nothing any more is none")


def test_no_subscription_is_missed_that_comes_with_its_connection(bus: Bus) -> None:
    feed = FeedSocket(bus, "tcp://127.0.0.1:*", 10, None, *PEERS)

    def count() -> int:
        feed.read_subscriptions()
        return feed.subscribers

    for _ in range(40):
        readers = [bus.socket(zmq.SUB, linger=0) for _ in range(6)]
        for reader in readers:
            reader.subscribe("http.")
            reader.connect(feed.endpoint)
        eventually(lambda: count() == 6, "six subscribers")
        for reader in readers:
            bus.drop(reader)
        eventually(lambda: count() == 0, "none")


def test_the_feed_reaches_a_subscriber_as_three_parts(bus: Bus) -> None:
    feed = FeedSocket(bus, "tcp://127.0.0.1:*", 10, None, *PEERS)
    client = FeedClient(bus, feed.endpoint, ["http."], 10)

    def subscribed() -> bool:
        feed.read_subscriptions()
        return feed.subscribers > 0

    eventually(subscribed, "the subscription")
    feed.publish("other.", (1, 1, 1), b"not asked for")
    feed.publish("http.2xx.", (1, 2, 3), memoryview(b"body"))
    eventually(lambda: client.socket.poll(0), "the message")
    assert client.receive() == [b"http.2xx.", FEED_HEADER.pack(1, 2, 3), b"body"]
    assert client.receive() is None


def test_strangers_on_the_feed_port_do_no_harm(bus: Bus) -> None:
    import socket

    feed = FeedSocket(bus, "tcp://127.0.0.1:*", 10, None, *PEERS)
    host, _, port = feed.endpoint.removeprefix("tcp://").partition(":")
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 4096, b"\xff" + bytes(8) + b"\x7f" + b"\x03" + bytes(52)):
        with socket.create_connection((host, int(port))) as stranger:
            stranger.sendall(garbage)
    client = FeedClient(bus, feed.endpoint, [""], 10)

    def arrived() -> bool:
        feed.read_subscriptions()
        feed.publish("http.2xx.", (1, 1, 1), b"still here")
        return client.receive() is not None

    eventually(arrived, "a message after the garbage")


@given(
    st.builds(
        EventMessage,
        worker=st.integers(0, 65535),
        events=st.integers(0, 2**32 - 1),
        epoch=st.integers(0, 2**64 - 1),
        sequence=st.integers(0, 2**64 - 1),
        cumulative=st.integers(0, 2**64 - 1),
        runs=st.integers(0, 20).flatmap(lambda count: st.binary(min_size=8 * count, max_size=8 * count)),
        body=st.binary(),
        end=st.booleans(),
    )
)
def test_a_message_of_events_survives_its_wire_form(message: EventMessage) -> None:
    back = unpack_events(pack_events(message))
    assert back._replace(runs=bytes(back.runs), body=bytes(back.body)) == message


@given(st.binary(max_size=2 * EVENT_HEADER.size))
def test_garbage_is_no_message_of_events(data: bytes) -> None:
    try:
        unpack_events(data)
    except BadMessage:
        return
    assert data.startswith(b"HCE2")
    assert len(data) >= EVENT_HEADER.size


@given(budget=st.integers(1, 1 << 36), message=st.integers(1, 1 << 26), links=st.integers(1, 64))
def test_both_ends_of_all_links_stay_in_the_budget(budget: int, message: int, links: int) -> None:
    length = queue_length(budget, message, links)
    assert length == 4 or 2 * links * length * message <= budget
    assert 2 * links * (length + 1) * message > budget
