"""ReaderStream: a stream read like a file, in another thread or in turn with the assembler."""

from __future__ import annotations

import io
import threading
from http.client import HTTPResponse
from types import SimpleNamespace

import dpkt
import pytest
from builders import START_NS, Conversation, carrying, get, post, talk, without
from exchange import exchange
from http_requests import requests
from hypothesis import given
from hypothesis import strategies as st
from pcapfile import PcapWriter
from recording_streams import CLIENT, SERVER, assembler, feed

from workers.assembly import DataLost, Piece, ReaderStream, Stream

WAIT_S = 30  # longer than anything here takes: only a deadlock is cut off by it


def pieces(*said: bytes | int) -> list[Piece]:
    """Pieces of some bytes, a number being the bytes that are missing before what follows."""
    out, skip = [], 0
    for one in said:
        if isinstance(one, int):
            skip = one
        else:
            out.append(Piece(one, skip))
            skip = 0
    return out + [Piece(b"", skip, end=True)] * bool(skip)


def filled(*said: bytes | int, **how) -> ReaderStream:
    """A complete stream that was given everything before anybody reads."""
    stream = ReaderStream(**how)
    stream.reassembled(pieces(*said))
    stream.complete()
    return stream


def in_thread(function, *given):
    """Runs a function in a thread; the thread, with its `result` once it has ended."""
    thread = threading.Thread(target=lambda: setattr(thread, "result", function(*given)), daemon=True)
    thread.start()
    return thread


def joined(thread):
    thread.join(WAIT_S)
    assert not thread.is_alive(), "deadlock"
    return thread.result


# -- as a file -------------------------------------------------------------------------------------------------------


def test_reading_gives_the_bytes_and_then_the_end():
    stream = filled(b"abc", b"def")
    assert (stream.read(2), stream.read(10), stream.read(10), stream.read(10)) == (b"ab", b"c", b"def", b"")


def test_everything_is_read_at_once():
    assert filled(b"abc", b"def").read() == b"abcdef"


def test_lines_are_read_across_pieces():
    assert list(filled(b"one\ntw", b"o\nth", b"ree")) == [b"one\n", b"two\n", b"three"]


def test_a_buffered_reader_reads_it():
    reader = io.BufferedReader(filled(b"one\ntw", b"o\n", b"x" * 100_000), 64)
    assert (reader.readline(), reader.readline(), reader.read()) == (b"one\n", b"two\n", b"x" * 100_000)


def test_peek_leaves_the_bytes_where_they_are():
    stream = filled(b"abc")
    stream.read(1)
    assert (stream.peek(), stream.read()) == (b"bc", b"bc")


def test_it_is_readable_and_neither_writable_nor_seekable():
    stream = ReaderStream()
    assert (stream.readable(), stream.writable(), stream.seekable()) == (True, False, False)


@given(st.lists(st.binary(max_size=20)), st.lists(st.integers(1, 30), min_size=1))
def test_any_reads_give_the_bytes_in_order(parts, sizes):
    stream = filled(*parts)
    read = b""
    while data := stream.read(sizes[len(read) % len(sizes)]):
        read += data
    assert read == b"".join(parts)


@pytest.mark.parametrize("bad", [{"lost": "maybe"}, {"limit": 0}])
def test_an_option_that_makes_no_sense_is_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        ReaderStream(**bad)


# -- losses ----------------------------------------------------------------------------------------------------------


def test_a_loss_is_raised_once_where_it_is():
    stream = filled(b"abc", 7, b"def")
    assert stream.read(10) == b"abc"
    with pytest.raises(DataLost, match="7 bytes") as caught:
        stream.read(10)
    assert (caught.value.skip, stream.read(10), stream.read(10)) == (7, b"def", b"")


def test_a_stream_picked_up_in_the_middle_says_so_first():
    stream = filled(-1, b"abc")
    with pytest.raises(DataLost, match="in the middle"):
        stream.read(10)
    assert stream.read(10) == b"abc"


