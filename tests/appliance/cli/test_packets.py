"""`appliance packets`: what a person at a terminal, a pipe and a script get to see."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conversation import Conversation
from eventually import PATIENCE_S, read_all, read_exactly, read_line
from exchange import exchange
from pcapfile import PcapWriter
from test_command_line import ROOT, appliance, environment, mistake
from wire import arp_request, icmp_echo, udp

pytestmark = pytest.mark.slow

START_NS = 1_795_341_600_123_456_789


@pytest.fixture(scope="module")
def frames() -> list[tuple[int, bytes]]:
    """A ping, a datagram, and one connection with a transaction in a VLAN."""
    talk = Conversation(client="192.0.2.1", server="198.51.100.2", vlans=(7,), start_ns=START_NS + 3000).handshake()
    talk.exchange(exchange("GET", "/found", body=b"hello")).close("client")
    return [
        (START_NS, icmp_echo("192.0.2.1", "198.51.100.2", 1)),
        (START_NS + 1000, arp_request("192.0.2.1", "192.0.2.2")),
        (START_NS + 2000, udp("192.0.2.1", "198.51.100.2", (40000, 9), b"hello")),
        *talk.frames,
    ]


@pytest.fixture(scope="module")
def capture(frames: list[tuple[int, bytes]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packets") / "frames.pcap"
    with PcapWriter(path) as writer:
        writer.write_all(frames)
    return path


def lines(*arguments: object, **how: Any) -> list[str]:
    """Return the lines that the command prints; it has to succeed and print nothing on standard error."""
    done = appliance("packets", *arguments, **how)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_a_line_for_each_frame(capture, frames):
    shown = lines("-r", capture)
    assert len(shown) == len(frames)
    assert shown[0] == "2026-11-22 10:00:00.123456789 192.0.2.1 > 198.51.100.2 ICMP echo request id 4660 seq 1 len 48"
    assert shown[2] == "2026-11-22 10:00:00.123458789 192.0.2.1:40000 > 198.51.100.2:9 UDP len 5"
    assert any("vlan 7 " in line and line.partition(": ")[2].startswith("GET /found HTTP/1.1") for line in shown)


def test_a_filter_and_a_limit(capture):
    shown = lines("-r", capture, "-f", "icmp or udp")
    assert len(shown) == 2
    assert lines("-r", capture, "-f", "icmp or udp", "-n", 1) == shown[:1]


def test_layers_and_dump(capture):
    text = "\n".join(lines("-r", capture, "-n", 1, "--layers"))
    assert text.startswith(
        "PACKET: 90 bytes, wire length 90, 2026-11-22T10:00:00.123456789Z\n- Layer 1 (14 bytes) = Ethernet"
    )
    assert "- Layer 4 (4 bytes) = Echo {id=4660 seq=1}" in text
    text = "\n".join(lines("-r", capture, "-n", 1, "--dump"))
    assert "--- Layer 4 ---" in text
    assert "00000020  64 02 08 00" in text


def test_json_is_an_object_for_each_frame(capture, frames):
    shown = [json.loads(line) for line in lines("-r", capture, "--json")]
    assert [(one["ts_ns"], one["caplen"]) for one in shown] == [(ts_ns, len(frame)) for ts_ns, frame in frames]
    assert shown[0]["layers"][1]["src"] == "192.0.2.1"
    assert shown[2]["payload"] == b"hello".hex()


def test_frames_are_written_and_not_printed(capture, tmp_path):
    out = tmp_path / "out.pcap"
    assert lines("-r", capture, "-w", out) == []
    assert lines("-r", out, "--json") == lines("-r", capture, "--json")
    assert len(lines("-r", capture, "-f", "udp", "-w", out, "--layers")) > 3
    assert len(lines("-r", out)) == 1


def test_standard_input_and_output_are_files_too(capture):
    command = [sys.executable, "-m", "appliance", "packets"]
    with subprocess.Popen(
        [*command, "-r", str(capture), "-w", "-", "-f", "icmp"], stdout=subprocess.PIPE, env=environment()
    ) as first:
        shown = lines("-r", "-", stdin=first.stdout)
    assert len(shown) == 1
    with capture.open("rb") as file:
        assert lines("-r", "-", stdin=file) == lines("-r", capture)


def test_a_truncated_file_is_shown_to_its_cut_with_a_warning(capture, frames, tmp_path):
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(capture.read_bytes()[:-5])
    done = appliance("packets", "-r", cut)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == len(frames) - 1
    assert "truncated" in done.stderr


@pytest.mark.parametrize("view", [[], ["--json"], ["-w", "-"]])
def test_a_reader_that_has_seen_enough_ends_it_quietly(view, tmp_path):
    big = tmp_path / "big.pcap"
    with PcapWriter(big) as writer:
        writer.write_all((START_NS + n, icmp_echo("192.0.2.1", "192.0.2.2", n)) for n in range(5000))
    command = [sys.executable, "-m", "appliance", "packets", "-r", str(big), *view]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), cwd=ROOT
    ) as process:
        assert read_exactly(process.stdout, 20)
        process.stdout.close()
        assert read_all(process.stderr) == b""
        assert process.wait(PATIENCE_S) == 0


def test_mistakes_are_told(capture, tmp_path):
    assert "give either -i IFACE or -r FILE" in mistake("packets")
    assert "-i and -r exclude each other" in mistake("packets", "-i", "lo", "-r", capture)
    assert "No such file" in mistake("packets", "-r", tmp_path / "missing.pcap")
    assert "'no such thing' does not compile" in mistake("packets", "-r", capture, "-f", "no such thing")
    assert "there is no interface 'nowhere0'" in mistake("packets", "-i", "nowhere0")
    assert "-w - and --json both write to standard output" in mistake("packets", "-r", capture, "-w", "-", "--json")
    assert "is not a size" in mistake("packets", "-r", capture, "--snaplen", "huge")
    assert "No such file" in mistake("packets", "-r", capture, "-w", tmp_path / "no" / "out.pcap")


def test_the_file_that_is_read_is_not_overwritten(capture):
    before = capture.read_bytes()
    assert "is the input file" in mistake("packets", "-r", capture, "-w", capture)
    assert capture.read_bytes() == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_a_count(capture, number, code):
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "appliance", "packets", "-r", "-", "-n", "100000"]
    pipes: dict[str, Any] = {"stdin": reader, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment(), cwd=ROOT, **pipes) as process:
        os.close(reader)
        os.write(writer, capture.read_bytes())  # and no end
        assert "ICMP" in read_line(process.stdout)
        process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE_S)
        os.close(writer)
    assert process.returncode == code
    assert said.startswith("appliance: ")
    assert "frames" in said
