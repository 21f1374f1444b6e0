"""pcapng captures: sections, interfaces of several kinds, hostile blocks. A plain reading is the model."""

from __future__ import annotations

import os
import struct
import tempfile
from pathlib import Path

import pytest
from builders import talk
from hypothesis import example, given
from hypothesis import strategies as st
from models import pcapng

from appliance import NotACapture, PcapError, TruncatedCapture
from appliance.capture.sharder import Sharder
from appliance.pcap.opening import Handle, open_offline, open_stream

SECOND = 1_000_000_000
Frame = tuple[bytes, int, int, int]


def block(order: str, kind: int, body: bytes, length: int | None = None) -> bytes:
    body += bytes(-len(body) % 4)
    said = 12 + len(body) if length is None else length
    return struct.pack(f"{order}II", kind, said) + body + struct.pack(f"{order}I", said)


def section(order: str = "<", version: tuple[int, int] = (1, 0)) -> bytes:
    return block(order, pcapng.SECTION, struct.pack(f"{order}IHHq", 0x1A2B3C4D, *version, -1))


def option(order: str, code: int, value: bytes) -> bytes:
    return struct.pack(f"{order}HH", code, len(value)) + value + bytes(-len(value) % 4)


def interface(order: str = "<", link_type: int = 1, snaplen: int = 0, options: bytes = b"") -> bytes:
    return block(order, pcapng.INTERFACE, struct.pack(f"{order}HHI", link_type, 0, snaplen) + options)


def enhanced(order: str, number: int, ticks: int, data: bytes, wire: int, captured: int | None = None) -> bytes:
    size = len(data) if captured is None else captured
    head = struct.pack(f"{order}IIIII", number, ticks >> 32 & 0xFFFFFFFF, ticks & 0xFFFFFFFF, size, wire)
    return block(order, pcapng.ENHANCED, head + data)


def simple(order: str, data: bytes, wire: int) -> bytes:
    return block(order, pcapng.SIMPLE, struct.pack(f"{order}I", wire) + data)


