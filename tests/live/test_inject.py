"""`appliance inject`: what it says it sent is what arrived."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from box import Result
from box import appliance as run
from eventually import PATIENCE_S
from hosts import Network, administer
from inside import inside
from scene import make_network

import appliance
from appliance.pcap.handle import Handle

pytestmark = pytest.mark.root

MILLISECOND = 1_000_000


@pytest.fixture
def cable() -> Iterator[Network]:
    network = make_network()
    yield network
    network.close()


@pytest.fixture
def far_end(cable: Network) -> Iterator[Handle]:
    """A handle where the frames arrive."""
    with inside(cable.server):
        handle = appliance.open_live("s0", ring_bytes=16 << 20)
    handle.set_filter("ether proto 0x88b5")
    yield handle
    handle.close()


def frame(number: int, size: int = 60) -> bytes:
    return (b"\xff" * 6 + b"\x02" + bytes(5) + b"\x88\xb5" + number.to_bytes(8)).ljust(size, b"%")


def write(path: Path, frames: list[bytes], *, spacing_ns: int = 0, link_type: int = 1, wire: int = 0) -> Path:
    with appliance.PcapWriter(path, link_type) as writer:
        for number, one in enumerate(frames):
            writer.write_frame(one, 1_700_000_000_000_000_000 + number * spacing_ns, max(wire, len(one)))
    return path


def inject(cable: Network, *words: str | int | Path, interface: str = "c0") -> Result:
    result = run("inject", "-i", interface, *words, host=cable.client)
    assert (result.out, "Traceback" in result.err) == ("", False), result.err
    return result


def arrived(handle: Handle, count: int) -> list[appliance.Packet]:
    """So many packets, and no more after them."""
    packets = list(handle.packets(limit=count))
    assert next(handle.packets(timeout=0.2)) is None
    return packets


def test_the_frames_of_a_file_arrive_as_they_are(cable: Network, far_end: Handle, tmp_path: Path) -> None:
    frames = [frame(number, 60 + number % 1455) for number in range(3000)]
    result = inject(cable, write(tmp_path / "x.pcap", frames))
    assert result.code == 0
    assert re.match(rf"appliance: 3,000 frames, {sum(map(len, frames)):,} bytes sent to c0 in \d", result.err), (
        result.err
    )
    assert [packet.data for packet in arrived(far_end, 3000)] == frames


def test_standard_input_is_a_file_too(cable: Network, far_end: Handle, tmp_path: Path) -> None:
    frames = [frame(number) for number in range(5)]
    with subprocess.Popen(["cat", write(tmp_path / "x.pcap", frames)], stdout=subprocess.PIPE) as cat:
        result = run("inject", "-i", "c0", "-", host=cable.client, stdin=cat.stdout)
    assert result.code == 0, result.err
    assert [packet.data for packet in arrived(far_end, 5)] == frames


def test_a_count_and_a_loop(cable: Network, far_end: Handle, tmp_path: Path) -> None:
    frames = [frame(number) for number in range(10)]
    result = inject(cable, write(tmp_path / "x.pcap", frames), "--loop", 3, "-n", 25)
    assert result.code == 0
    assert "25 frames, 1,500 bytes sent" in result.err
    assert [packet.data for packet in arrived(far_end, 25)] == (frames * 3)[:25]


def spread_ns(packets: list[appliance.Packet]) -> int:
    """From the first to the last. Later than asked for is possible on a busy machine, earlier is not."""
    return packets[-1].metadata.ts_ns - packets[0].metadata.ts_ns


def test_a_rate_is_kept_over_loops_too(cable: Network, far_end: Handle, tmp_path: Path) -> None:
    path = write(tmp_path / "x.pcap", [frame(number) for number in range(10)])
    assert inject(cable, path, "--rate", 100, "--loop", 3).code == 0
    assert spread_ns(arrived(far_end, 30)) >= 280 * MILLISECOND


def test_the_recorded_spacing_can_be_kept_or_scaled(cable: Network, far_end: Handle, tmp_path: Path) -> None:
    path = write(tmp_path / "x.pcap", [frame(number) for number in range(5)], spacing_ns=40 * MILLISECOND)
    for speed, whole in (("1", 160), ("0.5", 320), ("4", 40)):
        assert inject(cable, path, "--speed", speed).code == 0
        assert spread_ns(arrived(far_end, 5)) >= 0.9 * whole * MILLISECOND


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_the_count_of_what_was_sent(
    cable: Network, far_end: Handle, tmp_path: Path, number: int, code: int
) -> None:
    path = write(tmp_path / "x.pcap", [frame(number) for number in range(1000)], spacing_ns=3600 * 1000 * MILLISECOND)
    words = (sys.executable, "-m", "appliance", "inject", "-i", "c0", path, "--speed", "1")
    process = cable.client.start(*words, stderr=subprocess.PIPE, text=True)
    assert len(list(far_end.packets(limit=1))) == 1
    process.send_signal(number)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code, errors
    assert errors.startswith("appliance: 1 frames, 60 bytes sent to c0 in "), errors


def test_a_signal_amid_a_flood_leaves_the_true_count(cable: Network, far_end: Handle, tmp_path: Path) -> None:
    path = write(tmp_path / "x.pcap", [frame(number) for number in range(100)])
    words = (sys.executable, "-m", "appliance", "inject", "-i", "c0", path, "--loop", 1_000_000, "--rate", 20_000)
    process = cable.client.start(*words, stderr=subprocess.PIPE, text=True)
    assert len(list(far_end.packets(limit=500))) == 500
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, errors
    sent = int(errors.split()[1].replace(",", ""))
    arrived(far_end, sent - 500)
    assert far_end.stats() == (sent, 0, 0)


def test_frames_that_do_not_fit_are_counted_and_the_rest_is_sent(
    cable: Network, far_end: Handle, tmp_path: Path
) -> None:
    frames = [frame(0), frame(1, 1600), frame(2), frame(3, 1515), frame(4, 1514), b"short"]
    result = inject(cable, write(tmp_path / "x.pcap", frames))
    assert result.code == 1
    assert "3 frames, 1,634 bytes sent" in result.err
    assert "a frame of 1600 bytes is longer than the interface accepts (MTU 1500" in result.err
    assert "2 frames refused by the kernel: too long (EMSGSIZE)" in result.err
    assert "1 frames refused by the kernel: too short (EINVAL)" in result.err
    assert [packet.data for packet in arrived(far_end, 3)] == [frame(0), frame(2), frame(4, 1514)]


def test_a_cut_capture_is_sent_as_far_as_it_goes(cable: Network, far_end: Handle, tmp_path: Path) -> None:
    path = write(tmp_path / "x.pcap", [frame(0), frame(1)], wire=900)
    path.write_bytes(path.read_bytes()[:-3])
    result = inject(cable, path)
    assert result.code == 0
    assert "truncated" in result.err
    assert "every whole frame before it was sent" in result.err
    assert "1 frames were sent truncated" in result.err
    assert [packet.data for packet in arrived(far_end, 1)] == [frame(0)]


def test_a_queue_that_is_full_is_waited_for(cable: Network, far_end: Handle, tmp_path: Path) -> None:
    path = write(tmp_path / "x.pcap", [frame(number, 1000) for number in range(300)])
    shaped = ("tc", "qdisc", "add", "dev", "c0", "root", "tbf", "rate", "8mbit", "burst", "3000", "limit", "6000")
    done = subprocess.run(cable.client.argv(shaped), capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    if done.returncode:
        pytest.skip(f"no token bucket here: {done.stderr.strip()}")
    result = inject(cable, path)
    assert result.code == 0, result.err
    assert "300 frames, 300,000 bytes sent" in result.err
    assert "the queue of c0 was full (ENOBUFS)" in result.err
    assert len(arrived(far_end, 300)) == 300


def test_an_interface_that_goes_down_is_a_failure(cable: Network, far_end: Handle, tmp_path: Path) -> None:
    path = write(tmp_path / "x.pcap", [frame(number) for number in range(1000)])
    words = (sys.executable, "-m", "appliance", "inject", "-i", "c0", path, "--rate", "100")
    process = cable.client.start(*words, stderr=subprocess.PIPE, text=True)
    assert len(list(far_end.packets(limit=1))) == 1
    administer("-n", cable.client.name, "link", "set", "c0", "down")
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1, errors
    assert "c0 is down; bring it up" in errors
    assert re.search(r"appliance: \d+ frames, ", errors), errors


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rate", "0"], "--rate: a number above 0"),
        (["--speed", "nan"], "--speed: a number above 0"),
        (["--rate", "1", "--speed", "1"], "exclude each other"),
        (["--loop", "0"], "--loop"),
        (["-n", "0"], "-n"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(cable: Network, tmp_path: Path, words: list[str], said: str) -> None:
    result = inject(cable, write(tmp_path / "x.pcap", [frame(0)]), *words)
    assert result.code == 2
    assert said in result.err


def test_what_does_not_fit_together_is_refused(cable: Network, far_end: Handle, tmp_path: Path) -> None:
    path = write(tmp_path / "x.pcap", [frame(0)], link_type=113)
    odd = tmp_path / "odd.pcap"
    odd.write_bytes(b"no capture at all, but long enough to be one")
    for words, interface, said in (
        ([path], "c0", "x.pcap has frames of link type LINUX_SLL, but c0 takes EN10MB"),
        ([odd], "c0", "odd.pcap is not a pcap or pcapng capture file"),
        ([tmp_path / "none.pcap"], "c0", "none.pcap: No such file"),
        ([path], "c7", "there is no interface 'c7'"),
        (["-", "--loop", 2], "c0", "standard input can be read only once"),
    ):
        result = inject(cable, *words, interface=interface)
        assert (result.code, said in result.err) == (2, True), result.err
    assert arrived(far_end, 0) == []
