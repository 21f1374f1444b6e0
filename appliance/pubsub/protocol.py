"""The contract of the feed, shared with its subscribers: headers, topics, heartbeats and replay questions.

A message has three parts: its topic, FEED_HEADER and its body. So have heartbeats and the messages in an answer.
A question is one part of JSON. An answer is any number of messages and of `Word`, one part of JSON each; the last one
to a question has `end`.
"""

from __future__ import annotations

import struct

import msgspec

FEED_HEADER = struct.Struct(">QQQ")  # epoch, sequence, events: network byte order, it leaves the machine
HEARTBEAT = "heartbeat."  # topic of the heartbeats, which carry the last sequence number of every other topic
STATUS = "status."  # topic of events about the run itself
REPLAY_QUEUE = 16  # messages of an answer queued for one client: the rest stays in the store
KEEPALIVE = {"tcp_keepalive": 1, "tcp_keepalive_idle": 30, "tcp_keepalive_intvl": 10, "tcp_keepalive_cnt": 3}


class Epoch(msgspec.Struct):
    """A life of the feed that is over, and the last number of every topic in it."""

    epoch: int
    last: dict[str, int]


class Heartbeat(msgspec.Struct):
    """State of the feed. The dictionaries are by topic."""

    epoch: int
    last: dict[str, int]  # number published
    events: dict[str, int] = {}  # in all messages of this epoch
    first: dict[str, int] = {}  # oldest number that the store still has
    replay: str = ""  # where to ask; "" if nowhere
    before: list[Epoch] = []  # earlier lives, the oldest first
    state: str = ""  # of the run: ready, draining or done
    time: str = ""  # RFC 3339 in UTC


class Status(msgspec.Struct):
    """Published when the state of the run changes."""

    state: str
    epoch: int
    time: str


class Question(msgspec.Struct, frozen=True, rename={"first": "from", "last": "to"}):
    """Messages that a subscriber asks for: numbers first to last of a topic in an epoch, both included."""

    topic: str
    epoch: int
    first: int
    last: int


class Word(msgspec.Struct, omit_defaults=True, rename={"first": "from", "last": "to"}):
    """Part of an answer beside messages: a range that is gone, a refusal, or the end with its question."""

    gone: Question | None = None
    reason: str = ""  # why it is gone
    error: str = ""
    end: bool = False
    topic: str | None = None
    epoch: int | None = None
    first: int | None = None
    last: int | None = None  # of what was sent or gone
