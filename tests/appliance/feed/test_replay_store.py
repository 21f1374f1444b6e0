"""The store of published messages: bounded, and of each topic always the latest without a hole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.feed.replay_store import OVERHEAD, Store

MESSAGES = st.lists(st.tuples(st.sampled_from(["a.", "b.", "c."]), st.integers(0, 3000)), max_size=80)


def filled(limit: int, messages: list[tuple[str, int]]) -> tuple[Store, dict[str, int]]:
    """A store that was given messages of these sizes, and the last number of every topic."""
    store, last = Store(limit), dict.fromkeys(["a.", "b.", "c."], 0)
    for topic, size in messages:
        last[topic] += 1
        store.put(topic, last[topic], 1, bytes(size))
    return store, last


@given(st.integers(0, 20_000), MESSAGES)
def test_it_never_holds_more_than_its_limit(limit: int, messages: list[tuple[str, int]]) -> None:
    store, _ = filled(limit, messages)
    kept = [size + OVERHEAD for _, size in messages[len(messages) - len(store) :]]
    assert store.size == sum(kept) <= limit
    assert len(store) + store.take_evicted() == len(messages)
    assert store.take_evicted() == 0


@given(st.integers(0, 20_000), MESSAGES)
def test_of_each_topic_it_has_everything_from_the_first_to_the_last(
    limit: int, messages: list[tuple[str, int]]
) -> None:
    store, last = filled(limit, messages)
    sizes = {topic: [size for named, size in messages if named == topic] for topic in last}
    for topic, end in last.items():
        first = store.first(topic)
        for sequence in range(end + 2):
            found = store.get(topic, sequence)
            assert (found is not None) == (first <= sequence <= end)
            assert found is None or len(found.body) == sizes[topic][sequence - 1]


@given(st.integers(0, 20_000), MESSAGES)
def test_the_oldest_of_all_topics_goes_first(limit: int, messages: list[tuple[str, int]]) -> None:
    store, last = filled(limit, messages)
    kept = {topic: end - store.first(topic) + 1 for topic, end in last.items() if end}
    newest = [topic for topic, _ in messages[len(messages) - len(store) :]]
    assert kept == {topic: newest.count(topic) for topic in kept}
