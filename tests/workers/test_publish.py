"""Cutting the events of one topic into messages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workers.publish import cut

EVENTS = st.lists(st.binary(min_size=1, max_size=50).map(lambda event: event.replace(b"\n", b" ")), min_size=1)


@given(events=EVENTS, limit=st.integers(1, 200))
def test_pieces_are_whole_events_within_the_limit(events: list[bytes], limit: int) -> None:
    body = b"\n".join(events)
    pieces = list(cut(len(events), body, limit))
    assert b"\n".join(piece for _, piece in pieces) == body
    for count, piece in pieces:
        assert count == len(piece.split(b"\n"))
        assert len(piece) <= limit or count == 1


def test_what_fits_is_one_piece_and_not_copied() -> None:
    body = b"a\nb"
    [(count, piece)] = cut(2, body, 3)
    assert count == 2
    assert piece is body
