"""locate, cut and damaged frames: every prefix of every sample has the whole frame's place or is truncated."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from encapsulations import WAYS, ether, framed, ipv4, udp, wrapped
from eventually import PATIENCE_S
from hypothesis import given
from hypothesis import strategies as st
from models.decode import ETHERNET
from sample_frames import CHAINED, INSIDE, LINKS, SAMPLES, SEGMENT, TUNNELLED
from scapy.contrib.erspan import ERSPAN_II
from scapy.layers.l2 import GRE
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

from appliance.wire.tcp_locator import VERDICTS, find

TRUNCATED = ("truncated", None, None, None, [])


@pytest.mark.parametrize("name", SAMPLES)
def test_n8_every_truncation_is_found_at_the_same_place_or_truncated(name):
    link_type, frame, tcp, _ = SAMPLES[name]
    whole = find(link_type, frame)
    for length in range(len(frame)):
        cut = find(link_type, frame[:length], len(frame))
        assert cut == (TRUNCATED if length < tcp + 20 else whole), length


@pytest.mark.parametrize("name", SAMPLES)
def test_n8_every_truncation_whose_length_on_the_wire_was_lost_has_the_same_verdict(name):
    """Some tools write the captured length for both. Only an IP length of zero could then mean something else."""
    link_type, frame, tcp, _ = SAMPLES[name]
    whole = find(link_type, frame)
    for length in range(len(frame)):
        cut = find(link_type, frame[:length])
        assert cut == (TRUNCATED if length < tcp + 20 else whole), length


@pytest.mark.parametrize("name", [name for name in WAYS if WAYS[name].tunnels])
def test_a_cut_frame_that_is_nested_too_deep_is_truncated_or_too_deep(name):
    frame = wrapped([name], INSIDE[6])
    verdicts = [find(ETHERNET, frame[:length], len(frame), max_tunnels=0)[0] for length in range(len(frame) + 1)]
    first = verdicts.index("too_many_tunnels")
    assert set(verdicts[:first]) == {"truncated"}
    assert set(verdicts[first:]) == {"too_many_tunnels"}


def test_the_ports_of_a_cut_datagram_are_enough_to_say_that_it_is_no_tunnel():
    frame = framed(bytes(udp(True, 53) / Raw(bytes(40))), 4, True)
    verdicts = [find(ETHERNET, frame[:length], len(frame))[0] for length in range(len(frame))]
    assert verdicts == ["truncated"] * 38 + ["not_tcp"] * (len(frame) - 38)


def guarded(*words):
    program = Path(__file__).parents[1] / "guarded_frames.py"
    environment = {**os.environ, "PYTHONPATH": f"{program.parents[2]}:{program.parents[1]}"}
    return subprocess.run(
        [sys.executable, program, *words], env=environment, capture_output=True, text=True, timeout=PATIENCE_S
    )


@pytest.mark.slow
def test_no_byte_behind_a_cut_or_damaged_frame_is_read():
    assert guarded("beyond").returncode == -signal.SIGSEGV  # the guard works
    done = guarded()
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == sum(4 * (len(sample.frame) + 1) for sample in SAMPLES.values())


# -- lengths that disagree ---------------------------------------------------------------------------------------------


def test_an_inner_length_of_zero_is_bounded_by_the_datagram_around_it():
    inner = bytearray(INSIDE[4])
    inner[2:4] = b"\0\0"
    frame = wrapped(["gre"], bytes(inner)) + b"trailer of the link"
    assert find(ETHERNET, frame)[3] == len(SEGMENT)


def test_an_inner_packet_that_a_mirror_has_cut_keeps_its_length():
    """ERSPAN says so by a bit, the VXLAN of a cloud not at all: the rest is missing, not the end of the stream."""
    whole = framed(bytes(INSIDE[4]) + bytes(1000), 4, True)
    whole = whole[:16] + struct.pack(">H", len(whole) - 14) + whole[18:]
    for header in (
        ipv4(True) / GRE(proto=0x88BE, seqnum_present=1, sequence_number=1) / ERSPAN_II(t=1),
        udp(True, 4789) / VXLAN(vni=1),
    ):
        frame = bytes(ether(True) / header / Raw(whole[:100]))
        assert find(ETHERNET, frame)[2:4] == (len(frame) - 100 + 34, len(SEGMENT) + 1000)


@pytest.mark.parametrize("name", [name for name in WAYS if WAYS[name].tunnels and "pseudo-wire" not in name])
def test_headers_behind_the_end_of_the_outer_datagram_are_not_read(name):
    """Cut inside, by its own length: what follows on the link is there, but it is not in the tunnel."""
    frame = wrapped([name], INSIDE[6])
    net, tcp = len(frame) - len(INSIDE[6]), len(frame) - len(SEGMENT)
    for end in (net + 1, net + 39, tcp + 19):
        assert find(ETHERNET, outer_length(frame, end - 14))[0] == "truncated"
    assert find(ETHERNET, outer_length(frame, tcp + 20 - 14))[2] == tcp


def outer_length(frame, length):
    """The frame with another length in its first IP header."""
    at, said = (16, length) if frame[14] >> 4 == 4 else (18, length - 40)
    return frame[:at] + struct.pack(">H", said) + frame[at + 2 :]


# -- damage ----------------------------------------------------------------------------------------------------------


def check(frame, found, net, tcp, tcp_length, vlans):
    assert found in (*VERDICTS, "found")
    if found == "found":
        assert net + (40 if frame[net] >> 4 == 6 else 20) <= tcp <= len(frame) - 20
        assert tcp <= 0xFFFF
        assert tcp_length >= 20
        assert all(0 < vlan < 4096 for vlan in vlans)


@given(
    st.sampled_from(sorted(SAMPLES)),
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0, 300),
    st.integers(0, 5),
)
def test_damaged_and_cut_frames_point_into_themselves(name, damage, kept, allowed):
    link_type, frame, *_ = SAMPLES[name]
    frame = bytearray(frame)
    for at, value in damage:
        frame[at % len(frame)] = value
    cut = bytes(frame[:kept])
    check(cut, *find(link_type, cut, len(frame), max_tunnels=allowed))


@pytest.mark.parametrize("name", [*LINKS, *CHAINED, *list(TUNNELLED)[::2]])
def test_every_single_byte_of_the_headers_may_be_wrong(name):
    link_type, frame, tcp, _ = SAMPLES[name]
    for at in range(tcp):
        for value in (0x00, 0x01, 0x06, 0x11, 0x2F, 0x45, 0x60, 0x7F, 0x80, 0xAA, 0xFF):
            damaged = frame[:at] + bytes((value,)) + frame[at + 1 :]
            check(damaged, *find(link_type, damaged))


@given(st.sampled_from(sorted(WAYS)), st.binary(max_size=120))
def test_random_bytes_inside_a_tunnel_do_no_harm(name, inside):
    way = WAYS[name]
    kind = way.takes[-1]
    frame = framed(*way.wrap(inside, kind, True), True)
    check(frame, *find(ETHERNET, frame))
