"""The bookkeeping of a subscriber, against every loss that a network and a restarted feed can cause."""

from __future__ import annotations

from collections import defaultdict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.feed.replay_store import OVERHEAD, Store
from appliance.pubsub.protocol import Epoch, Heartbeat, Question
from appliance.subscriber.sequencer import (
    ANSWER_TIMEOUT_S,
    HEARTBEAT_TIMEOUT_S,
    MAX_TRIES,
    MESSAGE_OVERHEAD,
    UNANSWERED_PAUSE_S,
    Gap,
    Sequencer,
)

TOPICS = ("a.", "b.")
BODY = 100


class Scene:
    """A feed that numbers, keeps and answers as the real one does; a follower; and a network in between."""

    def __init__(self, sequencer: Sequencer, stored: int = 1000) -> None:
        self.sequencer = sequencer
        self.stored = stored
        self.epoch = 0
        self.lives: list[Epoch] = []
        self.now = 0.0
        self.published: list[tuple[int, str, int]] = []
        self.start()

    def start(self) -> None:
        """The feed begins a life; its store is empty."""
        if self.epoch:
            self.lives.append(Epoch(self.epoch, dict(self.last)))
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
            self.sequencer.message(topic, self.epoch, sequence, body)

    def beat(self, state: str = "") -> None:
        first = {topic: self.store.first(topic) for topic in TOPICS}
        self.sequencer.heartbeat(Heartbeat(self.epoch, dict(self.last), {}, first, "there", list(self.lives), state))

    def answer(self, lost: frozenset[int] = frozenset()) -> bool:
        """Asks and answers once; parts of the answer with a number in `lost` do not arrive. Whether it asked."""
        request = self.sequencer.ask(self.now)
        if request is None:
            self.now += 1.0
            return False
        words = iter(range(1_000_000))
        here, last = request.first, min(request.last, self.last[request.topic])
        if request.epoch == self.epoch:
            gone = min(last, self.store.first(request.topic) - 1)
            if gone >= here:
                if next(words) not in lost:
                    self.sequencer.gone(msgspec.structs.replace(request, last=gone), self.now)
                here = gone + 1
            for sequence in range(here, last + 1):
                kept = self.store.get(request.topic, sequence)
                assert kept is not None
                if next(words) not in lost:
                    self.sequencer.answer(request.topic, request.epoch, sequence, kept.body, self.now)
        if next(words) in lost:
            self.now += ANSWER_TIMEOUT_S
        else:
            self.sequencer.end(request.topic, self.now)
        return True

    def settle(self) -> None:
        """Everything that is missing is asked for, until nothing is."""
        self.beat()
        for _ in range(200):
            if not self.sequencer.missing:
                return
            self.answer()
        raise AssertionError("something is missing for ever")

    def outcome(self) -> tuple[list[tuple[int, str, int]], list[tuple[int, str, int]]]:
        """Return (epoch, topic, sequence) of the messages that came out, and of those in gaps."""
        got, gone = [], []
        for item in self.sequencer.ready:
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


def played(steps: list[tuple[str, object, object]], sequencer: Sequencer, stored: int) -> Scene:
    """A first contact with each topic, then the steps, then quiet."""
    scene = Scene(sequencer, stored)
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


@given(STEPS, st.integers(0, 30), st.booleans(), st.sampled_from([0, 3 * (BODY + MESSAGE_OVERHEAD), 1 << 20]))
def test_every_message_goes_out_once_or_is_in_one_gap(
    steps: list[tuple[str, object, object]], stored: int, replay: bool, limit: int
) -> None:
    sequencer = Sequencer(("",), replay=replay, limit=limit)
    scene = played(steps, sequencer, stored)
    got, gone = scene.outcome()
    assert sorted(got + gone) == sorted(scene.published)
    assert sequencer.lost == len(gone)
    assert sequencer.cut == 0


@given(STEPS, st.integers(0, 30))
def test_messages_go_out_in_order_within_their_topic(steps: list[tuple[str, object, object]], stored: int) -> None:
    got, _ = played(steps, Sequencer(("",), replay=True), stored).outcome()
    for numbers in orders(got).values():
        assert numbers == sorted(set(numbers))


@given(STEPS)
def test_nothing_is_lost_while_one_life_of_the_feed_has_it_stored(steps: list[tuple[str, object, object]]) -> None:
    calm = [step for step in steps if step[0] in ("publish", "beat")]
    scene = played(calm, Sequencer(("",), replay=True), 1000)
    got, gone = scene.outcome()
    assert gone == []
    assert sorted(got) == sorted(scene.published)


@given(STEPS, st.lists(st.sampled_from(TOPICS), max_size=20), st.integers(0, 30))
def test_backfill_begins_with_the_oldest_that_is_stored(
    steps: list[tuple[str, object, object]], earlier: list[str], stored: int
) -> None:
    scene = Scene(Sequencer(("",), replay=True, backfill=True), stored)
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


def test_what_was_there_before_the_first_contact_is_not_called_recovered() -> None:
    scene = Scene(Sequencer(("",), replay=True, backfill=True))
    for _ in range(3):
        scene.publish("a.", lost=True)
    scene.publish("a.")
    scene.beat()
    scene.settle()
    assert (scene.sequencer.backfilled, scene.sequencer.recovered) == (3, 0)
    scene.publish("a.", lost=True)
    scene.publish("a.")
    scene.settle()
    assert (scene.sequencer.backfilled, scene.sequencer.recovered) == (3, 1)


