"""Transactions of HTTP/2 and gRPC in a damaged capture: frames lost, out of order, twice, or begun in the middle.

    python ops/bench/loss_http2.py [--seeds 5] [--seed N] [--connections N] [--show N]

All truth is known, and the endpoints notice nothing, as in loss.py. Every transaction counts whose header blocks are in
the capture whole (eligible): it is right if an event has its method, path and status. Of its fields, the outcome of a
gRPC call is another one. A field that the event does not give is missing. One with another value is wrong, and so is
an event of no stream.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import h2_text
from conversation import START_NS, Conversation
from impair import drop, drop_bursts, duplicate, interleave, reorder
from loss import Event, events_of
from pcapfile import Frame

_WINDOW = 20  # places that a late frame moves, at most
_SEGMENT = 1400
_FRAME_HEAD = 9  # RFC 9113 section 4.1
_STATUSES = {b"0": "OK", b"5": "NOT_FOUND"}
_APART_NS = 3_000_000

_NEEDED = ("method", "path", "status")

Key = tuple[int, int]  # port of the client, stream


@dataclass(slots=True)
class Truth:
    """One stream as it was; `heads` are the frames that carry its header blocks."""

    facts: dict[str, object]
    heads: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class Score:
    """Counts of transactions and of the fields of eligible ones."""

    transactions: int = 0  # eligible or not
    eligible: int = 0
    right: int = 0
    fields: int = 0
    fields_right: int = 0
    wrong: int = 0  # fields of any event, and events of no stream
    failures: list[str] = field(default_factory=list)

    def add(self, other: Score) -> None:
        """Add the counts and failures of another score."""
        for name in ("transactions", "eligible", "right", "fields", "fields_right", "wrong"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.failures += other.failures


class Talk:
    """Connections of one kind, each stream of which is known."""

    def __init__(self, seed: int, connections: int, *, calls: bool) -> None:
        self.truths: dict[Key, Truth] = {}
        self._rng = random.Random(seed)
        self._calls = calls
        self._number = 0
        self.frames = interleave([self._connection(number) for number in range(connections)])

    def _connection(self, number: int) -> Conversation:
        rng = self._rng
        port = 1025 + number
        talk = Conversation(client_port=port, server_port=8080, start_ns=START_NS + number * _APART_NS).handshake()
        settings = h2_text.frame(h2_text.SETTINGS, 0, 0)
        talk.client_sends(h2_text.PREFACE + settings).server_sends(settings)
        asks, answers = h2_text.Encoder(), h2_text.Encoder()
        stream = 1
        for _ in range(rng.randrange(4, 24)):
            talk.idle(rng.randrange(200_000, 8_000_000))
            streams = range(stream, stream + 2 * rng.randrange(1, 9), 2)
            stream = streams.stop
            for side in (talk.client_sends, talk.server_sends):
                messages = [self._message(side == talk.client_sends, asks, answers, port, one) for one in streams]
                self._send(talk, side, port, zip(streams, messages, strict=True))
        return talk.close()

    def _message(self, asking: bool, asks: h2_text.Encoder, answers: h2_text.Encoder, port: int, stream: int) -> bytes:
        rng = self._rng
        if asking:
            self._number += 1
            number = self._number
            if self._calls:
                message = h2_text.call(asks, rng, stream, number)
                service, method = h2_text.METHODS[number % len(h2_text.METHODS)]
                facts = {"method": "POST", "path": f"/{service.decode()}/{method.decode()}"}
            else:
                drawn = rng.getstate()
                message = h2_text.web_request(asks, rng, stream, number)
                rng.setstate(drawn)
                facts = {"method": "GET", "path": f"/p/{number}?s={int(rng.random() * 1000)}"}
            self.truths[port, stream] = Truth(dict(facts))
            return message
        drawn = rng.getstate()
        message = (
            h2_text.outcome(answers, rng, stream) if self._calls else h2_text.web_response(answers, rng, stream, 1)
        )
        ended = rng.getstate()
        rng.setstate(drawn)
        facts = self.truths[port, stream].facts
        if self._calls:
            facts |= {"status": 200, "outcome": _STATUSES[rng.choice(h2_text.OUTCOMES)]}
        else:
            facts["status"] = int(rng.choice(h2_text.STATUSES))
        rng.setstate(ended)
        return message

    def _send(
        self,
        talk: Conversation,
        side: Callable[[bytes, int], Conversation],
        port: int,
        messages: Iterable[tuple[int, bytes]],
    ) -> None:
        """Send some messages together, and note the frames that carry their header blocks."""
        data, blocks = bytearray(), []
        for stream, message in messages:
            at = 0
            while at < len(message):
                end = at + _FRAME_HEAD + int.from_bytes(message[at : at + 3], "big")
                if message[at + 3] == h2_text.HEADERS:
                    blocks.append((stream, len(data) + at, len(data) + end))
                at = end
            data += message
        before = len(talk.frames)
        side(bytes(data), _SEGMENT)
        segments = [frame for _, frame in talk.frames[before:] if len(frame) > _bare(frame)]
        for stream, begin, end in blocks:
            self.truths[port, stream].heads += segments[begin // _SEGMENT : (end - 1) // _SEGMENT + 1]


def _bare(frame: bytes) -> int:
    """Return the bytes of a frame's headers: Ethernet, IPv4 and TCP."""
    return 34 + (frame[46] >> 4) * 4


