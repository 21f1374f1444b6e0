"""Frames in any segmentation, with gaps, and with what RFC 9113 forbids."""

from __future__ import annotations

import random

import pytest
from h2_wire import (
    ACK,
    CLIENT,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PREFACE,
    PUSH_PROMISE,
    SERVER,
    SETTINGS,
    Talk,
    frame,
    headers,
    read,
    reset,
    settings,
    told,
)  # fmt: skip
from hypothesis import given
from hypothesis import strategies as st

from workers.http2.driver import Http2Driver

GET = b"\x82\x86\x84"  # :method GET, :scheme http, :path /
OK = b"\x88"
START = [(CLIENT, PREFACE + settings()), (SERVER, settings()), (CLIENT, frame(SETTINGS, ACK, 0))]
ASKED = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/")]
ANSWERED = [(b":status", b"200")]

seeds = st.integers(0, 2**48)


def fits(got: dict[int, dict[str, object]], want: dict[int, dict[str, object]]) -> None:
    assert got.keys() == want.keys()
    for stream, row in want.items():
        assert {key: got[stream][key] for key in row} == row


@given(seeds)
def test_a_whole_connection_is_read_exactly(seed):
    talk = Talk(seed)
    connection = read(talk.said)
    counts = connection.counts()
    fits(told(connection), talk.expected())
    assert counts["blocks.joined"] == counts["blocks.inferred"] == counts["strays"] == counts["faults"] == 0
    assert counts["client.violations"] == counts["server.violations"] == counts["open"] == counts["held_bytes"] == 0


@given(seeds)
def test_another_split_of_the_bytes_reads_the_same(seed):
    talk = Talk(seed)
    whole = told(read(talk.said))
    assert told(read(talk.pieces(random.Random(seed)))) == whole


def test_one_byte_at_a_time_reads_the_same():
    talk = Talk(7, count=6)
    single = [(side, data[place : place + 1]) for side, data in talk.said for place in range(len(data))]
    assert told(read(single)) == told(read(talk.said))


def test_a_split_at_every_byte_reads_the_same():
    talk = Talk(11, count=2)
    whole = told(read(talk.said))
    for place, (side, data) in enumerate(talk.said):
        for cut in range(1, min(len(data), 80)):
            split = [*talk.said[:place], (side, data[:cut]), (side, data[cut:]), *talk.said[place + 1 :]]
            assert told(read(split)) == whole


@pytest.mark.parametrize("padding", [None, 0, 30])
def test_a_gap_inside_data_is_skipped_exactly(padding):
    before = b"" if padding is None else bytes([padding])
    payload = before + b"x" * 1000 + bytes(padding or 0)
    body = frame(DATA, END_STREAM | (0 if padding is None else PADDED), 1, payload)
    said = [*START, (CLIENT, headers(1, GET, END_HEADERS | END_STREAM)), (SERVER, headers(1, OK))]
    said += [(SERVER, body[:100]), (SERVER, 300), (SERVER, body[400:])]
    said += [(CLIENT, headers(3, GET, END_HEADERS | END_STREAM)), (SERVER, headers(3, OK, END_HEADERS | END_STREAM))]
    connection = read(said)
    assert connection.counts()["server.searches"] == 0
    got = told(connection)
    assert (got[1]["server_body_bytes"], got[1]["server_missing"], got[1]["server_loss"]) == (1000, 300, False)
    assert got[3]["response"] == ANSWERED


def test_a_gap_that_ends_with_its_frame_ends_the_stream():
    body = frame(DATA, END_STREAM, 1, b"x" * 1000)
    said = [*START, (CLIENT, headers(1, GET, END_HEADERS | END_STREAM)), (SERVER, headers(1, OK)), (SERVER, body[:9])]
    connection = read([*said, (SERVER, 1000)])
    assert connection.counts()["server.searches"] == 0
    assert told(connection)[1]["server_ended"]


