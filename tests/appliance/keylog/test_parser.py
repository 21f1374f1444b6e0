"""KeyLogParser: secrets are found in any split of the text, and junk costs neither memory nor a secret."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.keylog.parser import LONGEST_LINE, KeyLogParser
from appliance.keylog.secrets import LABELS, LENGTHS, packed, unpacked

RANDOM = bytes(range(32))


def line(place, secret, random=RANDOM):
    return f"{LABELS[place]} {random.hex()} {secret.hex()}\n".encode()


SECRETS = st.integers(0, len(LABELS) - 1).flatmap(
    lambda place: st.tuples(
        st.just(place),
        st.binary(min_size=32, max_size=32),
        st.sampled_from(LENGTHS[place]).flatmap(lambda size: st.binary(min_size=size, max_size=size)),
    )
)
JUNK = st.one_of(
    st.just(b"# a comment\n"),
    st.just(b"\n"),
    st.binary(max_size=200).map(lambda raw: b"x" + raw.replace(b"\n", b"") + b"\n"),
    st.just(b"Z" * (3 * LONGEST_LINE) + b"\n"),
    st.just(b"EXPORTER_SECRET " + b"00" * 32 + b" " + b"11" * 32 + b"\n"),
)


@given(
    st.lists(st.one_of(SECRETS, JUNK), max_size=20),
    st.lists(st.integers(0, 4000), max_size=20),
    st.sampled_from([b"\n", b"\r\n"]),
)
def test_any_split_gives_the_secrets_of_the_whole_lines(parts, cuts, end):
    text = b"".join(part if isinstance(part, bytes) else line(part[0], part[2], part[1])[:-1] + end for part in parts)
    parser = KeyLogParser()
    found = []
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    for start, stop in pairwise(places):
        found += parser.feed(text[start:stop])
        assert len(parser._rest) <= LONGEST_LINE
    assert found == [part for part in parts if not isinstance(part, bytes)]
    assert parser.secrets + parser.ignored + parser.junk == len(parts)


@given(st.lists(SECRETS, max_size=20))
def test_what_is_packed_is_unpacked(secrets):
    assert list(unpacked(b"".join(map(packed, secrets)))) == secrets


@given(st.binary(max_size=400))
def test_any_bytes_unpack_to_something_without_an_error(content):
    for place, random, secret in unpacked(content):
        assert place < len(LABELS)
        assert (len(random), len(secret) < 256) == (32, True)


@pytest.mark.parametrize(
    "text",
    [
        b"CLIENT_RANDOM 00 11\n",
        b"CLIENT_RANDOM " + b"00" * 32 + b" " + b"11" * 32 + b"\n",  # a master secret has 48 bytes
        b"CLIENT_TRAFFIC_SECRET_0 " + b"00" * 32 + b" " + b"11" * 20 + b"\n",
        b"CLIENT_RANDOM  " + b"00" * 32 + b" " + b"11" * 48 + b"\n",
        "CLIENT_RANDOM é\n".encode(),
    ],
)
def test_a_line_that_is_no_secret_is_junk(text):
    parser = KeyLogParser()
    assert parser.feed(text) == []
    assert (parser.secrets, parser.junk) == (0, 1)


def test_a_last_line_without_its_end_counts_when_nothing_follows():
    parser = KeyLogParser()
    assert parser.feed(line(0, bytes(48))[:-1]) == []
    assert parser.finish() == [(0, RANDOM, bytes(48))]
