"""The stream API by example: what a user's stream is given."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace
from typing import ClassVar

import pytest
from builders import MILLISECOND, SECOND, START_NS, Conversation, carrying, get, post, talk, without
from impair import interleave
from recording_streams import CLIENT, SERVER, Writing, assembler, feed, written
from wire import ACK, FIN, SYN

from appliance.config.schema import Tcp
from workers.assembly import Assembler, Flow, Piece, Stream, StreamPool

SIZE = 1000


def said(*parts: bytes, **where) -> Conversation:
    """A handshake, then these parts from the client, one segment each, none acknowledged."""
    conversation = Conversation(**where).handshake()
    offset = 0
    for part in parts:
        conversation.raw(conversation.client, offset, part)
        offset += len(part)
    return conversation


def letters(text: str, size: int = SIZE) -> list[bytes]:
    """A part of each letter."""
    return [letter.encode() * size for letter in text]


def acknowledged(conversation: Conversation, offset: int) -> Conversation:
    """The server says that it has the client's bytes up to an offset."""
    conversation.client.next = conversation.client.at(offset)
    return conversation.raw(conversation.server, 0)


class Raising(Writing):
    """Streams that raise in the named methods when they are from the named ports."""

    def __init__(self, *where: str, ports: tuple[int, ...] = (CLIENT, SERVER), error: type[BaseException] = KeyError):
        super().__init__()
        self.where = where
        self.ports = ports
        self.error = error

    def new(self, net, transport):
        stream = super().new(net, transport)
        if transport.src in self.ports:
            if "new" in self.where:
                raise self.error("new")
            for name in {"reassembled", "complete"} & set(self.where):
                self.spoil(stream, name)
        return stream

    def spoil(self, stream, name):
        honest = getattr(stream, name)

        def spoiled(*given):
            honest(*given)
            raise self.error(name)

        setattr(stream, name, spoiled)


# -- in order --------------------------------------------------------------------------------------------------------


def test_each_direction_is_a_stream_of_its_bytes():
    conversation = talk(get(1), post(2, size=5000))
    found = written(conversation.frames)
    assert found.of(CLIENT).data == get(1).request + post(2, size=5000).request
    assert found.of(SERVER).data == get(1).response + post(2).response
    assert [stream.completed for stream in found.streams] == [1, 1]


def test_net_and_transport_are_flows_from_sender_to_receiver():
    found = written(talk(get()).frames)
    there, back = found.of(CLIENT), found.of(SERVER)
    assert (str(there.net), str(there.transport)) == ("192.0.2.10->198.51.100.20", "40000->80")
    assert (back.net, back.transport) == (there.net.reverse(), there.transport.reverse())
    assert {there.net: 1}[Flow("192.0.2.10", "198.51.100.20")] == 1


def test_addresses_of_ipv6_are_written_short():
    found = written(talk(get(), client="2001:db8::1", server="2001:db8::2").frames)
    assert str(found.of(CLIENT).net) == "2001:db8::1->2001:db8::2"


def test_the_first_piece_says_start_and_the_last_says_end():
    pieces = written(said(*letters("abc")).close().frames).of(CLIENT).pieces
    assert [piece.start for piece in pieces] == [True, False, False, False]
    assert [piece.end for piece in pieces] == [False, False, False, True]


@pytest.mark.parametrize("acknowledged_to", [2, 3])
def test_a_fin_with_the_last_bytes_is_the_end_once_it_is_acknowledged(acknowledged_to):
    conversation = said(b"a")
    conversation.raw(conversation.client, 1, b"b", FIN | ACK)
    factory = Writing()
    feed(assembler(factory), acknowledged(conversation, acknowledged_to).frames)
    pieces = factory.of(CLIENT).pieces
    assert [(piece.data, piece.start) for piece in pieces][:2] == [(b"a", True), (b"b", False)]
    assert (pieces[-1].end, factory.of(CLIENT).completed) == ((True, 1) if acknowledged_to == 3 else (False, 0))


def test_a_connection_that_says_nothing_has_two_empty_streams():
    found = written(Conversation().handshake().close().frames)
    (piece,) = found.of(CLIENT).pieces
    assert piece == Piece(b"", 0, True, True, piece.ts_ns)
    assert [stream.completed for stream in found.streams] == [1, 1]


def test_a_syn_that_nobody_answers_makes_no_stream():
    conversation = Conversation().handshake()
    assert written(conversation.frames[:1]).streams == []


