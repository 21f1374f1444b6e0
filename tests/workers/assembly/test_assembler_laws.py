"""The stream API by law: the bytes of the byte map, the counters of the pipeline, whatever came and whoever raised."""

from __future__ import annotations

from collections import Counter

import pytest
from builders import SECOND, Conversation, batches_of, config, get, post, talk
from hypothesis import given
from hypothesis import strategies as st
from impair import drop, duplicate, interleave, reorder
from models.reassembly import ByteMap
from recording_streams import CLIENT, SERVER, Writing, assembler, feed, written

from appliance.stats.names import PAYLOAD_OUTCOMES
from workers.pipeline import Pipeline

pytestmark = pytest.mark.slow

SIZE = 200
FIRST = bytes(97 + place % 26 for place in range(SIZE))
OTHER = bytes(65 + place % 26 for place in range(SIZE))
ABOVE_TCP = (
    *("messages.", "requests.", "responses.", "pairing.", "response_seconds.", "made.", "body_bytes."),
    *("not_http_streams.", "not_http_bytes.", "connections.", "connections_open.", "anomalies."),
    *("http2_kept", "quic_", "tls_", "udp_"),
)
ABOVE_TCP_TOO = {"head_bytes", "waiting_bytes", "given_up", "retracted"} | {
    "parse_errors",
    "resyncs",
    "not_http_bytes",
    "skipped_bytes",
    "tunnels",
    "tunnel_bytes",
}

segments = st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(1, 60), st.booleans()), max_size=30)
numbers = st.integers(0, 2**32 - 1)


def played(said, isn):
    """A client's segments, each (offset, size, of the other copy), and their byte map."""
    conversation = Conversation(client_isn=isn).handshake()
    model = ByteMap()
    for offset, size, other in said:
        data = (OTHER if other else FIRST)[offset : offset + size]
        conversation.raw(conversation.client, offset, data)
        model.offer(offset, data)
    return conversation.frames, model


def scene(loss, window, repeat, seed):
    """Some connections whose frames are lost, moved and repeated."""
    talks = [
        talk(get(number), post(number, 3000), get(number, body=b"x" * 5000), client_port=CLIENT + number, close=close)
        for number, close in enumerate(("client", "server", "reset", ""))
    ]
    frames = drop(reorder(duplicate(interleave(talks), repeat, seed), window, seed), loss, seed)
    later = frames[-1][0] + 30 * SECOND if frames else SECOND
    return frames + talk(get(9), client_port=50000, start_ns=later).frames


scenes = st.builds(
    scene,
    loss=st.sampled_from([0.0, 0.05, 0.3]),
    window=st.integers(0, 12),
    repeat=st.sampled_from([0.0, 0.2]),
    seed=st.integers(0, 2**16),
)


def of_tcp(counts):
    """The counters that speak neither of HTTP nor of QUIC."""
    return {
        name: value for name, value in counts.items() if not name.startswith(ABOVE_TCP) and name not in ABOVE_TCP_TOO
    }


def of_pipeline(frames, until_end=True):
    """Return a pipeline's counters over the same frames."""
    ((*messages, _),), _ = batches_of(frames)
    pipeline = Pipeline(config())
    for message in messages:
        pipeline.feed(message)
    if until_end:
        pipeline.finish()
    return of_tcp(pipeline.counts())


@given(segments, numbers)
def test_a_stream_is_given_the_first_copy_of_every_byte_up_to_the_first_hole(said, isn):
    frames, model = played(said, isn)
    factory = Writing()
    feed(assembler(factory), frames)
    assert b"".join(stream.data for stream in factory.streams if stream.transport.src == CLIENT) == model.stream()


@given(segments, numbers)
def test_at_the_end_holes_are_given_with_their_length(said, isn):
    frames, model = played(said, isn)
    last = max(model.bytes, default=-1)
    expected = bytes(model.bytes.get(place, ord("?")) for place in range(last + 1))
    assert written(frames).of(CLIENT).data == expected


