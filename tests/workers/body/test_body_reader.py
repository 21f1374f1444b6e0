"""BodyReader: what a body contains. Any split of its bytes gives the same facts; no body costs more than the limits."""

import gzip
import hashlib
import tracemalloc
from itertools import pairwise

import pytest
from content_encoders import ENCODERS, ENCODINGS, zeros
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import schema as options
from appliance.stats.names import BODY_OUTCOMES
from workers.body.reader import Bodies, BodyFacts

EVERYTHING = {"hashes": ["sha256", "md5"], "mime_type": True, "excerpt_bytes": 1000, "excerpt_types": ["*"]}
TEXT = b'{"greeting": "hello"}' * 500
codings = st.sampled_from(ENCODINGS)


def head(coding: str = "", kind: str = "") -> bytes:
    """A head that declares a coding and a type."""
    lines = [f"Content-Encoding: {coding}"] * bool(coding) + [f"Content-Type: {kind}"] * bool(kind)
    return "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode()


def facts(
    *pieces: bytes, coding: str = "", kind: str = "", complete: bool = True, bombs: int = 0, **wanted
) -> BodyFacts:
    """Return the facts of a body that comes in these pieces."""
    bodies = Bodies(options.Bodies(**{**EVERYTHING, **wanted}))
    reader = bodies.begin(head(coding, kind), 200, bombs)
    for piece in pieces:
        reader.take(piece)
    found = reader.end(complete)
    del reader
    assert bodies.budget.used == 0
    return found


