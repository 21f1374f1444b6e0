"""Decoding has a budget of time, reckoned: what the bodies of a worker cost is bounded for each byte that they send."""

import gzip

import brotli
import pytest
from builders import Conversation, config, exchange, outcome_of, response, timeless
from content_encoders import ENCODERS, brotli_tables, zeros
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import schema as options
from appliance.stats.names import BODY_OUTCOMES
from workers.body import content_codings as codings
from workers.body.content_codings import LAYERS, Brotli, Zstd
from workers.body.reader import Bodies, BodyFacts

pytestmark = pytest.mark.slow

TEXT = b'{"id": 12345, "name": "a name", "tags": ["one", "two"], "price": 10.75, "stock": 3}\n' * 12
BOMBS = {coding: zeros(coding, 4 << 20) for coding in ("gzip", "br", "zstd")}
MS = 1_000_000


def head(coding: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: {coding}\r\n\r\n".encode()


def bodies(**wanted) -> Bodies:
    return Bodies(options.Bodies(**{"hashes": ["sha256"], "max_bombs": 1 << 30, **wanted}))


def look(worker: Bodies, body: bytes, coding: str) -> BodyFacts:
    """One body, as of a connection of its own."""
    reader = worker.begin(head(coding), 200)
    reader.take(body)
    return reader.end(True)


def outcome(found: BodyFacts) -> str:
    return BODY_OUTCOMES[found.outcome]


# -- what attackers get ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", BOMBS)
def test_what_bombs_become_is_bounded_by_the_bytes_they_send(coding):
    worker, made, wire = bodies(decode_reserve_ms=10), 0, 0
    for _ in range(3000):
        found = look(worker, BOMBS[coding], coding)
        made += found.size
        wire += len(BOMBS[coding]) + len(head(coding))
    wanted = worker.wanted
    assert made * LAYERS[coding.encode()].byte_ns <= 10 * MS + (wanted.decode_ns + wanted.decode_reserve_ns) * wire
    assert worker.reserve.left <= 10 * MS


@pytest.mark.parametrize("coding", BOMBS)
@pytest.mark.parametrize("usual", ENCODERS)
def test_usual_bodies_among_bombs_are_decoded(coding, usual):
    worker, body = bodies(), ENCODERS[usual](TEXT)
    found = []
    for _ in range(300):
        for _ in range(5):
            look(worker, BOMBS[coding], coding)
        found.append(outcome(look(worker, body, usual)))
    assert set(found) == {"decoded"}


@pytest.mark.parametrize("inner", ["gzip", "zstd"])
def test_what_a_layer_inside_opens_costs_too(inner, monkeypatch):
    wire = ENCODERS["zstd"](ENCODERS[inner](b"") * 50_000)
    opened = []
    real = LAYERS[inner.encode()].layer.pieces

    def pieces(layer, data):
        for piece in real(layer, data):
            opened.append(piece)
            yield piece

    monkeypatch.setattr(LAYERS[inner.encode()].layer, "pieces", pieces)
    worker = bodies(decode_reserve_ms=1)
    for _ in range(50):
        assert outcome(look(worker, wire, f"{inner}, zstd")) == "limit"
    spent = MS + 50 * (len(wire) + len(head(f"{inner}, zstd"))) * 96
    assert len(opened) <= spent / LAYERS[inner.encode()].open_ns + 50


REPEATED = {
    "br": brotli_tables(20_000),
    "gzip": ENCODERS["gzip"](bytes(range(64, 127))) * 20_000,
    "zstd": ENCODERS["zstd"](bytes(range(64, 127))) * 20_000,
}


@pytest.mark.parametrize(("inner", "outer"), [("br", "gzip"), ("br", "zstd"), ("gzip", "zstd"), ("zstd", "deflate")])
def test_what_a_layer_gets_from_another_costs_too(inner, outer, monkeypatch):
    wire = ENCODERS[outer](REPEATED[inner])
    coding, passed = LAYERS[inner.encode()], []
    real = coding.layer.pieces

    def pieces(layer, data):
        passed.append(len(data))
        yield from real(layer, data)

    monkeypatch.setattr(coding.layer, "pieces", pieces)
    worker = bodies(decode_reserve_ms=100)
    for _ in range(20):
        assert outcome(look(worker, wire, f"{inner}, {outer}")) == "limit"
    spent = 100 * MS + 20 * (len(wire) + len(head(f"{inner}, {outer}"))) * 96
    assert sum(passed) * coding.inner_ns <= spent


@pytest.fixture
def slow_brotli(monkeypatch):
    """Counts the bytes that brotli gets; each of them takes 1,600 ns of the thread's time."""
    taken = []
    real = Brotli.pieces

    def pieces(layer, data):
        taken.append(len(data))
        return real(layer, data)

    monkeypatch.setattr(Brotli, "pieces", pieces)
    monkeypatch.setattr("time.thread_time_ns", lambda: sum(taken) * 1600)
    return taken


def test_tables_of_brotli_are_paid_as_they_are_measured(slow_brotli):
    worker, wire = bodies(decode_reserve_ms=20), brotli_tables(40)
    for _ in range(500):
        look(worker, wire, "br")
    sent = 500 * (len(wire) + len(head("br")))
    assert sum(slow_brotli) * 1600 <= (20 + 5) * MS + sent * (32 + 2 * 64)
    found = look(worker, wire, "br")
    assert (outcome(found), found.out_of_time) == ("limit", True)


def test_while_tables_of_brotli_use_up_their_time_other_codings_are_decoded(slow_brotli):
    worker, wire = bodies(decode_reserve_ms=20), brotli_tables(40)
    for _ in range(100):
        look(worker, wire, "br")
        assert outcome(look(worker, ENCODERS["gzip"](TEXT), "gzip")) == "decoded"
    assert worker.reserve.left == 20 * MS


def test_brotli_is_decoded_again_when_bodies_have_earned_the_time(slow_brotli):
    worker = bodies(decode_reserve_ms=20)
    found = [outcome(look(worker, brotli_tables(40), "br")) for _ in range(20)]
    assert found[-1] == "limit"
    for _ in range(200):
        look(worker, b"x" * 10_000, "identity")
    assert outcome(look(worker, ENCODERS["br"](TEXT), "br")) == "decoded"


def test_a_decoder_that_cannot_be_stopped_does_not_begin_without_time(monkeypatch):
    worker = bodies(decode_reserve_ms=10)
    begun = []
    monkeypatch.setattr(Brotli, "pieces", lambda _, data: begun.append(data) or iter(()))
    found = look(worker, BOMBS["br"], "br")
    assert (outcome(found), found.out_of_time, begun) == ("limit", True, [])


def test_what_a_decoder_makes_before_its_fault_is_paid():
    broken = brotli.compress(bytes(1 << 20), quality=5)[:-2] + b"\xff" * 40
    worker = bodies(decode_reserve_ms=300)
    left = worker.reserve.left
    assert outcome(look(worker, broken, "br")) == "failed"
    assert left - worker.reserve.left >= (1 << 20) * LAYERS[b"br"].byte_ns - 64 * 200


# -- how it is shared --------------------------------------------------------------------------------------------------


def test_a_body_takes_a_quarter_of_what_is_left_at_most():
    worker = bodies(decode_reserve_ms=8, decode_reserve_ns=0)
    first = look(worker, BOMBS["gzip"], "gzip")
    second = look(worker, BOMBS["gzip"], "gzip")
    own = (len(BOMBS["gzip"]) + len(head("gzip"))) * worker.wanted.decode_ns
    for found, share in ((first, 2 * MS), (second, 1.5 * MS)):
        assert share + own - 70_000 * 5 <= found.size * 5 <= share + own + 70_000 * 5
    assert (first.out_of_time, second.out_of_time) == (True, True)


def test_who_wants_less_is_served_when_who_wants_more_is_not():
    worker = bodies(decode_reserve_ms=20)
    large, small = zeros("gzip", 4 << 20), gzip.compress(bytes(1 << 18), 9)
    for _ in range(50):
        look(worker, large, "gzip")
        assert outcome(look(worker, small[:1] + small[1:], "gzip")) in ("decoded", "limit")
    assert outcome(look(worker, gzip.compress(TEXT * 2), "gzip")) == "decoded"


def test_the_reserve_grows_with_the_bytes_of_bodies_up_to_its_limit():
    worker = bodies(decode_reserve_ms=5)
    look(worker, BOMBS["gzip"], "gzip")
    before = worker.reserve.left
    look(worker, b"x" * 1000, "identity")
    assert worker.reserve.left == before + 32 * (1000 + len(head("identity")))
    look(worker, b"x" * 10_000_000, "identity")
    assert worker.reserve.left == 5 * MS


def test_who_is_refused_for_others_sends_no_bomb():
    worker = bodies(decode_reserve_ms=300)
    while worker.reserve.left > 20 * MS:
        worker.reserve.spend(MS)
    found = look(worker, zeros("br", 2 << 20), "br")
    assert (outcome(found), found.bomb, found.out_of_time) == ("limit", False, True)


def test_a_large_window_can_be_had_while_nobody_attacks():
    flushed = brotli.Compressor(quality=5, lgwin=24)
    body = flushed.process(TEXT) + flushed.flush() + flushed.process(TEXT) + flushed.finish()
    assert outcome(look(bodies(), body, "br")) == "decoded"


# -- what one step may make --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", range(10, 25))
@pytest.mark.parametrize("size", [1, 100, 70_000, 1 << 21])
def test_one_step_of_brotli_is_what_its_header_says(window, size):
    whole = brotli.compress(bytes(size), quality=5, lgwin=window)
    assert Brotli().risk(whole) in (min(size, 1 << window), 1 << window)
    parts = brotli.Compressor(quality=5, lgwin=window)
    flushed = parts.process(b"some words") + parts.flush() + parts.process(bytes(size)) + parts.finish()
    assert Brotli().risk(flushed) == 1 << window


def test_an_empty_stream_of_brotli_makes_nothing():
    assert Brotli().risk(brotli.compress(b"")) == 0


@pytest.mark.parametrize("size", [0, 1, 255, 256, 300, 70_000, 1 << 20])
def test_one_step_of_zstd_is_a_block_or_all_there_is(size):
    whole = codings.zstd.compress(bytes(size))
    assert Zstd().risk(whole) in (size, codings.ZSTD_BLOCK)
    assert Zstd().risk(whole) >= min(size, codings.ZSTD_BLOCK)
    assert Zstd().risk(b"no such thing") == 0


@given(st.binary(max_size=40))
def test_any_start_has_a_risk_within_the_largest_window(data):
    assert 0 <= Brotli().risk(data) <= 1 << 24
    assert 0 <= Zstd().risk(data) <= codings.ZSTD_BLOCK


# -- events ------------------------------------------------------------------------------------------------------------

BODIES = {"hashes": ["sha256"], "mime_type": True, "decode_reserve_ms": 2, "max_bombs": 1 << 30}


def encoded(body: bytes, coding: str) -> bytes:
    fields = (b"Content-Encoding: " + coding.encode(), b"Content-Length: %d" % len(body))
    return response(b"200 OK", *fields, body=body)


def talk(port: int, body: bytes, coding: str) -> list:
    made = exchange("GET", "/", body=body, response_headers=[("Content-Encoding", coding)])
    return list(Conversation(client_port=port).handshake().exchange(made).close().frames)


def test_a_hundred_connections_with_bombs_are_counted_and_take_nothing_from_the_others():
    frames = []
    for number in range(100):
        frames += talk(20000 + number, BOMBS["br"], "br") + talk(30000 + number, ENCODERS["gzip"](TEXT), "gzip")
    found = outcome_of(frames, config=config(bodies=BODIES))
    assert (found.counts["bodies.decoded"], found.counts["bodies.limit"]) == (100, 100)
    assert found.counts["bodies_out_of_time"] == 100
    assert found.counts["anomalies.body_limit"] == 100
    assert len(found.events) == 200


@given(st.lists(st.integers(1, 3000), max_size=20), st.sampled_from(["gzip", "br", "zstd"]))
def test_any_split_of_one_connection_spends_the_same(sizes, coding):
    bodies_of_it = [BOMBS[coding][:5000], ENCODERS[coding](TEXT), zeros(coding, 1 << 20), ENCODERS[coding](TEXT * 9)]
    asked = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    answers = [encoded(body, coding) for body in bodies_of_it]

    def events(cuts):
        conversation = Conversation().handshake()
        for answer in answers:
            conversation.client_sends(asked)
            at = 0
            for size in [*cuts, len(answer)]:
                if answer[at : at + size]:
                    conversation.server_sends(answer[at : at + size])
                at += size
        return timeless(outcome_of(conversation.close().frames, config=config(bodies=BODIES)).events)

    assert events(sizes) == events([])
