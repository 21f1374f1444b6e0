"""Law 1 on raw bytes: however two directions are cut into segments, and whatever they say, the events are the same."""

from __future__ import annotations

import pytest
from builders import config, differences, outcome_of, timeless
from http_strategies import conversation, http_counts, speeches
from hypothesis import given
from hypothesis import strategies as st

SMALL = config(http={"max_head_bytes": 256, "max_headers": 16})
sizes = st.one_of(st.just(1), st.integers(1, 40), st.lists(st.integers(1, 60), min_size=1, max_size=8))


def same(said, cut, how=None, close="client"):
    """Both outcomes are the same in all but time."""
    at_once = outcome_of(conversation(said, None, close).frames, config=how)
    in_pieces = outcome_of(conversation(said, cut, close).frames, config=how)
    assert timeless(in_pieces.events) == timeless(at_once.events)
    assert http_counts(in_pieces) == http_counts(at_once)
    assert differences(in_pieces) == differences(at_once) == {}


@pytest.mark.parametrize("how", [None, SMALL], ids=["default", "small heads"])
@given(said=speeches(), cut=sizes, close=st.sampled_from(("client", "server", "")))
def test_any_split_of_nearly_http_gives_the_same_events_and_counters(how, said, cut, close):
    same(said, cut, how, close)


def test_a_request_behind_the_last_chunk_of_a_lost_body_is_found_at_any_split():
    request, chunks = b"GET / HTTP/1.1\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"
    chunked = b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    said = [
        (True, 2 * request + chunks),
        (False, b"HTTP/1.1 200 OK\r\n\r\n"),
        (True, chunked + request + chunks + request),
    ]
    for cut in range(1, 41):
        same(said, cut)