def outcome(found: BodyFacts) -> str:
    return BODY_OUTCOMES[found.outcome]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The data in pieces that end at these places."""
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(ends)]


# -- what is said ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("coding", "encode"), ENCODINGS)
def test_a_coding_is_undone_before_the_digest(coding, encode):
    found = facts(encode(TEXT), coding=coding)
    assert outcome(found) == "decoded"
    assert (found.sha256, found.md5) == (hashlib.sha256(TEXT).hexdigest(), hashlib.md5(TEXT).hexdigest())
    assert (found.size, found.codings, found.mime_type) == (len(TEXT), [coding], "application/json")
    assert found.text == TEXT[:1000]


@given(st.binary(max_size=3000), codings, codings, st.lists(st.integers(0, 5000), max_size=8))
def test_two_codings_round_trip_however_they_are_split(data, inner, outer, places):
    wire = outer[1](inner[1](data))
    found = facts(*cut(wire, places), coding=f"{inner[0]}, {outer[0]}")
    assert outcome(found) == "decoded"
    assert found.sha256 == hashlib.sha256(data).hexdigest()
    assert found.codings == [outer[0], inner[0]]


@given(
    codings, st.binary(max_size=40), st.integers(0, 20000), st.lists(st.integers(0, 20000), max_size=8), st.booleans()
)
def test_any_split_of_a_broken_body_gives_the_same_facts(coding, junk, place, places, complete):
    wire = bytearray(coding[1](TEXT + bytes(range(256)) * 60))
    place %= len(wire)
    wire[place : place + len(junk)] = junk
    whole = facts(bytes(wire), coding=coding[0], complete=complete)
    assert facts(*cut(bytes(wire), places), coding=coding[0], complete=complete) == whole


def test_a_body_byte_by_byte():
    wire = gzip.compress(TEXT)
    assert facts(*cut(wire, list(range(len(wire)))), coding="gzip") == facts(wire, coding="gzip")


def test_content_without_coding_is_hashed_as_it_is():
    found = facts(b"one ", b"two", kind="text/plain")
    assert outcome(found) == "plain"
    assert found == BodyFacts(
        outcome=0,
        size=7,
        sha256=hashlib.sha256(b"one two").hexdigest(),
        md5=hashlib.md5(b"one two").hexdigest(),
        mime_type="text/plain",
        text=b"one two",
    )


def test_without_decoding_everything_is_of_the_bytes_as_sent():
    wire = gzip.compress(TEXT)
    found = facts(wire, coding="gzip", decode=False)
    assert (found.sha256, found.mime_type) == (hashlib.sha256(wire).hexdigest(), "application/gzip")
    assert found.base64 is not None


def test_only_what_is_wanted_is_said():
    assert facts(TEXT, hashes=["md5"], mime_type=False, excerpt_bytes=0) == BodyFacts(
        outcome=0, size=len(TEXT), md5=hashlib.md5(TEXT).hexdigest()
    )


def test_a_transfer_coding_is_undone_too():
    bodies = Bodies(options.Bodies(**EVERYTHING))
    reader = bodies.begin(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\nContent-Encoding: br\r\n\r\n", 200)
    reader.take(ENCODERS["gzip"](ENCODERS["br"](TEXT)))
    assert reader.end(True).sha256 == hashlib.sha256(TEXT).hexdigest()


def test_a_part_is_taken_as_sent():
    bodies = Bodies(options.Bodies(**EVERYTHING))
    reader = bodies.begin(head("gzip"), 206)
    reader.take(b"from the middle")
    assert reader.end(True) == BodyFacts(
        outcome=0,
        size=15,
        sha256=hashlib.sha256(b"from the middle").hexdigest(),
        md5=hashlib.md5(b"from the middle").hexdigest(),
    )


# -- what is not known -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["", *ENCODERS])
def test_a_gap_leaves_no_digest_and_what_came_before_it(coding):
    wire = ENCODERS[coding](TEXT) if coding else TEXT
    bodies = Bodies(options.Bodies(**EVERYTHING))
    reader = bodies.begin(head(coding), 200)
    reader.take(wire[:-5])
    reader.gap()
    reader.take(wire[-2:])
    found = reader.end(True)
    assert outcome(found) == "incomplete"
    assert (found.sha256, found.md5) == (None, None)
    assert coding in ("br", "zstd") or found.text == TEXT[:1000]  # these had no whole block yet


def test_nothing_is_said_of_a_type_or_an_excerpt_behind_a_gap():
    bodies = Bodies(options.Bodies(**EVERYTHING))
    reader = bodies.begin(head(), 200)
    reader.gap()
    reader.take(b"<html>")
    assert reader.end(True) == BodyFacts(outcome=BODY_OUTCOMES.index("incomplete"), size=6)


def test_a_body_whose_end_was_not_seen_has_no_digest():
    found = facts(TEXT, complete=False)
    assert (outcome(found), found.sha256, found.text) == ("incomplete", None, TEXT[:1000])


@pytest.mark.parametrize(("coding", "encode"), ENCODINGS)
def test_a_coding_that_ends_before_its_end_has_failed(coding, encode):
    found = facts(encode(TEXT)[:-1], coding=coding)
    assert (outcome(found), found.sha256) == ("failed", None)


@pytest.mark.parametrize(("coding", "encode"), ENCODINGS)
def test_bytes_behind_a_coding_fail_and_its_content_stays(coding, encode):
    found = facts(encode(TEXT) + b"junk", coding=coding)
    assert (outcome(found), found.sha256, found.text) == ("failed", None, TEXT[:1000])


def test_members_of_gzip_and_frames_of_zstd_follow_each_other():
    for coding in ("gzip", "zstd"):
        twice = ENCODERS[coding](TEXT) + ENCODERS[coding](b"more")
        assert facts(twice, coding=coding).sha256 == hashlib.sha256(TEXT + b"more").hexdigest()


def test_zeros_behind_gzip_are_padding():
    assert outcome(facts(gzip.compress(TEXT) + bytes(9000), coding="gzip")) == "decoded"


def test_what_is_not_the_coding_that_is_announced_has_failed():
    for coding in ENCODERS:
        assert outcome(facts(b"no such thing, only text", coding=coding)) == "failed"


def test_a_wrong_checksum_fails_and_the_content_stays():
    wire = bytearray(gzip.compress(TEXT))
    wire[-5] ^= 1
    found = facts(bytes(wire), coding="gzip")
    assert (outcome(found), found.sha256, found.text) == ("failed", None, TEXT[:1000])


def test_no_byte_in_any_coding_is_an_empty_content():
    found = facts(coding="gzip")
    assert (outcome(found), found.sha256) == ("decoded", hashlib.sha256(b"").hexdigest())


def test_an_unknown_coding_leaves_nothing():
    found = facts(b"anything", coding="compress")
    assert found == BodyFacts(outcome=BODY_OUTCOMES.index("unknown"), size=0)


@given(st.binary(max_size=200), st.sampled_from(list(ENCODERS)))
def test_garbage_never_raises(data, coding):
    assert outcome(facts(data, coding=coding)) in ("decoded", "failed")


# -- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_a_bomb_stops_at_the_ratio(coding):
    found = facts(zeros(coding, 256 << 20), coding=coding)
    assert (outcome(found), found.sha256) == ("limit", None)
    assert found.size < 3 << 20


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_what_a_body_becomes_is_limited_to_the_byte(coding):
    wire = zeros(coding, 4 << 20)
    found = facts(wire, coding=coding, max_ratio=1 << 20, max_decoded_bytes=3_000_001, max_decode_ms=60000)
    assert (outcome(found), found.size) == ("limit", 3_000_001)
    whole = facts(wire, coding=coding, max_ratio=1 << 20, max_decoded_bytes=4 << 20, max_decode_ms=60000)
    assert (outcome(whole), whole.size) == ("decoded", 4 << 20)


def test_a_layer_inside_is_limited_too():
    inner = gzip.compress(b"") * 500_000  # ten megabytes that become nothing
    found = facts(ENCODERS["zstd"](inner), coding="gzip, zstd")
    assert (outcome(found), found.size) == ("limit", 0)


def test_more_codings_than_layers_are_not_undone():
    found = facts(b"x", coding="gzip, gzip, gzip")
    assert found == BodyFacts(outcome=BODY_OUTCOMES.index("limit"), size=0, bomb=True)
    assert (
        outcome(facts(gzip.compress(gzip.compress(gzip.compress(b"x"))), coding="gzip, gzip, gzip", max_layers=3))
        == "decoded"
    )


def test_a_large_window_of_zstd_is_refused():
    window = b"\x28\xb5\x2f\xfd\x00\x88" + b"\x01\x00\x00"  # frame header with a window of 128 MiB
    assert outcome(facts(window, coding="zstd")) == "failed"


def test_time_is_a_limit(monkeypatch):
    clock = iter(range(0, 1 << 60, 30_000_000))
    monkeypatch.setattr("workers.body.content_coding.time.thread_time_ns", lambda: next(clock))
    assert (
        outcome(facts(*cut(gzip.compress(bytes(range(256)) * 4000), list(range(0, 9000, 900))), coding="gzip"))
        == "limit"
    )


def test_after_some_bombs_a_connection_is_not_decoded():
    assert outcome(facts(gzip.compress(TEXT), coding="gzip", bombs=2)) == "decoded"
    assert facts(gzip.compress(TEXT), coding="gzip", bombs=3) == BodyFacts(outcome=BODY_OUTCOMES.index("limit"), size=0)
    assert outcome(facts(TEXT, bombs=3)) == "plain"


def test_bodies_share_a_budget_and_give_it_back():
    bodies = Bodies(options.Bodies(**EVERYTHING, max_memory_bytes=1 << 20))
    readers = [bodies.begin(head("br"), 200) for _ in range(10)]
    for reader in readers:
        reader.take(ENCODERS["br"](TEXT))
    ended = [reader.end(True) for reader in readers]
    found = [outcome(each) for each in ended]
    assert found.count("decoded") in range(2, 5)
    assert found.count("limit") == 10 - found.count("decoded")
    assert not any(each.bomb for each in ended)
    assert bodies.budget.used <= 1 << 20
    readers.clear()
    del reader
    assert bodies.budget.used == 0


def test_a_reader_that_is_dropped_gives_its_memory_back():
    bodies = Bodies(options.Bodies(**EVERYTHING))
    reader = bodies.begin(head("zstd"), 200)
    reader.take(ENCODERS["zstd"](TEXT)[:50])
    assert bodies.budget.used
    del reader
    assert bodies.budget.used == 0


@pytest.mark.parametrize("coding", ["", "gzip"])
def test_memory_does_not_grow_with_the_body(coding):
    """Three GiB without a coding; with one, a third of a GiB of what it becomes."""
    bodies = Bodies(
        options.Bodies(hashes=["md5"] if coding else [], mime_type=True, excerpt_bytes=1000, max_decoded_bytes=1 << 40,
                       max_ratio=1 << 20, max_decode_ms=60000, decode_ns=10_000_000)
    )  # fmt: skip
    block = zeros("gzip", 1 << 20) if coding else bytes(1 << 20)
    rounds = 300 if coding else 3 << 10
    reader = bodies.begin(head(coding), 200)
    reader.take(block)
    tracemalloc.start()
    for _ in range(rounds):
        reader.take(block)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reader.end(True).size == (rounds + 1) << 20
    assert peak < 1 << 20


# -- excerpts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "patterns", "shown"),
    [
        ("text/html; charset=utf-8", ["text/*"], True),
        ("TEXT/HTML", ["text/html"], True),
        ("application/problem+json", ["*+json"], True),
        ("image/png", ["*/*"], True),
        ("image/png", ["*"], True),
        ("image/png", ["text/*", "image/gif"], False),
        ("textual/x", ["text/*"], False),
        ("", ["text/*"], True),
        ("", ["application/json"], False),
    ],
)
def test_excerpts_are_of_chosen_types_and_of_the_content_s_where_none_is_declared(kind, patterns, shown):
    assert (facts(b"plain text", kind=kind, excerpt_types=patterns).text is not None) == shown


def test_an_excerpt_ends_between_characters():
    assert facts("aé".encode() * 10, excerpt_bytes=5, kind="text/plain").text == "aéa".encode()


def test_an_excerpt_that_is_not_utf_8_is_base64():
    assert facts(b"\xff\xfe\x00", kind="text/plain").base64 == "//4A"


def test_parameters_of_a_form_are_hidden_in_its_excerpt():
    bodies = Bodies(options.Bodies(excerpt_bytes=100), ["password"])
    reader = bodies.begin(head(kind="application/x-www-form-urlencoded"))
    reader.take(b"password=se;cret&name=x&p%61SSword=again")
    assert reader.end(True).text == b"password=[redacted]&name=x&p%61SSword=[redacted]"


def test_a_form_in_parts_has_no_excerpt_where_parameters_are_hidden():
    bodies = Bodies(options.Bodies(excerpt_bytes=100, excerpt_types=["*"]), ["password"])
    reader = bodies.begin(head(kind="multipart/form-data; boundary=x"))
    reader.take(b'--x\r\nContent-Disposition: form-data; name="password"\r\n\r\nsecret\r\n--x--')
    assert reader.end(True).text is None


# -- faults of our own, or of a library --------------------------------------------------------------------------------


class Faulty:
    """Raises, whatever is done with it."""

    def __call__(self, *_: object, **__: object) -> None:
        raise RuntimeError("never said: it may hold bytes of the traffic")

    room = property(__call__)
    pieces = update = hexdigest = __call__


FAULTS = {
    "sniffer": ("workers.body.reader.mime_type", Faulty()),
    "digest, begun": ("workers.body.reader.hashlib.new", Faulty()),
    "digest, updated": ("workers.body.reader.hashlib.new", lambda *_, **__: Faulty()),
    "decoder, made": ("workers.body.reader.Decoder", Faulty()),
    "decoder, at work": ("workers.body.content_codings.Gzip.pieces", Faulty()),
    "layer, made": ("workers.body.content_codings.zlib.decompressobj", Faulty()),
    "budget": ("workers.body.content_coding.Decoder._flush", Faulty()),
    "excerpt": ("workers.body.reader.base64.b64encode", Faulty()),
    "head": ("workers.body.reader._FIELD", Faulty()),
}


@pytest.fixture
def told(monkeypatch) -> list[str]:
    """Return the lines of a log to which nothing was written before."""
    lines: list[str] = []
    monkeypatch.setattr("appliance.runtime.log._places", set())
    monkeypatch.setattr("appliance.runtime.log._log.write", lambda text, **_: lines.append(text))
    return lines


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_raised_for_a_body_ends_with_it_and_is_said_once(fault, told, monkeypatch):
    monkeypatch.setattr(*FAULTS[fault])
    for _ in range(3):
        found = facts(gzip.compress(b"\xff" * 9000), b"more", coding="gzip", kind="text/plain")
        assert found == BodyFacts(outcome=BODY_OUTCOMES.index("failed"), size=0)
    (line,) = told
    assert "RuntimeError" in line or "TypeError" in line or "AttributeError" in line
    assert "traffic" not in line


def test_a_body_behind_a_faulty_one_is_as_ever(told, monkeypatch):
    with monkeypatch.context() as spoilt:
        spoilt.setattr("workers.body.reader.mime_type", Faulty())
        facts(TEXT)
    assert facts(TEXT).mime_type == "application/json"
    assert len(told) == 1


def test_a_redactor_that_fails_hides_everything(told, monkeypatch):
    monkeypatch.setattr("workers.body.redact.unquote_to_bytes", Faulty())
    bodies = Bodies(options.Bodies(excerpt_bytes=100), ["password"])
    reader = bodies.begin(head(kind="application/x-www-form-urlencoded"))
    reader.take(b"password=secret")
    assert reader.end(True).text == b"[redacted]"
    assert len(told) == 1