def test_a_loss_before_the_end_is_raised():
    stream = filled(b"abc", 7)
    stream.read(10)
    with pytest.raises(DataLost, match="7 bytes"):
        stream.read(10)
    assert stream.read(10) == b""


def test_losses_may_be_ignored():
    assert filled(b"abc", 7, b"def", lost="ignore").read() == b"abcdef"


def test_discard_reads_over_losses_to_the_end():
    stream = filled(b"abc", 7, b"def", 1)
    assert (stream.discard(), stream.read(1)) == (6, b"")


# -- with a thread ---------------------------------------------------------------------------------------------------


def test_a_read_waits_for_bytes():
    stream = ReaderStream()
    reader = in_thread(stream.read, 10)
    stream.reassembled(pieces(b"abc"))
    assert joined(reader) == b"abc"


def test_a_read_waits_for_the_end():
    stream = ReaderStream()
    reader = in_thread(stream.read)
    stream.reassembled(pieces(b"abc"))
    stream.complete()
    assert joined(reader) == b"abc"


def test_the_feeder_waits_for_the_reader_when_the_limit_is_reached():
    stream = ReaderStream(limit=1000)
    feeder = in_thread(lambda: [stream.reassembled(pieces(b"x" * 400)) for _ in range(100)] and stream.complete())
    most = 0
    read = b""
    while data := stream.read(333):
        most = max(most, stream._held)
        read += data
    joined(feeder)
    assert (len(read), most <= 1000) == (40_000, True)


def test_a_piece_beyond_the_limit_is_taken_when_nothing_else_waits():
    assert filled(b"x" * 5000, limit=1000).read() == b"x" * 5000


def test_closing_sets_a_waiting_feeder_free_and_drops_what_comes():
    stream = ReaderStream(limit=10)
    stream.reassembled(pieces(b"x" * 10))
    feeder = in_thread(stream.reassembled, pieces(b"y" * 10, b"z" * 10))
    stream.close()
    joined(feeder)
    stream.reassembled(pieces(b"more"))
    stream.complete()
    with pytest.raises(ValueError, match="closed"):
        stream.read(1)


def test_closing_ends_a_waiting_read():
    stream = ReaderStream()

    def reading():
        with pytest.raises(ValueError, match="closed"):
            stream.read(1)

    reader = in_thread(reading)
    stream.close()
    joined(reader)


def test_a_dead_reader_counts_as_closed():
    stream = ReaderStream(limit=10)
    stream.reassembled(pieces(b"x" * 10))
    joined(in_thread(stream.read, 1))
    stream.reassembled(pieces(b"y" * 10))
    assert stream.closed


def test_serve_closes_when_the_function_returns():
    stream = ReaderStream(limit=10)
    thread = stream.serve(lambda stream: stream.read(1))
    stream.reassembled(pieces(b"x" * 10, b"y" * 10, b"z" * 10))
    thread.join(WAIT_S)
    assert stream.closed


def test_reading_in_the_thread_that_feeds_is_refused_instead_of_waiting_for_ever():
    stream = ReaderStream()
    stream.reassembled(pieces(b"abc"))
    assert stream.read(10) == b"abc"
    with pytest.raises(RuntimeError, match="wait=False"):
        stream.read(10)


def test_a_full_stream_that_its_own_feeder_reads_is_refused_instead_of_waiting_for_ever():
    stream = ReaderStream(limit=10)
    stream.reassembled(pieces(b"x" * 10))
    stream.read(1)
    with pytest.raises(RuntimeError, match="wait=False"):
        stream.reassembled(pieces(b"y" * 10))


def test_a_reader_that_waits_for_another_stream_of_the_same_assembler_is_found_out():
    asked, answered = ReaderStream(), ReaderStream(limit=1000)

    def reading():
        answered.read(1)
        return asked.read(10)

    answered.reassembled(pieces(b"x" * 1000))
    reader = in_thread(reading)
    with pytest.raises(RuntimeError, match="another stream"):
        answered.reassembled(pieces(b"y" * 1000))
    asked.reassembled(pieces(b"go on"))
    assert joined(reader) == b"go on"


