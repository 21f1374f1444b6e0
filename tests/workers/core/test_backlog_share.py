"""One connection cannot take the others' events: its share of the feed's backlog, and of what comes out in a second."""

import pytest
from builders import SECOND, START_NS, Conversation, batches_of, config, event_of, request, response
from hypothesis import given
from hypothesis import strategies as st

from appliance.stats.names import TOPICS
from workers.pipeline import Pipeline

SLOT = 1 << 16
SMALL = request()
ANSWER = response(b"200 OK", b"Content-Length: 0")
WIDE = {"connection_bytes_s": 1 << 40, "connection_share": 0.5, "event_batch_bytes": SLOT}


class Line:
    """A pipeline with a link to a feed that takes what it is told to take, when it is told to."""

    def __init__(self, slots: int = 64, **feed: object) -> None:
        self.pipeline = Pipeline(config(feed={**WIDE, **feed}), live=True)
        self.slots = slots
        self.waiting: list[tuple[int, bytes]] = []  # number, body
        self.bodies = 0
        self.events: list[dict] = []
        self.dropped = 0

    def tell(self) -> None:
        gone = self.waiting[0][0] if self.waiting else self.bodies
        self.pipeline.backlog((self.slots - len(self.waiting)) * SLOT, gone)

    def feed(self, frames: list) -> None:
        for message in batches_of(frames)[0][0][:-1]:
            self.tell()
            self.pipeline.feed(message)
            self.publish()

    def publish(self, last: bool = False) -> None:
        """As the worker does: behind a feed that is behind, bodies are filled."""
        if not last and len(self.waiting) > self.slots // 8 and self.pipeline.pending_output < SLOT:
            return
        for _, count, body in self.pipeline.take():
            if len(self.waiting) < self.slots:
                self.waiting.append((self.bodies, body))
            else:
                self.dropped += count
            self.bodies += 1

    def drain(self, bodies: int = 1 << 30) -> None:
        """The feed takes some."""
        self.publish(last=True)
        for _, body in self.waiting[:bodies]:
            self.events += map(event_of, body.split(b"\n"))
        del self.waiting[:bodies]

    def of(self, port: int) -> int:
        return sum(event["source"]["port"] == port for event in self.events)

    def left_out(self) -> int:
        return sum(self.pipeline.counts()[f"dropped_share.{topic}"] for topic in TOPICS)

    def made(self) -> int:
        return sum(self.pipeline.counts()[f"made.{topic}"] for topic in TOPICS)


