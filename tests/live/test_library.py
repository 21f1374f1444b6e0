"""The library on real interfaces: what crosses the cable is what packets() yields, and the other way round."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from eventually import PATIENCE_S, eventually, join, read_line
from hosts import Network, administer
from inside import Sender, inside, number_of
from scene import make_network, require

import appliance
from appliance import PcapError
from appliance.pcap.handle import Handle

pytestmark = pytest.mark.root

FILTER = "udp dst port 9"
Open = Callable[..., Handle]


@pytest.fixture
def cable() -> Iterator[Network]:
    network = make_network()
    yield network
    network.close()


@pytest.fixture
def listen(cable: Network) -> Iterator[Open]:
    """Opens a handle on the server's end, for the datagrams of a Sender unless another filter is given."""
    with ExitStack() as stack:

        def open_one(interface: str = "s0", text: str | None = FILTER, **how: Any) -> Handle:
            with inside(cable.server):
                handle = stack.enter_context(appliance.open_live(interface, **{"ring_bytes": 8 << 20, **how}))
            if text is not None:
                handle.set_filter(text)
            return handle

        yield open_one


@pytest.fixture
def sender(cable: Network) -> Iterator[Sender]:
    made = Sender(cable.client)
    yield made
    made.close()


class Reader(threading.Thread):
    """Reads a handle to the end in a thread of its own."""

    def __init__(self, handle: Handle, **how: Any) -> None:
        super().__init__()
        self.packets: list[Any] = []
        self.failure: BaseException | None = None
        self._made = handle.packets(**how)
        self.start()

    def run(self) -> None:
        try:
            for packet in self._made:
                self.packets.append(packet)
        except BaseException as failure:
            self.failure = failure

    @property
    def numbers(self) -> list[int]:
        return [number_of(packet.data) for packet in self.packets]


# -- reading -----------------------------------------------------------------------------------------------------------


def test_packets_are_the_frames_of_the_cable(listen: Open, sender: Sender) -> None:
    handle = listen()
    before = time.time_ns()
    sender.send(1000, size=100)
    packets = list(handle.packets(limit=1000))
    after = time.time_ns()
    assert [number_of(packet.data) for packet in packets] == list(range(1000))
    times = [packet.metadata.ts_ns for packet in packets]
    assert before <= times[0] <= times[-1] <= after
    assert times == sorted(times)
    assert any(ns % 1000 for ns in times), "only microseconds"
    assert {(len(p.data), p.metadata.caplen, p.metadata.wirelen) for p in packets} == {(142, 142, 142)}
    assert {(p.metadata.interface, p.link_type) for p in packets} == {("s0", 1)}
    assert handle.stats() == (1000, 0, 0)


def test_a_snaplen_cuts_and_says_so(listen: Open, sender: Sender) -> None:
    handle = listen(snaplen=60)
    sender.send(1, size=500)
    (packet,) = handle.packets(limit=1)
    assert (len(packet.data), packet.metadata.caplen, packet.metadata.wirelen) == (60, 60, 542)
    assert packet.metadata.truncated


def test_more_than_fits_a_read_comes_out_in_order(listen: Open, sender: Sender) -> None:
    handle = listen()
    reader = Reader(handle, limit=20_000)
    sender.send(20_000)
    join(reader)
    assert reader.numbers == list(range(20_000))
    assert handle.stats().received == 20_000


def test_a_limit_leaves_the_rest_to_the_next_iteration(listen: Open, sender: Sender) -> None:
    handle = listen()
    sender.send(100)
    found = [number_of(p.data) for size in (1, 7, 50, 42) for p in handle.packets(limit=size)]
    assert found == list(range(100))
    assert list(handle.packets(limit=0)) == []


def test_an_idle_interface_yields_nothing_and_ends_nothing(listen: Open, sender: Sender) -> None:
    handle = listen(timeout=0.001)
    reader = Reader(handle, limit=2)
    time.sleep(0.6)  # hundreds of timeouts, and more than one look at the interface
    assert reader.is_alive()
    assert reader.packets == []
    sender.send(2)
    join(reader)
    assert reader.numbers == [0, 1]


def test_who_asks_for_it_hears_that_nothing_came(listen: Open, sender: Sender) -> None:
    packets = listen().packets(timeout=0.05)
    assert [next(packets) for _ in range(3)] == [None, None, None]
    sender.send(1)
    found = next(packet for packet in packets if packet is not None)
    assert number_of(found.data) == 0
    assert next(packets) is None


# -- the end -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["stop", "close"])
def test_another_thread_ends_an_iteration_that_waits(listen: Open, sender: Sender, end: str) -> None:
    handle = listen()
    reader = Reader(handle)
    sender.send(3)
    eventually(lambda: len(reader.packets) == 3, "the frames are read")
    getattr(handle, end)()
    join(reader)
    assert (reader.numbers, reader.failure) == ([0, 1, 2], None)
    if end == "stop":
        assert handle.stats().received == 3
        assert list(handle.packets()) == []
    else:
        with pytest.raises(PcapError, match="closed"):
            handle.packets()


