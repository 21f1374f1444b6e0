"""Events on their way to a server that acknowledges: what to send now, what to send again, up to where all is there.

Messages of the feed go in with `offer`, `due` says which events to send, and what became of each is told by
`accepted`, `failed` and `refused_for_good`. Time comes in as an argument. An event that was offered leaves only as
accepted or refused; until then it is sent again, as often as it takes: at least once, always with the same id.

Not more than `limit` events, or `limit_bytes`, are here: while `hungry` is false, nothing more may be offered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

WAIT_S = 0.25  # before the first repetition; doubled for each one that brings nothing
MAX_WAIT_S = 15.0
EPOCHS = 8  # runs of the feed whose positions are remembered
MAX_ID = 200  # bytes


class Back:
    """Waiting longer each time, up to MAX_WAIT_S, until something succeeds."""

    def __init__(self) -> None:
        self._next = WAIT_S

    def off(self) -> float:
        """How many seconds to wait now."""
        wait, self._next = self._next, min(MAX_WAIT_S, 2 * self._next)
        return wait

    def on(self) -> None:
        """It succeeded."""
        self._next = WAIT_S


class Place(NamedTuple):
    """A message of the feed, by its numbers."""

    topic: str
    epoch: int
    sequence: int


class _Fields(msgspec.Struct):
    id: str
    end: str = ""


class _Event(msgspec.Struct):
    event: _Fields


class _Message:
    """A message of which `left` events are not answered yet."""

    __slots__ = ("left", "place")

    def __init__(self, place: Place, left: int) -> None:
        self.place = place
        self.left = left


class Sending:
    """One event. number: names it towards the server's answers. end: its `event.end`, "" where it has none."""

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


def identify(body: bytes, place: Place, index: int) -> tuple[str, str]:
    """`event.id` and `event.end`; of what has no such id, its place in the feed, which is as stable."""
    try:
        fields = _decode(body).event
    except (msgspec.DecodeError, UnicodeDecodeError):
        return f"{place.epoch}-{place.topic}{place.sequence}-{index}", ""
    if not (0 < len(fields.id) <= MAX_ID and fields.id.isascii() and fields.id.isprintable() and " " not in fields.id):
        return f"{place.epoch}-{place.topic}{place.sequence}-{index}", fields.end
    return fields.id, fields.end


class Window:
    """The state between a feed and a server.

    answer_s: an event without an answer for so long is sent again; None where the client library sees to that.
    done: the positions of an earlier run: messages up to there are left out."""

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
        self.done = dict(done or {})  # by topic and epoch: the sequence up to which all is answered
        self.offered = 0  # events
        self.forwarded = 0  # accepted by the server, duplicates included
        self.duplicates = 0  # of these, those that the server had already
        self.refused = 0  # that the server will never take
        self.retries = 0  # sent again
        self.skipped = 0  # messages of which an earlier run had everything answered
        self.last = ""  # the latest `event.end` of an accepted event
        self._number = 0
        self._bytes = 0
        self._new: deque[Sending] = deque()
        self._sent: dict[int, Sending] = {}  # in the order of sending
        self._again: dict[int, Sending] = {}
        self._open: dict[tuple[str, int], deque[_Message]] = {}
        self._back = Back()
        self._not_before = 0.0

    # -- in --------------------------------------------------------------------------------------------------------

    @property
    def hungry(self) -> bool:
        """Whether the next message may be offered."""
        return len(self) < self.limit and self._bytes < self.limit_bytes

    def __len__(self) -> int:
        return len(self._new) + self.outstanding

    @property
    def outstanding(self) -> int:
        """Events that were sent and are not answered."""
        return len(self._sent) + len(self._again)

    def offer(self, place: Place, events: Iterable[bytes], now: float) -> None:
        """Takes the events of one message. Those of a topic come in the order of their sequence."""
        key = place.topic, place.epoch
        if place.sequence <= self.done.get(key, 0):
            self.skipped += 1
            return
        message = _Message(place, 0)
        self._open.setdefault(key, deque()).append(message)
        for index, body in enumerate(events):
            id, end = identify(body, place, index)
            self._number += 1
            self._new.append(Sending(self._number, id, end, place.topic, body, message, now))
            self._bytes += len(body)
            message.left += 1
        self.offered += message.left
        self._settle(message)

    # -- out -------------------------------------------------------------------------------------------------------

    def due(self, now: float) -> list[Sending]:
        """The events to send now; they count as sent."""
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
        """After how many seconds `due` may have something; None: not before something is told or offered."""
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
        """The server has the event; also late, when it was to be sent again. False: that was known."""
        event = self._leaves(number)
        if event is None:
            return False
        self.forwarded += 1
        self.duplicates += duplicate
        self.last = max(self.last, event.end)
        self._back.on()
        self._settle(event.message)
        return True

    def refused_for_good(self, number: int) -> bool:
        """The server will never take the event, as it is too large for it: it is given up. False: that was known."""
        event = self._leaves(number)
        if event is None:
            return False
        self.refused += 1
        self._settle(event.message)
        return True

    def failed(self, number: int, now: float) -> None:
        """The event did not get there, this time. All wait a while, longer each time."""
        event = self._sent.pop(number, None)
        if event is None:
            return
        self._again[number] = event
        if now >= self._not_before:
            self._not_before = now + self._back.off()

    def lost_contact(self) -> None:
        """The connection is gone, and so are the answers to come."""
        self._again.update(self._sent)
        self._sent.clear()

    def lag_s(self, now: float) -> float:
        """For how long the oldest event waits that is not answered."""
        firsts = [next(iter(events.values()), None) for events in (self._sent, self._again)]
        firsts.append(self._new[0] if self._new else None)
        oldest = [event.offered_at for event in firsts if event is not None]
        return max(0.0, now - min(oldest)) if oldest else 0.0

    def _leaves(self, number: int) -> Sending | None:
        event = self._sent.pop(number, None) or self._again.pop(number, None)
        if event is not None:
            event.message.left -= 1
            self._bytes -= len(event.body)
        return event

    def _settle(self, message: _Message) -> None:
        """Moves the position of a topic over the messages that are answered whole."""
        key = message.place.topic, message.place.epoch
        waiting = self._open.get(key)
        while waiting and waiting[0].left == 0:
            self.done[key] = waiting.popleft().place.sequence
        if waiting is not None and not waiting:
            del self._open[key]
            self._forget()

    def _forget(self) -> None:
        epochs = sorted({epoch for _, epoch in self.done})
        for key in [key for key in self.done if key[1] in epochs[:-EPOCHS]] if len(epochs) > EPOCHS else ():
            del self.done[key]
