"""Messages of events taken apart by topic: every line goes to its own, in order, and no table is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.ipc.event_batch import BadMessage, pack_runs, unpack_runs
from appliance.ipc.event_runs import by_topic

TOPICS = 6
LINES = st.lists(
    st.tuples(st.integers(0, TOPICS - 1), st.binary(min_size=1, max_size=9).filter(lambda b: b"\n" not in b))
)


def packed(events: list[tuple[int, bytes]]) -> tuple[bytes, bytes]:
    """The table and the body of these (topic, line)."""
    runs = pack_runs((topic, 1, len(line) + 1) for topic, line in events)
    return runs, b"\n".join(line for _, line in events)


@given(LINES.filter(bool))
def test_every_line_comes_out_under_its_topic_and_in_order(events: list[tuple[int, bytes]]) -> None:
    for topic, count, length, lines in by_topic(*packed(events), TOPICS, True):
        expected = [line for each, line in events if each == topic]
        assert lines.split(b"\n") == expected
        assert (count, length) == (len(expected), len(lines))
    assert [topic for topic, *_ in by_topic(*packed(events), TOPICS, True)] == sorted({topic for topic, _ in events})


@given(LINES.filter(bool))
def test_nothing_is_copied_for_who_wants_no_lines(events: list[tuple[int, bytes]]) -> None:
    counted = [(topic, count, length, b"") for topic, count, length, _ in by_topic(*packed(events), TOPICS, True)]
    assert by_topic(*packed(events), TOPICS, False) == counted


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 0xFFFFFF), st.integers(0, 0xFFFFFFFF))))
def test_a_table_survives_its_wire_form(runs: list[tuple[int, int, int]]) -> None:
    assert unpack_runs(pack_runs(runs)) == runs


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_a_table_that_does_not_describe_its_lines_is_refused(runs: bytes, body: bytes) -> None:
    try:
        parts = by_topic(runs, body, TOPICS, True)
    except BadMessage:
        return
    assert sum(length + 1 for _, _, length, _ in parts) == len(body) + 1


@pytest.mark.parametrize(
    "runs",
    [
        b"",
        pack_runs([(6, 1, 3)]),
        pack_runs([(1, 0, 3)]),
        pack_runs([(1, 1, 4)]),
        pack_runs([(1, 1, 2)]),
        pack_runs([(1, 1, 3), (2, 1, 0)]),
        pack_runs([(1, 1, 3), (2, 1, 1)]),
        pack_runs([(1, 1, 3)]) + b"\x00",
        pack_runs([(1, 1, 0xFFFFFFFF), (1, 1, 4)]),
    ],
)
def test_a_wrong_table_is_refused(runs: bytes) -> None:
    with pytest.raises(BadMessage):
        by_topic(runs, b"{}", TOPICS, True)
