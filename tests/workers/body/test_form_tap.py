"""Files of forms: each part with a file name is a file, as it was uploaded, whatever the split and the losses."""

from __future__ import annotations

import gzip
import hashlib
import re
import tracemalloc
from collections.abc import Sequence

import pytest
from file_sink import Sink, bodies, read
from hypothesis import given
from hypothesis import strategies as st

from workers.body.file_tap import FileFacts
from workers.body.form_tap import boundary_of, parameters

HEAD = b"Content-Type: multipart/form-data; boundary=xyz\r\n"
PDF = b"%PDF-1.4\n" + bytes(range(256)) * 40
NEAR = (b"\r\n--xy", b"\r\n--xyz1", b"\r\n--xyz -", b"\r\n--xyz\t \r", b"--xyz", b"\r\n-", b"\r", b"\r\n--xyz-")
DELIMITER = re.compile(rb"\r\n--xyz(?:--|[ \t]*\r\n)")
CONTENTS = st.lists(st.one_of(st.binary(max_size=60), st.sampled_from(NEAR)), min_size=1, max_size=8).map(b"".join)
FORMS = st.lists(
    st.tuples(st.booleans(), CONTENTS.filter(lambda text: text and not DELIMITER.search(b"\r\n" + text + b"\r\n"))),
    min_size=1,
    max_size=6,
)


def part(content: bytes, name: bytes = b"a.pdf", more: bytes = b"") -> bytes:
    disposition = b'form-data; name="f"' + (b'; filename="%b"' % name if name else b"")
    return b"--xyz\r\nContent-Disposition: %b\r\n%b\r\n%b\r\n" % (disposition, more, content)


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--xyz--\r\n"


def split(text: bytes, cuts: Sequence[int]) -> list[bytes]:
    pieces = []
    for cut in cuts:
        pieces.append(text[:cut])
        text = text[cut:]
    return [*pieces, text]


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@given(FORMS, st.lists(st.integers(1, 50), max_size=60), st.booleans())
def test_any_split_of_a_form_gives_its_files(found: list[tuple[bool, bytes]], cuts: list[int], coded: bool) -> None:
    sink = Sink()
    text = form(*(part(content, b"name" if is_file else b"") for is_file, content in found))
    head = HEAD + (b"Content-Encoding: gzip\r\n" if coded else b"")
    facts = read(bodies(sink), head, *split(gzip.compress(text) if coded else text, cuts))
    files = [content for is_file, content in found if is_file]
    assert sink.sent == files
    assert [each.sha256 for each in facts.parts] == [digest(each) for each in files] if facts else not files
    assert sink.balance()


@given(FORMS, st.data())
def test_a_gap_costs_files_and_never_makes_a_wrong_one(found: list[tuple[bool, bytes]], data: st.DataObject) -> None:
    sink = Sink()
    text = form(*(part(content) for _, content in found))
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    cuts = data.draw(st.lists(st.integers(1, 50), max_size=10))
    facts = read(bodies(sink), HEAD, *split(text[:start], cuts), None, *split(text[end:], cuts))
    files = [content for _, content in found]
    for each in sink.sent:
        assert each in files
    at, whole = 0, []
    for content in files:
        size = len(part(content))
        if at + size + len(b"--xyz--") <= start or at - 2 >= end:  # with the delimiters around it
            whole.append(content)
        at += size
    assert len(sink.sent) >= len(whole)
    assert facts is None or len(facts.parts) == sink.offered
    assert sink.balance()


def test_the_event_names_all_files_and_shows_the_first_whole_one() -> None:
    sink = Sink()
    facts = read(
        bodies(sink, min_bytes=10, types=["application/pdf", "text/plain"]),
        HEAD,
        form(part(b"tiny", b"1.txt", b"Content-Type: text/plain\r\n"), part(b"", b""), part(PDF, b'../2 \\".pdf')),
    )
    two = FileFacts("", len(PDF), digest(PDF), f"/kept/{digest(PDF)}", "application/pdf", b'../2 ".pdf')
    assert facts == two._replace(parts=(FileFacts("small", name=b"1.txt"), two))


@pytest.mark.parametrize(
    ("text", "complete", "reasons"),
    [
        (form(part(PDF))[:-9], True, ["undecoded"]),  # no last delimiter
        (form(part(PDF))[:-9], False, ["missing"]),
        (b"no form at all", True, ["undecoded"]),
        (form(part(PDF, b"a", b"Content-Transfer-Encoding: base64\r\n")), True, ["undecoded"]),
        (form(part(PDF, b"a", b"Content-Transfer-Encoding: Binary\r\n")), True, []),
        (form(part(PDF, b"a", b"X: %b\r\n" % bytes(5000))), True, ["undecoded"]),
        (b"--xyz\r\nContent-Disposition: form-data", True, ["undecoded"]),
        (form(*[part(b"x")] * 65), True, ["parts"]),
        (form(part(b"\r\n--xyzA" * 100)), True, ["parts"]),
        (form(part(b"", b""), part(b"", b"")), True, []),
        (b"--xyz--", True, []),
        (b"", True, []),
    ],
)
def test_what_is_no_whole_file_has_a_reason(text: bytes, complete: bool, reasons: list[str]) -> None:
    sink = Sink()
    read(bodies(sink), HEAD, text, complete=complete)
    assert sink.left_out == reasons
    assert sink.balance()


def test_a_limit_of_forms_counts_whatever_types_are_wanted() -> None:
    sink = Sink()
    read(bodies(sink, types=["application/pdf"], max_parts=2), HEAD, form(*[part(PDF)] * 5))
    assert (sink.sent, sink.left_out) == ([PDF, PDF], ["parts"])


def test_a_form_without_a_usable_boundary_is_a_body_as_any_other() -> None:
    sink = Sink()
    text = form(part(PDF))
    for head in (b"Content-Type: multipart/form-data\r\n", HEAD.replace(b"xyz", b"x" * 71)):
        assert read(bodies(sink), head, text) is not None
    assert sink.sent == [text, text]


def test_a_form_that_is_dropped_has_an_outcome() -> None:
    sink = Sink()
    reader = bodies(sink).begin(b"POST / HTTP/1.1\r\n" + HEAD + b"\r\n")
    reader.take(form(part(PDF))[:8000])
    del reader
    assert sink.left_out == ["missing"]
    assert sink.balance()


def test_a_form_takes_constant_memory() -> None:
    made = bodies(Sink(room=0))
    reader = made.begin(b"POST / HTTP/1.1\r\n" + HEAD + b"\r\n")
    reader.take(part(PDF))
    tracemalloc.start()
    try:
        for _ in range(2000):
            reader.take(b"\r\n--xy" * 200)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b'form-data; name=f; filename="a b"', {b"name": b"f", b"filename": b"a b"}),
        (b'form-data; FileName = "a\\\\b\\"c"; filename=second', {b"filename": b'a\\b"c'}),
        (b"form-data; filename*=UTF-8''%e2%82%ac", {b"filename*": b"UTF-8''%e2%82%ac"}),
        (b'form-data; filename="never ends; name=f', {b"filename": b"never ends; name=f"}),
        (b"form-data;;; ;=;a", {b"": b"", b"a": b""}),
        (b"form-data", {}),
    ],
)
def test_parameters(value: bytes, found: dict[bytes, bytes]) -> None:
    assert parameters(value) == found


@given(st.binary(max_size=300))
def test_any_bytes_have_parameters(value: bytes) -> None:
    parameters(b";" + value)
    boundary_of(b"multipart/form-data;" + value)
