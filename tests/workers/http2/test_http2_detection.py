"""HTTP/2 is found in the middle of a connection, with the side that sends; other traffic is never taken for it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from h2_wire import CLIENT, SERVER, Talk
from hypothesis import given
from hypothesis import strategies as st

from appliance import PcapError, open_offline
from workers.assembly.assembler import Assembler, StreamPool
from workers.http2.detection import speaker

CAPTURES = Path(__file__).resolve().parents[4] / "shared" / "corpora" / "pcaps"
MOST_FRAMES = 20_000
# Captures without its name that hold HTTP/2: its preface, or an upgrade to it.
HOLDS_HTTP2 = ("app-layer-protocol-exact", "drop-protocol-change")


@given(st.integers(0, 2**32), st.sampled_from(("client", "server")))
def test_the_side_that_sends_is_told(seed, name):
    talk = Talk(seed, count=20)
    side = CLIENT if name == "client" else SERVER
    data = b"".join(data for each, data in talk.said if each == side)
    cut = random.Random(seed).randrange(len(data) // 4)
    assert speaker(data[cut : cut + (1 << 16)]) in (name, "either", "none")


@pytest.mark.parametrize("side", [CLIENT, SERVER])
def test_the_start_of_a_connection_tells(side):
    said = Talk(5, count=10).said
    data = b"".join(data for each, data in said if each == side)
    assert speaker(data) == ("client", "server")[side]


@given(st.binary(max_size=4000))
def test_random_bytes_are_not_http2(data):
    assert speaker(data) == "none"


@pytest.mark.parametrize(
    "data", [bytes(70_000), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 500, b"\0\0\4\0\0\0\0\0\1abcd" * 500]
)
def test_regular_bytes_are_not_http2(data):
    assert speaker(data) == "none"


class Kept:
    """A stream whose bytes are kept."""

    def __init__(self) -> None:
        self.data = bytearray()

    def reassembled(self, pieces):
        for piece in pieces:
            self.data += piece.data

    def complete(self):
        pass


def streams(path: Path) -> list[bytes]:
    kept: list[Kept] = []

    def new(net, transport):
        kept.append(Kept())
        return kept[-1]

    assembler = Assembler(StreamPool(new))
    with open_offline(str(path)) as handle:
        for place, packet in enumerate(handle.packets()):
            assembler.assemble(packet)
            if place >= MOST_FRAMES:
                break
    assembler.flush_all()
    return [bytes(each.data) for each in kept]


@pytest.mark.skipif(
    not CAPTURES.is_dir(), reason="the captures are not here: there is no shared/corpora beside the project"
)
def test_no_other_traffic_is_taken_for_http2():
    taken, looked = [], 0
    for path in sorted(CAPTURES.glob("*/*")):
        if "http2" in f"{path.parent.name}/{path.name}" or path.stem in HOLDS_HTTP2:
            continue
        try:
            found = streams(path)
        except PcapError:
            continue
        for data in found:
            for start in sorted({0, 1, len(data) // 3, len(data) // 2}):
                looked += 1
                if speaker(data[start : start + (1 << 16)]) != "none":
                    taken.append((path.name, start))
    assert looked > 1000
    assert taken == []
