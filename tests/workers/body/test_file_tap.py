"""Taps of files: each body of a wanted type has one outcome, and a whole one gives its exact content."""

from __future__ import annotations

import gzip
import hashlib

import pytest
from file_sink import Sink, bodies, read
from hypothesis import given
from hypothesis import strategies as st

from appliance.config.section_files import Files
from workers.body.file_tap import FileFacts, FileTap, FileTaps, is_whole_range
from workers.body.mime_patterns import fits

PDF = b"%PDF-1.4\n" + bytes(range(256)) * 40


def test_a_whole_body_is_a_file() -> None:
    sink = Sink()
    facts = read(bodies(sink), b"Content-Type: text/plain\r\n", PDF[:100], PDF[100:])
    digest = hashlib.sha256(PDF).hexdigest()
    assert facts == FileFacts("", len(PDF), digest, f"/kept/{digest}", "application/pdf")
    assert sink.sent == [PDF]
    assert sink.balance()


@given(st.binary(min_size=1, max_size=20_000), st.lists(st.integers(1, 9000), max_size=6), st.booleans())
def test_any_split_of_a_body_gives_the_same_file(content: bytes, cuts: list[int], coded: bool) -> None:
    sink = Sink()
    sent = gzip.compress(content) if coded else content
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(sent[at : at + cut])
        at += cut
    facts = read(bodies(sink), b"Content-Encoding: gzip\r\n" if coded else b"", *pieces, sent[at:])
    assert facts is not None
    assert facts.sha256 == hashlib.sha256(content).hexdigest()
    assert sink.sent == [content]
    assert sink.balance()


@pytest.mark.parametrize(
    ("pieces", "how", "reason"),
    [
        ((PDF[:5000], None, PDF[5000:]), {}, "missing"),
        ((PDF[:10], None), {}, "missing"),
        ((None, PDF), {}, "missing"),
        ((PDF,), {"complete": False}, "missing"),
        ((gzip.compress(PDF)[:-4],), {"head": b"Content-Encoding: gzip\r\n"}, "undecoded"),
        ((PDF,), {"head": b"Content-Encoding: gzip\r\n"}, "undecoded"),
        ((PDF,), {"head": b"Content-Encoding: rot13\r\n"}, "undecoded"),
        ((PDF,), {"status": 206, "head": b"Content-Range: bytes 0-99/100000\r\n"}, "part"),
        ((PDF,), {"status": 206}, "part"),
        ((PDF[:20],), {}, "small"),
        ((PDF, PDF, PDF), {}, "large"),
        ((gzip.compress(bytes(1 << 25)),), {"head": b"Content-Encoding: gzip\r\n"}, "large"),
    ],
)
def test_a_body_that_is_not_whole_or_not_wanted_has_a_reason(
    pieces: tuple[bytes | None, ...], how: dict[str, object], reason: str
) -> None:
    sink = Sink()
    made = bodies(sink, min_bytes=100, max_bytes=20_000)
    facts = read(made, how.pop("head", b""), *pieces, **how)  # type: ignore[arg-type]
    assert facts == FileFacts(reason)
    assert sink.left_out == [reason]
    assert sink.balance()


def test_a_bomb_reaches_the_limits_of_bodies() -> None:
    sink = Sink()
    bomb = gzip.compress(bytes(1 << 26))
    assert read(bodies(sink, max_bytes=1 << 30), b"Content-Encoding: gzip\r\n", bomb) == FileFacts("limit")
    assert sink.balance()


def test_a_range_of_the_whole_content_is_a_file() -> None:
    sink = Sink()
    head = b"Content-Range: bytes 0-%d/%d\r\n" % (len(PDF) - 1, len(PDF))
    facts = read(bodies(sink), head, PDF, status=206)
    assert facts is not None
    assert not facts.reason
    assert sink.sent == [PDF]


@pytest.mark.parametrize(
    ("types", "declared", "content", "wanted"),
    [
        (["application/pdf"], b"application/pdf", b"no pdf", True),
        (["application/pdf"], b"text/plain", PDF, True),
        (["application/pdf"], b"text/plain", b"no pdf", False),
        (["image/*"], b"image/png", b"no png", True),
        (["*+xml"], b"image/svg+xml; charset=x", b"no svg", True),
        (["*"], b"", b"\x01\x02", True),
        ([], b"", PDF, False),
    ],
)
def test_declared_and_shown_types_decide(types: list[str], declared: bytes, content: bytes, wanted: bool) -> None:
    sink = Sink()
    facts = read(bodies(sink, types=types), b"Content-Type: %b\r\n" % declared if declared else b"", content)
    assert (facts is not None) == wanted == (sink.offered == 1)
    assert sink.balance()


def test_an_empty_body_is_no_file() -> None:
    sink = Sink()
    assert read(bodies(sink), b"", b"") is None
    assert sink.offered == 0


@pytest.mark.parametrize(("sink", "reason"), [(Sink(room=5000), "link"), (Sink(places=0), "open")])
def test_a_sink_without_room_ends_the_file(sink: Sink, reason: str) -> None:
    assert read(bodies(sink), b"", PDF[:4200], PDF[4200:], b"more") == FileFacts(reason)
    assert sink.left_out == [reason]
    assert sink.balance()


def test_a_body_that_is_dropped_has_an_outcome() -> None:
    sink = Sink()
    reader = bodies(sink).begin(b"")
    reader.take(PDF)
    del reader
    assert sink.left_out == ["missing"]
    assert sink.balance()


def test_a_tap_holds_no_more_than_it_needs_for_the_type() -> None:
    sink = Sink()
    tap = FileTap(FileTaps(Files(path="/kept"), sink), b"")
    for _ in range(100):
        tap.add(bytes(1000))
    assert sink.open == {1: bytes(100_000)}


def test_patterns_and_ranges() -> None:
    assert fits("text/html", "text/*")
    assert fits("", "*")
    assert not fits("text/html", "text/plain")
    assert is_whole_range(b"bytes 0-9/10")
    for other in (
        b"bytes 0-9/11",
        b"bytes 1-9/10",
        b"bytes 0-9/*",
        b"",
        b"bytes */10",
        b"bytes 0-" + b"9" * 30 + b"/10",
    ):
        assert not is_whole_range(other)
