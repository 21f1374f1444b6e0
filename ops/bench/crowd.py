"""A crowd of connections whose every transaction is known: the traffic that the loss benchmark damages.

Two endpoints talk, and a tap somewhere on the way writes down what passes. Each acknowledges what it has received at
that moment, so the numbers are those of a real capture: near the client, answers seem late; near the server, requests
do. What a side says next waits for bytes of the other (a Send), and nothing else decides the order.

Every URI and every reason phrase occurs once. Some bodies hold text that looks like messages, copies of real heads
among it, at the start of segments too: a reader that finds its way back inside a body would report them.
"""

from __future__ import annotations

import heapq
import random
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count

from conversation import START_NS
from exchange import Exchange, exchange
from pcapfile import Frame
from wire import ACK, FIN, MASK, PSH, SYN, Wire

MSS = 1460
_WINDOW = 20 * MSS  # bytes that a side sends without an acknowledgement
_SPACING_NS = 12_000  # between segments sent back to back
_DELAYED_ACK_NS = 40_000_000
_APART_NS = 6_000_000  # mean time between two new connections

_POOL = random.Random(42).randbytes(1 << 16).hex().encode()
_AGENTS = (
    "curl/8.9.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "sync/2.4 (linux; x64)",
)
_METHODS = ("GET",) * 14 + ("POST",) * 4 + ("HEAD", "PUT", "DELETE", "OPTIONS")
_STATUSES = (200,) * 12 + (304, 304, 204, 302, 404, 500)


@dataclass(slots=True)
class Truth:
    """One transaction as it was; `heads` are the frames that carry the heads of its request and of its response."""

    port: int  # of the client: the connections of a crowd have one each
    index: int
    method: str
    uri: str
    status: int
    answer: str  # the reason phrase
    style: str  # how its client talks: one, bursts or sliding
    heads: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class Send:
    """Data that a side sends once it has `after` bytes of the other; `breaks`: the places in it where segments end."""

    after: int
    think_ns: int
    data: bytes
    breaks: tuple[int, ...] = ()


class Side:
    """One endpoint: what it has yet to say, has said, and has received."""

    def __init__(self, wire: Wire, isn: int) -> None:
        self.wire = wire
        self.isn = isn
        self.sends: deque[Send] = deque()
        self.offered = 0  # bytes of all sends so far: while the script is written
        self.buffer = bytearray()
        self.breaks: deque[int] = deque()
        self.sent = self.acked = self.received = 0
        self.owed = 0  # segments received and not yet acknowledged
        self.thinking = self.pumping = self.fin_sent = self.fin_received = False
        self.fin_after = -1  # closes when it has said all and has this many bytes of the other; -1: does not
        self.starts: list[int] = []  # offsets of its segments
        self.segments: list[bytes] = []  # their frames

    def add(self, after: int, think_ns: int, data: bytes, breaks: Iterable[int] = ()) -> tuple[int, int]:
        """Something more to say; returns where it begins and ends in the stream."""
        self.sends.append(Send(after, think_ns, data, tuple(sorted(breaks))))
        self.offered += len(data)
        return self.offered - len(data), self.offered

    def carrying(self, start: int, end: int) -> list[bytes]:
        """The frames with the bytes from start to end."""
        first = bisect_left(self.starts, start + 1) - 1
        return self.segments[first : bisect_left(self.starts, end)]


