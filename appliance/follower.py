"""Following a feed without sockets: what came, in which order it goes out, what to ask for again, what is gone.

Messages, heartbeats and the answers to questions go in; `ready` fills with messages and gaps, in order within each
topic, no number twice; `ask` says which question to send. Time comes in as an argument. Whatever was published since
the first contact ends in `ready` exactly once, as a message or in a gap, when the network and the feed go on at all.

What comes before its turn waits for what is missing, up to `limit` bytes; beyond, it is left out and asked for later.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from typing import NamedTuple

import msgspec

HELD_BYTES = 64 << 20  # what waits for its turn
HELD_OVERHEAD = 200  # bytes of a waiting message beside its body
ASKED = 1000  # messages in one question: progress is seen before all is there
ANSWER_S = 3.0  # without a word of an answer
RETRY_S = 0.5  # between a bad answer and the next question
HEARTBEAT_S = 3.0  # how long a loss waits for the heartbeat that says whom to ask
SILENT_S = 30.0  # for so long nobody is asked who did not answer: what cannot be had must not hold up what comes
TRIES = 3  # of one question, without progress
LIVES = 64  # earlier runs of a feed that are remembered


class Received(NamedTuple):
    """One message: its events are JSON objects, one per item, without newlines."""

    topic: str
    epoch: int
    sequence: int
    events: list[bytes]


class Gap(NamedTuple):
    """Messages that were published and cannot be had: numbers first to last of a topic, both included."""

    topic: str
    epoch: int
    first: int
    last: int


class Question(NamedTuple):
    """Messages to ask the feed for again, numbers first to last, both included."""

    topic: str
    epoch: int
    first: int
    last: int


class Life(msgspec.Struct):
    """A run of the feed that is over, and the last number of every topic in it."""

    epoch: int
    last: dict[str, int]


class Heartbeat(msgspec.Struct):
    """What a heartbeat says; see the feed."""

    epoch: int
    last: dict[str, int]
    first: dict[str, int] = {}
    replay: str = ""
    before: list[Life] = []
    state: str = ""


class _Topic:
    """What is known of one topic in the current epoch."""

    def __init__(self, following: int | None) -> None:
        self.next = following  # the number that goes out next; None: the next heartbeat says where to begin
        self.top = 0  # the last number that is known to exist
        self.settled = 0  # up to here, what has not come is gone
        self.tries = 0
        self.held: dict[int, tuple[bytes, bool]] = {}  # body, and whether it came as an answer
        self.order: list[int] = []  # a heap of the numbers in it

    def lowest(self) -> int | None:
        """The lowest number that waits."""
        while self.order and self.order[0] not in self.held:
            heappop(self.order)
        return self.order[0] if self.order else None

    def hole(self) -> tuple[int, int] | None:
        """The first numbers that exist and are not there."""
        if self.next is None or self.next > self.top:
            return None
        lowest = self.lowest()
        return self.next, self.top if lowest is None else lowest - 1


class Follower:
    """The state of one subscription. topics: prefixes. backfill: begin with the oldest message that the feed still has.

    `replay` says whether losses can be asked for: None until a heartbeat tells, and false makes every loss a gap."""

    def __init__(
        self, topics: tuple[str, ...], *, replay: bool | None, backfill: bool = False, limit: int = HELD_BYTES
    ) -> None:
        self.topics = topics
        self.replay = replay
        self.backfill = backfill
        self.limit = limit
        self.ready: deque[Received | Gap] = deque()
        self.epoch = -1  # of the run being read
        self.epochs = 0  # runs of the feed seen
        self.heartbeats = 0
        self.recovered = 0  # messages that came as answers
        self.lost = 0  # messages in gaps
        self.duplicates = 0  # messages that came again, or from a run that is over
        self.left_out = 0  # messages that found no room to wait, and were asked for later
        self.cut = 0  # runs of the feed of which nobody knows how they ended: what of their last messages is missing
        self._topics: dict[str, _Topic] = {}
        self._size = 0
        self._holes: set[str] = set()
        self._asked: Question | None = None
        self._deadline = 0.0  # of the answer
        self._retry_at = 0.0
        self._unanswered = 0  # questions in a row to which no word came
        self._silent_until = 0.0
        self._lost_since: float | None = None  # while nobody is known to be asked
        self._from_start = False  # whether this epoch began while we followed: its first number is 1
        self._finished = False  # whether the feed has said its last word in this epoch
        self._lives: dict[
            int, dict[str, int] | None
        ] = {}  # by epoch that is over: what would be next, until it is told

    # -- the feed --------------------------------------------------------------------------------------------------

    def message(self, topic: str, epoch: int, sequence: int, body: bytes) -> None:
        """A message of the feed."""
        if epoch != self.epoch and not self._enter(epoch):
            self.duplicates += 1
            return
        known = self._topics.get(topic)
        if known is None:
            known = self._topics[topic] = _Topic(self._beginning(sequence))
        if sequence > known.top:
            known.top = sequence
        if sequence == known.next and not self._holes:
            known.next = sequence + 1
            self.ready.append(Received(topic, epoch, sequence, body.split(b"\n")))
            return
        self._hold(topic, known, sequence, body, answer=False)

    def heartbeat(self, beat: Heartbeat) -> None:
        """A heartbeat of the feed."""
        if beat.epoch != self.epoch and not self._enter(beat.epoch):
            return
        self.heartbeats += 1
        self._finished = beat.state == "done"
        self._ends(beat.before)
        for topic, last in beat.last.items():
            if not topic.startswith(self.topics):
                continue
            first = beat.first.get(topic, last + 1) if self.backfill and self.replay is not False else last + 1
            known = self._topics.get(topic)
            if known is None:
                known = self._topics[topic] = _Topic(1 if self._from_start else first)
            if known.next is None:
                known.next = min(first, known.lowest() or first)
            known.top = max(known.top, last)
            self._move(topic, known)

    def _beginning(self, sequence: int) -> int | None:
        """Where a topic begins whose first message came."""
        if self._from_start:
            return 1
        return None if self.backfill else sequence

    def _enter(self, epoch: int) -> bool:
        """A message of another run of the feed came: closes the one before; False if it is one that was closed."""
        if epoch in self._lives:
            return False
        if self.epochs:
            self._leave()
        self._from_start = self.epochs > 0
        self._finished = False
        self.epochs += 1
        self.epoch = epoch
        return True

    def _leave(self) -> None:
        """What a run of the feed did not send before its end it will never send."""
        for topic, known in self._topics.items():
            if known.next is None:
                known.next = known.lowest() or known.top + 1
            known.settled = known.top
            self._move(topic, known)
        ends = {topic: known.next or 1 for topic, known in self._topics.items()}
        self._lives[self.epoch] = None if self._finished else ends
        while len(self._lives) > LIVES:
            del self._lives[next(iter(self._lives))]
        self._topics.clear()
        self._asked = None

    def _ends(self, before: list[Life]) -> None:
        """The feed tells how earlier runs ended: what came after our last message in them is gone."""
        if not self._lives:
            return
        oldest = min(self._lives)
        for life in before:
            if life.epoch < oldest or life.epoch == self.epoch:
                continue
            following = self._lives.get(life.epoch, {})
            self._lives[life.epoch] = None
            if following is None:
                continue
            for topic, last in life.last.items():
                # A topic that was never heard of: all of it was missed, unless that was before the first contact.
                first = following.get(topic, 1 if life.epoch > oldest else last + 1)
                if topic.startswith(self.topics) and first <= last:
                    self._gap(topic, life.epoch, first, last)
        for epoch, following in self._lives.items():
            if following is not None:
                self.cut += 1
                self._lives[epoch] = None

    # -- answers ---------------------------------------------------------------------------------------------------

    @property
    def missing(self) -> bool:
        """Whether something is missing that may still be had, or an answer is not over."""
        return bool(self._holes) or self._asked is not None

    def ask(self, now: float) -> Question | None:
        """The question to send now, if there is one: one at a time. What cannot be had is given up here."""
        if self._asked is not None:
            if now < self._deadline:
                return None
            self._unanswered += 1
            self._failed(self._asked, now)
        if self._holes and now < self._silent_until:
            self._give_up()
        if not self._holes or now < self._retry_at:
            return None
        if self.replay is None:
            if self._lost_since is None:
                self._lost_since = now
            if now < self._lost_since + HEARTBEAT_S:
                return None
            self._give_up()
            return None
        self._lost_since = None
        for topic in sorted(self._holes):
            known = self._topics[topic]
            hole = known.hole()
            if hole is None:  # cannot be: _holes is kept by _move
                continue
            if known.tries >= TRIES or self.replay is False:
                if self._unanswered >= TRIES:
                    self._silent_until, self._unanswered = now + SILENT_S, 0
                known.settled, known.tries = hole[1], 0
                self._move(topic, known)
                continue
            self._asked = Question(topic, self.epoch, hole[0], min(hole[1], hole[0] + ASKED - 1))
            self._deadline = now + ANSWER_S
            return self._asked
        return None

    def wait_s(self, now: float) -> float | None:
        """After how many seconds `ask` may have something to say; None: not before something comes."""
        if self._asked is not None:
            return max(0.0, self._deadline - now)
        if not self._holes:
            return None
        if self.replay is None and self._lost_since is not None:
            return max(0.0, self._lost_since + HEARTBEAT_S - now)
        return max(0.0, self._retry_at - now)

    def answer(self, topic: str, epoch: int, sequence: int, body: bytes, now: float) -> None:
        """A message that was asked for."""
        asked = self._asked
        if asked is None or (topic, epoch) != (asked.topic, asked.epoch) or not asked.first <= sequence <= asked.last:
            return
        self._heard(now)
        self._hold(topic, self._topics[topic], sequence, body, answer=True)

    def gone(self, told: Question, now: float) -> None:
        """The feed says that it does not have these any more."""
        asked = self._asked
        if asked is None or (told.topic, told.epoch) != (asked.topic, asked.epoch):
            return
        self._heard(now)
        known = self._topics[told.topic]
        if known.next is not None and told.first <= known.next:
            known.settled = max(known.settled, min(told.last, asked.last))
            self._move(told.topic, known)

    def end(self, topic: str | None, now: float) -> None:
        """The last word of an answer; topic: of the question, None if it was not understood."""
        asked = self._asked
        if asked is None or topic not in (None, asked.topic):
            return
        self._heard(now)
        known = self._topics[asked.topic]
        if known.next is not None and known.next <= asked.last:
            self._failed(asked, now)
        else:
            known.tries = 0
            self._asked = None

    def _heard(self, now: float) -> None:
        self._deadline = now + ANSWER_S
        self._unanswered = 0

    def _failed(self, asked: Question, now: float) -> None:
        """The answer did not bring all of it."""
        known = self._topics[asked.topic]
        known.tries = 0 if known.next is not None and known.next > asked.first else known.tries + 1
        self._asked = None
        self._retry_at = now + RETRY_S

    def _give_up(self) -> None:
        for topic in sorted(self._holes):
            known = self._topics[topic]
            known.settled = known.top
            self._move(topic, known)

    # -- order -----------------------------------------------------------------------------------------------------

    def _hold(self, topic: str, known: _Topic, sequence: int, body: bytes, *, answer: bool) -> None:
        """Lets a message wait for its turn, which may have come."""
        if (known.next is not None and sequence < known.next) or sequence in known.held:
            self.duplicates += 1
            return
        size = len(body) + HELD_OVERHEAD
        if self._size + size > self.limit and sequence != known.next:
            self.left_out += 1
        else:
            self._size += size
            known.held[sequence] = body, answer
            heappush(known.order, sequence)
        self._move(topic, known)

    def _move(self, topic: str, known: _Topic) -> None:
        """Lets everything go whose turn has come."""
        if known.next is None:
            return
        if self.replay is False:
            known.settled = known.top
        while True:
            if known.next in known.held:
                body, answer = known.held.pop(known.next)
                self._size -= len(body) + HELD_OVERHEAD
                self.recovered += answer
                self.ready.append(Received(topic, self.epoch, known.next, body.split(b"\n")))
                known.next += 1
            elif known.next <= known.settled:
                lowest = known.lowest()
                last = known.settled if lowest is None else min(known.settled, lowest - 1)
                self._gap(topic, self.epoch, known.next, last)
                known.next = last + 1
            else:
                break
        if known.next <= known.top:
            self._holes.add(topic)
        else:
            self._holes.discard(topic)

    def _gap(self, topic: str, epoch: int, first: int, last: int) -> None:
        self.lost += last - first + 1
        self.ready.append(Gap(topic, epoch, first, last))
