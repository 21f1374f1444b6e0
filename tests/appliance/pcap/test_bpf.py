"""Filters on frames in memory: what pcap-filter(7) says, and what is told about a wrong text."""

from __future__ import annotations

import pytest
from builders import SECOND, talk
from hypothesis import given
from hypothesis import strategies as st

import appliance
from appliance import BadFilter, Filter, PcapError

FRAMES = [bytes(frame) for _, frame in talk().frames]
SYN = FRAMES[0]
RAW = 12  # DLT_RAW on Linux: no link header


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", True),
        ("tcp", True),
        ("udp", False),
        ("tcp[tcpflags] == tcp-syn", True),
        ("tcp[tcpflags] & tcp-fin != 0", False),
        (f"len == {len(SYN)}", True),
        (f"greater {len(SYN) + 1}", False),
        ("vlan", False),
    ],
)
def test_a_filter_matches_what_its_text_says(text: str, wanted: bool) -> None:
    assert Filter(text).matches(SYN) is wanted


def test_a_filter_knows_the_link_type_of_its_frames() -> None:
    packet = SYN[14:]
    assert Filter("tcp", link_type=RAW).matches(packet)
    assert not Filter("tcp").matches(packet)


def test_a_cut_frame_is_judged_by_its_length_on_the_wire() -> None:
    large = Filter("greater 1000")
    assert not large.matches(SYN)
    assert large.matches(SYN, wirelen=1000)
    assert large.matches(SYN, 1000)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_will_do(kind: type) -> None:
    assert Filter("tcp").matches(kind(SYN))


@pytest.mark.parametrize("wirelen", [0, len(SYN) - 1, 1 << 32, -1])
def test_a_length_that_cannot_be_is_refused(wirelen: int) -> None:
    with pytest.raises(ValueError, match="wirelen"):
        Filter("tcp").matches(SYN, wirelen)


@pytest.mark.parametrize("text", ["tcp prt 80", "host", "ether proto", "tcp\0and nonsense", "ip broadcast", "(((("])
def test_a_bad_text_is_refused_by_name(text: str) -> None:
    with pytest.raises(BadFilter) as refused:
        Filter(text)
    assert repr(text) in str(refused.value)
    assert isinstance(refused.value, PcapError)


def test_a_link_type_that_libpcap_does_not_know_is_refused() -> None:
    with pytest.raises(BadFilter, match="unknown data link type 60000"):
        Filter("tcp", link_type=60000)


def test_a_filter_shows_its_text() -> None:
    assert repr(Filter("tcp port 80")) == "Filter('tcp port 80', link_type=1)"
    assert (Filter("tcp").text, Filter("tcp", link_type=RAW).link_type) == ("tcp", RAW)


@given(frame=st.binary(max_size=200), extra=st.integers(0, 70_000))
def test_no_bytes_upset_a_filter(frame: bytes, extra: int) -> None:
    for text in ("tcp port 80", "ip6 and tcp", "vlan and host 192.0.2.1", "tcp[100:4] = 1", "ether[0:4] > 5"):
        assert Filter(text).matches(frame, len(frame) + extra) in (True, False)
    assert Filter("").matches(frame)


@given(cut=st.integers(0, 80))
def test_a_filter_reads_no_further_than_the_frame(cut: int) -> None:
    """Ignore the bytes behind a cut frame in memory."""
    whole = bytearray(SYN)
    assert Filter("tcp dst port 80").matches(memoryview(whole)[:cut], len(SYN)) is (cut >= 38)


def test_a_filter_gives_the_same_answer_as_reading_through_it(tmp_path) -> None:
    path = tmp_path / "talk.pcap"
    with appliance.PcapWriter(path) as writer:
        for number, frame in enumerate(FRAMES):
            writer.write_frame(frame, number * SECOND)
    text = "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0"
    with appliance.open_offline(path) as handle:
        handle.set_filter(text)
        through = [packet.data for packet in handle.packets()]
    assert through == [frame for frame in FRAMES if Filter(text).matches(frame)]
    assert 0 < len(through) < len(FRAMES)