def test_behind_a_gap_over_frames_reading_resumes_at_the_next_frames():
    lost = frame(DATA, 0, 1, b"y" * 500) + frame(DATA, END_STREAM, 1, b"z" * 200)
    said = [*START, (CLIENT, headers(1, GET, END_HEADERS | END_STREAM)), (SERVER, headers(1, OK) + lost[:50])]
    said += [(SERVER, len(lost) - 100), (SERVER, lost[-50:])]
    said += [(CLIENT, headers(3, GET, END_HEADERS | END_STREAM)), (SERVER, headers(3, OK))]
    said += [(SERVER, frame(DATA, 0, 3, b"bo")), (SERVER, frame(DATA, END_STREAM, 3, b"dy" * 10))]
    connection = read(said)
    counts = connection.counts()
    got = told(connection)
    assert (counts["server.searches"], counts["server.skipped_bytes"]) == (1, 50)
    assert (got[1]["server_loss"], got[3]["response"], got[3]["server_body_bytes"]) == (True, ANSWERED, 22)


def test_a_header_block_cut_by_a_gap_gives_what_was_read():
    field = b"\x40\x01n\x03abc"
    block = GET + field + b"\x40\x02no\x40" + b"v" * 64
    whole = headers(1, block, END_HEADERS | END_STREAM)
    said = [*START, (CLIENT, whole[:25]), (CLIENT, 20), (CLIENT, whole[45:])]
    said += [(CLIENT, headers(3, GET + b"\xbe", END_HEADERS | END_STREAM))]
    connection = read(said)
    got = told(connection)
    assert got[1]["request"] == [*ASKED, (b"n", b"abc")]
    assert got[1]["client_ended"]
    assert got[3]["request"] == [*ASKED, (None, None)]
    assert connection.counts()["client.searches"] == 0


def test_a_block_longer_than_the_limit_is_cut_and_counted():
    field = b"\x00\x01n\x7f\x81\x01" + b"v" * 256  # 256 = 127 + 1 + 128
    parts = [frame(CONTINUATION, 0, 1, field * 40) for _ in range(20)] + [frame(CONTINUATION, END_HEADERS, 1, b"")]
    said = [*START, (CLIENT, frame(HEADERS, END_STREAM, 1, GET) + b"".join(parts))]
    connection = read(said, Http2Driver(block_limit=16384))
    counts = connection.counts()
    assert counts["cut_blocks"] == 1
    assert counts["memory"] < 1 << 17
    got = told(connection)[1]
    assert got["request"][:3] == ASKED
    assert got["client_ended"]


def test_a_flood_of_continuation_frames_takes_no_memory():
    said = [*START, (CLIENT, frame(HEADERS, 0, 1, GET) + frame(CONTINUATION, 0, 1) * 100_000)]
    connection = Http2Driver()
    for side, data in said:
        connection.data(side, data)
    assert connection.counts()["memory"] < 4096


def test_an_indexed_entry_referred_to_a_million_times_is_bounded():
    entry = b"\x40\x01n\x7f\x81\x1e" + b"v" * 3968
    block = GET + entry
    said = [(CLIENT, PREFACE + settings() + headers(1, block))]
    part = b"\xbe" * 16000
    parts = [frame(CONTINUATION, 0, 3, part) for _ in range(60)] + [frame(CONTINUATION, END_HEADERS, 3, part)]
    connection = read([*said, (CLIENT, frame(HEADERS, 0, 3, GET) + b"".join(parts))])
    assert connection.counts()["cut_blocks"] == 1
    assert connection.counts()["memory"] < 1 << 20


def test_streams_are_bounded_and_the_oldest_gives_way():
    said = [*START, *((CLIENT, headers(2 * place + 1, GET)) for place in range(100))]
    connection = Http2Driver(stream_limit=10)
    for side, data in said:
        connection.data(side, data)
    counts = connection.counts()
    assert (counts["open"], counts["evicted"]) == (10, 90)
    assert [exchange.stream for exchange in connection.take()] == list(range(1, 181, 2))


def test_bytes_of_header_sections_are_bounded():
    block = GET + b"\x00\x01n\x7f\x81\x1e" + b"v" * 3968
    connection = Http2Driver(held_limit=20_000)
    connection.data(CLIENT, PREFACE + settings())
    for place in range(100):
        connection.data(CLIENT, headers(2 * place + 1, block))
        assert connection.counts()["held_bytes"] <= 20_000