def test_backfill_that_begins_with_a_heartbeat_ends_where_it_says() -> None:
    scene = Scene(Sequencer(("",), replay=True, backfill=True))
    scene.publish("a.", lost=True)
    scene.beat()
    scene.publish("a.", lost=True)
    scene.beat()
    scene.settle()
    assert (scene.sequencer.backfilled, scene.sequencer.recovered) == (1, 1)


def test_what_another_life_of_the_feed_published_was_missed() -> None:
    scene = Scene(Sequencer(("",), replay=True, backfill=True))
    scene.beat()
    scene.start()
    scene.publish("a.", lost=True)
    scene.beat()
    scene.settle()
    assert (scene.sequencer.backfilled, scene.sequencer.recovered) == (0, 1)


def test_an_answer_whose_end_is_lost_keeps_nobody_awake() -> None:
    scene = Scene(Sequencer(("",), replay=True))
    scene.beat()
    scene.publish("a.", lost=True)
    scene.publish("a.")
    assert scene.answer(lost=frozenset({1}))
    assert scene.sequencer.missing
    assert scene.sequencer.ask(scene.now) is None
    assert scene.sequencer.wait_s(scene.now) is None
    assert not scene.sequencer.missing


def test_messages_before_the_first_heartbeat_wait_for_the_past() -> None:
    scene = Scene(Sequencer(("",), replay=True, backfill=True))
    scene.publish("a.", lost=True)
    scene.publish("a.")
    assert not scene.sequencer.ready
    scene.settle()
    assert scene.outcome()[0] == [(1, "a.", 1), (1, "a.", 2)]


def test_other_topics_do_not_wait_for_one_that_has_a_hole() -> None:
    scene = Scene(Sequencer(("",), replay=True))
    scene.beat()
    scene.publish("a.", lost=True)
    scene.publish("a.")
    scene.publish("b.")
    assert scene.outcome() == ([(1, "b.", 1)], [])


def test_a_feed_that_never_answers_costs_a_gap_after_some_tries() -> None:
    scene = Scene(Sequencer(("",), replay=True))
    scene.beat()
    scene.publish("a.", lost=True)
    scene.publish("a.")
    request = 0
    while scene.sequencer.missing:
        request += scene.sequencer.ask(scene.now) is not None
        scene.now += 1.0
    assert request == MAX_TRIES
    assert scene.outcome() == ([(1, "a.", 2)], [(1, "a.", 1)])


def test_who_does_not_answer_is_not_asked_for_a_while_and_holds_up_nothing() -> None:
    scene = Scene(Sequencer(("",), replay=True))
    scene.beat()
    scene.publish("a.", lost=True)
    scene.publish("b.", lost=True)
    scene.beat()
    while scene.sequencer.missing:
        scene.sequencer.ask(scene.now)
        scene.now += 1.0
    scene.publish("a.", lost=True)
    scene.publish("a.")
    assert scene.sequencer.ask(scene.now) is None
    assert not scene.sequencer.missing
    scene.now += UNANSWERED_PAUSE_S
    scene.publish("a.", lost=True)
    scene.beat()
    assert scene.sequencer.ask(scene.now) == Question("a.", 1, 4, 4)


def test_without_a_heartbeat_nobody_is_asked() -> None:
    scene = Scene(Sequencer(("",), replay=None))
    scene.publish("a.")
    scene.publish("a.", lost=True)
    scene.publish("a.")
    assert scene.sequencer.ask(0.0) is None
    assert scene.sequencer.wait_s(1.0) == HEARTBEAT_TIMEOUT_S - 1.0
    assert scene.sequencer.ask(HEARTBEAT_TIMEOUT_S) is None
    assert scene.outcome() == ([(1, "a.", 1), (1, "a.", 3)], [(1, "a.", 2)])


def test_one_question_at_a_time_and_not_for_more_than_some() -> None:
    scene = Scene(Sequencer(("",), replay=True), 5000)
    scene.beat()
    for _ in range(2500):
        scene.publish("a.", lost=True)
    scene.beat()
    assert scene.sequencer.ask(0.0) == Question("a.", 1, 1, 1000)
    assert scene.sequencer.ask(0.1) is None


def test_a_run_of_the_feed_whose_end_nobody_tells_is_counted() -> None:
    scene = Scene(Sequencer(("",), replay=True))
    scene.beat()
    scene.start()
    scene.lives.clear()
    scene.beat()
    assert scene.sequencer.cut == 1


@pytest.mark.parametrize("state", ["done"])
def test_a_run_that_said_its_last_word_is_not(state: str) -> None:
    scene = Scene(Sequencer(("",), replay=True))
    scene.beat(state)
    scene.start()
    scene.lives.clear()
    scene.beat()
    assert scene.sequencer.cut == 0


def test_a_whole_life_that_was_missed_is_a_gap() -> None:
    scene = Scene(Sequencer(("a.",), replay=True))
    scene.beat()
    scene.start()
    scene.publish("a.", lost=True)
    scene.publish("b.", lost=True)
    scene.start()
    scene.beat()
    assert list(scene.sequencer.ready) == [Gap("a.", 2, 1, 1)]


def test_an_old_life_cannot_come_back() -> None:
    scene = Scene(Sequencer(("",), replay=True))
    scene.publish("a.")
    scene.start()
    scene.publish("a.")
    scene.sequencer.message("a.", 1, 2, b"late")
    assert scene.sequencer.duplicates == 1
    assert scene.outcome()[0] == [(1, "a.", 1), (2, "a.", 1)]
