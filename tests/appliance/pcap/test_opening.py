"""Handles on capture files: every format libpcap reads, what it refuses, and how a reading ends. Live: tests/live."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from eventually import PATIENCE_S, join, read_line

import appliance
from appliance import NotACapture, PcapError, TruncatedCapture
from appliance.pcap.opening import Handle, name_of_link

ROOT = Path(__file__).resolve().parents[3]
SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND + 123_456_789
NANO, MICRO = 0xA1B23C4D, 0xA1B2C3D4
FRAMES = [(bytes([n]) * (60 + n), START + n * 1_000_001, 60 + n + n % 3) for n in range(20)]


def pcap(order: str = "<", magic: int = NANO, link_type: int = 1, seconds: int = 0) -> bytes:
    unit = 1 if magic == NANO else 1000
    parts = [struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 262144, link_type)]
    for data, ns, wire in FRAMES:
        at = seconds or ns // SECOND
        parts += [struct.pack(f"{order}IIII", at, ns % SECOND // unit, len(data), wire), data]
    return b"".join(parts)


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    return struct.pack(f"{order}II", kind, 12 + len(body)) + body + struct.pack(f"{order}I", 12 + len(body))


def section(order: str = "<") -> bytes:
    return block(order, 0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))


def interface(order: str = "<", *, link_type: int = 1, snaplen: int = 262144, resolution: int | None = None) -> bytes:
    options = b"" if resolution is None else struct.pack(f"{order}HHB3xHH", 9, 1, resolution, 0, 0)
    return block(order, 1, struct.pack(f"{order}HHI", link_type, 0, snaplen) + options)


def enhanced(order: str, number: int, ticks: int, data: bytes, wire: int) -> bytes:
    head = struct.pack(f"{order}IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(data), wire)
    return block(order, 6, head + data)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def read(path: Path | str) -> list[tuple[bytes, int, int]]:
    with appliance.open_offline(path) as handle:
        return [(p.data, p.metadata.ts_ns, p.metadata.wirelen) for p in handle.packets()]


# -- formats -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("magic", [NANO, MICRO])
def test_every_kind_of_pcap_is_read_with_times_in_nanoseconds(tmp_path: Path, order: str, magic: int) -> None:
    unit = 1 if magic == NANO else 1000
    wanted = [(data, ns // unit * unit, wire) for data, ns, wire in FRAMES]
    assert read(write(tmp_path / "x.pcap", pcap(order, magic))) == wanted


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("resolution", "unit"), [(None, 1000), (6, 1000), (9, 1), (3, 1_000_000), (0, SECOND)])
def test_pcapng_is_read_whatever_the_unit_of_its_clock(
    tmp_path: Path, order: str, resolution: int | None, unit: int
) -> None:
    parts = [section(order), interface(order, resolution=resolution)]
    parts += [enhanced(order, 0, ns // unit, data, wire) for data, ns, wire in FRAMES]
    wanted = [(data, ns // unit * unit, wire) for data, ns, wire in FRAMES]
    assert read(write(tmp_path / "x.pcapng", b"".join(parts))) == wanted


def test_a_clock_in_powers_of_two_is_read_too(tmp_path: Path) -> None:
    ticks = (1_700_000_000 << 20) + (1 << 19)
    parts = [section(), interface(resolution=0x80 | 20), enhanced("<", 0, ticks, b"abcd", 4)]
    assert read(write(tmp_path / "x.pcapng", b"".join(parts))) == [(b"abcd", 1_700_000_000_500_000_000, 4)]


def test_interfaces_of_a_pcapng_file_keep_their_own_clocks(tmp_path: Path) -> None:
    parts = [section(), interface(resolution=9), interface(resolution=6)]
    parts += [enhanced("<", 0, START, b"first", 5), enhanced("<", 1, START // 1000, b"second", 6)]
    assert read(write(tmp_path / "x.pcapng", b"".join(parts))) == [
        (b"first", START, 5),
        (b"second", START // 1000 * 1000, 6),
    ]


def test_times_after_2038_are_times_after_2038(tmp_path: Path) -> None:
    late = (1 << 31) + 5
    assert {ns // SECOND for _, ns, _ in read(write(tmp_path / "x.pcap", pcap(seconds=late)))} == {late}


def test_a_file_says_what_it_is(tmp_path: Path) -> None:
    with appliance.open_offline(write(tmp_path / "x.pcap", pcap(link_type=113))) as handle:
        assert (handle.link_type, handle.link_type_name, handle.live) == (113, "LINUX_SLL", False)
        packet = next(handle.packets())
        assert (packet.link_type, packet.metadata.interface) == (113, "")
        assert handle.stats() == (0, 0, 0)
        assert handle.stats().received == 0
        with pytest.raises(PcapError, match="reads a file"):
            handle.inject(bytes(60))


# -- reading -----------------------------------------------------------------------------------------------------------


def test_a_packet_owns_its_bytes(tmp_path: Path) -> None:
    handle = appliance.open_offline(write(tmp_path / "x.pcap", pcap()))
    packets = list(handle.packets())
    handle.close()
    assert [packet.data for packet in packets] == [data for data, _, _ in FRAMES]


def test_an_iteration_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    with appliance.open_offline(write(tmp_path / "x.pcap", pcap())) as handle:
        found = [packet.data for limit in (3, 0, 5, None, None) for packet in handle.packets(limit=limit)]
    assert found == [data for data, _, _ in FRAMES]


def test_a_filter_of_a_file_may_change_between_any_two_frames(tmp_path: Path) -> None:
    with appliance.open_offline(write(tmp_path / "x.pcap", pcap())) as handle:
        packets = handle.packets()
        found = [next(packets).data for _ in range(3)]
        handle.set_filter("ether[0] = 7 or ether[0] = 9")
        with pytest.raises(appliance.BadFilter):
            handle.set_filter("nonsense here")
        found.append(next(packets).data)
        handle.set_filter("ether[0] > 15 or ether[0] = 8")
        found += [packet.data for packet in packets]
    assert [data[0] for data in found] == [0, 1, 2, 7, 8, 16, 17, 18, 19]


@pytest.mark.parametrize("end", ["stop", "close"])
def test_a_loop_may_end_itself(tmp_path: Path, end: str) -> None:
    handle = appliance.open_offline(write(tmp_path / "x.pcap", pcap()))
    seen = 0
    for _ in handle.packets():
        seen += 1
        getattr(handle, end)()
    assert seen == 1
    handle.close()


@pytest.mark.parametrize("act", ["stats", "packets", "fileno", "tell", "drain", "stop_accepting"])
def test_a_closed_handle_says_that_it_is_closed(tmp_path: Path, act: str) -> None:
    handle = appliance.open_offline(write(tmp_path / "x.pcap", pcap()))
    handle.close()
    handle.close()
    with pytest.raises(PcapError, match=r"x\.pcap: the handle is closed"):
        getattr(handle, act)()
    with pytest.raises(PcapError, match="closed"):
        handle.set_filter("tcp")
    with pytest.raises(PcapError, match="closed"):
        Handle().stats()


@pytest.mark.parametrize("how", [{"limit": -1}, {"timeout": -1}, {"timeout": float("nan")}])
def test_arguments_that_mean_nothing_are_refused_at_once(tmp_path: Path, how: dict[str, float]) -> None:
    with appliance.open_offline(write(tmp_path / "x.pcap", pcap())) as handle, pytest.raises(ValueError):
        handle.packets(**how)


@pytest.mark.parametrize("how", [{"timeout": 0}, {"timeout": float("nan")}, {"snaplen": 0}, {"ring_bytes": 0}])
def test_opening_refuses_what_means_nothing(how: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(how))):
        appliance.open_live("lo", **how)


@pytest.mark.parametrize("name", ["", "nowhere0", "lo\0x", "ü"])
def test_an_interface_that_is_not_there_is_named_with_those_that_are(name: str) -> None:
    with pytest.raises(appliance.NoSuchDevice, match=r"there is no interface .*; there are: .*\blo\b"):
        appliance.open_live(name)


# -- files that are not whole ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pcap", "pcapng"])
@pytest.mark.parametrize("cut", [1, 8, 40])
def test_a_cut_file_yields_its_whole_frames_and_then_says_so(tmp_path: Path, kind: str, cut: int) -> None:
    parts = [section(), interface(resolution=9), *(enhanced("<", 0, ns, data, wire) for data, ns, wire in FRAMES)]
    content = pcap() if kind == "pcap" else b"".join(parts)
    found = []
    with appliance.open_offline(write(tmp_path / "x.pcap", content[:-cut])) as handle:
        packets = handle.packets()
        for _ in FRAMES[1:]:
            found.append(next(packets).data)
        with pytest.raises(TruncatedCapture, match=r"x\.pcap: truncated"):
            next(packets)
        with pytest.raises(TruncatedCapture):
            next(handle.packets())
    assert found == [data for data, _, _ in FRAMES[:-1]]


@pytest.mark.parametrize("content", [b"", b"\xd4\xc3\xb2", b"GET / HTTP/1.1\r\n\r\n" * 9, section()[:20]])
def test_what_is_no_capture_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(NotACapture, match=r"odd\.pcap"):
        appliance.open_offline(write(tmp_path / "odd.pcap", content))


def test_what_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(NotACapture, match=r"none\.pcap: No such file or directory"):
        appliance.open_offline(tmp_path / "none.pcap")
    with pytest.raises(NotACapture, match="is a directory"):
        appliance.open_offline(tmp_path)


# -- pipes -------------------------------------------------------------------------------------------------------------


def test_a_fifo_is_read_frame_by_frame_as_it_comes(tmp_path: Path) -> None:
    path, content = tmp_path / "x.fifo", pcap()
    os.mkfifo(path)
    first_end = 24 + 16 + len(FRAMES[0][0])
    seen = threading.Event()

    def feed() -> None:
        with path.open("wb", buffering=0) as file:
            file.write(content[:first_end])
            assert seen.wait(PATIENCE_S)
            file.write(content[first_end:])

    feeder = threading.Thread(target=feed)
    feeder.start()
    with appliance.open_offline(path) as handle:
        packets = handle.packets()
        assert next(packets).data == FRAMES[0][0]  # while nobody has written the second
        seen.set()
        assert [packet.data for packet in packets] == [data for data, _, _ in FRAMES[1:]]
    join(feeder)


@pytest.mark.parametrize("end", ["stop", "close"])
def test_another_thread_ends_the_wait_for_a_pipe(tmp_path: Path, end: str) -> None:
    reader, writer = os.pipe()
    os.write(writer, pcap())
    handle = appliance.open_offline(f"/proc/self/fd/{reader}")
    found = []

    def collect() -> None:
        found.extend(packet.data for packet in handle.packets())

    collecting = threading.Thread(target=collect)
    collecting.start()
    collecting.join(0.3)
    assert collecting.is_alive()
    with pytest.raises(PcapError, match="another thread is reading"):
        next(handle.packets())
    getattr(handle, end)()
    join(collecting)
    assert found == [data for data, _, _ in FRAMES]
    handle.close()
    os.close(reader)
    os.close(writer)


def test_ctrl_c_ends_the_wait_for_standard_input() -> None:
    text = """
import appliance
with appliance.open_offline("-") as handle:
    for packet in handle.packets():
        print(len(packet.data), flush=True)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", text],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(pcap())
        process.stdin.flush()
        for data, _, _ in FRAMES:
            assert int(read_line(process.stdout)) == len(data)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == -signal.SIGINT


# -- the names of the package ------------------------------------------------------------------------------------------


def test_every_public_name_is_there_and_loaded_when_used() -> None:
    text = """
import sys, appliance
assert not {"pylibpcap", "dpkt", "zmq"} & {name.partition(".")[0] for name in sys.modules}
assert set(appliance.__all__) <= set(dir(appliance))
for name in appliance.__all__:
    getattr(appliance, name)
assert "pylibpcap" not in sys.modules   # its declarations are compiled in
from appliance import *
assert devices()
assert issubclass(TruncatedCapture, PcapError)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", text], env=environment, check=True, timeout=PATIENCE_S)


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'appliance' has no attribute 'open_sesame'"):
        appliance.open_sesame  # noqa: B018


def test_a_link_type_has_the_name_that_libpcap_gives_it():
    assert (name_of_link(1), name_of_link(195), name_of_link(60_000)) == ("EN10MB", "IEEE802_15_4", "")
