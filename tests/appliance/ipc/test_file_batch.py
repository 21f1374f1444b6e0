"""Messages of files: what is written is read, whatever is left of a slot; other bytes are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.ipc.event_batch import BadMessage
from appliance.ipc.file_batch import ABANDON, DATA, END, FILE_HEADER, FILE_RECORD, FileBatchWriter, unpack_files


def writer(size: int = 1 << 12) -> FileBatchWriter:
    return FileBatchWriter(memoryview(bytearray(size)), worker=3, epoch=1 << 63, cumulative=7)


def test_records_are_read_as_they_were_written() -> None:
    batch = writer()
    assert batch.empty
    assert batch.add_data(1, 0, memoryview(b"abc")) == 3
    assert batch.add_end(1, 3, bytes(32))
    assert batch.add_abandon(2)
    batch.mark_last()
    message = unpack_files(bytes(batch.message()))
    assert (message.worker, message.epoch, message.cumulative, message.last, message.ends) == (3, 1 << 63, 7, True, 1)
    assert [(one.kind, one.number, one.place, bytes(one.data)) for one in message.records] == [
        (DATA, 1, 0, b"abc"),
        (END, 1, 3, bytes(32)),
        (ABANDON, 2, 0, b""),
    ]


@given(st.integers(30, 400), st.binary(min_size=1, max_size=2000))
def test_a_piece_of_any_size_goes_through_slots_of_any_size(size: int, data: bytes) -> None:
    place, rest, found = 0, memoryview(data), b""
    while rest:
        batch = writer(size + 24)
        count = batch.add_data(5, place, rest)
        assert count > 0
        (record,) = unpack_files(batch.message()).records
        assert record.place == place
        found += bytes(record.data)
        place, rest = place + count, rest[count:]
    assert found == data


def test_a_full_message_takes_nothing_more() -> None:
    batch = writer(FILE_HEADER.size + FILE_RECORD.size + 8)
    assert batch.add_data(1, 0, memoryview(bytes(100))) == 8
    assert batch.add_data(1, 8, memoryview(b"x")) == 0
    assert not batch.add_end(1, 8, bytes(32))
    assert not batch.add_abandon(1)
    assert len(batch.message()) == len(batch.buffer)


@given(st.binary(max_size=200))
def test_other_bytes_are_refused_or_read_within_their_bounds(data: bytes) -> None:
    batch = writer()
    batch.add_data(1, 0, memoryview(b"abc"))
    start = bytes(batch.message())
    for message in (data, start + data, start[: len(data)]):
        try:
            read = unpack_files(message)
        except BadMessage:
            continue
        assert sum(len(record.data) for record in read.records) < len(message)


@pytest.mark.parametrize("at", range(FILE_HEADER.size))
def test_a_cut_header_is_refused(at: int) -> None:
    with pytest.raises(BadMessage):
        unpack_files(bytes(writer().message())[:at])