def test_pieces_carry_the_time_of_their_frame():
    conversation = said(*letters("ab"))
    times = [ts_ns for ts_ns, _ in conversation.frames[-2:]]
    assert [piece.ts_ns for piece in written(conversation.frames).of(CLIENT).pieces[:2]] == times


def test_pieces_stay_valid_when_the_frames_buffer_is_used_again():
    factory = Writing()
    into = assembler(factory)
    buffer = bytearray(2048)
    for ts_ns, frame in said(b"first", b"second").frames:
        buffer[: len(frame)] = frame
        into.assemble_frame(memoryview(buffer)[: len(frame)], ts_ns)
    assert factory.of(CLIENT).data == b"firstsecond"


def test_a_packet_is_taken_by_its_data_metadata_and_link_type():
    factory = Writing()
    into = assembler(factory)
    for ts_ns, frame in talk(get()).frames:
        metadata = SimpleNamespace(ts_ns=ts_ns, wirelen=len(frame) - 14)
        assert into.assemble(SimpleNamespace(data=frame[14:], metadata=metadata, link_type=101))
    assert factory.of(CLIENT).data == get().request


# -- out of order, lost ----------------------------------------------------------------------------------------------


def test_reordered_segments_are_put_in_order_in_one_list():
    frames = said(*letters("abcd")).frames
    head, (a, b, c, d) = frames[:-4], frames[-4:]
    stream = written([*head, a, d, c, b]).of(CLIENT)
    assert [[piece.data[:1] for piece in pieces] for pieces in stream.lists[:2]] == [[b"a"], [b"b", b"c", b"d"]]


def test_a_repeated_segment_is_given_once():
    frames = said(*letters("ab")).frames
    assert written([*frames, *frames[-2:]]).of(CLIENT).data == b"".join(letters("ab"))


def test_lost_bytes_are_said_with_their_length_before_the_next_piece():
    conversation = acknowledged(said(*letters("abc")), 3 * SIZE).idle(2 * SECOND)
    conversation.raw(conversation.client, 3 * SIZE, b"d")
    lost = without(conversation.frames, *carrying(conversation.frames, b"bb"))
    stream = written(lost).of(CLIENT)
    assert [(piece.data[:1], piece.skip) for piece in stream.pieces[:3]] == [(b"a", 0), (b"c", SIZE), (b"d", 0)]


def test_bytes_lost_before_the_end_are_said_by_the_last_piece():
    conversation = said(*letters("ab"))
    conversation.raw(conversation.client, 2 * SIZE, b"", FIN | ACK)
    stream = written(without(conversation.frames, *carrying(conversation.frames, b"bb"))).of(CLIENT)
    assert (stream.pieces[-1].skip, stream.pieces[-1].end, stream.pieces[-1].data) == (SIZE, True, b"")


def test_bytes_cut_off_by_the_snapshot_length_are_skipped():
    stream = written(said(*letters("ab")).frames, snaplen=154).of(CLIENT)
    assert stream.data == b"a" * 100 + b"?" * 900 + b"b" * 100 + b"?" * 900


def test_sequence_numbers_may_wrap():
    conversation = said(*letters("abc"), client_isn=2**32 - 1500)
    assert written(conversation.frames).of(CLIENT).data == b"".join(letters("abc"))


def test_a_stream_picked_up_in_the_middle_starts_with_an_unknown_skip():
    conversation = talk(get(1))
    found = written(conversation.frames[3:])
    assert [stream.pieces[0].skip for stream in found.streams] == [-1, -1]
    assert [stream.pieces[0].start for stream in found.streams] == [True, True]
    assert found.of(CLIENT).data == get(1).request


def test_a_retransmission_with_other_content_is_counted_as_conflicting():
    conversation = said(b"a" * 100, b"b" * 100)
    conversation.raw(conversation.client, 0, b"X" * 100)
    into = feed(assembler(Writing()), conversation.frames)
    assert into.counts()["payload.conflicting"] == 100


# -- both directions -------------------------------------------------------------------------------------------------


def test_a_response_is_never_given_before_its_request():
    frames = talk(get(1), get(2), close="").frames
    requests = carrying(frames, b"GET /1", b"GET /2")
    late = without(frames, *requests) + [(frames[-1][0], frames[place][1]) for place in requests]
    log = written(late).log
    expected = [CLIENT, SERVER, CLIENT, SERVER]
    assert [port for port, event in log if event == "reassembled"][:4] == expected