# -- in turn with the assembler --------------------------------------------------------------------------------------


def test_without_waiting_a_read_gives_none_while_nothing_is_there():
    stream = ReaderStream(wait=False)
    assert stream.read(10) is None
    stream.reassembled(pieces(b"abc"))
    assert (stream.read(10), stream.read(10)) == (b"abc", None)
    stream.complete()
    assert stream.read(10) == b""


def test_without_waiting_what_does_not_fit_is_lost_and_said():
    stream = ReaderStream(wait=False, limit=10)
    stream.reassembled(pieces(b"a" * 8, b"b" * 5, 3, b"c" * 5))
    assert stream.read(20) == b"a" * 8
    stream.reassembled(pieces(b"d" * 4))
    with pytest.raises(DataLost) as caught:
        stream.read(20)
    assert (caught.value.skip, stream.read(20)) == (13, b"d" * 4)


def test_without_waiting_a_loss_at_the_end_is_said():
    stream = filled(b"a" * 8, b"b" * 5, wait=False, limit=10)
    stream.read(20)
    with pytest.raises(DataLost, match="5 bytes"):
        stream.read(20)


# -- with a real parser ----------------------------------------------------------------------------------------------


def packets_of(frames):
    """Yield the packets that the example takes, as appliance.packet makes them."""
    for ts_ns, frame in frames:
        metadata = SimpleNamespace(ts_ns=ts_ns, wirelen=len(frame))
        yield SimpleNamespace(data=frame, metadata=metadata, link_type=1)


class Shared(io.BufferedReader):
    """A file that several responses are read from, each of which closes it."""

    def close(self) -> None:
        pass


def test_the_standard_library_reads_responses_from_it_in_another_thread():
    stream = ReaderStream(limit=4096)
    into = assembler(SimpleNamespace(new=lambda net, transport: stream if transport.src == SERVER else Stream()))

    def reading():
        connection = SimpleNamespace(makefile=lambda mode: file)
        file = Shared(stream)
        out = []
        for _ in range(3):
            response = HTTPResponse(connection)  # type: ignore[arg-type]
            response.begin()
            out.append((response.status, response.read()))
        stream.close()
        return out

    reader = in_thread(reading)
    made = [get(1), get(2, body=b"y" * 100_000, framing="chunked"), post(3, status=201)]
    feed(into, talk(*made).frames).flush_all()
    assert joined(reader) == [(200, b"x" * 10), (200, b"y" * 100_000), (201, b"x" * 10)]


def test_the_example_lists_the_requests_of_a_capture_file(tmp_path):
    path = tmp_path / "talk.pcap"
    with PcapWriter(path) as writer:
        writer.write_all(talk(get(1), post(2, 300_000), exchange(target="/last")).frames)
    with path.open("rb") as file:
        frames = [(int(ts * 10**9), frame) for ts, frame in dpkt.pcap.Reader(file)]
    flow = "192.0.2.10->198.51.100.20 40000->80"
    assert requests(packets_of(frames)) == [
        f"{flow} GET shop.example/1 0 bytes",
        f"{flow} POST shop.example/2 300000 bytes",
        f"{flow} GET shop.example/last 0 bytes",
    ]


def test_the_example_stops_at_a_loss_and_at_what_is_no_http():
    frames = talk(get(1), get(2), get(3)).frames
    lossy = without(frames, *carrying(frames, b"GET /2"))
    other = Conversation(client_port=40001).handshake().client_sends(b"\x16\x03\x01" * 50_000).close().frames
    assert [line.split()[-4:-2] for line in requests(packets_of(lossy + other))] == [["GET", "shop.example/1"]]


def test_many_streams_are_read_at_the_same_time():
    frames = []
    for number in range(20):
        frames += talk(post(number, 50_000), client_port=CLIENT + number, start_ns=START_NS).frames
    lines = requests(packets_of(sorted(frames, key=lambda frame: frame[0])))
    assert sorted(line.split()[-3] for line in lines) == sorted(f"shop.example/{number}" for number in range(20))
