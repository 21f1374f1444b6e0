"""The memory of kept connections: it leaves room to others, and outlives its process as it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from builders import config

from appliance.ipc.memory_sizes import KEPT_CONNECTION_BYTES
from workers.pipeline import Pipeline
from workers.process.kept_memory import KeptMemory

HEADER = 4096


def bytes_of(connections: int) -> int:
    return HEADER + connections * KEPT_CONNECTION_BYTES


def free(path: Path) -> int:
    about = os.statvfs(path)
    return about.f_bavail * about.f_frsize


def test_new_memory_holds_the_connections_that_were_asked_for(tmp_path: Path) -> None:
    made = KeptMemory(tmp_path / "kept", 7, bytes_of)
    assert len(made.memory) == bytes_of(7)
    assert made.allocate(7)


def test_a_successor_gets_the_memory_as_it_is(tmp_path: Path) -> None:
    KeptMemory(tmp_path / "kept", 7, bytes_of).memory[:4] = b"kept"
    successor = KeptMemory(tmp_path / "kept", 9, bytes_of, spare=1 << 60)
    assert (len(successor.memory), successor.memory[:4]) == (bytes_of(7), b"kept")


def test_new_memory_leaves_room_for_others(tmp_path: Path) -> None:
    assert len(KeptMemory(tmp_path / "kept", 7, bytes_of, spare=1 << 60).memory) == bytes_of(0)


def test_several_share_the_room_that_others_leave(tmp_path: Path) -> None:
    spare = free(tmp_path) - 3 * bytes_of(1000)
    made = KeptMemory(tmp_path / "kept", 4000, bytes_of, spare=spare, sharers=3)
    assert len(made.memory) < bytes_of(2000)


@pytest.mark.parametrize("size", [1, HEADER - 1, bytes_of(8)])
def test_memory_of_another_size_is_made_anew(size: int, tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"x" * size)
    made = KeptMemory(tmp_path / "kept", 7, bytes_of)
    assert (len(made.memory), made.memory[:4]) == (bytes_of(7), bytes(4))


def test_a_connection_takes_what_the_doctor_expects() -> None:
    pipeline = Pipeline(config())
    assert pipeline.kept_bytes(5) - pipeline.kept_bytes(4) == KEPT_CONNECTION_BYTES