def test_a_responses_stream_is_not_made_before_the_request_was_given():
    log = [entry for entry in written(talk(get(1)).frames[3:]).log if entry[1] != "complete"]
    assert log[:4] == [(CLIENT, "new"), (CLIENT, "reassembled"), (SERVER, "new"), (SERVER, "reassembled")]


# -- the end ---------------------------------------------------------------------------------------------------------


def test_a_fin_ends_its_own_direction_only():
    conversation = said(b"a")
    conversation.raw(conversation.client, 1, b"", FIN | ACK)
    factory = Writing()
    feed(assembler(factory), acknowledged(conversation, 2).frames)
    assert (factory.of(CLIENT).completed, factory.of(SERVER).completed) == (1, 0)


def test_a_reset_ends_both_directions():
    conversation = talk(get(), close="reset")
    conversation.idle(SECOND)
    other = Conversation(client_port=40001, start_ns=conversation.now).handshake()
    factory = Writing()
    feed(assembler(factory), conversation.frames + other.frames)
    assert [stream.completed for stream in factory.streams] == [1, 1, 0, 0]


def test_an_idle_connection_ends_when_its_time_is_over():
    conversation = said(b"a").idle(20 * SECOND)
    other = Conversation(client_port=40001, start_ns=conversation.now).handshake()
    factory = Writing()
    feed(assembler(factory, idle_timeout_s=10.0, half_open_timeout_s=5.0), conversation.frames + other.frames)
    assert factory.of(CLIENT).completed == 1


def test_a_new_connection_on_the_same_ports_has_new_streams():
    first = talk(get(1))
    second = talk(get(2), start_ns=first.now + SECOND, client_isn=5_000_000, server_isn=6_000_000)
    found = written(first.frames + second.frames)
    assert [stream.data for stream in found.streams if stream.transport.src == CLIENT] == [
        get(1).request,
        get(2).request,
    ]


# -- flush -----------------------------------------------------------------------------------------------------------


