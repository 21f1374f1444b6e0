"""The window of events in flight to a server: what to send now, what to retry, and which positions are complete.

`offer` adds messages of the feed, and `due` returns the events to send. `accepted`, `failed` and `refused_for_good`
report the outcome of each. Time is an argument.

An offered event leaves the window only when accepted or refused. Until then it is retried, always with the same id:
delivery is at least once. The window holds at most `limit` events and `limit_bytes`; the caller offers nothing while
`hungry` is false.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

FIRST_RETRY_DELAY_S = 0.25  # before the first retry; doubles with each failure
LONGEST_RETRY_DELAY_S = 15.0
EPOCHS = 8  # runs of the feed whose positions are kept
MAX_ID = 200  # bytes


class RetryDelay:
    """An exponential delay, up to LONGEST_RETRY_DELAY_S, until an attempt succeeds."""

    def __init__(self) -> None:
        self._next = FIRST_RETRY_DELAY_S

    def next_s(self) -> float:
        """Return the seconds to wait before the next attempt."""
        wait, self._next = self._next, min(LONGEST_RETRY_DELAY_S, 2 * self._next)
        return wait

    def reset(self) -> None:
        """Reset the delay after a success."""
        self._next = FIRST_RETRY_DELAY_S


class MessageId(NamedTuple):
    """The position of a message in the feed."""

    topic: str
    epoch: int
    sequence: int


class _Fields(msgspec.Struct):
    id: str
    end: str = ""


class _Event(msgspec.Struct):
    event: _Fields


class _Message:
    """A message with `left` unanswered events."""

    __slots__ = ("left", "message_id")

    def __init__(self, message_id: MessageId, left: int) -> None:
        self.message_id = message_id
        self.left = left


class InFlightEvent:
    """One event. number: identifies it in the server's answers. end: its `event.end`, "" if it has none."""

    __slots__ = ("body", "end", "id", "message", "number", "offered_at", "sent_at", "topic", "tries")

    def __init__(self, number: int, id: str, end: str, topic: str, body: bytes, message: _Message, now: float) -> None:
        self.number = number
        self.id = id
        self.end = end
        self.topic = topic
        self.body = body
        self.message = message
        self.offered_at = now
        self.sent_at = 0.0
        self.tries = 0


_decode = msgspec.json.Decoder(_Event).decode


def identify(body: bytes, message_id: MessageId, index: int) -> tuple[str, str]:
    """Return `event.id` and `event.end`. Without an id, the stable position in the feed replaces it."""
    try:
        fields = _decode(body).event
    except (msgspec.DecodeError, UnicodeDecodeError):
        return f"{message_id.epoch}-{message_id.topic}{message_id.sequence}-{index}", ""
    if not (0 < len(fields.id) <= MAX_ID and fields.id.isascii() and fields.id.isprintable() and " " not in fields.id):
        return f"{message_id.epoch}-{message_id.topic}{message_id.sequence}-{index}", fields.end
    return fields.id, fields.end


