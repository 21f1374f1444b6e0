"""The window between a feed and a server: laws, with every answer and none."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from appliance.forward.in_flight import (
    EPOCHS,
    FIRST_RETRY_DELAY_S,
    LONGEST_RETRY_DELAY_S,
    InFlightWindow,
    MessageId,
    RetryDelay,
    identify,
)

LIMIT = 7
ANSWER_S = 5.0


def window(**other) -> InFlightWindow:
    return InFlightWindow(LIMIT, 1 << 20, answer_s=ANSWER_S, **other)


def bodies(first: int, count: int) -> list[bytes]:
    return [b'{"event":{"id":"e%d","end":"%d"}}' % (number, number) for number in range(first, first + count)]


class Server(RuleBasedStateMachine):
    """A feed that offers, a server that answers or not, a connection that breaks, and time."""

    def __init__(self) -> None:
        super().__init__()
        self.window = window()
        self.now = 100.0
        self.sequence = dict.fromkeys("ab", 0)
        self.ends: dict[str, dict[int, set[str]]] = {"a": {}, "b": {}}  # ids of each message
        self.offered: list[str] = []
        self.travelling: list[tuple[int, str]] = []  # sent, and the server has not seen them yet
        self.answers: list[tuple[int, str]] = []  # of what the server has, on their way back
        self.stored: list[str] = []  # at the server, with the repetitions that it leaves out
        self.answered: set[str] = set()

    @precondition(lambda self: self.window.hungry)
    @rule(topic=st.sampled_from("ab"), count=st.integers(1, 5))
    def offer(self, topic, count):
        self.sequence[topic] += 1
        events = bodies(len(self.offered), count)
        ids = [f"e{len(self.offered) + index}" for index in range(count)]
        self.offered += ids
        self.ends[topic][self.sequence[topic]] = set(ids)
        self.window.offer(MessageId(topic, 1, self.sequence[topic]), events, self.now)

    @rule()
    def send(self):
        for event in self.window.due(self.now):
            assert event.id not in self.answered
            self.travelling.append((event.number, event.id))

    @precondition(lambda self: self.travelling)
    @rule(data=st.data())
    def arrive(self, data):
        number, id = self.travelling.pop(data.draw(st.integers(0, len(self.travelling) - 1)))
        self.stored.append(id)
        self.answers.append((number, id))

    @precondition(lambda self: self.answers)
    @rule(data=st.data(), lost=st.booleans())
    def answer(self, data, lost):
        number, id = self.answers.pop(data.draw(st.integers(0, len(self.answers) - 1)))
        if not lost:
            self.window.accepted(number, duplicate=self.stored.count(id) > 1)
            self.answered.add(id)

    @precondition(lambda self: self.travelling)
    @rule(data=st.data())
    def fail(self, data):
        number, _ = self.travelling.pop(data.draw(st.integers(0, len(self.travelling) - 1)))
        self.window.failed(number, self.now)

    @rule()
    def lose_contact(self):
        self.travelling.clear()
        self.answers.clear()
        self.window.lost_contact()

    @rule(seconds=st.sampled_from([0.01, 0.3, 6.0, 20.0]))
    def wait(self, seconds):
        self.now += seconds

    @invariant()
    def no_more_is_unanswered_than_may_be(self):
        assert self.window.outstanding <= LIMIT
        assert len(self.window) < LIMIT + 5

    @invariant()
    def every_event_is_answered_or_here(self):
        assert len(self.offered) == len(self.window) + self.window.forwarded
        assert self.window.forwarded == len(self.answered)

    @invariant()
    def a_position_has_only_answered_messages_before_it(self):
        for (topic, _), last in self.window.done.items():
            for sequence in range(1, last + 1):
                assert self.ends[topic][sequence] <= self.answered
            assert last == self.sequence[topic] or not self.ends[topic][last + 1] <= self.answered

    def teardown(self):
        """A server that answers again gets everything."""
        for _ in range(10 + len(self.offered)):
            if self.window.wait_s(self.now) is None:
                break
            self.now += LONGEST_RETRY_DELAY_S + ANSWER_S
            for event in self.window.due(self.now):
                self.stored.append(event.id)
                self.window.accepted(event.number)
                self.answered.add(event.id)
        assert len(self.window) == 0
        assert set(self.stored) >= set(self.offered)
        assert {topic: last for (topic, _), last in self.window.done.items()} == {
            topic: last for topic, last in self.sequence.items() if last
        }


TestServer = Server.TestCase


def test_events_without_an_answer_are_sent_again_after_a_while_and_only_these():
    it = window()
    it.offer(MessageId("t", 1, 1), bodies(0, 3), 0.0)
    first = it.due(0.0)
    it.accepted(first[1].number)
    assert it.wait_s(0.0) == ANSWER_S
    assert it.due(ANSWER_S - 0.1) == []
    assert it.due(ANSWER_S) == []  # they failed just now: the first wait begins
    assert [event.id for event in it.due(ANSWER_S + FIRST_RETRY_DELAY_S)] == ["e0", "e2"]
    assert it.retries == 2


def test_a_late_answer_counts_once_also_when_the_event_waits_to_be_sent_again():
    it = window()
    it.offer(MessageId("t", 1, 1), bodies(0, 1), 0.0)
    (event,) = it.due(0.0)
    it.failed(event.number, 1.0)
    assert it.accepted(event.number)
    assert not it.accepted(event.number)
    assert (it.forwarded, len(it), it.done) == (1, 0, {("t", 1): 1})


def test_what_the_server_will_never_take_does_not_hold_up_the_rest():
    it = window()
    it.offer(MessageId("t", 1, 1), bodies(0, 2), 0.0)
    first, second = it.due(0.0)
    it.refused_for_good(first.number)
    it.accepted(second.number)
    assert (it.refused, it.forwarded, it.done) == (1, 1, {("t", 1): 1})


def test_messages_of_which_an_earlier_run_had_every_answer_are_left_out():
    it = window(done={("t", 1): 5})
    it.offer(MessageId("t", 1, 5), bodies(0, 2), 0.0)
    it.offer(MessageId("t", 2, 5), bodies(2, 1), 0.0)
    assert [event.id for event in it.due(0.0)] == ["e2"]
    assert it.skipped == 1


def test_bytes_bound_the_window_as_events_do():
    it = InFlightWindow(1000, 100, answer_s=None)
    assert it.hungry
    it.offer(MessageId("t", 1, 1), [b"x" * 100], 0.0)
    assert not it.hungry
    it.accepted(it.due(0.0)[0].number)
    assert it.hungry


def test_only_so_many_runs_of_a_feed_are_remembered():
    it = window()
    for epoch in range(1, 3 * EPOCHS):
        it.offer(MessageId("t", epoch, 1), bodies(epoch, 1), 0.0)
        it.accepted(it.due(0.0)[0].number)
    assert sorted(epoch for _, epoch in it.done) == list(range(2 * EPOCHS, 3 * EPOCHS))


def test_each_wait_is_longer_up_to_a_limit_until_something_succeeds():
    delay = RetryDelay()
    waits = [delay.next_s() for _ in range(12)]
    assert waits == sorted(waits)
    assert waits[0] == FIRST_RETRY_DELAY_S
    assert waits[-1] == LONGEST_RETRY_DELAY_S
    delay.reset()
    assert delay.next_s() == FIRST_RETRY_DELAY_S


@given(st.binary() | st.builds(b'{"event":{"id":"%s"}}'.__mod__, st.binary()))
def test_any_bytes_have_an_id_that_fits_into_a_header(body):
    id, _ = identify(body, MessageId("http.2xx.", 7, 3), 2)
    assert id.isascii()
    assert id.isprintable()
    assert id == id.strip() != ""


def test_the_id_is_the_events_own_and_else_its_place_in_the_feed():
    assert identify(b'{"event":{"id":"a1","end":"z"},"x":[1]}', MessageId("t.", 7, 3), 2) == ("a1", "z")
    assert identify(b'{"state":"ready"}', MessageId("status.", 7, 3), 2) == ("7-status.3-2", "")
