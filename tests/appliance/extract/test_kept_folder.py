"""The folder of kept frames: whole pairs only, bounded, also behind a kill."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import pytest

from appliance.extract.kept_folder import KeptFolder, kept_pairs
from appliance.native.safe_files import FolderBusy

NOW = datetime(2026, 11, 30, 19, 41, 21, tzinfo=UTC)


def write(count: int = 1000) -> object:
    def into(out: BinaryIO) -> None:
        out.write(bytes(count))

    return into


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def add(folder: KeptFolder, count: int = 1000) -> Path | None:
    return folder.add(write(count), b"{}\n", NOW)  # type: ignore[arg-type]


def test_a_pair_has_frames_and_events(tmp_path: Path) -> None:
    folder = KeptFolder(tmp_path / "a" / "kept", 1 << 20)
    path = add(folder)
    assert path == tmp_path / "a" / "kept" / "kept-20261130T194121Z-000001.pcapng"
    assert path.read_bytes() == bytes(1000)
    assert path.with_suffix(".jsonl").read_bytes() == b"{}\n"
    assert {path.stat().st_mode & 0o777 for path in folder.path.iterdir()} == {0o640}
    assert folder.size == 1003


def test_the_oldest_pairs_make_room_and_one_that_is_too_large_takes_none(tmp_path: Path) -> None:
    folder = KeptFolder(tmp_path, 3009)
    for _ in range(5):
        assert add(folder)
    assert [name[-13:-7] for name in names(tmp_path) if name.endswith("pcapng")] == ["000003", "000004", "000005"]
    assert folder.removed == 2
    assert add(folder, 4000) is None
    assert [name[-13:-7] for name in names(tmp_path) if name.endswith("pcapng")] == ["000003", "000004", "000005"]
    assert add(folder) is not None


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    folder = KeptFolder(tmp_path, 1 << 20)

    def full(out: BinaryIO) -> None:
        out.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        folder.add(full, b"{}\n", NOW)
    assert names(tmp_path) == []


def test_another_start_goes_on_with_the_folder(tmp_path: Path) -> None:
    folder = KeptFolder(tmp_path, 1 << 20)
    for _ in range(3):
        add(folder)
    with pytest.raises(FolderBusy):
        KeptFolder(tmp_path, 1 << 20)
    folder.close()
    (tmp_path / "kept-20261130T194121Z-000004.jsonl.part").touch()
    (tmp_path / "notes").touch()
    folder = KeptFolder(tmp_path, 2006)
    assert names(tmp_path)[:2] == ["kept-20261130T194121Z-000002.jsonl", "kept-20261130T194121Z-000002.pcapng"]
    path = add(folder)
    assert path is not None
    assert path.name == "kept-20261130T194121Z-000004.pcapng"
    assert "notes" in names(tmp_path)


def test_parts_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    for name in ("kept-20261130T194121Z-000007.pcapng.part", "kept-20261130T194121Z-000007.jsonl.part", "other.part"):
        (tmp_path / name).write_bytes(b"half")
    assert KeptFolder(tmp_path, 1 << 20).size == 0
    assert names(tmp_path) == ["other.part"]


def test_pairs_are_listed_with_the_oldest_first_and_halves_are_not(tmp_path: Path) -> None:
    folder = KeptFolder(tmp_path, 1 << 20)
    first, second, third = add(folder), add(folder), add(folder)
    assert first
    assert second
    assert third
    second.with_suffix(".jsonl").unlink()
    assert kept_pairs(tmp_path) == [(path, path.with_suffix(".jsonl")) for path in (first, third)]
