"""Batches that workers died of: who writes them where, and what goes when there are too many."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import batches_of, get, talk

from appliance.ipc.frame_batch import BadBatch, header
from appliance.runtime.paths import QUARANTINE
from appliance.runtime.run_directory import RunDirectory
from workers.process.quarantine import keep


@pytest.fixture
def home(tmp_path: Path) -> Iterator[RunDirectory]:
    made = RunDirectory.open(str(tmp_path / "run"))
    (made.path / "worker-0").mkdir()
    yield made
    made.close()


def batch() -> memoryview:
    (batches,), _ = batches_of(())
    return memoryview(batches[-1])


def test_a_worker_writes_in_its_folder_and_the_supervisor_takes_it_in(home: RunDirectory) -> None:
    made = keep(home.path, 0, batch(), 1, 2)
    assert made is not None
    assert made.parent == home.path / QUARANTINE
    assert not made.exists()
    home.quarantine(1, 2)
    assert stat.S_IMODE(made.stat().st_mode) == 0o640
    assert list((home.path / "worker-0").iterdir()) == []


def test_a_batch_that_cannot_be_read_leaves_no_file(home: RunDirectory) -> None:
    (batches,), _ = batches_of(talk(get(0)).frames)
    torn = bytearray(next(made for made in batches if header(made).frames))
    torn[-8:] = b""
    with pytest.raises(BadBatch):
        keep(home.path, 0, memoryview(torn), 1, 2)
    assert list((home.path / "worker-0").iterdir()) == []


def test_the_oldest_goes_but_for_a_file_that_is_being_read(home: RunDirectory, tmp_path: Path) -> None:
    folder = home.path / QUARANTINE
    folder.mkdir()
    for number in range(3):
        (folder / f"worker-0-{number}.pcap").write_bytes(b"kept")
        os.utime(folder / f"worker-0-{number}.pcap", (number, number))
    read = tmp_path / "read.pcap"
    os.link(folder / "worker-0-0.pcap", read)
    made = keep(home.path, 0, batch(), 1, 2)
    assert made is not None
    home.quarantine(1, 2, spare=str(read))
    assert sorted(path.name for path in folder.iterdir()) == sorted(["worker-0-0.pcap", "worker-0-2.pcap", made.name])


@pytest.mark.parametrize("what", ["link", "hard link", "folder", "pipe", "other name", "of another worker"])
def test_what_is_no_file_of_the_worker_is_not_taken_in(home: RunDirectory, tmp_path: Path, what: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("root's")
    path = home.path / "worker-0" / "worker-0-1.pcap"
    if what == "link":
        path.symlink_to(secret)
    elif what == "hard link":
        os.link(secret, path)
    elif what == "folder":
        (path / "inner").mkdir(parents=True)
    elif what == "pipe":
        os.mkfifo(path)
    else:
        name = "worker-1-1.pcap" if what == "of another worker" else "x.pcap"
        path.with_name(name).write_text("")
    home.quarantine(1, 2)
    assert not (home.path / QUARANTINE).exists()
    assert secret.read_text() == "root's"


def test_a_linked_folder_of_a_worker_is_not_entered(home: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "worker-0-1.pcap").write_text("")
    (home.path / "worker-0").rmdir()
    (home.path / "worker-0").symlink_to(tmp_path / "theirs")
    home.quarantine(1, 2)
    assert (tmp_path / "theirs" / "worker-0-1.pcap").exists()
