"""Reordering, gap detection and replay requests of a subscription, without sockets.

The caller passes in messages, heartbeats and replay answers. `ready` fills with messages and gaps, in order within each
topic, without duplicates. `ask` returns the replay request to send. Time is an argument.

Each message published since the first contact ends in `ready` exactly once, as a message or in a gap, provided that the
feed and the network work. Out-of-order messages wait for missing ones, up to `limit` bytes; beyond, they are dropped
and requested later.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from typing import NamedTuple

from appliance.pubsub.protocol import Epoch, Heartbeat, Question

OUT_OF_ORDER_BYTES = 64 << 20  # maximum size of out-of-order messages
MESSAGE_OVERHEAD = 200  # bytes of an out-of-order message beside its body
REQUEST_MESSAGES = 1000  # messages per request: progress is visible before the last one arrives
ANSWER_TIMEOUT_S = 3.0  # without any part of an answer
RETRY_INTERVAL_S = 0.5  # between a bad answer and the next request
HEARTBEAT_TIMEOUT_S = 3.0  # how long a gap waits for the heartbeat that names the replay server
UNANSWERED_PAUSE_S = 30.0  # pause after an unanswered request, so that unrecoverable gaps do not delay new messages
MAX_TRIES = 3  # of one request, without progress
MAX_FINISHED_EPOCHS = 64  # earlier runs of a feed that are remembered


class Received(NamedTuple):
    """One message: its events are JSON objects, one per item, without newlines."""

    topic: str
    epoch: int
    sequence: int
    events: list[bytes]


class Gap(NamedTuple):
    """Messages that were published and are unrecoverable: numbers first to last of a topic, both included."""

    topic: str
    epoch: int
    first: int
    last: int


class _Topic:
    """The state of one topic in the current epoch."""

    def __init__(self, following: int | None, contact: int) -> None:
        self.contact = contact  # the first number published after the first contact
        self.next = following  # the next number to deliver; None: the next heartbeat sets it
        self.top = 0  # the highest number known to be published
        self.settled = 0  # missing numbers up to here are unrecoverable
        self.tries = 0
        self.held: dict[int, tuple[bytes, bool]] = {}  # body, and whether a replay answer brought it
        self.order: list[int] = []  # a heap of the numbers in `held`

    def lowest(self) -> int | None:
        """Return the lowest number held."""
        while self.order and self.order[0] not in self.held:
            heappop(self.order)
        return self.order[0] if self.order else None

    def first_gap(self) -> tuple[int, int] | None:
        """Return the first missing range of numbers."""
        if self.next is None or self.next > self.top:
            return None
        lowest = self.lowest()
        return self.next, self.top if lowest is None else lowest - 1


class Sequencer:
    """The state of one subscription.

    topics: prefixes. backfill: start with the oldest message that the feed stores. `replay`: whether the feed answers
    replay requests; None before the first heartbeat, False makes every loss a gap.
    """

    def __init__(
        self, topics: tuple[str, ...], *, replay: bool | None, backfill: bool = False, limit: int = OUT_OF_ORDER_BYTES
    ) -> None:
        self.topics = topics
        self.replay = replay
        self.backfill = backfill
        self.limit = limit
        self.ready: deque[Received | Gap] = deque()
        self.epoch = -1  # of the current run
        self.epochs = 0  # runs of the feed seen
        self.heartbeats = 0
        self.recovered = 0  # missed messages that a replay answer brought
        self.backfilled = 0  # messages from before the first contact that a replay answer brought
        self.lost = 0  # messages in gaps
        self.duplicates = 0  # messages that were delivered before, or belong to a finished run
        self.dropped = 0  # out-of-order messages dropped for lack of room, and requested later
        self.cut = 0  # runs of the feed with an unknown end: their last messages may be missing
        self._topics: dict[str, _Topic] = {}
        self._size = 0
        self._with_gaps: set[str] = set()
        self._request: Question | None = None
        self._deadline = 0.0  # for the answer
        self._retry_at = 0.0
        self._unanswered = 0  # requests in a row without an answer
        self._paused_until = 0.0
        self._lost_since: float | None = None  # set while the replay server is unknown
        self._from_start = False  # whether this epoch began during the subscription: its first number is 1
        self._finished = False  # whether the feed sent its end message in this epoch
        # By finished epoch: the next number of each topic, until the end of the epoch is known.
        self._finished_epochs: dict[int, dict[str, int] | None] = {}

    # -- the feed --------------------------------------------------------------------------------------------------

    def message(self, topic: str, epoch: int, sequence: int, body: bytes) -> None:
        """Process a message of the feed."""
        if epoch != self.epoch and not self._begin_epoch(epoch):
            self.duplicates += 1
            return
        known = self._topics.get(topic)
        if known is None:
            known = self._topics[topic] = _Topic(self._first_number(sequence), 1 if self._from_start else sequence)
        if sequence > known.top:
            known.top = sequence
        if sequence == known.next and not self._with_gaps:
            known.next = sequence + 1
            self.ready.append(Received(topic, epoch, sequence, body.split(b"\n")))
            return
        self._buffer(topic, known, sequence, body, answer=False)

    def heartbeat(self, beat: Heartbeat) -> None:
        """Process a heartbeat of the feed."""
        if beat.epoch != self.epoch and not self._begin_epoch(beat.epoch):
            return
        self.heartbeats += 1
        self._finished = beat.state == "done"
        self._on_finished_epochs(beat.before)
        for topic, last in beat.last.items():
            if not topic.startswith(self.topics):
                continue
            first = beat.first.get(topic, last + 1) if self.backfill and self.replay is not False else last + 1
            known = self._topics.get(topic)
            if known is None:
                begin, contact = (1, 1) if self._from_start else (first, last + 1)
                known = self._topics[topic] = _Topic(begin, contact)
            if known.next is None:
                known.next = min(first, known.lowest() or first)
            known.top = max(known.top, last)
            self._deliver_ready(topic, known)

    def _first_number(self, sequence: int) -> int | None:
        """Return the first number to deliver of a topic, from its first message."""
        if self._from_start:
            return 1
        return None if self.backfill else sequence

    def _begin_epoch(self, epoch: int) -> bool:
        """Start a new epoch and close the one before. Return False for an epoch that was closed earlier."""
        if epoch in self._finished_epochs:
            return False
        if self.epochs:
            self._finish_epoch()
        self._from_start = self.epochs > 0
        self._finished = False
        self.epochs += 1
        self.epoch = epoch
        return True

    def _finish_epoch(self) -> None:
        """Close the current epoch: messages that are missing now never come."""
        for topic, known in self._topics.items():
            if known.next is None:
                known.next = known.lowest() or known.top + 1
            known.settled = known.top
            self._deliver_ready(topic, known)
        ends = {topic: known.next or 1 for topic, known in self._topics.items()}
        self._finished_epochs[self.epoch] = None if self._finished else ends
        while len(self._finished_epochs) > MAX_FINISHED_EPOCHS:
            del self._finished_epochs[next(iter(self._finished_epochs))]
        self._topics.clear()
        self._request = None

    def _on_finished_epochs(self, before: list[Epoch]) -> None:
        """Report messages missing at the end of earlier epochs as gaps."""
        if not self._finished_epochs:
            return
        oldest = min(self._finished_epochs)
        for life in before:
            if life.epoch < oldest or life.epoch == self.epoch:
                continue
            following = self._finished_epochs.get(life.epoch, {})
            self._finished_epochs[life.epoch] = None
            if following is None:
                continue
            for topic, last in life.last.items():
                # A new topic: every message of it was missed, unless the topic ended before the first contact.
                first = following.get(topic, 1 if life.epoch > oldest else last + 1)
                if topic.startswith(self.topics) and first <= last:
                    self._gap(topic, life.epoch, first, last)
        for epoch, following in self._finished_epochs.items():
            if following is not None:
                self.cut += 1
                self._finished_epochs[epoch] = None

    # -- answers ---------------------------------------------------------------------------------------------------

    @property
    def missing(self) -> bool:
        """Return whether a recoverable message is missing, or an answer is incomplete."""
        return bool(self._with_gaps) or self._request is not None

    def ask(self, now: float) -> Question | None:
        """Return the request to send now, or None: one at a time. Declares unrecoverable ranges as gaps."""
        if self._request is not None:
            if now < self._deadline:
                return None
            self._unanswered += 1
            self._failed(self._request, now)
        if self._with_gaps and now < self._paused_until:
            self._give_up()
        if not self._with_gaps or now < self._retry_at:
            return None
        if self.replay is None:
            if self._lost_since is None:
                self._lost_since = now
            if now < self._lost_since + HEARTBEAT_TIMEOUT_S:
                return None
            self._give_up()
            return None
        self._lost_since = None
        for topic in sorted(self._with_gaps):
            known = self._topics[topic]
            first_gap = known.first_gap()
            if first_gap is None:  # impossible: _deliver_ready maintains _with_gaps
                continue
            if known.tries >= MAX_TRIES or self.replay is False:
                if self._unanswered >= MAX_TRIES:
                    self._paused_until, self._unanswered = now + UNANSWERED_PAUSE_S, 0
                known.settled, known.tries = first_gap[1], 0
                self._deliver_ready(topic, known)
                continue
            first, last = first_gap
            self._request = Question(topic, self.epoch, first, min(last, first + REQUEST_MESSAGES - 1))
            self._deadline = now + ANSWER_TIMEOUT_S
            return self._request
        return None

    def wait_s(self, now: float) -> float | None:
        """Return the seconds after which `ask` may return a request; None if only new input can change that."""
        if self._request is not None:
            return max(0.0, self._deadline - now)
        if not self._with_gaps:
            return None
        if self.replay is None and self._lost_since is not None:
            return max(0.0, self._lost_since + HEARTBEAT_TIMEOUT_S - now)
        return max(0.0, self._retry_at - now)

    def answer(self, topic: str, epoch: int, sequence: int, body: bytes, now: float) -> None:
        """Process a message of a replay answer."""
        request = self._request
        if (
            request is None
            or (topic, epoch) != (request.topic, request.epoch)
            or not request.first <= sequence <= request.last
        ):
            return
        self._answer_arrived(now)
        self._buffer(topic, self._topics[topic], sequence, body, answer=True)

    def gone(self, told: Question, now: float) -> None:
        """Process the report that the feed no longer stores a range."""
        request = self._request
        if request is None or (told.topic, told.epoch) != (request.topic, request.epoch):
            return
        self._answer_arrived(now)
        known = self._topics[told.topic]
        if known.next is not None and told.first <= known.next:
            known.settled = max(known.settled, min(told.last, request.last))
            self._deliver_ready(told.topic, known)

    def end(self, topic: str | None, now: float) -> None:
        """Process the end of an answer. topic: of the request; None if the feed rejected it."""
        request = self._request
        if request is None or topic not in (None, request.topic):
            return
        self._answer_arrived(now)
        known = self._topics[request.topic]
        if known.next is not None and known.next <= request.last:
            self._failed(request, now)
        else:
            known.tries = 0
            self._request = None

    def _answer_arrived(self, now: float) -> None:
        self._deadline = now + ANSWER_TIMEOUT_S
        self._unanswered = 0

    def _failed(self, request: Question, now: float) -> None:
        """Retry or give up after an incomplete answer."""
        known = self._topics[request.topic]
        known.tries = 0 if known.next is not None and known.next > request.first else known.tries + 1
        self._request = None
        self._retry_at = now + RETRY_INTERVAL_S

    def _give_up(self) -> None:
        for topic in sorted(self._with_gaps):
            known = self._topics[topic]
            known.settled = known.top
            self._deliver_ready(topic, known)

    # -- order -----------------------------------------------------------------------------------------------------

    def _buffer(self, topic: str, known: _Topic, sequence: int, body: bytes, *, answer: bool) -> None:
        """Keep a message until its turn, which may be now."""
        if (known.next is not None and sequence < known.next) or sequence in known.held:
            self.duplicates += 1
            return
        size = len(body) + MESSAGE_OVERHEAD
        if self._size + size > self.limit and sequence != known.next:
            self.dropped += 1
        else:
            self._size += size
            known.held[sequence] = body, answer
            heappush(known.order, sequence)
        self._deliver_ready(topic, known)

    def _deliver_ready(self, topic: str, known: _Topic) -> None:
        """Deliver every message whose turn has come."""
        if known.next is None:
            return
        if self.replay is False:
            known.settled = known.top
        while True:
            if known.next in known.held:
                body, answer = known.held.pop(known.next)
                self._size -= len(body) + MESSAGE_OVERHEAD
                self.recovered += answer and known.next >= known.contact
                self.backfilled += answer and known.next < known.contact
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
            self._with_gaps.add(topic)
        else:
            self._with_gaps.discard(topic)

    def _gap(self, topic: str, epoch: int, first: int, last: int) -> None:
        self.lost += last - first + 1
        self.ready.append(Gap(topic, epoch, first, last))