def test_a_handle_may_be_closed_from_its_own_loop(listen: Open, sender: Sender) -> None:
    handle = listen()
    sender.send(5)
    seen = []
    for packet in handle.packets():
        seen.append(number_of(packet.data))
        handle.close()
    assert seen == [0]


def test_a_signal_handler_may_stop_a_wait(listen: Open) -> None:
    handle = listen()
    previous = signal.signal(signal.SIGALRM, lambda *_: handle.stop())
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        assert list(handle.packets()) == []
    finally:
        signal.signal(signal.SIGALRM, previous)


def test_an_exception_of_a_signal_handler_comes_out_of_a_wait(listen: Open) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    handle = listen()

    def wait() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        next(handle.packets())

    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            wait()
    finally:
        signal.signal(signal.SIGALRM, previous)


@pytest.mark.parametrize("down_first", [False, True], ids=["at-once", "when-it-was-down"])
def test_an_interface_that_disappears_is_an_error(
    cable: Network, listen: Open, sender: Sender, down_first: bool
) -> None:
    handle = listen()
    reader = Reader(handle)
    sender.send(3)
    eventually(lambda: len(reader.packets) == 3, "the frames are read")
    if down_first:
        administer("-n", cable.server.name, "link", "set", "s0", "down")
        time.sleep(0.5)
        assert reader.is_alive()
    administer("-n", cable.server.name, "link", "delete", "s0")
    join(reader)
    assert reader.numbers == [0, 1, 2]
    assert isinstance(reader.failure, PcapError)
    assert "s0: The interface disappeared" in str(reader.failure)


def test_an_interface_that_comes_up_again_goes_on(cable: Network, listen: Open, sender: Sender) -> None:
    handle = listen()
    reader = Reader(handle, limit=4)
    sender.send(2)
    eventually(lambda: len(reader.packets) == 2, "the frames are read")
    administer("-n", cable.server.name, "link", "set", "s0", "down")
    time.sleep(0.4)
    administer("-n", cable.server.name, "link", "set", "s0", "up")

    def answered() -> bool:
        sender.send(1)
        return len(reader.packets) >= 3

    eventually(answered, "a frame is read after the cable was plugged in again")
    sender.send(1)
    join(reader)
    assert reader.failure is None


def test_what_cannot_be_opened_is_told_apart(cable: Network) -> None:
    with inside(cable.server):
        with pytest.raises(appliance.NoSuchDevice, match=r"no interface 'c0'; there are: .*s0"):
            appliance.open_live("c0")
        administer("-n", cable.server.name, "link", "set", "s0", "down")
        with pytest.raises(PcapError, match="s0 is down; bring it up: ip link set s0 up"):
            appliance.open_live("s0")


# -- filters -----------------------------------------------------------------------------------------------------------


def test_a_hundred_changes_of_the_filter_lose_no_frame(cable: Network, listen: Open) -> None:
    handle = listen(ring_bytes=64 << 20)
    reader = Reader(handle)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = cable.client.python("numbers.py", "192.0.2.1", 9, **pipes)  # another process: it never waits for our lock
    for turn in range(100):
        wanted = len(reader.packets) + 100
        eventually(lambda wanted=wanted: len(reader.packets) >= wanted, "frames come in between two changes")
        handle.set_filter(f"{FILTER} and len > {turn % 2}")
    sent = int(process.communicate(timeout=PATIENCE_S)[0])
    eventually(lambda: len(reader.packets) >= sent, f"{sent} frames are read, not {handle.stats()}")
    handle.stop()
    join(reader)
    assert reader.numbers == list(range(sent))
    assert handle.stats() == (sent, 0, 0)


def test_what_was_captured_before_a_change_is_still_delivered(cable: Network, listen: Open, sender: Sender) -> None:
    handle = listen()
    other = Sender(cable.client, port=19)
    sender.send(1)
    assert number_of(next(handle.packets()).data) == 0
    sender.send(400)
    other.send(10)
    handle.set_filter("udp dst port 19")
    sender.send(10)
    other.send(30)
    ports = [int.from_bytes(packet.data[36:38]) for packet in handle.packets(limit=430)]
    assert ports == [9] * 400 + [19] * 30
    assert handle.stats() == (431, 0, 0)
    other.close()


def test_the_first_filter_discards_what_came_before_it(cable: Network, listen: Open, sender: Sender) -> None:
    handle = listen(text=None)
    sender.send(300)
    handle.set_filter(FILTER)
    assert handle.stats() == (0, 0, 0)
    sender.send(2)
    assert [number_of(packet.data) for packet in handle.packets(limit=2)] == [300, 301]
    assert handle.stats() == (2, 0, 0)


