"""Files of a ring as one capture: every frame once, by time, at its interface, however the frames lie in the files."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from appliance.pcap.opening import open_offline
from appliance.ring.pcapng import PcapngWriter, section
from appliance.ring.time_order import TimeOrder

LATEST = (1 << 64) - 1
frames = st.tuples(st.integers(1, 50), st.sampled_from([1, 113, 147]), st.binary(min_size=1, max_size=9))
files = st.lists(st.lists(frames, min_size=1, max_size=8), min_size=1, max_size=4)


def written(some: list[tuple[int, int, bytes]]) -> bytes:
    out = BytesIO()
    writer = PcapngWriter(out, "test")
    for ts_ns, link_type, data in some:
        writer.write(data, ts_ns, len(data), link_type, "eth0")
    return out.getvalue()


@given(files, st.binary(max_size=20))
def test_frames_come_by_time_and_those_of_one_time_in_their_order(tmp_path_factory, drawn, tail) -> None:
    order, out = TimeOrder(), [section("test")]
    for place, some in enumerate(drawn):
        later = [ts_ns for other in drawn[place + 1 :] for ts_ns, _, _ in other]
        torn = b"\x06\0\0\0\xff" + tail if place == len(drawn) - 1 else b""
        out.append(order.add(written(some) + torn, min(later, default=LATEST)))
    out.append(order.add(b"", LATEST))
    path: Path = tmp_path_factory.mktemp("order") / "o.pcapng"
    path.write_bytes(b"".join(out))
    with open_offline(str(path)) as handle:
        found = [(one.metadata.ts_ns, one.link_type, one.data) for one in handle.packets()]
    assert found == sorted([frame for some in drawn for frame in some], key=lambda frame: frame[0])