def holey() -> tuple[Conversation, list]:
    """A stream that waits: its second thousand bytes are missing, and a third of a second later its fourth."""
    conversation = said(*letters("abc")).idle(SECOND // 3)
    conversation.raw(conversation.client, 4 * SIZE, b"e" * SIZE)
    return conversation, without(conversation.frames, *carrying(conversation.frames, b"bb"))


def test_flush_older_than_skips_the_holes_that_have_waited_since_before():
    conversation, frames = holey()
    factory = Writing()
    into = feed(assembler(factory), frames)
    assert into.flush_older_than(conversation.now - SECOND // 4) == (1, 0)
    assert factory.of(CLIENT).data == b"a" * SIZE + b"?" * SIZE + b"c" * SIZE
    assert into.flush_older_than(conversation.now) == (2, 2)
    assert factory.of(CLIENT).skips == [SIZE, SIZE]


def test_flush_older_than_leaves_what_is_younger():
    _, frames = holey()
    into = feed(assembler(Writing()), frames)
    assert into.flush_older_than(START_NS) == (0, 0)
    assert into.counts()["pending_bytes"] == 2 * SIZE


def test_flush_older_than_closes_idle_connections_and_counts_their_streams():
    old, young = said(b"a"), said(b"b", client_port=40001, start_ns=START_NS + SECOND)
    factory = Writing()
    into = feed(assembler(factory), old.frames + young.frames)
    assert into.flush_older_than(START_NS + SECOND // 2) == (2, 2)
    assert (factory.of(CLIENT).completed, factory.of(40001).completed) == (1, 0)
    assert into.counts()["flows_ended.timeout"] == 1


def test_flush_all_gives_the_rest_with_its_gaps_and_completes_every_stream():
    _, frames = holey()
    factory = Writing()
    into = feed(assembler(factory), frames)
    assert into.flush_all() == 2
    assert factory.of(CLIENT).data == b"a" * SIZE + b"?" * SIZE + b"c" * SIZE + b"?" * SIZE + b"e" * SIZE
    assert [stream.completed for stream in factory.streams] == [1, 1]
    assert into.flush_all() == 0


def test_after_flush_all_the_assembler_takes_frames_of_an_earlier_time():
    factory = Writing()
    into = feed(assembler(factory), said(b"late", start_ns=START_NS + 1000 * SECOND).frames)
    into.flush_all()
    conversation = acknowledged(said(*letters("abc")), 3 * SIZE).idle(2 * SECOND)
    conversation.raw(conversation.client, 3 * SIZE, b"d")
    feed(into, without(conversation.frames, *carrying(conversation.frames, b"bb")))
    assert factory.streams[-2].data == b"a" * SIZE + b"?" * SIZE + b"c" * SIZE + b"d"


def test_time_may_go_back():
    frames = said(*letters("abc")).frames
    shuffled = [(START_NS - place * SECOND, frame) for place, (_, frame) in enumerate(frames)]
    assert written(shuffled).of(CLIENT).data == b"".join(letters("abc"))


# -- limits ----------------------------------------------------------------------------------------------------------


def test_more_than_may_be_held_ends_the_wait():
    frames = said(*letters("abcdef")).frames
    factory = Writing()
    into = feed(assembler(factory, max_pending_bytes=2048), without(frames, *carrying(frames, b"aa")))
    assert factory.of(CLIENT).skips == [SIZE]
    assert into.counts()["pending_bytes"] == 0


def test_the_connection_that_has_to_go_completes_its_streams():
    talks = [said(b"hello", client_port=40000 + number, start_ns=START_NS + number * SECOND) for number in range(40)]
    factory = Writing()
    into = feed(assembler(factory, max_connections=16), interleave(talks))
    counts = into.counts()
    assert (counts["flows"], counts["flows_ended.evicted"], counts["streams.open"]) == (16, 24, 32)
    assert sum(stream.completed for stream in factory.streams) == 48


def test_a_flood_of_syns_makes_no_streams_and_keeps_few_attempts():
    attempts = [Conversation(client_port=1024 + number).handshake().frames[0] for number in range(200)]
    factory = Writing()
    counts = feed(assembler(factory, max_half_open=16), attempts).counts()
    assert (factory.streams, counts["half_open"], counts["flows"]) == ([], 16, 16)


def test_no_more_streams_live_than_connections_are_followed():
    living: weakref.WeakSet[Stream] = weakref.WeakSet()

    def new(net, transport):
        stream = Stream()
        living.add(stream)
        return stream

    into = assembler(SimpleNamespace(new=new), max_connections=16)
    most = 0
    for number in range(300):
        feed(into, said(b"hello", client_port=1024 + number, start_ns=START_NS + number * SECOND).frames)
        most = max(most, len(living))
    assert most == 2 * 16


@pytest.mark.parametrize("bad", [{"max_connections": 0}, {"overlap": "newest"}, {"gap_timeout_s": -1.0}])
def test_a_limit_out_of_its_range_is_refused_by_name(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Assembler(StreamPool(Writing()), Tcp(**bad))


def test_what_cannot_make_a_stream_is_refused():
    with pytest.raises(TypeError, match="callable with"):
        StreamPool(object())


class Counting(Stream):
    made: ClassVar[list[tuple[str, str]]] = []

    def __init__(self, net, transport):
        self.made.append((str(net), str(transport)))


class Making:
    def new(self, net, transport):
        return Counting(net, transport)


class MakingAlone:
    @staticmethod
    def new(net, transport):
        return Counting(net, transport)


@pytest.mark.parametrize(
    "factory", [Counting, Making, Making(), MakingAlone, lambda net, transport: Counting(net, transport)]
)
def test_a_factory_is_anything_that_makes_streams(factory):
    Counting.made.clear()
    feed(Assembler(StreamPool(factory)), said(b"hello").frames)
    assert [net for net, _ in Counting.made] == ["192.0.2.10->198.51.100.20", "198.51.100.20->192.0.2.10"]


# -- what the user's code does ---------------------------------------------------------------------------------------


def test_a_direction_for_which_the_factory_gives_none_is_ignored():
    class Half(Writing):
        def new(self, net, transport):
            return super().new(net, transport) if transport.dst == 80 else None

    factory = Half()
    into = feed(assembler(factory), talk(get()).frames)
    assert [stream.data for stream in factory.streams] == [get().request]
    assert (into.counts()["streams.ignored"], into.flush_all()) == (1, 0)


def test_an_exception_leaves_assemble_and_ends_only_its_stream():
    factory = Raising("reassembled", ports=(CLIENT,))
    into = assembler(factory)
    raised = []
    for ts_ns, frame in talk(get(1), get(2)).frames:
        try:
            into.assemble_frame(frame, ts_ns)
        except KeyError as error:
            raised.append(error.args)
    assert raised == [("reassembled",)]
    assert (len(factory.of(CLIENT).lists), factory.of(CLIENT).completed) == (1, 1)
    assert factory.of(SERVER).data == get(1).response + get(2).response
    assert into.counts()["payload.delivered"] == sum(map(len, (get(1).request, get(1).response))) * 2


def test_an_exception_of_the_factory_leaves_assemble_once():
    factory = Raising("new", ports=(CLIENT,))
    into = assembler(factory)
    raised = 0
    for ts_ns, frame in talk(get()).frames:
        try:
            into.assemble_frame(frame, ts_ns)
        except KeyError:
            raised += 1
    assert raised == 1
    assert factory.of(SERVER).data == get().response


def test_an_exception_of_complete_leaves_the_call():
    into = feed(assembler(Raising("complete", ports=(CLIENT,))), said(b"a").frames)
    with pytest.raises(KeyError, match="complete"):
        into.flush_all()
    assert into.counts()["flows"] == 0


def test_exceptions_of_several_streams_leave_as_a_group():
    into = feed(assembler(Raising("complete")), said(b"a").frames)
    with pytest.raises(ExceptionGroup) as caught:
        into.flush_all()
    assert len(caught.value.exceptions) == 2


def test_an_interrupt_is_not_hidden_in_a_group():
    into = feed(assembler(Raising("complete", error=KeyboardInterrupt)), said(b"a").frames)
    with pytest.raises(KeyboardInterrupt):
        into.flush_all()


def test_a_stream_must_not_call_its_own_assembler():
    class Calling(Stream):
        def reassembled(self, pieces):
            into.flush_all()

    into = assembler(SimpleNamespace(new=lambda net, transport: Calling() if transport.dst == 80 else None))
    with pytest.raises(RuntimeError, match="at work"):
        feed(into, said(b"a").frames)
    into.flush_all()
    assert into.counts()["flows"] == 0


def test_a_stream_that_refers_to_its_assembler_is_collected_with_it():
    factory = Writing()
    into = feed(assembler(factory), said(b"a").frames)
    stream = factory.of(CLIENT)
    stream.back = into
    gone = weakref.ref(stream)
    del into, stream, factory
    gc.collect()
    assert gone() is None


def test_a_completed_stream_is_let_go():
    factory = Writing()
    into = feed(assembler(factory), talk(get()).frames)
    gone = weakref.ref(factory.of(CLIENT))
    factory.streams.clear()
    gc.collect()
    assert gone() is None
    assert into.counts()["streams.open"] == 0


# -- other frames ----------------------------------------------------------------------------------------------------


def test_other_frames_are_counted_by_what_they_are():
    ts_ns, frame = said(b"a").frames[-1]
    fragment = frame[:20] + b"\x20\x00" + frame[22:]
    udp = frame[:23] + b"\x11" + frame[24:]
    into = assembler(Writing())
    assert [into.assemble_frame(data, ts_ns) for data in (fragment, udp, frame[:40], b"", frame)] == [False] * 4 + [
        True
    ]
    counts = into.counts()
    assert (counts["rejected.fragment"], counts["rejected.not_tcp"], counts["rejected.truncated"]) == (1, 1, 2)
    assert counts["frames"] == counts["segments"] + sum(n for name, n in counts.items() if name.startswith("rejected."))


def test_an_unknown_link_type_is_counted():
    into = assembler(Writing())
    assert into.assemble_frame(b"x" * 100, START_NS, link_type=147) is False
    assert into.counts()["rejected.unknown_link"] == 1


def test_a_wrong_checksum_is_dropped_where_that_is_configured():
    frames = said(b"a" * 100, b"b" * 100).frames
    ts_ns, frame = frames[-1]
    frames[-1] = (ts_ns, frame[:-1] + b"X")
    factory = Writing()
    counts = feed(assembler(factory, checksums="drop"), frames).counts()
    assert (factory.of(CLIENT).data, counts["rejected.bad_checksum"]) == (b"a" * 100, 1)


def test_what_is_not_bytes_is_refused():
    with pytest.raises(TypeError):
        assembler(Writing()).assemble_frame("text", START_NS)  # type: ignore[arg-type]


def test_now_is_the_time_of_the_newest_frame():
    conversation = said(b"a").idle(5 * MILLISECOND)
    into = feed(assembler(Writing()), conversation.frames)
    assert into.now_ns == max(ts_ns for ts_ns, _ in conversation.frames)


def test_data_in_a_syn_counts_once_it_is_acknowledged():
    conversation = Conversation()
    conversation._emit(conversation.client, SYN, b"early")
    conversation._emit(conversation.server, SYN | ACK)
    conversation._emit(conversation.client, ACK, b"late")
    assert written(conversation.frames).of(CLIENT).data == b"earlylate"