def test_later_filters_discard_nothing_even_when_nothing_was_read(listen: Open, sender: Sender) -> None:
    handle = listen(text=None)
    for text in (FILTER, "udp", "icmp"):
        sender.send(100)
        handle.set_filter(text)
    sender.send(100)
    assert [number_of(packet.data) for packet in handle.packets(limit=200)] == list(range(100, 300))


def test_a_bad_filter_leaves_the_old_one_in_force(cable: Network, listen: Open, sender: Sender) -> None:
    handle = listen()
    other = Sender(cable.client, port=19)
    with pytest.raises(appliance.BadFilter, match="'udp prt 9' does not compile"):
        handle.set_filter("udp prt 9")
    other.send(5)
    sender.send(1)
    assert number_of(next(handle.packets()).data) == 0
    with pytest.raises(appliance.BadFilter):
        handle.set_filter("also wrong")
    other.send(5)
    sender.send(1)
    assert number_of(next(handle.packets()).data) == 1
    other.close()


def test_a_program_too_long_for_the_kernel_filters_all_the_same(listen: Open, sender: Sender) -> None:
    instructions = " or ".join(f"ether[{n % 40}:4] = {n}" for n in range(4100))  # the kernel takes 4,096
    handle = listen(text=f"{FILTER} and (src host 192.0.2.2 or {instructions})")
    sender.send(10)
    assert [number_of(packet.data) for packet in handle.packets(limit=10)] == list(range(10))
    handle.set_filter(FILTER)
    sender.send(10)
    assert [number_of(packet.data) for packet in handle.packets(limit=10)] == list(range(10, 20))


def test_any_can_be_filtered_while_it_captures(listen: Open, sender: Sender) -> None:
    handle = listen("any")
    assert handle.link_type_name.startswith("LINUX_SLL")
    for turn in range(5):
        sender.send(4)
        numbers = [int.from_bytes(packet.data[-20:-12]) for packet in handle.packets(limit=4)]
        assert numbers == list(range(4 * turn, 4 * turn + 4))
        handle.set_filter(f"{FILTER} and len > {turn}")


# -- sending -----------------------------------------------------------------------------------------------------------


def frame(number: int, size: int = 60) -> bytes:
    """A frame of an EtherType for experiments, with a number."""
    return (b"\xff" * 6 + b"\x02" + bytes(5) + b"\x88\xb5" + number.to_bytes(8)).ljust(size, b"%")


def test_injected_frames_arrive_as_they_are(cable: Network, listen: Open) -> None:
    with inside(cable.client), appliance.open_live("c0", ring_bytes=1 << 20) as sink:
        handle = listen(text="ether proto 0x88b5")
        frames = [frame(number, 60 + number % 1400) for number in range(500)]
        for one in frames:
            assert sink.inject(one) is None
    assert [packet.data for packet in handle.packets(limit=500)] == frames


@pytest.mark.peer
def test_tcpdump_sees_injected_frames(cable: Network, tmp_path: Path) -> None:
    require("tcpdump")
    path = tmp_path / "seen.pcap"
    tcpdump = cable.server.start(
        *("tcpdump", "-i", "s0", "-U", "-c", "40", "-w", path, "ether proto 0x88b5"), stderr=subprocess.PIPE
    )
    assert tcpdump.stderr
    assert b"listening on s0" in read_line(tcpdump.stderr)
    frames = [frame(number) for number in range(40)]
    with inside(cable.client), appliance.open_live("c0", ring_bytes=1 << 20) as sink:
        for one in frames:
            sink.inject(one)
    assert tcpdump.wait(PATIENCE_S) == 0
    with appliance.open_offline(path) as seen:
        assert [packet.data for packet in seen.packets()] == frames


def test_a_frame_that_the_interface_cannot_take_is_refused_with_the_reason(cable: Network) -> None:
    with inside(cable.client), appliance.open_live("c0", ring_bytes=1 << 20) as sink:
        with pytest.raises(appliance.FrameRefused, match=r"c0: a frame of 1600 bytes is longer .* \(MTU 1500,"):
            sink.inject(frame(0, 1600))
        with pytest.raises(appliance.FrameRefused, match="a frame of 0 bytes"):
            sink.inject(b"")
        sink.inject(frame(1))
        administer("-n", cable.client.name, "link", "set", "c0", "down")
        with pytest.raises(PcapError, match="c0 is down; bring it up"):
            sink.inject(frame(2))
        administer("-n", cable.client.name, "link", "delete", "c0")
        with pytest.raises(PcapError, match="c0"):
            sink.inject(frame(3))
        sink.close()
        with pytest.raises(PcapError, match="closed"):
            sink.inject(frame(4))