def facts_of(event: Event) -> dict[str, object]:
    """Return the fields that are scored, as far as the event gives them."""
    http = event["http"]
    facts = {
        "method": http.get("request", {}).get("method"),
        "path": event.get("url", {}).get("original"),
        "status": http.get("response", {}).get("status_code"),
        "outcome": event.get("rpc", {}).get("response", {}).get("status_code"),
    }
    return {name: value for name, value in facts.items() if value is not None}


def score(truths: dict[Key, Truth], frames: Iterable[Frame], events: Iterable[Event]) -> Score:
    """Compare the events with the truth. frames: those that were captured."""
    out = Score(transactions=len(truths))
    captured = {id(data) for _, data in frames}
    said: dict[Key, dict[str, object]] = {}
    for event in events:
        if event["http"]["version"] != "2":
            out.wrong += 1
            out.failures.append(f"wrong: an event of HTTP/{event['http']['version']}")
            continue
        key = event["source"]["port"], event["appliance"]["http2"]["stream_id"]
        facts = facts_of(event)
        truth = truths.get(key)
        if truth is None or key in said:
            out.wrong += 1
            out.failures.append(f"wrong: {key} {facts}, {'no stream' if truth is None else 'again'}")
            continue
        said[key] = facts
        differ = {name: value for name, value in facts.items() if name in truth.facts and truth.facts[name] != value}
        out.wrong += len(differ)
        if differ:
            out.failures.append(f"wrong: {key} {differ}, truth {truth.facts}")
    for key, truth in truths.items():
        if not all(id(frame) in captured for frame in truth.heads):
            continue
        facts = said.get(key, {})
        given = [name for name, value in truth.facts.items() if facts.get(name) == value]
        out.eligible += 1
        out.fields += len(truth.facts)
        out.fields_right += len(given)
        if all(name in given for name in _NEEDED):
            out.right += 1
        else:
            out.failures.append(f"not right: {key} {facts}, truth {truth.facts}")
    return out


Damage = Callable[[Sequence[Frame], int], Sequence[Frame]]
DAMAGES: tuple[tuple[str, float, float, Damage], ...] = (  # the goals are for HTTP/2 and for gRPC
    ("none", 1.0, 1.0, lambda frames, seed: frames),
    ("loss 0.1 %", 0.998, 0.998, lambda frames, seed: drop(frames, 0.001, seed)),
    ("loss 1 %", 0.98, 0.98, lambda frames, seed: drop(frames, 0.01, seed)),
    ("loss 1 % in bursts", 0.98, 0.98, lambda frames, seed: drop_bursts(frames, 0.01, seed)),
    ("reordered 5 %", 1.0, 1.0, lambda frames, seed: reorder(frames, _WINDOW, seed, 0.05)),
    ("twice 5 %", 1.0, 1.0, lambda frames, seed: duplicate(frames, 0.05, seed, _WINDOW)),
    # C-core sends a path once, and an index from then on, which a capture that begins later cannot know.
    ("joined in the middle", 0.96, 0.0, lambda frames, seed: frames[len(frames) // 2 :]),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0 if every goal is met with nothing wrong."""
    parser = argparse.ArgumentParser(prog="loss_http2.py", description="HTTP/2 and gRPC in damaged captures.")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--connections", type=int, default=400, help="of each seed and kind")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print the first failures of each damage")
    options = parser.parse_args(arguments)
    seeds = range(options.seed, options.seed + options.seeds)
    good = True
    print(f"{'':7}{'damage':22}{'transactions':>12}{'eligible':>10}{'right':>10}{'goal':>8}{'fields':>10}{'wrong':>7}")
    for kind, calls in (("http2", False), ("grpc", True)):
        talks = [(seed, Talk(seed, options.connections, calls=calls)) for seed in seeds]
        for name, *goals, damage in DAMAGES:
            total, goal = Score(), goals[calls]
            for seed, talk in talks:
                frames = damage(talk.frames, seed)
                total.add(score(talk.truths, frames, events_of(frames)))
            share, fields = total.right / max(1, total.eligible), total.fields_right / max(1, total.fields)
            met = share >= goal and not total.wrong
            good &= met
            counts = f"{total.transactions:>12,}{total.eligible:>10,}{share:>10.3%}{goal:>8.1%}{fields:>10.3%}"
            print(f"{kind:7}{name:22}{counts}{total.wrong:>7,}{'' if met else '  BELOW THE GOAL'}", flush=True)
            for text in sorted(total.failures, key=lambda one: one.startswith("not"))[: options.show]:
                print(f"    {text}")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
