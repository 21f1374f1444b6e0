"""The bookkeeping of a subscriber, against every loss that a network and a restarted feed can cause."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.follower import (
    ANSWER_S,
    HEARTBEAT_S,
    HELD_OVERHEAD,
    SILENT_S,
    TRIES,
    Follower,
    Gap,
    Heartbeat,
    Life,
    Question,
)
from appliance.store import OVERHEAD, Store

TOPICS = ("a.", "b.")
BODY = 100


class Scene:
    """A feed that numbers, keeps and answers as the real one does; a follower; and a network in between."""

    def __init__(self, follower: Follower, stored: int = 1000) -> None:
        self.follower = follower
        self.stored = stored
        self.epoch = 0
        self.lives: list[Life] = []
        self.now = 0.0
        self.published: list[tuple[int, str, int]] = []
        self.start()

    def start(self) -> None:
        """The feed begins a life; its store is empty."""
        if self.epoch:
            self.lives.append(Life(self.epoch, dict(self.last)))
        self.epoch += 1
        self.last = dict.fromkeys(TOPICS, 0)
        self.store = Store(self.stored * (BODY + OVERHEAD))

    def publish(self, topic: str, *, lost: bool = False) -> None:
        self.last[topic] += 1
        sequence = self.last[topic]
        body = (b"%d %s %d" % (self.epoch, topic.encode(), sequence)).ljust(BODY)
        self.store.put(topic, sequence, 1, body)
        self.published.append((self.epoch, topic, sequence))
        if not lost:
            self.follower.message(topic, self.epoch, sequence, body)

    def beat(self, state: str = "") -> None:
        first = {topic: self.store.first(topic) for topic in TOPICS}
        self.follower.heartbeat(Heartbeat(self.epoch, dict(self.last), first, "there", list(self.lives), state))

    def answer(self, lost: frozenset[int] = frozenset()) -> bool:
        """Asks and answers once; parts of the answer with a number in `lost` do not arrive. Whether it asked."""
        asked = self.follower.ask(self.now)
        if asked is None:
            self.now += 1.0
            return False
        words = iter(range(1_000_000))
        here, last = asked.first, min(asked.last, self.last[asked.topic])
        if asked.epoch == self.epoch:
            gone = min(last, self.store.first(asked.topic) - 1)
            if gone >= here:
                if next(words) not in lost:
                    self.follower.gone(asked._replace(last=gone), self.now)
                here = gone + 1
            for sequence in range(here, last + 1):
                kept = self.store.get(asked.topic, sequence)
                assert kept is not None
                if next(words) not in lost:
                    self.follower.answer(asked.topic, asked.epoch, sequence, kept.body, self.now)
        if next(words) in lost:
            self.now += ANSWER_S
        else:
            self.follower.end(asked.topic, self.now)
        return True

    def settle(self) -> None:
        """Everything that is missing is asked for, until nothing is."""
        self.beat()
        for _ in range(200):
            if not self.follower.missing:
                return
            self.answer()
        raise AssertionError("something is missing for ever")

    def outcome(self) -> tuple[list[tuple[int, str, int]], list[tuple[int, str, int]]]:
        """What went out as messages, and what as gaps."""
        got, gone = [], []
        for item in self.follower.ready:
            if isinstance(item, Gap):
                gone += [(item.epoch, item.topic, n) for n in range(item.first, item.last + 1)]
            else:
                got.append((item.epoch, item.topic, item.sequence))
                assert item.events[0].split() == [str(part).encode() for part in got[-1]]
        return got, gone


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from(TOPICS), st.booleans()),
        st.tuples(st.just("publish"), st.sampled_from(TOPICS), st.just(False)),
        st.tuples(st.just("answer"), st.frozensets(st.integers(0, 12), max_size=4), st.booleans()),
        st.tuples(st.just("beat"), st.none(), st.none()),
        st.tuples(st.just("restart"), st.none(), st.none()),
    ),
    max_size=80,
)


def played(steps: list[tuple[str, object, object]], follower: Follower, stored: int) -> Scene:
    """A first contact with each topic, then the steps, then quiet."""
    scene = Scene(follower, stored)
    scene.beat()
    for what, first, second in steps:
        if what == "publish":
            scene.publish(str(first), lost=bool(second))
        elif what == "answer":
            scene.answer(first)  # type: ignore[arg-type]
        elif what == "beat":
            scene.beat()
        else:
            scene.start()
    scene.settle()
    return scene


def orders(items: list[tuple[int, str, int]]) -> dict[str, list[tuple[int, int]]]:
    by_topic = defaultdict(list)
    for epoch, topic, sequence in items:
        by_topic[topic].append((epoch, sequence))
    return by_topic


@given(STEPS, st.integers(0, 30), st.booleans(), st.sampled_from([0, 3 * (BODY + HELD_OVERHEAD), 1 << 20]))
def test_every_message_goes_out_once_or_is_in_one_gap(
    steps: list[tuple[str, object, object]], stored: int, replay: bool, limit: int
) -> None:
    follower = Follower(("",), replay=replay, limit=limit)
    scene = played(steps, follower, stored)
    got, gone = scene.outcome()
    assert sorted(got + gone) == sorted(scene.published)
    assert follower.lost == len(gone)
    assert follower.cut == 0


@given(STEPS, st.integers(0, 30))
def test_messages_go_out_in_order_within_their_topic(steps: list[tuple[str, object, object]], stored: int) -> None:
    got, _ = played(steps, Follower(("",), replay=True), stored).outcome()
    for numbers in orders(got).values():
        assert numbers == sorted(set(numbers))


@given(STEPS)
def test_nothing_is_lost_while_one_life_of_the_feed_has_it_stored(steps: list[tuple[str, object, object]]) -> None:
    calm = [step for step in steps if step[0] in ("publish", "beat")]
    scene = played(calm, Follower(("",), replay=True), 1000)
    got, gone = scene.outcome()
    assert gone == []
    assert sorted(got) == sorted(scene.published)


@given(STEPS, st.lists(st.sampled_from(TOPICS), max_size=20), st.integers(0, 30))
def test_backfill_begins_with_the_oldest_that_is_stored(
    steps: list[tuple[str, object, object]], earlier: list[str], stored: int
) -> None:
    scene = Scene(Follower(("",), replay=True, backfill=True), stored)
    for topic in earlier:
        scene.publish(topic, lost=True)
    first = {topic: scene.store.first(topic) for topic in TOPICS}
    wanted = [(1, topic, n) for topic in TOPICS for n in range(first[topic], scene.last[topic] + 1)]
    scene.published.clear()
    scene.beat()
    scene.settle()
    got, gone = scene.outcome()
    assert sorted(got) == sorted(wanted)
    assert gone == []


def test_an_answer_whose_end_is_lost_keeps_nobody_awake() -> None:
    scene = Scene(Follower(("",), replay=True))
    scene.beat()
    scene.publish("a.", lost=True)
    scene.publish("a.")
    assert scene.answer(lost=frozenset({1}))
    assert scene.follower.missing
    assert scene.follower.ask(scene.now) is None
    assert scene.follower.wait_s(scene.now) is None
    assert not scene.follower.missing


def test_messages_before_the_first_heartbeat_wait_for_the_past() -> None:
    scene = Scene(Follower(("",), replay=True, backfill=True))
    scene.publish("a.", lost=True)
    scene.publish("a.")
    assert not scene.follower.ready
    scene.settle()
    assert scene.outcome()[0] == [(1, "a.", 1), (1, "a.", 2)]


def test_other_topics_do_not_wait_for_one_that_has_a_hole() -> None:
    scene = Scene(Follower(("",), replay=True))
    scene.beat()
    scene.publish("a.", lost=True)
    scene.publish("a.")
    scene.publish("b.")
    assert scene.outcome() == ([(1, "b.", 1)], [])


def test_a_feed_that_never_answers_costs_a_gap_after_some_tries() -> None:
    scene = Scene(Follower(("",), replay=True))
    scene.beat()
    scene.publish("a.", lost=True)
    scene.publish("a.")
    asked = 0
    while scene.follower.missing:
        asked += scene.follower.ask(scene.now) is not None
        scene.now += 1.0
    assert asked == TRIES
    assert scene.outcome() == ([(1, "a.", 2)], [(1, "a.", 1)])


def test_who_does_not_answer_is_not_asked_for_a_while_and_holds_up_nothing() -> None:
    scene = Scene(Follower(("",), replay=True))
    scene.beat()
    scene.publish("a.", lost=True)
    scene.publish("b.", lost=True)
    scene.beat()
    while scene.follower.missing:
        scene.follower.ask(scene.now)
        scene.now += 1.0
    scene.publish("a.", lost=True)
    scene.publish("a.")
    assert scene.follower.ask(scene.now) is None
    assert not scene.follower.missing
    scene.now += SILENT_S
    scene.publish("a.", lost=True)
    scene.beat()
    assert scene.follower.ask(scene.now) == Question("a.", 1, 4, 4)


def test_without_a_heartbeat_nobody_is_asked() -> None:
    scene = Scene(Follower(("",), replay=None))
    scene.publish("a.")
    scene.publish("a.", lost=True)
    scene.publish("a.")
    assert scene.follower.ask(0.0) is None
    assert scene.follower.wait_s(1.0) == HEARTBEAT_S - 1.0
    assert scene.follower.ask(HEARTBEAT_S) is None
    assert scene.outcome() == ([(1, "a.", 1), (1, "a.", 3)], [(1, "a.", 2)])


def test_one_question_at_a_time_and_not_for_more_than_some() -> None:
    scene = Scene(Follower(("",), replay=True), 5000)
    scene.beat()
    for _ in range(2500):
        scene.publish("a.", lost=True)
    scene.beat()
    assert scene.follower.ask(0.0) == Question("a.", 1, 1, 1000)
    assert scene.follower.ask(0.1) is None


def test_a_run_of_the_feed_whose_end_nobody_tells_is_counted() -> None:
    scene = Scene(Follower(("",), replay=True))
    scene.beat()
    scene.start()
    scene.lives.clear()
    scene.beat()
    assert scene.follower.cut == 1


@pytest.mark.parametrize("state", ["done"])
def test_a_run_that_said_its_last_word_is_not(state: str) -> None:
    scene = Scene(Follower(("",), replay=True))
    scene.beat(state)
    scene.start()
    scene.lives.clear()
    scene.beat()
    assert scene.follower.cut == 0


def test_a_whole_life_that_was_missed_is_a_gap() -> None:
    scene = Scene(Follower(("a.",), replay=True))
    scene.beat()
    scene.start()
    scene.publish("a.", lost=True)
    scene.publish("b.", lost=True)
    scene.start()
    scene.beat()
    assert list(scene.follower.ready) == [Gap("a.", 2, 1, 1)]


def test_an_old_life_cannot_come_back() -> None:
    scene = Scene(Follower(("",), replay=True))
    scene.publish("a.")
    scene.start()
    scene.publish("a.")
    scene.follower.message("a.", 1, 2, b"late")
    assert scene.follower.duplicates == 1
    assert scene.outcome()[0] == [(1, "a.", 1), (2, "a.", 1)]