@given(st.integers(0, 6), st.floats(0, 0.5), st.integers(0, 1000), st.integers(1, 400))
def test_any_order_within_a_window_gives_the_same_bytes_in_causal_order(window, repeat, seed, mss):
    made = [get(1), post(2, 700), get(3, body=b"x" * 900)]
    frames = talk(*made, mss=mss, client_isn=2**32 - 300, server_isn=2**32 - 700).frames
    found = written(frames[:3] + reorder(duplicate(frames[3:], repeat, seed), window, seed))
    assert found.of(CLIENT).data == b"".join(one.request for one in made)
    assert found.of(SERVER).data == b"".join(one.response for one in made)
    given_so_far = Counter()
    lists = {port: iter(found.of(port).lists) for port in (CLIENT, SERVER)}
    for port in (port for port, event in found.log if event == "reassembled"):
        given_so_far[port] += sum(len(piece.data) for piece in next(lists[port]))
        answered = asked = 0
        for one in made:  # of what was answered so far, everything was asked before
            asked += len(one.request)
            assert given_so_far[SERVER] <= answered or given_so_far[CLIENT] >= asked
            answered += len(one.response)


@given(scenes)
def test_every_stream_starts_once_ends_once_and_is_completed_once(frames):
    found = written(frames)
    for stream in found.streams:
        assert stream.completed == 1
        assert [place for place, piece in enumerate(stream.pieces) if piece.start] == [0]
        assert [place for place, piece in enumerate(stream.pieces) if piece.end] == [len(stream.pieces) - 1]
        assert all(piece.data or piece.end for piece in stream.pieces)
        assert all(piece.skip >= 0 for piece in stream.pieces[1:])


@given(scenes)
def test_the_counters_are_those_of_the_pipeline_before_the_end_and_after(frames):
    into = feed(assembler(Writing()), frames)
    running = of_pipeline(frames, until_end=False)
    assert {name: into.counts()[name] for name in running} == running
    into.flush_all()
    ended = of_pipeline(frames)
    assert {name: into.counts()[name] for name in ended} == ended


@given(scenes)
def test_what_is_counted_is_what_was_given(frames):
    factory = Writing()
    with assembler(factory) as into:
        feed(into, frames)
    counts = into.counts()
    assert sum(len(piece.data) for stream in factory.streams for piece in stream.pieces) == counts["payload.delivered"]
    assert sum(skip for stream in factory.streams for skip in stream.skips if skip > 0) <= counts["gap_bytes"]
    placed = sum(counts[f"payload.{outcome}"] for outcome in PAYLOAD_OUTCOMES) + counts["pending_bytes"]
    assert placed == counts["payload_bytes"]


@given(scenes, st.lists(st.tuples(st.integers(0, 400), st.integers(0, 200), st.integers(0, 255)), max_size=40))
def test_damaged_frames_are_counted_as_the_pipeline_counts_them(frames, damage):
    frames = list(frames)
    for place, at, byte in damage:
        if place < len(frames) and at < len(frames[place][1]):
            ts_ns, frame = frames[place]
            frames[place] = (ts_ns, frame[:at] + bytes([byte]) + frame[at + 1 :])
    with assembler(Writing()) as into:
        feed(into, frames)
    counts = into.counts()
    ended = of_pipeline(frames)
    assert {name: counts[name] for name in ended} == ended
    assert counts["frames"] == counts["segments"] + sum(n for name, n in counts.items() if name.startswith("rejected."))


@given(scenes, st.sets(st.integers(0, 60)), st.sampled_from(["new", "reassembled", "complete"]))
def test_whoever_raises_the_engine_counts_the_same_and_every_stream_is_completed(frames, places, where):
    class Failing(Writing):
        calls = 0

        def fail(self):
            self.calls += 1
            if self.calls in places:
                raise LookupError

        def new(self, net, transport):
            if where == "new":
                self.fail()
            stream = super().new(net, transport)
            honest = getattr(stream, where, None)
            if honest is not None:
                setattr(stream, where, lambda *given: (honest(*given), self.fail()))
            return stream

    factory = Failing()
    into = assembler(factory)
    raised = Counter()
    for ts_ns, frame in frames:
        try:
            into.assemble_frame(frame, ts_ns)
        except (LookupError, ExceptionGroup) as error:
            raised[type(error)] += 1
    try:
        into.flush_all()
    except (LookupError, ExceptionGroup) as error:
        raised[type(error)] += 1
    counts = into.counts()
    ended = of_pipeline(frames)
    assert {name: counts[name] for name in ended} == ended
    assert [stream.completed for stream in factory.streams] == [1] * len(factory.streams)
    assert (counts["streams.made"], counts["streams.open"]) == (len(factory.streams), 0)
    assert counts["streams.raised"] == len({place for place in places if 0 < place <= factory.calls})
    assert bool(raised) == bool(counts["streams.raised"])
