"""The ring on a disk: what is recorded comes out again, its size has a limit, and a cut costs its tail alone."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from builders import KEY
from conversation import START_NS, Conversation
from eventually import PATIENCE_S
from exchange import exchange
from hypothesis import given
from hypothesis import strategies as st
from ip_fragments import all_fragmented

from appliance.capture.sharder import Sharder
from appliance.config.schema import Config, Record, Shard
from appliance.ipc.frame_batch import header
from appliance.native.safe_files import FolderBusy
from appliance.pcap.opening import open_offline
from appliance.recorder import ring_writer
from appliance.recorder.ring_writer import RingWriter
from appliance.ring.frame_blocks import connection_number
from appliance.ring.reader import Ring
from appliance.wire.tcp_locator import find

LIMIT = 1 << 20
Frames = list[tuple[int, bytes]]
SECOND = 1_000_000_000


def talk(port: int = 40000, *, at: int = START_NS, **how: object) -> Frames:
    made = Conversation("192.0.2.1", "198.51.100.2", port, start_ns=at, **how).handshake()
    made.exchange(exchange("GET", f"/{port}", body=b"x" * 3000))
    return made.close("client").frames


def batches(frames: Frames, workers: int = 1, size: int = 4096) -> list[memoryview]:
    config = Config(shard=Shard(batch_bytes=size), record=Record(path="somewhere"))
    sharder = Sharder(KEY, workers, config)
    for ts_ns, frame in frames:
        sharder.push(ts_ns, frame)
    return [message for _, frames, message in sharder.end() if frames]


def write(folder: Path, frames: Frames, *, share: int = 0, limit: int = LIMIT, **how: object) -> RingWriter:
    folder.mkdir(exist_ok=True)
    ring = RingWriter(folder, limit, 0)
    for message in batches(frames, **how):
        ring.add(header(message), message, "eth0", share)
        ring.flush()
    return ring


def numbers_of(*ports: int):
    ends = [(bytes([192, 0, 2, 1]) + port.to_bytes(2), bytes([198, 51, 100, 2, 0, 80])) for port in ports]
    return lambda key: {connection_number(key, source, destination, False) for source, destination in ends}


def recorded(folder: Path, *ports: int) -> Frames:
    """The frames of some connections, out of the ring."""
    ring = Ring(folder)
    found = []
    for place in ring.places(numbers_of(*ports)):
        read = place.file.read(place.offset)
        assert read is not None
        assert (read[0].ts_ns, read[1].name) == (place.ts_ns, "eth0")
        found.append((read[0].ts_ns, read[0].data))
    ring.close()
    return found


def located(frame: bytes) -> tuple[list[int], bytes]:
    """The VLANs of a frame, and its segment."""
    verdict, _, at, _, vlans = find(1, frame)
    assert verdict == "found"
    return vlans, frame[at:]


def everything(folder: Path) -> Frames:
    """All frames of all files, as libpcap reads them."""
    found = []
    for path in sorted(folder.glob("*.pcapng")):
        with open_offline(str(path)) as handle:
            found += [(packet.metadata.ts_ns, packet.data) for packet in handle.packets()]
    return found


def test_a_connection_comes_out_as_it_was_and_others_stay(tmp_path: Path) -> None:
    one, other = talk(), talk(40001)
    write(tmp_path / "ring", sorted(one + other)).close()
    assert recorded(tmp_path / "ring", 40000) == one
    assert recorded(tmp_path / "ring", 40001) == other
    assert recorded(tmp_path / "ring", 40000, 40001) == sorted(one + other, key=lambda frame: frame[0])
    assert recorded(tmp_path / "ring", 40002) == []
    assert everything(tmp_path / "ring") == sorted(one + other)


def test_a_reader_sees_what_was_flushed_while_it_is_written(tmp_path: Path) -> None:
    frames = talk()
    ring = write(tmp_path / "ring", frames)
    assert recorded(tmp_path / "ring", 40000) == everything(tmp_path / "ring") == frames
    ring.close()


def test_frames_of_two_workers_come_in_the_order_of_time(tmp_path: Path) -> None:
    frames = sorted(frame for port in range(40000, 40008) for frame in talk(port, at=START_NS + port % 8 * 1000))
    write(tmp_path / "ring", frames, workers=2, size=1 << 20).close()
    assert recorded(tmp_path / "ring", *range(40000, 40008)) == frames
    assert everything(tmp_path / "ring") != frames


@pytest.mark.parametrize("vlans", [(), (7,), (7, 9)])
def test_a_reassembled_datagram_gets_a_header_with_its_vlans(tmp_path: Path, vlans: tuple[int, ...]) -> None:
    whole = talk(vlans=vlans) if vlans else talk()
    write(tmp_path / "ring", all_fragmented(whole, 400)).close()
    ring = Ring(tmp_path / "ring")
    found = [place.file.read(place.offset) for place in ring.places(numbers_of(40000))]
    assert [located(one[0].data) for one in found if one] == [located(frame) for _, frame in whole]
    assert {one[1].name for one in found if one} == {"eth0", "eth0 (reassembled)"}


def test_left_out_connections_are_left_out_whole_and_counted(tmp_path: Path) -> None:
    talks = {port: talk(port) for port in range(40000, 40050)}
    write(tmp_path / "ring", sorted(frame for frames in talks.values() for frame in frames), share=128).close()
    kept = [port for port, frames in talks.items() if recorded(tmp_path / "ring", port) == frames]
    gone = [port for port in talks if not recorded(tmp_path / "ring", port)]
    assert sorted(kept + gone) == sorted(talks)
    assert kept
    assert gone
    ring = Ring(tmp_path / "ring")
    headers = [file.header for file in ring.files]
    assert sum(one.left_out for one in headers if one) == sum(len(talks[port]) for port in gone)
    assert sum(one.frames for one in headers if one) == sum(len(talks[port]) for port in kept)


def test_the_oldest_files_go_when_the_ring_is_full(tmp_path: Path) -> None:
    folder = tmp_path / "ring"
    frames = sorted(frame for port in range(40000, 40400) for frame in talk(port, at=START_NS + port * SECOND))
    ring = write(folder, frames)
    sizes = sum(path.stat().st_size for path in folder.iterdir())
    assert ring.removed_files > 0
    assert ring.size == sizes <= LIMIT
    assert sizes > LIMIT * 0.8
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o640}
    ring.close()
    kept = everything(folder)
    assert kept == frames[-len(kept) :]


def test_files_go_by_age(tmp_path: Path) -> None:
    folder = tmp_path / "ring"
    write(folder, talk()).close()
    ring = RingWriter(folder, LIMIT, 60)
    ring.tick(START_NS + 59 * SECOND)
    assert ring.files == 1
    ring.tick(START_NS + 90 * SECOND)
    assert (ring.files, ring.removed_files) == (0, 1)
    assert list(folder.iterdir()) == []


def test_the_ring_goes_on_and_a_smaller_one_loses_its_oldest_files(tmp_path: Path) -> None:
    folder = tmp_path / "ring"
    frames = sorted(frame for port in range(40000, 40100) for frame in talk(port, at=START_NS + port * SECOND))
    write(folder, frames).close()
    write(folder, talk(40100, at=START_NS + 50000 * SECOND)).close()
    assert recorded(folder, 40000) == frames[: len(talk(40000))]
    ring = write(folder, talk(40101, at=START_NS + 60000 * SECOND), limit=LIMIT // 8)
    ring.close()
    assert sum(path.stat().st_size for path in folder.iterdir()) <= LIMIT // 8
    assert recorded(folder, 40101)
    assert not recorded(folder, 40000)


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "ring"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "frames-20260101T000000Z-000001.pcapng.old").write_text("mine")
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    (folder / "frames-20260101T000000Z-000007.pcapng").symlink_to(target)
    write(folder, sorted(frame for port in range(40000, 40300) for frame in talk(port))).close()
    assert (folder / "notes.txt").read_text() == "mine"
    assert target.read_bytes() == b"precious"


def test_one_recorder_a_folder(tmp_path: Path) -> None:
    ring = write(tmp_path / "ring", talk())
    with pytest.raises(FolderBusy):
        RingWriter(tmp_path / "ring", LIMIT, 0)
    ring.close()
    RingWriter(tmp_path / "ring", LIMIT, 0).close()


def test_a_failed_write_leaves_the_ring_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "ring"
    ring = write(folder, talk())
    real = os.write

    def full(descriptor: int, data: memoryview) -> int:
        if len(data) > 1000:  # half of it, then nothing
            return real(descriptor, data[:1000])
        raise OSError(errno.ENOSPC, "full")

    (message,) = batches(talk(40001), size=1 << 20)
    ring.add(header(message), message, "eth0", 0)
    monkeypatch.setattr(ring_writer.os, "write", full)
    with pytest.raises(OSError, match="full"):
        ring.flush()
    monkeypatch.undo()
    assert recorded(folder, 40001) == []
    ring.add(header(message), message, "eth0", 0)
    ring.flush()
    assert recorded(folder, 40000) == talk()
    assert recorded(folder, 40001) == talk(40001)
    ring.close()
    assert everything(folder) == talk() + talk(40001)
    ring = RingWriter(folder, LIMIT, 0)
    assert ring.torn_bytes == 0


@given(st.integers(0, 1 << 30), st.booleans(), st.integers(0, 4))
def test_a_recorder_killed_at_any_byte_leaves_what_is_whole(seed: int, without_index: bool, lag: int) -> None:
    """The files of a killed recorder end anywhere, and the header of the index may be some flushes old."""
    random_source = random.Random(seed)
    folder = Path(os.environ.get("PYTEST_RING", "/tmp")) / f"ring-{os.getpid()}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        frames = sorted(talk() + talk(40001))
        folder.mkdir()
        ring = RingWriter(folder, LIMIT, 0)
        heads = []
        for message in batches(frames, size=4096):
            ring.add(header(message), message, "eth0", 0)
            ring.flush()
            (index,) = folder.glob("*.index")
            heads.append(index.read_bytes()[:72])
        (data,) = folder.glob("*.pcapng")
        os.close(ring._folder)  # as a kill does
        at = max(0, len(heads) - 1 - lag)
        known = int.from_bytes(heads[at][24:32], "little")
        cut = random_source.randint(known, data.stat().st_size)
        os.truncate(data, cut)
        if without_index:
            index.unlink()
        else:
            index.write_bytes(heads[at] + index.read_bytes()[72:])
        before = recorded(folder, 40000, 40001)
        again = RingWriter(folder, LIMIT, 0)
        again.close()
        assert recorded(folder, 40000, 40001) == before
        assert before == frames[: len(before)]
        size = data.stat().st_size
        assert again.torn_bytes == cut - size
        assert everything(folder) == before
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_other_programs_read_a_file(tmp_path: Path) -> None:
    program = shutil.which("capinfos")
    if program is None:
        pytest.skip("capinfos is not installed")
    write(tmp_path / "ring", talk()).close()
    (path,) = (tmp_path / "ring").glob("*.pcapng")
    said = subprocess.run([program, path], capture_output=True, text=True, check=True, timeout=PATIENCE_S).stdout
    assert f"{len(talk())}" in said
    assert "nanoseconds" in said
    assert "Name = eth0" in said