class Call:
    """One connection, played from its script; `frames` are what the tap saw, in order."""

    def __init__(self, number: int, rng: random.Random, start_ns: int) -> None:
        client = f"192.0.2.{1 + number % 250}"
        server = f"198.51.100.{1 + rng.randrange(40)}"
        ports = (1025 + number, 80)
        ident = rng.getrandbits(16)
        wires = (
            Wire(client, server, ports, ident=ident),
            Wire(server, client, ports[::-1], from_client=False, ident=ident ^ 0x5555, ttl=57),
        )
        self.sides = tuple(Side(wire, rng.getrandbits(32)) for wire in wires)
        self.delay_ns = rng.randrange(300_000, 15_000_000)
        to_tap = rng.randrange(self.delay_ns)
        self.to_tap = (to_tap, self.delay_ns - to_tap)
        self.now = start_ns
        self.frames: list[Frame] = []
        self._tapped: list[tuple[int, int, bytes]] = []
        self._events: list[tuple[int, int, str, int, tuple[int, int, bool]]] = []
        self._order = count()

    def _at(self, when: int, what: str, side: int, facts: tuple[int, int, bool] = (0, 0, False)) -> None:
        heapq.heappush(self._events, (when, next(self._order), what, side, facts))

    def _emit(self, place: int, flags: int, data: bytes = b"", options: bytes = b"") -> None:
        side, peer = self.sides[place], self.sides[1 - place]
        seq = side.isn if flags & SYN else side.isn + 1 + side.sent + side.fin_sent
        ack = peer.isn + 1 + side.received + side.fin_received if flags & ACK else 0
        frame = side.wire.frame(seq & MASK, ack & MASK, flags, data, options=options)
        self._tapped.append((self.now + self.to_tap[place], next(self._order), frame))
        if data:
            side.starts.append(side.sent)
            side.segments.append(frame)
            side.sent += len(data)
        side.owed = 0
        if not flags & SYN:
            fin = bool(flags & FIN)
            side.fin_sent |= fin
            self._at(self.now + self.delay_ns, "arrive", 1 - place, (len(data), side.received, fin))

    def play(self) -> Call:
        """From the handshake until nobody has anything to say."""
        mss = b"\x02\x04\x05\xb4"
        for place, flags in ((0, SYN), (1, SYN | ACK)):
            self._emit(place, flags, options=mss)
            self.now += self.delay_ns
        self._emit(0, ACK)
        for place in (0, 1):
            self._next(place)
        while self._events:
            self.now, _, what, place, facts = heapq.heappop(self._events)
            if what == "arrive":
                self._arrive(place, *facts)
            elif what == "due":
                self._say(place)
            elif what == "pump":
                self._pump(place)
            elif self.sides[place].owed:
                self._emit(place, ACK)
        self.frames = [(ts_ns, frame) for ts_ns, _, frame in sorted(self._tapped)]
        return self

    def _arrive(self, place: int, size: int, ack: int, fin: bool) -> None:
        side = self.sides[place]
        side.acked = max(side.acked, ack)
        side.received += size
        side.fin_received |= fin
        if size:
            side.owed += 1
            if side.owed == 1:
                self._at(self.now + _DELAYED_ACK_NS, "delayed ack", place)
            if side.owed == 2:
                self._emit(place, ACK)
        if fin:
            self._emit(place, ACK)
        self._next(place)
        self._wake(place)

    def _next(self, place: int) -> None:
        """Begins to think about what comes next, if all it waits for is there."""
        side = self.sides[place]
        if not side.thinking and side.sends and side.received >= side.sends[0].after:
            side.thinking = True
            self._at(self.now + side.sends[0].think_ns, "due", place)
            return
        done = not side.sends and not side.buffer and not side.thinking and not side.fin_sent
        if done and (0 <= side.fin_after <= side.received or side.fin_received):
            self._emit(place, FIN | ACK)

    def _say(self, place: int) -> None:
        side = self.sides[place]
        send = side.sends.popleft()
        start = side.sent + len(side.buffer)
        side.breaks.extend(start + where for where in send.breaks)
        side.buffer += send.data
        side.thinking = False
        self._next(place)
        self._wake(place)

    def _wake(self, place: int) -> None:
        side = self.sides[place]
        if side.buffer and not side.pumping:
            side.pumping = True
            self._at(self.now, "pump", place)

    def _pump(self, place: int) -> None:
        """Sends one segment, if the window has room."""
        side = self.sides[place]
        side.pumping = False
        if side.sent - side.acked >= _WINDOW:
            return
        while side.breaks and side.breaks[0] <= side.sent:
            side.breaks.popleft()
        size = min(MSS, len(side.buffer), side.breaks[0] - side.sent if side.breaks else MSS)
        data = bytes(side.buffer[:size])
        del side.buffer[:size]
        self._emit(place, ACK if side.buffer else PSH | ACK, data)
        if side.buffer:
            side.pumping = True
            self._at(self.now + _SPACING_NS, "pump", place)
        else:
            self._next(place)


