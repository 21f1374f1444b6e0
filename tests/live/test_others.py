"""Capture files between us and tcpdump, tshark and dumpcap: the same frames and the same nanoseconds, both ways."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from eventually import PATIENCE_S, read_lines
from hosts import Network
from inside import Sender, number_of
from scene import make_network, require
from traffic import write_sample

import appliance

pytestmark = pytest.mark.peer

Frame = tuple[bytes, int, int]  # bytes, ns, length on the wire


def read(path: Path) -> list[Frame]:
    with appliance.open_offline(path) as handle:
        return [(p.data, p.metadata.ts_ns, p.metadata.wirelen) for p in handle.packets()]


def nanoseconds(text: str) -> int:
    seconds, _, rest = text.partition(".")
    return int(seconds) * 1_000_000_000 + int(rest.ljust(9, "0"))


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real conversations, written by PcapWriter, some of the frames cut."""
    directory = tmp_path_factory.mktemp("others")
    write_sample(directory / "sample.pcap")
    path = directory / "ours.pcap"
    with (
        appliance.open_offline(directory / "sample.pcap") as source,
        appliance.PcapWriter(path, snaplen=1000) as writer,
    ):
        for packet in source.packets(limit=2000):
            writer.write(packet)
    assert any(len(data) < wire for data, _, wire in read(path))
    return path


def test_tcpdump_reads_what_we_write(sample: Path) -> None:
    require("tcpdump")
    words = ["tcpdump", "-r", sample, "-n", "-tt", "-e", "-q", "--nano", "-xx"]
    lines = subprocess.run(words, check=True, capture_output=True, text=True, timeout=PATIENCE_S).stdout.splitlines()
    heads = [line.split() for line in lines if not line.startswith("\t")]
    assert [nanoseconds(head[0]) for head in heads] == [ns for _, ns, _ in read(sample)]
    shown = [line.partition(":")[2].replace(" ", "") for line in lines if line.startswith("\t")]
    assert "".join(shown) == "".join(data.hex() for data, _, _ in read(sample))


def test_tshark_reads_what_we_write(sample: Path) -> None:
    require("tshark")
    fields = ["frame.time_epoch", "frame.cap_len", "frame.len"]
    words = ["tshark", "-n", "-r", sample, "-T", "fields", *(word for field in fields for word in ("-e", field))]
    lines = subprocess.run(words, check=True, capture_output=True, text=True, timeout=PATIENCE_S).stdout.splitlines()
    found = [(nanoseconds(when), int(kept), int(wire)) for when, kept, wire in map(str.split, lines)]
    assert found == [(ns, len(data), wire) for data, ns, wire in read(sample)]


@pytest.mark.parametrize("nano", [True, False])
def test_we_read_what_tcpdump_writes(sample: Path, tmp_path: Path, nano: bool) -> None:
    require("tcpdump")
    precision = ["--time-stamp-precision", "nano" if nano else "micro"]
    subprocess.run(
        ["tcpdump", *precision, "-r", sample, "-w", tmp_path / "x.pcap"],
        check=True,
        stderr=subprocess.DEVNULL,
        timeout=PATIENCE_S,
    )
    unit = 1 if nano else 1000
    assert read(tmp_path / "x.pcap") == [(data, ns // unit * unit, wire) for data, ns, wire in read(sample)]


@pytest.mark.parametrize("kind", ["pcapng", "nsecpcap"])
def test_we_read_what_tshark_writes(sample: Path, tmp_path: Path, kind: str) -> None:
    require("tshark")
    subprocess.run(
        ["tshark", "-r", sample, "-F", kind, "-w", tmp_path / "x"],
        check=True,
        stderr=subprocess.DEVNULL,
        timeout=PATIENCE_S,
    )
    assert ((tmp_path / "x").read_bytes()[:4] == b"\x0a\x0d\x0d\x0a") is (kind == "pcapng")
    assert read(tmp_path / "x") == read(sample)


@pytest.fixture
def cable() -> Iterator[Network]:
    network = make_network()
    yield network
    network.close()


@pytest.mark.root
@pytest.mark.parametrize("program", ["dumpcap", "tcpdump"])
def test_we_read_what_others_capture(cable: Network, tmp_path: Path, program: str) -> None:
    require(program)
    path = tmp_path / "captured"
    options = {"dumpcap": ["-q", "-c", "200", "-n"], "tcpdump": ["-c", "200", "--nano", "-U"]}[program]
    choice = ["-f", "udp dst port 9"] if program == "dumpcap" else ["udp dst port 9"]
    process = cable.server.start(program, "-i", "s0", *options, "-w", path, *choice, stderr=subprocess.PIPE)
    with closing(Sender(cable.client)) as sender:
        assert process.stderr
        for line in read_lines(process.stderr):
            if line.startswith((b"File:", b"tcpdump: listening")):
                break
        while process.poll() is None:  # dumpcap says that it captures a moment before it does
            sender.send(50)
    assert process.returncode == 0
    found = read(path)
    numbers = [number_of(data) for data, _, _ in found]
    assert numbers == list(range(numbers[0], numbers[0] + 200))
    times = [ns for _, ns, _ in found]
    assert times == sorted(times)
    assert any(ns % 1000 for ns in times)
