"""The folder of files: whole files under their digests, each once, within budget and age."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.config.section_files import Files
from appliance.files.store import BUDGET, DISK, DUPLICATE, KEPT, LOST, MISMATCH, FileStore
from appliance.native.safe_files import FolderBusy

SECOND = 10**9


def store(folder: Path, **options: object) -> FileStore:
    (folder / "new").mkdir(exist_ok=True)
    return FileStore(Files(path=str(folder), **options), most_parts=100)  # type: ignore[arg-type]


def put(into: FileStore, content: bytes, number: int = 1, now_ns: int = SECOND) -> str:
    """Put a whole file, in one message."""
    into.add((0, number), 0, memoryview(content))
    into.flush()
    return into.end((0, number), len(content), hashlib.sha256(content).digest(), now_ns)


def name_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def test_a_file_has_the_name_of_its_content_and_comes_once(tmp_path: Path) -> None:
    made = store(tmp_path)
    assert put(made, b"one") == KEPT
    assert put(made, b"two", 2) == KEPT
    assert put(made, b"one", 3) == DUPLICATE
    assert names(tmp_path) == {name_of(b"one"), name_of(b"two")}
    assert (tmp_path / name_of(b"one")).read_bytes() == b"one"
    assert (made.files, made.size, made.kept_bytes) == (2, 8192, 6)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_any_order_of_pieces_of_several_bodies_gives_exactly_the_whole_ones(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("store")
    made = store(folder)
    contents = data.draw(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=6))
    places = [0] * len(contents)
    holes = set(data.draw(st.sets(st.integers(0, len(contents) - 1))))
    waiting = set(range(len(contents)))
    expected, outcomes = set(), []
    while waiting:
        number = data.draw(st.sampled_from(sorted(waiting)))
        content = contents[number]
        count = data.draw(st.integers(1, 100))
        piece = content[places[number] : places[number] + count]
        if not piece:
            digest = hashlib.sha256(content).digest()
            outcomes.append(made.end((1, number), len(content), digest, SECOND))
            waiting.remove(number)
            whole = number not in holes
            assert (outcomes[-1] in (KEPT, DUPLICATE)) == whole
            expected |= {digest.hex()} if whole else set()
            continue
        if not (number in holes and places[number] + len(piece) == len(content)):  # the last piece is lost
            made.add((1, number), places[number], memoryview(piece))
        places[number] += len(piece)
        if data.draw(st.booleans()):
            made.flush()
    made.close()
    assert names(folder) == expected


def test_a_wrong_digest_or_size_or_a_lost_piece_is_no_file(tmp_path: Path) -> None:
    made = store(tmp_path)
    made.add((0, 1), 0, memoryview(b"abc"))
    assert made.end((0, 1), 3, bytes(32), SECOND) == MISMATCH
    made.add((0, 2), 0, memoryview(b"abc"))
    assert made.end((0, 2), 4, hashlib.sha256(b"abc").digest(), SECOND) == LOST
    made.add((0, 3), 0, memoryview(b"a"))
    made.flush()
    made.add((0, 3), 2, memoryview(b"c"))
    assert made.end((0, 3), 3, hashlib.sha256(b"ac").digest(), SECOND) == LOST
    made.add((0, 4), 5, memoryview(b"abc"))  # its beginning died with another process
    assert made.end((0, 4), 8, hashlib.sha256(b"abc").digest(), SECOND) == LOST
    assert names(tmp_path) == set()
    assert made.size == 0


def test_abandoned_parts_and_those_of_a_gone_worker_are_removed(tmp_path: Path) -> None:
    made = store(tmp_path)
    for worker in (0, 1):
        for number in (1, 2):
            made.add((worker, number), 0, memoryview(bytes(5000)))
    made.flush()
    assert len(names(tmp_path)) == 4
    made.abandon((0, 1))
    made.abandon_all(1)
    assert names(tmp_path) == {"part-0-2"}
    assert made.size == 8192


def test_the_file_seen_longest_ago_makes_room(tmp_path: Path) -> None:
    made = store(tmp_path, budget_bytes=1 << 20, max_bytes=1 << 18)
    contents = [bytes([number]) * 200_000 for number in range(8)]
    for number, content in enumerate(contents[:4]):
        assert put(made, content, number, number * SECOND) == KEPT
    assert put(made, contents[0], 9, 9 * SECOND) == DUPLICATE
    for number in (5, 6):
        assert put(made, contents[number], number, (10 + number) * SECOND) == KEPT
    assert name_of(contents[0]) in names(tmp_path)
    assert name_of(contents[1]) not in names(tmp_path)
    assert made.removed == {"budget": 1, "age": 0}
    assert made.size <= 1 << 20


def test_unfinished_files_use_half_of_the_budget(tmp_path: Path) -> None:
    made = store(tmp_path, budget_bytes=1 << 20, max_bytes=1 << 18)
    assert put(made, b"kept") == KEPT
    for number in range(2, 8):
        made.add((0, number), 0, memoryview(bytes(200_000)))
        made.flush()
    assert made.end((0, 7), 200_000, hashlib.sha256(bytes(200_000)).digest(), SECOND) == BUDGET
    assert name_of(b"kept") in names(tmp_path)
    assert made.end((0, 2), 200_000, hashlib.sha256(bytes(200_000)).digest(), SECOND) == KEPT


def test_an_old_file_is_removed_by_its_age_also_after_a_restart(tmp_path: Path) -> None:
    made = store(tmp_path, keep_s=10)
    put(made, b"one", 1, 1 * SECOND)
    put(made, b"two", 2, 5 * SECOND)
    os.utime(tmp_path / name_of(b"one"), ns=(SECOND, SECOND))
    os.utime(tmp_path / name_of(b"two"), ns=(5 * SECOND, 5 * SECOND))
    made.expire(12 * SECOND)
    assert names(tmp_path) == {name_of(b"two")}
    made.close()
    again = store(tmp_path, keep_s=10)
    assert (again.files, again.oldest_ns) == (1, 5 * SECOND)
    again.expire(16 * SECOND)
    assert names(tmp_path) == set()
    assert (made.removed["age"], again.removed["age"]) == (1, 1)


def test_a_restart_removes_parts_and_leaves_other_files_alone(tmp_path: Path) -> None:
    for name in ("part-0-1", "part-x", "notes.txt", "a" * 64):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / ("b" * 64)).symlink_to(tmp_path / "notes.txt")
    made = store(tmp_path)
    assert names(tmp_path) == {"part-x", "notes.txt", "a" * 64, "b" * 64}
    assert made.files == 1


def test_new_files_are_announced_until_they_are_removed(tmp_path: Path) -> None:
    made = store(tmp_path, announce=True, keep_s=10)
    put(made, b"one")
    put(made, b"one", 2)
    assert names(tmp_path / "new") == {name_of(b"one")}
    made.expire(100 * SECOND)
    assert names(tmp_path / "new") == set()


def test_a_failed_write_costs_the_file_and_those_of_the_next_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = store(tmp_path)

    def full(_descriptor: int, _data: memoryview) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        assert put(made, b"one") == DISK
    assert put(made, b"two", 2) == DISK
    monkeypatch.setattr(made, "_retry_at", 0.0)
    assert put(made, b"three", 3) == KEPT
    assert names(tmp_path) == {name_of(b"three")}
    assert made.write_errors == 1
    assert made.fault is None


def test_two_processes_cannot_have_one_folder(tmp_path: Path) -> None:
    made = store(tmp_path)
    with pytest.raises(FolderBusy, match="another process keeps files there"):
        store(tmp_path)
    made.close()
    store(tmp_path).close()