class InFlightWindow:
    """The state between a feed and a server.

    answer_s: an event without an answer is retried after this time; None if the client library retries. done: the
    positions of an earlier run; messages up to them are skipped.
    """

    def __init__(
        self,
        limit: int,
        limit_bytes: int,
        *,
        answer_s: float | None,
        done: Mapping[tuple[str, int], int] | None = None,
    ) -> None:
        self.limit = limit
        self.limit_bytes = limit_bytes
        self.answer_s = answer_s
        self.done = dict(done or {})  # by topic and epoch: the sequence up to which every event is answered
        self.offered = 0  # events
        self.forwarded = 0  # accepted by the server, duplicates included
        self.duplicates = 0  # of these, events that the server had stored before
        self.refused = 0  # permanently refused by the server
        self.retries = 0  # sends after the first
        self.skipped = 0  # messages that an earlier run completed
        self.last = ""  # the latest `event.end` of an accepted event
        self._number = 0
        self._bytes = 0
        self._new: deque[InFlightEvent] = deque()
        self._sent: dict[int, InFlightEvent] = {}  # in send order
        self._again: dict[int, InFlightEvent] = {}
        self._open: dict[tuple[str, int], deque[_Message]] = {}
        self._delay = RetryDelay()
        self._not_before = 0.0

    # -- in --------------------------------------------------------------------------------------------------------

    @property
    def hungry(self) -> bool:
        """Return whether the next message may be offered."""
        return len(self) < self.limit and self._bytes < self.limit_bytes

    def __len__(self) -> int:
        return len(self._new) + self.outstanding

    @property
    def outstanding(self) -> int:
        """Return the number of events sent but not answered."""
        return len(self._sent) + len(self._again)

    def offer(self, message_id: MessageId, events: Iterable[bytes], now: float) -> None:
        """Add the events of one message. Messages of a topic come in sequence order."""
        key = message_id.topic, message_id.epoch
        if message_id.sequence <= self.done.get(key, 0):
            self.skipped += 1
            return
        message = _Message(message_id, 0)
        self._open.setdefault(key, deque()).append(message)
        for index, body in enumerate(events):
            id, end = identify(body, message_id, index)
            self._number += 1
            self._new.append(InFlightEvent(self._number, id, end, message_id.topic, body, message, now))
            self._bytes += len(body)
            message.left += 1
        self.offered += message.left
        self._settle(message)

    # -- out -------------------------------------------------------------------------------------------------------

    def due(self, now: float) -> list[InFlightEvent]:
        """Return the events to send now, and count them as sent."""
        if self.answer_s is not None:
            self._expire(now - self.answer_s, now)
        if now < self._not_before:
            return []
        going = [self._again[number] for number in sorted(self._again)]
        self._again.clear()
        self.retries += len(going)
        while self._new and len(self._sent) + len(going) < self.limit:
            going.append(self._new.popleft())
        for event in going:
            event.sent_at = now
            event.tries += 1
            self._sent[event.number] = event
        return going

    def wait_s(self, now: float) -> float | None:
        """Return the seconds after which `due` may return events; None if only a new offer or answer can
        change that.
        """
        times = []
        if self._again or (self._new and len(self._sent) < self.limit):
            times.append(self._not_before - now)
        if self._sent and self.answer_s is not None:
            times.append(next(iter(self._sent.values())).sent_at + self.answer_s - now)
        return max(0.0, min(times)) if times else None

    def _expire(self, before: float, now: float) -> None:
        while self._sent and next(iter(self._sent.values())).sent_at <= before:
            self.failed(next(iter(self._sent)), now)

    # -- answers ---------------------------------------------------------------------------------------------------

    def accepted(self, number: int, *, duplicate: bool = False) -> bool:
        """Record that the server has the event, possibly after a retry was scheduled. Return False if
        that was known.
        """
        event = self._leaves(number)
        if event is None:
            return False
        self.forwarded += 1
        self.duplicates += duplicate
        self.last = max(self.last, event.end)
        self._delay.reset()
        self._settle(event.message)
        return True

    def refused_for_good(self, number: int) -> bool:
        """Record that the server permanently refuses the event, because it is too large. Return False if that was
        known.
        """
        event = self._leaves(number)
        if event is None:
            return False
        self.refused += 1
        self._settle(event.message)
        return True

    def failed(self, number: int, now: float) -> None:
        """Record that a send failed. All events wait, longer each time."""
        event = self._sent.pop(number, None)
        if event is None:
            return
        self._again[number] = event
        if now >= self._not_before:
            self._not_before = now + self._delay.next_s()

    def lost_contact(self) -> None:
        """Record that the connection broke, and with it every pending answer."""
        self._again.update(self._sent)
        self._sent.clear()

    def lag_s(self, now: float) -> float:
        """Return the age of the oldest unanswered event."""
        firsts = [next(iter(events.values()), None) for events in (self._sent, self._again)]
        firsts.append(self._new[0] if self._new else None)
        oldest = [event.offered_at for event in firsts if event is not None]
        return max(0.0, now - min(oldest)) if oldest else 0.0

    def _leaves(self, number: int) -> InFlightEvent | None:
        event = self._sent.pop(number, None) or self._again.pop(number, None)
        if event is not None:
            event.message.left -= 1
            self._bytes -= len(event.body)
        return event

    def _settle(self, message: _Message) -> None:
        """Advance the position of a topic over completely answered messages."""
        key = message.message_id.topic, message.message_id.epoch
        waiting = self._open.get(key)
        while waiting and waiting[0].left == 0:
            self.done[key] = waiting.popleft().message_id.sequence
        if waiting is not None and not waiting:
            del self._open[key]
            self._forget()

    def _forget(self) -> None:
        epochs = sorted({epoch for _, epoch in self.done})
        for key in [key for key in self.done if key[1] in epochs[:-EPOCHS]] if len(epochs) > EPOCHS else ():
            del self.done[key]