def test_rapid_reset_leaves_each_request_with_its_reset():
    said = [*START, *((CLIENT, headers(s, GET, END_HEADERS | END_STREAM) + reset(s, 8)) for s in range(1, 401, 2))]
    connection = Http2Driver()
    for side, data in said:
        connection.data(side, data)
    assert connection.counts()["open"] <= 33
    connection.end()
    got = told(connection)
    assert list(got) == list(range(1, 401, 2))
    assert all(row["reset"] == ("client", 8) and row["request"] == ASKED for row in got.values())


def test_data_under_way_to_a_side_that_has_reset_its_stream_is_counted():
    said = [*START, (CLIENT, headers(1, GET, END_HEADERS | END_STREAM) + reset(1, 8))]
    said += [(SERVER, headers(1, OK)), (SERVER, frame(DATA, 0, 1, b"x" * 30))]
    row = told(read(said))[1]
    assert (row["reset"], row["response"], row["server_body_bytes"]) == (("client", 8), ANSWERED, 30)


def test_a_pushed_response_belongs_to_its_promised_request():
    said = [*START, (CLIENT, headers(1, GET, END_HEADERS | END_STREAM))]
    promise = (2).to_bytes(4, "big") + b"\x82\x86\x44\x02/p"
    said += [(SERVER, frame(PUSH_PROMISE, END_HEADERS, 1, promise) + headers(1, OK, END_HEADERS | END_STREAM))]
    said += [(SERVER, headers(2, OK) + frame(DATA, END_STREAM, 2, b"pushed"))]
    connection = read(said)
    exchanges = connection.take()
    assert [(each.stream, each.marks["pushed"]) for each in exchanges] == [(1, False), (2, True)]
    assert exchanges[1].sections[0].get(b":path") == b"/p"
    assert exchanges[1].half(SERVER)["body_bytes"] == 6


def test_an_upgraded_connection_begins_with_stream_1_half_open():
    connection = Http2Driver()
    connection.upgrade()
    said = [(SERVER, settings() + headers(1, OK)), (CLIENT, PREFACE + settings())]
    said += [(SERVER, frame(DATA, END_STREAM, 1, b"hello"))]
    (exchange,) = read(said, connection).take()
    assert exchange.marks["upgraded"]
    assert exchange.sections[1].items() == ANSWERED


def test_settings_of_one_side_allow_the_other_a_larger_table():
    said = [(CLIENT, PREFACE + settings(header_table_size=16384)), (SERVER, settings())]
    said += [(CLIENT, headers(1, GET, END_HEADERS | END_STREAM))]
    connection = read([*said, (SERVER, headers(1, b"\x3f\xe1\x7f" + OK, END_HEADERS | END_STREAM))])
    assert connection.counts()["faults"] == 0
    assert told(connection)[1]["response"] == ANSWERED


def test_goaway_is_noted():
    assert read([*START, (SERVER, frame(GOAWAY, 0, 0, (5).to_bytes(4, "big") + bytes(4)))]).counts()["goaway"] == 5


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(frame(DATA, 0, 0, b"x"), id="DATA on stream 0"),
        pytest.param(frame(SETTINGS, 0, 1, b""), id="SETTINGS on a stream"),
        pytest.param(frame(DATA, PADDED, 1, b"\xffx"), id="padding longer than its frame"),
        pytest.param(frame(HEADERS, 0, 1, GET) + frame(DATA, 0, 1, b"x"), id="a frame inside a header block"),
        pytest.param(frame(DATA, 0, 1, bytes(20000)), id="a frame larger than SETTINGS allows"),
        pytest.param(frame(HEADERS, END_HEADERS | PADDED, 1, b""), id="no room for the padding length"),
    ],
)
def test_violations_are_counted_and_survived(bad):
    said = [*START, (CLIENT, bad), (CLIENT, headers(9, GET, END_HEADERS | END_STREAM))]
    connection = read(said)
    assert connection.counts()["client.violations"] > 0
    assert told(connection)[9]["request"] == ASKED


@given(st.lists(st.tuples(st.integers(0, 1), st.one_of(st.binary(max_size=300), st.integers(0, 3000))), max_size=40))
def test_any_bytes_are_survived_in_bounded_memory(said):
    connection = read([*START, *said])
    assert connection.counts()["memory"] < 1 << 19
    assert connection.counts()["open"] == 0
