"""Files whose records are read without libpcap: it must not show. Its reading of the same bytes is the model."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from capture_file_readers import by_libpcap, by_us
from eventually import PATIENCE_S
from hypothesis import example, given
from hypothesis import strategies as st

from appliance.pcap.opening import open_offline

PIECE = 256 << 10  # what is read at a time
MICRO, NANO = 0xA1B2C3D4, 0xA1B23C4D
WORD = st.integers(0, 0xFFFFFFFF)


def head(magic: int = MICRO, snaplen: int = 262144, version: tuple[int, int] = (2, 4), link_type: int = 1) -> bytes:
    return struct.pack("<IHHiIII", magic, *version, 0, 0, snaplen, link_type)


def record(data: bytes, seconds: int = 0, fraction: int = 0, captured: int | None = None, wire: int = 0) -> bytes:
    return struct.pack("<IIII", seconds, fraction, len(data) if captured is None else captured, wire) + data


RECORDS = st.builds(record, st.binary(max_size=200), WORD, WORD, st.none(), WORD)
LARGE = st.builds(lambda size: record(bytes([size % 251]) * size), st.sampled_from([1500, 9000, 65535, 262143, 262144]))
ODD = st.builds(
    record, st.binary(max_size=50), captured=st.sampled_from([0, 7, 51, 60, 262145, 0x7FFFFFFF, 0xFFFFFFFF])
)
CONTENT = st.lists(st.one_of(RECORDS, RECORDS, RECORDS, LARGE, ODD), max_size=20).map(b"".join)


@given(
    head=st.builds(
        head,
        st.sampled_from([MICRO, NANO]),
        st.sampled_from([0, 20, 60, 65535, 262144, 0x7FFFFFFF, 0xFFFFFFFF]),
        st.sampled_from([(2, 4), (2, 4), (2, 4), (2, 3), (2, 2)]),
        st.sampled_from([1, 1, 113, 189]),
    ),
    content=CONTENT,
    cut=st.integers(0, 40),
)
@example(head(), record(b"x" * 262144) * 3, 0)
@example(head(), record(b"x" * (PIECE - 24 - 16 - 8)) + record(b"y" * 60), 0)  # a head that lies in two pieces
def test_what_is_read_is_what_libpcap_reads(head: bytes, content: bytes, cut: int) -> None:
    with tempfile.NamedTemporaryFile(suffix=".pcap") as file:
        file.write(head + content[: max(0, len(content) - cut)])
        file.flush()
        assert by_us(file.name) == by_libpcap(file.name)


def test_a_filter_set_on_the_way_holds_from_the_next_frame(tmp_path: Path) -> None:
    file = tmp_path / "f.pcap"
    file.write_bytes(head() + b"".join(record(bytes([n]) * 60) for n in range(10)))
    with open_offline(file) as handle:
        assert [packet.data[0] for packet in handle.packets(limit=4)] == [0, 1, 2, 3]
        assert handle.tell() == 24 + 4 * 76
        handle.set_filter("ether[0] > 6")
        assert [packet.data[0] for packet in handle.packets()] == [7, 8, 9]


@pytest.mark.parametrize("begun", [0, 24])
def test_standard_input_is_read_from_where_it_stands(tmp_path: Path, begun: int) -> None:
    file = tmp_path / "f.pcap"
    content = head() + record(b"a" * 60)
    file.write_bytes((content[:24] if begun else b"") + content)
    program = "from appliance.pcap.opening import open_offline; print(len(list(open_offline('-').packets())))"
    with file.open("rb") as source:
        os.lseek(source.fileno(), begun, os.SEEK_SET)
        ran = subprocess.run(
            [sys.executable, "-c", program],
            stdin=source,
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE_S,
        )
    assert ran.stdout.strip() == "1"
