"""Capture files as they are written: byte for byte, whole after every failure, and read back the same."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from eventually import PATIENCE_S, read_all
from hypothesis import given
from hypothesis import strategies as st

import appliance
from appliance import Metadata, Packet, PcapError, PcapWriter

NANO, MICRO = 0xA1B23C4D, 0xA1B2C3D4
SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND + 123_456_789
Frame = tuple[bytes, int, int]  # bytes, ns, length on the wire


def expected(frames: list[Frame], *, magic: int = NANO, snaplen: int = 262144, link_type: int = 1) -> bytes:
    """The file, from pcap-savefile(5), in this machine's byte order."""
    unit = 1 if magic == NANO else 1000
    parts = [struct.pack("=IHHiIII", magic, 2, 4, 0, 0, snaplen, link_type)]
    for data, ns, wire in frames:
        kept = data[:snaplen]
        parts += [struct.pack("=IIII", ns // SECOND, ns % SECOND // unit, len(kept), wire), kept]
    return b"".join(parts)


def read(path: Path) -> list[Frame]:
    with appliance.open_offline(path) as handle:
        return [(packet.data, packet.metadata.ts_ns, packet.metadata.wirelen) for packet in handle.packets()]


frames_strategy = st.lists(
    st.tuples(st.binary(max_size=100), st.integers(0, (1 << 32) * SECOND - 1), st.integers(0, 1000)), max_size=30
).map(lambda listed: [(data, ns, len(data) + more) for data, ns, more in listed])


@given(frames=frames_strategy)
def test_a_file_is_what_the_format_says_and_reads_back_the_same(
    frames: list[Frame], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("law") / "x.pcap"
    with PcapWriter(path) as writer:
        for data, ns, wire in frames:
            writer.write_frame(data, ns, wire)
    assert path.read_bytes() == expected(frames)
    assert read(path) == frames
    assert writer.frames == len(frames)


@pytest.mark.parametrize("size", [0, 1, 1500, 262143, 262144])
def test_frames_of_any_size_fill_and_pass_the_buffer(tmp_path: Path, size: int) -> None:
    frames = [(bytes([number]) * size, START + number, size) for number in range(9)] + [(b"end", START, 3)]
    with PcapWriter(tmp_path / "x.pcap") as writer:
        for one in frames:
            writer.write_frame(*one)
    assert (tmp_path / "x.pcap").read_bytes() == expected(frames)


def test_microseconds_when_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    with PcapWriter(path, nanoseconds=False) as writer:
        writer.write_frame(b"abc", START)
    assert path.read_bytes() == expected([(b"abc", START, 3)], magic=MICRO)
    assert read(path) == [(b"abc", START // 1000 * 1000, 3)]


def test_a_snaplen_cuts_and_the_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    with PcapWriter(path, snaplen=10) as writer:
        writer.write_frame(bytes(range(30)), START)
        writer.write_frame(bytes(5), START)
    assert read(path) == [(bytes(range(10)), START, 30), (bytes(5), START, 5)]
    assert struct.unpack_from("=I", path.read_bytes(), 16) == (10,)


@pytest.mark.parametrize("link_type", [0, 1, 12, 113, 276])
def test_the_link_type_is_kept(tmp_path: Path, link_type: int) -> None:
    PcapWriter(tmp_path / "x.pcap", link_type).close()
    with appliance.open_offline(tmp_path / "x.pcap") as handle:
        assert handle.link_type == link_type


def packet(data: bytes = b"abcd", link_type: int = 1, wire: int = 9) -> Packet:
    return Packet(data, Metadata(START, len(data), wire, "eth0"), link_type)


def test_a_packet_is_written_with_what_is_known_of_it(tmp_path: Path) -> None:
    with PcapWriter(tmp_path / "x.pcap") as writer:
        writer.write(packet())
    assert read(tmp_path / "x.pcap") == [(b"abcd", START, 9)]


def test_a_packet_of_another_link_type_is_refused(tmp_path: Path) -> None:
    with PcapWriter(tmp_path / "x.pcap") as writer, pytest.raises(PcapError, match="link type 113 in a file of"):
        writer.write(packet(link_type=113))


def test_a_copy_of_a_file_is_that_file(tmp_path: Path) -> None:
    frames = [(os.urandom(number % 200), START + number * 1001, number % 200 + number % 3) for number in range(2000)]
    (tmp_path / "a.pcap").write_bytes(expected(frames))
    with appliance.open_offline(tmp_path / "a.pcap") as source, PcapWriter(tmp_path / "b.pcap") as copy:
        for one in source.packets():
            copy.write(one)
    assert (tmp_path / "b.pcap").read_bytes() == (tmp_path / "a.pcap").read_bytes()


# -- mistakes ----------------------------------------------------------------------------------------------------------


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(PcapError, match=r"none/x\.pcap: No such file or directory"):
        PcapWriter(tmp_path / "none" / "x.pcap")


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(PcapError, match=f"{tmp_path}: Is a directory"):
        PcapWriter(str(tmp_path))


def test_a_link_type_that_no_file_has_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(b"precious")
    with pytest.raises(PcapError, match=r"x\.pcap: a capture file cannot have link type 60000"):
        PcapWriter(path, link_type=60000)
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("ns", "wire", "match"), [(1 << 62, None, "ts_ns"), (0, 3, "wirelen"), (0, 1 << 32, "wirelen"), (0, -1, "wirelen")]
)
def test_what_the_format_cannot_say_is_refused(tmp_path: Path, ns: int, wire: int | None, match: str) -> None:
    with PcapWriter(tmp_path / "x.pcap") as writer:
        with pytest.raises(ValueError, match=match):
            writer.write_frame(b"abcd", ns, wire)
        writer.write_frame(b"good", START)
    assert read(tmp_path / "x.pcap") == [(b"good", START, 4)]


def test_nothing_can_be_written_after_the_end(tmp_path: Path) -> None:
    writer = PcapWriter(tmp_path / "x.pcap")
    writer.close()
    writer.close()
    for act in (lambda: writer.write_frame(b"x", 0), lambda: writer.write(packet()), writer.flush):
        with pytest.raises(PcapError, match="the file is closed"):
            act()


def test_an_exception_leaves_what_was_written(tmp_path: Path) -> None:
    def work() -> None:
        with PcapWriter(tmp_path / "x.pcap") as writer:
            writer.write_frame(b"one", START)
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        work()
    assert read(tmp_path / "x.pcap") == [(b"one", START, 3)]


# -- the disk ----------------------------------------------------------------------------------------------------------


def test_the_file_is_valid_from_the_first_moment_and_after_every_flush(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    with PcapWriter(path) as writer:
        assert read(path) == []
        writer.write_frame(b"one", START)
        writer.flush()
        assert read(path) == [(b"one", START, 3)]


def test_every_state_of_a_growing_file_is_valid(tmp_path: Path) -> None:
    path, sizes = tmp_path / "x.pcap", set()
    with PcapWriter(path) as writer:
        for number in range(600):
            writer.write_frame(bytes(3000), START + number)
            if path.stat().st_size not in sizes:
                sizes.add(path.stat().st_size)
                assert len(read(path)) == (path.stat().st_size - 24) // 3016
    assert len(sizes) > 3


def test_a_full_disk_is_told_at_once() -> None:
    with pytest.raises(PcapError, match="/dev/full: No space left on device"):
        PcapWriter("/dev/full")


FILLING = """
import resource, sys
import appliance
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_001, 1_000_001))
writer = appliance.PcapWriter(sys.argv[1])
try:
    for number in range(10_000):
        writer.write_frame(bytes(number % 700), number)
except appliance.PcapError as error:
    print(error)
    print(writer.frames)
    writer.close()
"""


def test_a_write_that_fails_leaves_whole_frames(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    done = subprocess.run(
        [sys.executable, "-c", FILLING, str(path)], capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    said, frames = done.stdout.splitlines()
    assert said == f"{path}: File too large"
    found = read(path)
    assert [ns for _, ns, _ in found] == list(range(int(frames)))
    assert path.stat().st_size > 1_000_001 - 716


def test_standard_output_is_a_file_like_any_other(tmp_path: Path) -> None:
    text = "import appliance; w = appliance.PcapWriter('-'); w.write_frame(b'abc', 5); w.close(); print('still open')"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, check=True, timeout=PATIENCE_S)
    assert done.stdout == expected([(b"abc", 5, 3)]) + b"still open\n"


def test_a_reader_that_goes_away_is_an_error() -> None:
    text = """
import appliance
writer = appliance.PcapWriter("-")
try:
    for number in range(100_000):
        writer.write_frame(bytes(1000), 0)
except appliance.PcapError as error:
    raise SystemExit(str(error))
"""
    reader, end = os.pipe()
    with subprocess.Popen([sys.executable, "-c", text], stdout=end, stderr=subprocess.PIPE, text=True) as process:
        os.close(end)
        os.read(reader, 100)
        os.close(reader)
        assert process.stderr
        assert read_all(process.stderr) == "-: Broken pipe\n"


def test_path_likes_will_do(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff.pcap"
    for path in (tmp_path / "a.pcap", str(tmp_path / "b.pcap"), name):
        where: Any = path
        PcapWriter(where).close()
        assert read(where) == []