class Crowd:
    """Many calls at a time; `frames` in order of time, and the truth about them."""

    def __init__(self, seed: int, connections: int) -> None:
        self.rng = random.Random(seed)
        self.truths: list[Truth] = []
        self.number = 0
        self._heads: list[bytes] = [b"HTTP/1.1 200 Fake\r\nContent-Length: 2\r\n\r\nok"]
        start, all_frames = START_NS, []
        for number in range(connections):
            start += int(self.rng.expovariate(1 / _APART_NS))
            all_frames.append(self._call(number, start).frames)
        self.frames: list[Frame] = list(heapq.merge(*all_frames, key=lambda frame: frame[0]))

    def _think(self) -> int:
        return int(self.rng.expovariate(1 / 8_000_000))

    def _call(self, number: int, start_ns: int) -> Call:
        """One connection: its script, its play, and which frames carried its heads."""
        rng = self.rng
        call = Call(number, rng, start_ns)
        client, server = call.sides
        style = rng.choices(("one", "bursts", "sliding"), (94, 5, 1))[0]
        depth = {"one": 1, "bursts": 10_000, "sliding": rng.randint(2, 4)}[style]
        total = rng.randint(2, 14)
        answered: list[int] = []  # where each response ends
        ranges = []
        burst = 0  # place of the first transaction of this burst
        following = total if style != "bursts" else rng.randint(2, 6)
        for place in range(total):
            if style == "bursts" and place == burst + following:
                burst, following = place, rng.randint(2, 6)
            known = burst if style == "bursts" else max(0, place - depth + 1)  # answers that this request waits for
            after = answered[known - 1] if known else 0
            made = self._exchange(last=place == total - 1, alone=style == "one", connection=number)
            think = 0 if style == "bursts" and place > burst else self._think()
            joined = style == "bursts" and burst % 2 == 1  # all requests of the burst in one write
            head = client.add(
                after, think, made.request, self._breaks(made.request, () if joined else (len(made.request),))
            )
            if made.interim:
                server.add(head[1], self._think(), made.interim, (len(made.interim),))
                client.add(server.offered, 0, made.held, (len(made.held),))
            think = 0 if style == "bursts" and rng.random() < 0.5 else self._think()
            end = () if style == "bursts" and rng.random() < 0.3 else (len(made.response),)
            answer = server.add(client.offered, think, made.response, self._breaks(made.response, end))
            answered.append(answer[1])
            ranges.append((head[0], head_end(made.request), answer[0], head_end(made.response)))
            self.truths.append(
                Truth(1025 + number, place, made.method, made.target, made.status, f"A{self.number}", style)
            )
        closing = rng.choice((client, server, None))
        if b"\r\nConnection: close\r\n" in made.response[: head_end(made.response)]:
            closing = server
        if closing is not None:
            closing.fin_after = server.offered if closing is client else 0
        call.play()
        for truth, (asked, asked_size, said, said_size) in zip(self.truths[-total:], ranges, strict=True):
            truth.heads = client.carrying(asked, asked + asked_size) + server.carrying(said, said + said_size)
        return call

    def _breaks(self, data: bytes, end: tuple[int, ...]) -> list[int]:
        """Return the places at which an application's writes, or chance, cut a message."""
        rng = self.rng
        breaks = list(end)
        if rng.random() < 0.06:
            breaks.append(rng.randrange(1, max(2, head_end(data))))
        if rng.random() < 0.5:
            breaks.append(head_end(data))
        place = data.find(b"<fake>")
        while place >= 0:
            if rng.random() < 0.6:
                breaks.append(place + 6)  # what looks like a message begins a segment
            place = data.find(b"<fake>", place + 1)
        if b"\r\nTransfer-Encoding: chunked\r\n" in data[: head_end(data)]:
            place = head_end(data)
            flushed = rng.random() < 0.5  # the application sends every chunk as soon as it has it
            while place < len(data) and flushed:
                line = data.index(b"\r\n", place)
                size = int(data[place:line], 16)
                place = line + 4 + size
                if not 0 < size < 1000:
                    breaks.append(place)
        return breaks

    def _body(self, most: int) -> bytes:
        """Text of some length, now and then with what looks like messages in it."""
        rng = self.rng
        start = rng.randrange(len(_POOL) - most)
        body = _POOL[start : start + rng.randrange(most)]
        if rng.random() < 0.12:
            for _ in range(rng.randint(1, 3)):
                place = rng.randrange(len(body) + 1)
                fake = rng.choice(
                    (
                        b"GET /fake HTTP/1.1\r\nHost: fake.example\r\n\r\n",
                        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
                        b"POST /fake HTTP/1.1\r\nHost: fake.example\r\nContent-Length: 3\r\n\r\nabc",
                        rng.choice(self._heads),  # a head that was really sent, by someone, before
                    )
                )
                body = body[:place] + b"<fake>" + fake + body[place:]
        return body

    def _exchange(self, *, last: bool, alone: bool, connection: int) -> Exchange:
        """Any ordinary transaction. alone: its client waits for the answer."""
        rng = self.rng
        self.number += 1
        method = rng.choice(_METHODS if alone else ("GET",) * 8 + ("HEAD", "POST"))
        status = rng.choice(_STATUSES)
        size = rng.choices((0, 300, 3000, 20_000, 60_000), (10, 35, 30, 20, 5))[0]
        uploads = method in ("POST", "PUT")
        upload = self._body(rng.choice((200, 3000, 12_000))) if uploads else b""
        closes = last and method != "HEAD" and status not in (204, 304) and rng.random() < 0.3
        made = exchange(
            method,
            f"/{rng.choice(('api', 'img', 'news'))}/{self.number}?c={connection}",
            "shop.example",
            status=status,
            reason=f"A{self.number}",
            body=self._body(size) if size else b"",
            framing="close" if closes else rng.choice(("length", "length", "chunked")),
            upload=upload,
            upload_framing=rng.choice(("length", "length", "length", "chunked")),
            chunk=rng.choice((100, 1000, 1400, 4096)),
            request_headers=[
                ("User-Agent", rng.choice(_AGENTS)),
                ("Accept", "*/*"),
                ("Cookie", "s=" + "c" * rng.randrange(300)),
            ],
            response_headers=[("Server", "made/1"), ("Content-Type", rng.choice(("text/html", "application/json")))],
            expect_continue=bool(upload) and alone and rng.random() < 0.15,
        )
        if rng.random() < 0.05 and len(self._heads) < 200:
            self._heads += [made.request[: head_end(made.request)], made.response[: head_end(made.response)]]
        return made


def head_end(message: bytes) -> int:
    """Bytes of its head, the empty line included; 0 if that is not there."""
    return message.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in message else 0
