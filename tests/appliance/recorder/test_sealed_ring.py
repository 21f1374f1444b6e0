"""A sealed ring: its owner reads what was recorded, others read nothing, and a change is noticed."""

from __future__ import annotations

import errno
import os
import random
import tempfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st
from test_ring_writer import Frames, batches, numbers_of, talk

from appliance.ipc.frame_batch import header
from appliance.recorder import ring_writer
from appliance.recorder.ring_writer import RingWriter
from appliance.ring import sealing
from appliance.ring.reader import Ring
from appliance.ring.sealing import SealError, private_key, public_key

LIMIT = 1 << 20
OWNER = X25519PrivateKey.generate()


def write(folder: Path, frames: Frames, size: int = 4096) -> RingWriter:
    folder.mkdir(exist_ok=True)
    ring = RingWriter(folder, LIMIT, 0, OWNER.public_key())
    for message in batches(frames, size=size):
        ring.add(header(message), message, "eth0", 0)
        ring.flush()
    return ring


def recorded(folder: Path, *ports: int, identity: X25519PrivateKey | None = OWNER) -> Frames:
    """Return the frames of some connections, out of the ring."""
    ring = Ring(folder, identity)
    try:
        read = [place.file.read(place.offset) for place in ring.places(numbers_of(*ports))]
        return [(one[0].ts_ns, one[0].data) for one in read if one]
    finally:
        ring.close()


def test_the_owner_of_the_key_reads_what_was_recorded(tmp_path: Path) -> None:
    frames = sorted(talk() + talk(40001))
    ring = write(tmp_path, frames)
    assert recorded(tmp_path, 40000, 40001) == frames  # while it is written
    ring.close()
    assert recorded(tmp_path, 40001) == talk(40001)
    reader = Ring(tmp_path, OWNER)
    assert [file.overlaps(0, frames[0][0] - 1) for file in reader.files] == [False]
    assert b"".join(reader.capture()).count(b"GET /4000") == 2
    reader.close()


def test_the_files_say_nothing_to_others(tmp_path: Path) -> None:
    write(tmp_path, talk()).close()
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for known in (b"GET /40000", bytes([192, 0, 2, 1]), bytes([198, 51, 100, 2]), b"eth0"):
        assert known not in content
    with pytest.raises(SealError, match="reading it needs the private key"):
        Ring(tmp_path)
    with pytest.raises(SealError, match="encrypted to another key"):
        Ring(tmp_path, X25519PrivateKey.generate())


def test_pieces_of_a_large_flush_are_one_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "PIECE", 100)
    frames = talk()
    write(tmp_path, frames, size=1 << 20).close()
    assert recorded(tmp_path, 40000) == frames


@pytest.mark.parametrize("suffix", ["sealed", "index"])
@given(seed=st.integers(0, 1 << 30))
def test_a_change_is_noticed_or_costs_the_end(suffix: str, seed: int) -> None:
    source = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, talk()).close()
        (path,) = folder.glob(f"*.{suffix}")
        content = bytearray(path.read_bytes())
        first = 72 if suffix == "index" else 0  # counts and times in the header are in the clear
        content[source.randrange(first, len(content))] ^= 1 << source.randrange(8)
        path.write_bytes(content)
        try:
            found = recorded(folder, 40000)
        except SealError:
            return
        assert found == talk()[: len(found)]


def test_chunks_in_another_order_are_noticed(tmp_path: Path) -> None:
    write(tmp_path, talk()).close()
    (path,) = tmp_path.glob("*.sealed")
    content = path.read_bytes()

    def read(offset: int, length: int) -> bytes:
        return content[offset : offset + length]

    places = list(sealing.chunks(read, sealing.first_chunk(read), len(content)))
    first, second = (content[chunk.offset : chunk.end] for chunk in places[1:3])
    path.write_bytes(content[: places[1].offset] + second + first + content[places[2].end :])
    with pytest.raises(SealError, match="changed since it was written"):
        recorded(tmp_path, 40000)