def old(order: str, number: int, ticks: int, data: bytes) -> bytes:
    head = struct.pack(f"{order}HHIIII", number, 0, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
    return block(order, pcapng.OLD, head + data)


def everything(handle: Handle) -> tuple[list[Frame], bool]:
    frames: list[Frame] = []
    with handle:
        try:
            for packet in handle.packets():
                frames.append((packet.data, packet.metadata.ts_ns, packet.metadata.wirelen, packet.link_type))
        except PcapError:
            return frames, False
    return frames, True


def as_file(content: bytes) -> tuple[list[Frame], bool]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        return everything(open_offline(file.name))


def as_stream(content: bytes) -> tuple[list[Frame], bool]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        descriptor = os.open(file.name, os.O_RDONLY)
        try:
            return everything(open_stream(descriptor, lambda: True))
        finally:
            os.close(descriptor)


@st.composite
def captures(draw: st.DrawFn) -> bytes:
    """Sections of either byte order; mostly sound blocks, some not."""
    parts: list[bytes] = []
    for _ in range(draw(st.integers(1, 3))):
        order = draw(st.sampled_from("<>"))
        parts.append(section(order, draw(st.sampled_from([(1, 0), (1, 0), (1, 0), (1, 2), (2, 0)]))))
        resolution = st.sampled_from([None, 0, 3, 6, 9, 12, 19, 20, 0x80, 0x8A, 0xA2, 0xBF, 0xC0])
        for _ in range(draw(st.integers(1, 3))):
            wanted, offset = draw(resolution), draw(st.one_of(st.none(), st.integers(-(1 << 63), (1 << 63) - 1)))
            options = b"" if wanted is None else option(order, 9, bytes([wanted]))
            options += b"" if offset is None else option(order, 14, struct.pack(f"{order}q", offset))
            options += draw(st.sampled_from([b"", option(order, 0, b""), option(order, 2, b"eth0"), b"\1\0\xff\0"]))
            parts.append(
                interface(
                    order, draw(st.sampled_from([1, 1, 101, 113, 999])), draw(st.sampled_from([0, 5, 64])), options
                )
            )
        for _ in range(draw(st.integers(0, 6))):
            data, ticks = draw(st.binary(max_size=90)), draw(st.integers(0, (1 << 64) - 1))
            parts.append(
                draw(
                    st.sampled_from(
                        [
                            enhanced(order, draw(st.integers(0, 3)), ticks, data, len(data) + draw(st.integers(0, 9))),
                            enhanced(
                                order, 0, ticks, data, 9, captured=len(data) + draw(st.sampled_from([0, 1, 4, 1 << 31]))
                            ),
                            simple(order, data, draw(st.integers(0, 100))),
                            old(order, draw(st.integers(0, 3)), ticks, data),
                            block(order, draw(st.sampled_from([4, 5, 10, 0xBAD])), data),
                            block(order, 6, data),
                            block(order, 5, bytes(300 << 10)),
                            block(order, 5, data, draw(st.sampled_from([0, 8, 13, 1 << 30, 0xFFFFFFFC]))),
                        ]
                    )
                )
            )
    whole = b"".join(parts)
    return whole[: len(whole) - draw(st.sampled_from([0, 0, 0, 1, 4, 13, 30]))]


@given(content=captures())
@example(section() + interface() + section(">") + interface(">", 101) + enhanced(">", 0, 1, b"abc", 3))
def test_what_is_read_is_what_the_format_says_as_a_file_and_as_a_stream(content: bytes) -> None:
    frames, sound = pcapng.read(content)
    try:
        found = as_file(content)
    except NotACapture:
        assert not frames
        with pytest.raises(NotACapture):
            as_stream(content)
        return
    assert found == (frames, sound)
    assert as_stream(content) == (frames, sound)


def test_each_packet_has_the_link_type_of_its_interface(tmp_path: Path) -> None:
    frame = bytes(talk().frames[0][1])
    content = section() + interface(link_type=1) + enhanced("<", 0, 1, frame, len(frame)) + interface(link_type=101)
    content += enhanced("<", 1, 2, frame[14:], len(frame) - 14) + enhanced("<", 0, 3, frame, len(frame))
    (tmp_path / "x").write_bytes(content)
    with open_offline(tmp_path / "x") as handle:
        assert [packet.link_type for packet in handle.packets()] == [1, 12, 1]
        assert handle.link_types == [1, 12]
        assert (handle.link_type, handle.tell()) == (1, len(content))


def test_the_capture_looks_into_frames_of_every_interface(tmp_path: Path) -> None:
    content = section() + interface(link_type=1) + interface(link_type=101)
    for number, (_, made) in enumerate(talk().frames):
        frame = bytes(made)
        content += enhanced("<", number % 2, number, frame[14 * (number % 2) :], len(frame))
    (tmp_path / "x").write_bytes(content)
    sharder = Sharder(bytes(16), 1)
    with open_offline(tmp_path / "x") as handle:
        while handle.read_into(sharder, 3) >= 0:
            pass
    assert sharder.counts()["offered.0"] == len(talk().frames)


def test_a_filter_is_applied_to_frames_of_every_link_type(tmp_path: Path) -> None:
    frames = [bytes(frame) for _, frame in talk().frames]
    content = section() + interface(link_type=1) + interface(link_type=101)
    for number, frame in enumerate(frames):
        content += enhanced("<", number % 2, number, frame[14 * (number % 2) :], len(frame))
    (tmp_path / "x").write_bytes(content)
    for text, wanted in (("tcp port 80", len(frames)), ("tcp port 81", 0)):
        with open_offline(tmp_path / "x") as handle:
            handle.set_filter(text, vlan_aware=True)
            assert len(list(handle.packets())) == wanted


def test_a_filter_that_one_link_type_cannot_have_ends_the_reading_with_its_reason(tmp_path: Path) -> None:
    content = section() + interface(link_type=1) + enhanced("<", 0, 1, bytes(60), 60) + interface(link_type=101)
    (tmp_path / "x").write_bytes(content + enhanced("<", 1, 1, bytes(60), 60))
    with open_offline(tmp_path / "x") as handle:
        handle.set_filter("ether host 00:00:00:00:00:00")
        with pytest.raises(PcapError, match="does not compile"):
            list(handle.packets())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            section() + interface() + enhanced("<", 1, 0, b"x", 1),
            "a frame of interface 1, which has no description",
        ),
        (
            section() + interface() + block("<", 6, bytes(20), 999_999_996),
            "a block of 999,999,996 bytes; at most 16,777,216",
        ),
        (section() + interface() + section(version=(2, 0)), "version 2.0 of pcapng"),
        (section() + interface() + enhanced("<", 0, 0, b"x", 1, 77), "a frame of 77 bytes in a block of 36"),
    ],
)
def test_a_block_that_is_wrong_is_an_error_that_says_where(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "x.pcapng").write_bytes(content)
    with open_offline(tmp_path / "x.pcapng") as handle, pytest.raises(PcapError, match=said) as refused:
        list(handle.packets())
    assert not isinstance(refused.value, TruncatedCapture)
    assert f"at byte {len(section() + interface())}" in str(refused.value)


def test_a_capture_without_an_interface_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.pcapng").write_bytes(section())
    with pytest.raises(NotACapture, match="without any interface"):
        open_offline(tmp_path / "x.pcapng")
