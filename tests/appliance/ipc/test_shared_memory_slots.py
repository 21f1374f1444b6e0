"""A slot that two receivers read: it is free when both have returned it, and each finds its own after a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.ipc.shared_memory import SharedMemoryError, SlotReader, SlotWriter

SLOT = 4096
SLOTS = 3


class Memory:
    """Memory of one capture with two workers and a recorder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "frames-1"
        self.returns = [folder / name for name in ("worker-0", "worker-1", "recorder")]
        self.writer = SlotWriter(self.path, self.returns, SLOTS, SLOT, shared=True)
        self.workers = [SlotReader(self.path, self.returns[worker]) for worker in range(2)]
        self.recorder = self.another_recorder()
        for place, reader in enumerate([*self.workers, self.recorder]):
            reader.resume(place, 0)

    def another_recorder(self) -> SlotReader:
        return SlotReader(self.path, self.returns[2], shared=True)

    def send(self, worker: int, text: bytes, before: int) -> tuple[int, int, int]:
        """Grant a batch to a worker and share it; return its slot, turn and length."""
        slot = self.writer.acquire()
        assert slot is not None
        slot[: len(text)] = text
        number = self.writer.slot_of(slot)
        turn, _ = self.writer.grant(number, worker, len(text))
        assert self.writer.share(number, 2, len(text), before)[0] == turn
        return number, turn, len(text)


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(tmp_path)


def test_a_slot_is_free_when_both_have_returned_it(memory: Memory) -> None:
    sent = [memory.send(number % 2, b"batch", number) for number in range(SLOTS)]
    theirs = [memory.workers[number % 2].lease(*one) for number, one in enumerate(sent)]
    recorded = [memory.recorder.lease(*one) for one in sent]
    assert [lease.beside() for lease in recorded] == [0, 1, 2]
    theirs.clear()
    memory.writer.reclaim()
    assert memory.writer.acquire() is None
    assert [bytes(lease) for lease in recorded] == [b"batch"] * SLOTS
    assert [memory.writer.in_use(receiver) for receiver in range(3)] == [0, 0, SLOTS]
    del recorded[0]
    slot = memory.writer.acquire()
    assert slot is not None
    assert memory.writer.slot_of(slot) == sent[0][0]


def test_a_restarted_receiver_finds_what_the_others_have_returned(memory: Memory) -> None:
    sent = [memory.send(0, b"%d" % number, 10 * number) for number in range(SLOTS)]
    for one in sent:
        memory.workers[0].lease(*one)  # returned at once
    memory.recorder.lease(*sent[0])
    again = memory.another_recorder()
    found = again.resume(2, 1)
    assert [serial for serial, *_ in found] == [1, 2]
    leases = [again.lease(*one) for _, *one in found]
    assert [(bytes(lease), lease.beside()) for lease in leases] == [(b"1", 10), (b"2", 20)]
    assert memory.workers[0].unread(0, 0) == []


def test_a_batch_for_the_last_receiver_alone_is_in_no_table_of_the_others(memory: Memory) -> None:
    slot = memory.writer.acquire()
    assert slot is not None
    turn, serial = memory.writer.share(memory.writer.slot_of(slot), 2, 3, 7)
    assert (turn, serial) == (1, 0)
    assert [reader.unread(place, 0) for place, reader in enumerate(memory.workers)] == [[], []]
    (found,) = memory.recorder.unread(2, 0)
    memory.recorder.lease(*found[1:])
    memory.writer.reclaim()
    assert memory.writer.in_use(2) == 0


def test_memory_that_is_not_shared_has_no_reader_of_shared_slots(tmp_path: Path) -> None:
    SlotWriter(tmp_path / "m", [tmp_path / "a"], 1, SLOT)
    with pytest.raises(SharedMemoryError, match="not an arena"):
        SlotReader(tmp_path / "m", tmp_path / "b", shared=True)