@given(st.integers(0, 1 << 30), st.booleans(), st.integers(0, 4))
def test_a_recorder_killed_at_any_byte_leaves_whole_chunks(seed: int, without_index: bool, lag: int) -> None:
    source = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frames = sorted(talk() + talk(40001))
        ring = RingWriter(folder, LIMIT, 0, OWNER.public_key())
        heads, sizes = [], []
        for message in batches(frames, size=4096):
            ring.add(header(message), message, "eth0", 0)
            ring.flush()
            (index,), (data,) = folder.glob("*.index"), folder.glob("*.sealed")
            heads.append(index.read_bytes()[:72])
            sizes.append(data.stat().st_size)
        os.close(ring._folder)  # as a kill does
        at = max(0, len(heads) - 1 - lag)
        cut = source.randint(sizes[at], data.stat().st_size)
        os.truncate(data, cut)
        if without_index:
            index.unlink()
        else:
            index.write_bytes(heads[at] + index.read_bytes()[72 : source.randint(72, index.stat().st_size)])
        before = recorded(folder, 40000, 40001)
        again = RingWriter(folder, LIMIT, 0, OWNER.public_key())
        assert again.size == sum(path.stat().st_size for path in folder.iterdir())
        again.close()
        assert recorded(folder, 40000, 40001) == before
        assert set(before) <= set(frames)
        if without_index:
            assert before == frames[: len(before)]
        assert again.torn_bytes == cut - data.stat().st_size


def test_a_recorder_killed_before_the_keys_are_written_leaves_an_empty_file(tmp_path: Path) -> None:
    write(tmp_path, talk()).close()
    (path,) = tmp_path.glob("*.sealed")
    whole = path.read_bytes()
    for size in (0, 8, 40):
        path.write_bytes(whole[:size])
        path.with_name(path.name + ".index").write_bytes(b"")
        assert recorded(tmp_path, 40000) == []
        ring = RingWriter(tmp_path, LIMIT, 0, OWNER.public_key())
        ring.close()
        assert path.stat().st_size == 0


def test_a_file_without_the_keys_of_a_recorder_is_named(tmp_path: Path) -> None:
    write(tmp_path, talk()).close()
    (path,) = tmp_path.glob("*.sealed")
    sealed = sealing._SUITE.encrypt(b"short", OWNER.public_key(), sealing._INFO)
    for content in (bytes(100), sealing._HEAD.pack(sealing.MAGIC, len(sealed)) + sealed):
        path.write_bytes(content)
        with pytest.raises(SealError, match="not a sealed file"):
            Ring(tmp_path, OWNER)


def test_a_failed_write_costs_its_frames_and_no_number_is_used_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = write(tmp_path, talk())
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
    assert recorded(tmp_path, 40001) == []
    ring.add(header(message), message, "eth0", 0)
    ring.close()
    assert recorded(tmp_path, 40000) == talk()
    assert recorded(tmp_path, 40001) == talk(40001)


def test_a_ring_may_have_sealed_files_and_others(tmp_path: Path) -> None:
    ring = RingWriter(tmp_path, LIMIT, 0)
    for message in batches(talk()):
        ring.add(header(message), message, "eth0", 0)
    ring.close()
    write(tmp_path, talk(40001)).close()
    assert sorted(recorded(tmp_path, 40000, 40001)) == sorted(talk() + talk(40001))


def test_keys_are_read_from_pem_and_others_are_named(tmp_path: Path) -> None:
    private, public, locked = tmp_path / "private", tmp_path / "public", tmp_path / "locked"
    private.write_bytes(OWNER.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(OWNER.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    locked.write_bytes(OWNER.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word")))
    assert private_key(private).private_bytes_raw() == OWNER.private_bytes_raw()
    assert public_key(public).public_bytes_raw() == OWNER.public_key().public_bytes_raw()
    for wrong in (public, locked):
        with pytest.raises(SealError, match="not an X25519 private key"):
            private_key(wrong)
    with pytest.raises(SealError, match="not the public key"):
        public_key(private)
    with pytest.raises(FileNotFoundError):
        public_key(tmp_path / "none")
