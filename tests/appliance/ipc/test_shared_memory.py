"""A sender that cuts its memory short harms itself alone: its reader gets an error, and no other event is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.config.schema import Output as Options
from appliance.ipc.event_batch import HEAD_BYTES, RUN, BadMessage, EventMessage, event_header, pack_runs, unpack_events
from appliance.ipc.shared_memory import SharedMemoryError, SlotLease, SlotReader, SlotWriter
from appliance.output.jsonlines import JsonLinesOutput
from appliance.stats.layout import feed_layout
from appliance.stats.page import Page

SLOT = 1 << 20
LINE = b'{"n":1}'


class Memory:
    """Memory of one worker with one slot, and the feed's view of it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "events-1"
        self.writer = SlotWriter(self.path, [folder / "returned"], 1, SLOT)
        self.reader = SlotReader(self.path, folder / "returned", copies=True)

    def batch(self, message: bytes) -> SlotLease:
        slot = self.writer.acquire()
        assert slot is not None
        slot[: len(message)] = message
        number = self.writer.slot_of(slot)
        turn, _ = self.writer.grant(number, 0, len(message))
        return self.reader.lease(number, turn, len(message))

    def cut(self, size: int) -> None:
        """Takes all behind so many bytes of the slot away."""
        os.truncate(self.path, os.stat(self.path).st_size - self.writer.slot_bytes + size)


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(tmp_path)


def message(body: bytes, runs: int = 1) -> bytes:
    table = pack_runs([(1, 1, 2)] * (runs - 1) + [(1, 1, len(body) + 1 - 2 * (runs - 1))])
    return event_header(EventMessage(0, runs, 1, 0, 0, table)) + body


@pytest.mark.parametrize("runs", [1, HEAD_BYTES // RUN.size, 3 * HEAD_BYTES // RUN.size])
def test_a_batch_is_read_alike_wherever_its_table_ends(memory: Memory, runs: int) -> None:
    data = message(LINE * 4000, runs)
    lazy, copied = unpack_events(memory.batch(data)), unpack_events(data)
    assert (bytes(lazy.runs), bytes(lazy.body)) == (bytes(copied.runs), bytes(copied.body))
    assert lazy[:5] == copied[:5]
    assert len(lazy.body) == len(copied.body)


@pytest.mark.parametrize("data", [b"", b"HCE2", message(LINE)[:-1], message(LINE * 4000, 3000)[:5000]])
def test_a_batch_that_is_no_message_is_refused_as_bytes_are(memory: Memory, data: bytes) -> None:
    results: list[object] = []
    for given in (data, memory.batch(data)):
        try:
            results.append(len(unpack_events(given).body))
        except BadMessage as error:
            results.append(str(error))
    assert results[0] == results[1]


def test_what_was_cut_off_is_an_error_for_who_reads_it(memory: Memory) -> None:
    batch = memory.batch(message(bytes(2 * HEAD_BYTES)))
    memory.cut(HEAD_BYTES // 2)
    for read in (bytes, lambda lost: bytes(lost.tail(9)), unpack_events):
        with pytest.raises(SharedMemoryError, match="truncated"):
            read(batch)


def test_a_batch_that_was_read_stays_when_it_is_cut(memory: Memory) -> None:
    data = message(LINE)
    batch = memory.batch(data)
    kept = memoryview(batch)
    memory.cut(0)
    assert bytes(kept) == bytes(batch) == data


def test_memory_that_was_cut_before_it_is_opened_is_no_arena(memory: Memory, tmp_path: Path) -> None:
    memory.cut(0)
    with pytest.raises(SharedMemoryError):
        SlotReader(memory.path, tmp_path / "again", copies=True)


# -- the output ------------------------------------------------------------------------------------------------------


class Written:
    """An output of a feed, and what is in it."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.page = Page.create(folder / "feed.stats", feed_layout(1))
        self.path = folder / "events"
        self.reader = -1
        if kind == "pipe":
            os.mkfifo(self.path)
            self.reader = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        self.output = JsonLinesOutput(Options(path=str(self.path)), self.page, 1 << 22, lossless=False)
        self.output.begin()

    def all(self) -> bytes:
        if self.reader < 0:
            return self.path.read_bytes()
        got = b""
        while True:
            self.output.flush()
            try:
                more = os.read(self.reader, 1 << 20)
            except BlockingIOError:
                return got
            got += more


@pytest.fixture(params=["file", "pipe"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Written]:
    made = Written(tmp_path, request.param)
    yield made
    made.output.close()


def test_a_message_is_written_from_where_it_lies(memory: Memory, written: Written) -> None:
    body = b"\n".join([LINE] * 100_000)
    written.output.write(unpack_events(memory.batch(message(body))).body, 100_000)
    assert written.all() == body + b"\n"


@pytest.mark.parametrize("left", [0, 4096, 65536])
def test_a_message_that_is_cut_while_it_waits_ends_no_line_of_another(
    memory: Memory, written: Written, left: int
) -> None:
    body = b"\n".join([LINE] * 100_000)
    lost = unpack_events(memory.batch(message(body)))
    written.output.write(LINE, 1)
    memory.cut(left)
    written.output.write(lost.body, 100_000)
    written.output.write(LINE, 1)
    lines = written.all().splitlines()
    assert (lines[0], lines[-1]) == (LINE, LINE)
    assert written.page["written_events"] == 2
    assert written.page["dropped_output"] == 100_000
    assert written.page["write_errors"] == 1
    if written.reader < 0:
        assert lines == [LINE, LINE]