class Greedy:
    """A connection that pipelines requests, all answered, and goes on a second later."""

    def __init__(self, port: int = 1000) -> None:
        self.conversation = Conversation(client_port=port).handshake()
        self.at = 0

    def more(self, count: int) -> list:
        for _ in range(count // 100):
            self.conversation.client_sends(SMALL * 100).server_sends(ANSWER * 100)
        frames = list(self.conversation.frames)[self.at :]
        self.at += len(frames)
        self.conversation.idle(SECOND)
        return frames


def single(port: int, start_ns: int = START_NS) -> list:
    """A connection of one request."""
    return list(
        Conversation(client_port=port, start_ns=start_ns).handshake().client_sends(SMALL).server_sends(ANSWER).frames
    )


def closes(line: Line) -> None:
    """Every event made is somewhere."""
    line.publish(last=True)
    waiting = sum(body.count(b"\n") + 1 for _, body in line.waiting)
    assert line.made() == len(line.events) + waiting + line.dropped + line.left_out()


def test_one_connection_gets_a_third_of_the_backlog_and_the_others_lose_nothing():
    line, greedy = Line(), Greedy()
    for number in range(40):
        line.feed(greedy.more(400))
        line.feed(single(2000 + number, START_NS + number * SECOND))
    line.drain()
    assert line.dropped == 0
    assert {line.of(2000 + number) for number in range(40)} == {1}
    size = len(str(line.events[0]))
    assert 64 * SLOT / 4 < line.of(1000) * size < 64 * SLOT / 2
    assert line.left_out() > 5000
    closes(line)


def test_however_many_try_there_is_room_for_the_others():
    line, many = Line(), [Greedy(port) for port in range(1000, 1012)]
    for number in range(30):
        for greedy in many:
            line.feed(greedy.more(100))
        line.feed(single(2000 + number, START_NS + number * SECOND))
    line.drain()
    assert line.dropped == 0
    assert {line.of(2000 + number) for number in range(30)} == {1}
    taken = [line.of(port) for port in range(1000, 1012)]
    assert max(taken) < 3 * min(taken)
    closes(line)


def test_who_was_over_its_share_goes_on_when_the_feed_has_caught_up():
    line, greedy = Line(slots=8), Greedy()
    line.feed(greedy.more(2000))
    before = line.left_out()
    assert before > 0
    line.drain()
    line.feed(greedy.more(100))
    assert line.left_out() == before
    line.drain()
    closes(line)


def test_while_the_feed_keeps_up_nothing_is_left_out():
    line, greedy = Line(slots=8), Greedy()
    for _ in range(30):
        line.feed(greedy.more(100))
        line.drain()
    assert (line.left_out(), line.dropped, line.of(1000)) == (0, 0, 3000)


def test_a_connection_brings_out_so_much_in_a_second():
    line, greedy = Line(connection_bytes_s=100_000), Greedy()
    for number in range(10):
        line.feed(greedy.more(1000))
        line.feed(single(2000 + number, START_NS + number * SECOND))
        line.drain()
    size = sum(len(str(event)) for event in line.events[:50]) / 50
    assert line.of(1000) * size == pytest.approx(10 * 100_000, rel=0.3)
    assert {line.of(2000 + number) for number in range(10)} == {1}
    closes(line)


def test_reading_a_file_leaves_nothing_out():
    pipeline = Pipeline(config(feed={"connection_bytes_s": 1024, "connection_share": 0.001}))
    for message in batches_of(Greedy().more(3000))[0][0]:
        pipeline.feed(message)
    pipeline.finish()
    assert sum(count for _, count, _ in pipeline.take()) == 3000
    assert not any(pipeline.counts()[f"dropped_share.{topic}"] for topic in TOPICS)


def test_at_the_end_the_feed_is_waited_for():
    line = Line(slots=1, connection_bytes_s=1024)
    opened = Conversation(client_port=1000).handshake().client_sends(SMALL * 300)
    line.feed(list(opened.frames))
    line.pipeline.finish()
    assert sum(count for _, count, _ in line.pipeline.take()) == 300
    assert line.left_out() == 0


def test_another_configuration_keeps_count_of_the_bodies():
    line, greedy = Line(slots=16), Greedy()
    line.feed(greedy.more(3000))
    before = line.left_out()
    line.pipeline.configure(config(feed={**WIDE, "connection_share": 100.0}))
    line.feed(greedy.more(300))
    assert line.left_out() == before
    line.drain()
    closes(line)


@given(
    st.lists(
        st.tuples(st.sampled_from(["greedy", "other greedy", "single", "drain", "drain one"]), st.integers(1, 5)),
        max_size=25,
    )
)
def test_in_any_order_the_books_close_and_a_single_event_is_never_left_out(steps):
    line, singles = Line(slots=12), 0
    greedy = {"greedy": Greedy(1000), "other greedy": Greedy(1001)}
    for number, (what, count) in enumerate(steps):
        if what == "drain":
            line.drain()
        elif what == "drain one":
            line.drain(count)
        elif what == "single":
            line.feed(single(3000 + number))
            singles += 1
        else:
            line.feed(greedy[what].more(100 * count))
    line.publish(last=True)
    waiting = [event_of(text) for _, body in line.waiting for text in body.split(b"\n")]
    seen = line.events + waiting
    assert sum(event["source"]["port"] >= 3000 for event in seen) + line.dropped >= singles
    closes(line)


@pytest.mark.parametrize("part", [0.1, 1.0, 4.0])
def test_the_share_is_configured(part):
    line, greedy = Line(connection_share=part), Greedy()
    for _ in range(40):
        line.feed(greedy.more(400))
    line.drain()
    size = sum(len(str(event)) for event in line.events[:50]) / 50
    assert line.of(1000) * size == pytest.approx(64 * SLOT * part / (1 + part), rel=0.35)
