"""Replay: questions for stored messages in, the messages or a "gone" reply out.

A question is `{"topic", "epoch", "from", "to"}` with both numbers included. Replies, each behind an empty part:

    topic, header, body        a stored message, in the form it has on the feed
    {"gone": {…}, "reason"}    a range, in the form of a question, that is not available any more
    {"error": "…"}             the question is malformed, or too many are waiting
    {"end": true, …}           the end of every answer, with the members of the question

No client can block the feed. Questions wait in a bounded line, and their answers share a bounded number of bytes a
second. For a client that does not read, the server keeps only its place in the line, for a limited time.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping

import msgspec

from appliance.config.schema import Feed
from appliance.feed.replay_store import Store
from appliance.feed.sockets import FULL, LEFT, ReplaySocket
from appliance.pubsub.protocol import FEED_HEADER, Question, Word
from appliance.stats.page import Page

TURN_REQUESTS = 64  # questions read per turn: a client that floods us slows down itself
TURN_BYTES = 4 << 20  # sent per turn of the loop: some ms between two looks at what the workers send
CLIENT_REQUESTS = 8  # of one client in the line
CLIENT_TIMEOUT_S = 10.0  # how long a client may take nothing of its answer
SEND_RETRY_INTERVAL_S = 0.005  # between two tries to send to clients that are full
BURST_S = 0.1  # of the rate may be sent at once after a pause
QUESTION = 1 / 2000  # of a second's rate that a question costs, whatever its answer: that many are read in a second


class _Job:
    """A question in the line: its unanswered part, and whether some of its messages were gone."""

    def __init__(self, client: bytes, question: Question, last: int, now: float) -> None:
        self.client = client
        self.question = question
        self.next = question.first
        self.last = last
        self.gone = False
        self.moved = now  # time.monotonic() when its client last took something


class Replay:
    """The line of questions. `serve` does a bounded piece of work; `wait_s` says when there is more.

    published: the last number of every topic, kept up to date by the feed. Owns the replay counters of its page.
    """

    def __init__(
        self,
        socket: ReplaySocket,
        store: Store,
        page: Page,
        feed: Feed,
        epoch: int,
        published: Mapping[str, int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.socket = socket
        self.store = store
        self.page = page
        self.limit = feed.replay_requests
        self.rate = feed.replay_rate_bytes
        self.epoch = epoch
        self.published = published
        self.clock = clock
        self.last_question_at = 0.0  # time.monotonic() of the last question
        self._queue: deque[_Job] = deque()
        self._clients: Counter[bytes] = Counter()
        self._allowance = self.rate * BURST_S
        self._refilled = clock()
        self._blocked = False

    @property
    def busy(self) -> bool:
        """Return whether a question waits for its answer."""
        return bool(self._queue)

    @property
    def listening(self) -> bool:
        """Return whether questions are read now: not while earlier ones have used up the rate."""
        return self._allowance > 0

    def wait_s(self) -> float | None:
        """Return the seconds without work; None if there is no question."""
        if self._allowance <= 0:
            return -self._allowance / self.rate
        if not self._queue:
            return None
        return SEND_RETRY_INTERVAL_S if self._blocked else 0.0

    def receive(self) -> None:
        """Read the questions that have come, a turn's worth."""
        for _ in range(TURN_REQUESTS):
            request = self.socket.receive() if self.listening else None
            if request is None:
                return
            self.last_question_at = self.clock()
            self._allowance -= self.rate * QUESTION
            self._accept(*request)

    def _accept(self, client: bytes, request: bytes) -> None:
        try:
            question = msgspec.json.decode(request, type=Question)
            if question.topic not in self.published:
                raise msgspec.ValidationError(f"there is no topic {question.topic[:40]!r} with stored messages")
            if not 1 <= question.first <= question.last < 1 << 64 or not 0 <= question.epoch < 1 << 64:
                raise msgspec.ValidationError("from and to are numbers from 1, in this order")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._refuse(client, str(error), "replay_invalid", None)
            return
        if len(self._queue) >= self.limit or self._clients[client] >= CLIENT_REQUESTS:
            self._refuse(client, "too many questions are waiting: ask again later", "replay_refused", question)
            return
        self._clients[client] += 1
        last = min(question.last, self.published[question.topic])
        self._queue.append(_Job(client, question, last, self.clock()))

    def _refuse(self, client: bytes, error: str, slot: str, question: Question | None) -> None:
        self.page.add(slot, 1)
        self.socket.answer(client, [msgspec.json.encode(Word(error=error))])
        self.socket.answer(client, [_end(question, 0)])

    def serve(self) -> None:
        """Send messages and replies within the rate, one for each question in its turn."""
        now = self.clock()
        self._allowance = min(self.rate * BURST_S, self._allowance + (now - self._refilled) * self.rate)
        self._refilled = now
        sent, blocked = 0, 0
        while blocked < len(self._queue) and sent < TURN_BYTES and self._allowance > 0:
            job = self._queue.popleft()
            size, done = self._send_next(job)
            if size:
                job.moved = now
                blocked = 0
                sent += size
                self._allowance -= size
            elif not done and now - job.moved > CLIENT_TIMEOUT_S:
                self._end_answer(job, "replay_abandoned")
                done = True
            if not done:
                blocked += not size
                self._queue.append(job)
        self._blocked = blocked > 0
        if self._allowance <= 0:
            self.page.add("replay_pauses", 1)

    def _send_next(self, job: _Job) -> tuple[int, bool]:
        """Send one message or reply of an answer; return its bytes (0: the client takes none now) and whether it is
        done.
        """
        question, epoch = job.question, self.epoch
        missing = self._missing(job)
        if job.next > job.last:
            parts = [_end(question, job.last)]
        elif missing:
            parts = [missing]
        else:
            message = self.store.get(question.topic, job.next)
            assert message is not None  # the store is contiguous, and what it lacks is missing
            header = FEED_HEADER.pack(epoch, job.next, message.events)
            parts = [question.topic.encode(), header, message.body]
        result = self.socket.answer(job.client, parts)
        if result == LEFT:
            self._end_answer(job, "replay_abandoned")
            return 0, True
        if result == FULL:
            return 0, False
        size = sum(map(len, parts))
        self.page.add("replay_bytes", size)
        if job.next > job.last:
            self._end_answer(job, "replay_gone" if job.gone else "replay_served")
            return size, True
        if missing:
            job.gone = True
            job.next = job.last + 1 if question.epoch != epoch else self.store.first(question.topic)
        else:
            self.page.add("replay_messages", 1)
            job.next += 1
        return size, False

    def _missing(self, job: _Job) -> bytes | None:
        """Return the reply for the missing range, when the answer has reached one."""
        question = job.question
        if question.epoch != self.epoch:
            job.last = question.last
            gone, reason = job.last, "it is of another run of the feed"
        else:
            gone, reason = min(job.last, self.store.first(question.topic) - 1), "it is not stored any more"
        if job.next > gone:
            return None
        gone_range = Question(question.topic, question.epoch, job.next, gone)
        return msgspec.json.encode(Word(gone=gone_range, reason=reason))

    def _end_answer(self, job: _Job, slot: str) -> None:
        self.page.add(slot, 1)
        self._clients[job.client] -= 1
        if not self._clients[job.client]:
            del self._clients[job.client]


def _end(question: Question | None, last: int) -> bytes:
    if question is None:
        return msgspec.json.encode(Word(end=True))
    last = min(last, question.last)
    return msgspec.json.encode(
        Word(end=True, topic=question.topic, epoch=question.epoch, first=question.first, last=last)
    )
