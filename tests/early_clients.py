"""Connections of clients that send requests while responses are outstanding, and what a tap sees of them.

Two endpoints talk over a path with a delay, as in the loss benchmark: each acknowledges what it has received. The
number of a transaction is in its URI and in its reason phrase. Requests may be sent in bursts, a fixed number ahead,
from some exchange on, or within the response before. Servers are quicker or slower than clients; some send 1xx
responses.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from builders import MILLISECOND, START_NS, Event, Frame, exchange
from crowd import Call, Side, head_end
from hypothesis import strategies as st
from impair import drop, drop_bursts, reorder

STYLES = ("sliding", "bursts", "later", "random", "within", "seldom")
THINK_NS = (0, MILLISECOND // 5, 8 * MILLISECOND, 80 * MILLISECOND, 400 * MILLISECOND)
FILL = "0123456789abcdef" * 200


class EarlyCall:
    """The script of one connection; play() gives its frames."""

    def __init__(self, number: int, rng: random.Random) -> None:
        self.call = Call(number, rng, START_NS + number * MILLISECOND)
        self.number, self.rng = number, rng
        self.style = rng.choice(STYLES)
        self.depth = rng.randint(2, 8)
        self.late = rng.randint(1, 6) if self.style in ("later", "within") else 0  # exchanges that are turns
        self.think_ns = rng.choice(THINK_NS), rng.choice(THINK_NS)
        self.joined = rng.random() < 0.4  # the requests of a burst share frames
        self.burst, self.burst_end = 0, rng.randint(2, 8)
        self.starts: list[int] = []  # of the responses
        self.ends: list[int] = []

    def play(self) -> list[Frame]:
        """Write the script, and let the endpoints talk."""
        client, server = self.call.sides
        for place in range(self.rng.randint(2, 12)):
            self._add(client, server, place)
        closing = self.rng.choice((client, server, None))
        if closing is not None:
            closing.fin_after = server.offered if closing is client else client.offered
        return self.call.play().frames

    def _known(self, place: int) -> int:
        """Return how many responses the client has before it sends this request."""
        if self.style == "bursts":
            if place == self.burst_end:
                self.burst, self.burst_end = place, place + self.rng.randint(1, 8)
            return self.burst
        if place < self.late:
            return place
        ahead = self.depth - 1
        if self.style == "random":
            ahead = self.rng.randint(0, 3)
        elif self.style == "seldom":
            ahead *= self.rng.random() < 0.3
        return max(0, place - ahead)

    def _after(self, place: int) -> int:
        """Return how many bytes of the server the client has before it sends this request."""
        known = self._known(place)
        after = self.ends[known - 1] if known else 0
        if self.style == "within" and place > self.late:
            after = max(after, self.rng.randint(self.starts[-1], self.ends[-1]))
        waiting = self.call.sides[0].sends
        return max(after, waiting[-1].after) if waiting else after

    def _think(self, side: int) -> int:
        return int(self.rng.expovariate(1 / self.think_ns[side])) if self.think_ns[side] else 0

    def _add(self, client: Side, server: Side, place: int) -> None:
        """One exchange more."""
        rng = self.rng
        number = self.number * 100 + place
        method = rng.choice(("GET",) * 8 + ("HEAD", "POST", "POST"))
        made = exchange(
            method,
            f"/{number}",
            status=rng.choice((200,) * 8 + (304, 204, 404, 500)),
            reason=f"R{number}",
            body=FILL[: rng.randrange(rng.choice((1, 300, 3000)))].encode(),
            framing=rng.choice(("length", "length", "chunked")),
            upload=FILL[: rng.choice((10, 500, 3000))].encode() if method == "POST" else b"",
            upload_framing=rng.choice(("length", "length", "chunked")),
            chunk=rng.choice((100, 1000, 1400, 4096)),
            request_headers=[("Cookie", "c" * rng.randrange(200))] if rng.random() < 0.7 else (),
            hints=rng.choice(((), (), (), (), (100,), (103,), (103, 103))),
        )
        breaks = [] if self.joined else [len(made.request)]
        breaks += [head_end(made.request)] if rng.random() < 0.3 else []
        think_ns = 0 if self.style == "bursts" and place > self.burst else self._think(0)
        _, asked = client.add(self._after(place), think_ns, made.request, breaks)
        if made.interim:
            server.add(asked, self._think(1), made.interim, [len(made.interim)])
        breaks = [len(made.response)] if rng.random() < 0.8 else []
        breaks += [rng.randrange(1, len(made.response) + 1) for _ in range(rng.choice((0, 0, 1, 3)))]
        start, end = server.add(asked, self._think(1), made.response, breaks)
        self.starts.append(start)
        self.ends.append(end)


def damaged(frames: Sequence[Frame], rng: random.Random) -> list[Frame]:
    """Cut the start and the end off, lose frames of one side or of both, and reorder the rest; each of it sometimes."""
    lost, seed = rng.choice((0, 0.02, 0.05, 0.1, 0.2, 0.3)), rng.getrandbits(30)
    first = rng.randrange(len(frames) // 2 + 1) if rng.random() < 0.2 else 0
    last = len(frames) - (rng.randrange(len(frames) // 2 + 1) if rng.random() < 0.2 else 0)
    frames = frames[first:last]
    if not frames:
        return []
    kind = rng.choice(("any", "any", "bursts", "client", "server"))
    if kind == "any":
        frames = drop(frames, lost, seed)
    elif kind == "bursts":
        frames = drop_bursts(frames, lost, seed, rng.choice((2, 4, 8)))
    else:
        ports = frames[0][1][34:36], frames[0][1][36:38]
        one_side = min(ports) if kind == "server" else max(ports)  # the server's port is 80
        left = random.Random(seed)
        frames = [frame for frame in frames if frame[1][34:36] != one_side or left.random() >= lost]
    window = rng.choice((0, 0, 0, 3, 20))
    return reorder(frames, window, seed, rng.choice((0.1, 1.0))) if window else list(frames)


def early_frames(seed: int, count: int) -> list[Frame]:
    """The captured frames of so many connections, one behind the other."""
    out: list[Frame] = []
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        out += damaged(EarlyCall(number, rng).play(), rng)
    return sorted(out, key=lambda frame: frame[0])


def wrong(events: Sequence[Event]) -> list[tuple[str, str, str]]:
    """(target, reason, pairing) of each event that claims a wrong pair to be certain."""
    out = []
    for event in events:
        http, pairing = event["http"], event["appliance"]["pairing"]
        if pairing in ("verified", "ordered"):
            target, reason = event["url"]["original"], http["response"]["reason"]
            if target[1:] != reason[1:]:
                out.append((target, reason, pairing))
    return out


early = st.builds(early_frames, st.integers(0, 2**32), st.integers(1, 6))
