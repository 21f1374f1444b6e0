"""Connections for the laws: what is said is drawn once; how it is cut, shifted or shuffled is drawn apart from it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from builders import MILLISECOND, Conversation, Exchange, Frame, exchange
from conversation import START_NS
from hypothesis import strategies as st
from impair import interleave

Sizes = int | Sequence[int]


@dataclass(frozen=True)
class Talk:
    """One connection: who speaks, what they say, how it ends."""

    client: str
    server: str
    port: int
    client_isn: int
    server_isn: int
    vlans: tuple[int, ...]
    made: tuple[Exchange, ...]
    pipelined: bool
    close: str  # "client", "server", "reset" or "" (left open)

    def conversation(
        self, request_sizes: Sizes | None = None, response_sizes: Sizes | None = None, shift: tuple[int, int] = (0, 0)
    ) -> Conversation:
        """Its frames, each message cut by the sizes (default: by MSS), the sequence numbers shifted."""
        said = Conversation(
            self.client,
            self.server,
            self.port,
            8080,
            client_isn=self.client_isn + shift[0],
            server_isn=self.server_isn + shift[1],
            vlans=self.vlans,
            start_ns=START_NS + self.port * 77_000,
        ).handshake()
        if self.pipelined:
            said.client_sends(b"".join(one.request for one in self.made), request_sizes).idle(MILLISECOND)
            said.server_sends(b"".join(one.response for one in self.made), response_sizes)
        else:
            for one in self.made:
                said.exchange(one, request_sizes=request_sizes, response_sizes=response_sizes)
        if self.close == "reset":
            return said.reset("server")
        return said.close(self.close) if self.close else said


def frames_of(
    talks: Iterable[Talk], request_sizes: Sizes | None = None, response_sizes: Sizes | None = None
) -> list[Frame]:
    """The frames of many talks, merged by time."""
    return interleave(talk.conversation(request_sizes, response_sizes) for talk in talks)


def _bodies(longest: int) -> st.SearchStrategy[bytes]:
    fill = st.sampled_from(
        (b"x", b"\r\n", b"0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"\0\xff")
    )
    return st.builds(lambda text, size: (text * size)[:size], fill, st.integers(0, longest))


@st.composite
def exchanges(draw: st.DrawFn, number: int, *, last: bool, pipelined: bool, longest: int) -> Exchange:
    """Any ordinary transaction; its number stands in the target and in the reason."""
    method = draw(st.sampled_from(("GET", "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW")))
    upload = draw(_bodies(longest)) if method in ("POST", "PUT", "PATCH") else b""
    framings = ("length", "chunked", "close") if last else ("length", "chunked")
    return exchange(
        method,
        f"/{number}",
        status=draw(st.sampled_from((200, 200, 201, 204, 301, 304, 404, 500))),
        reason=f"R{number}",
        body=draw(_bodies(longest)),
        framing=draw(st.sampled_from(framings)),
        upload=upload,
        upload_framing=draw(st.sampled_from(("length", "chunked"))),
        chunk=draw(st.integers(1, 300)),
        trailers=draw(st.sampled_from(((), (("X-Sum", "1"),)))),
        request_headers=draw(st.sampled_from(((), (("User-Agent", "probe/1"), ("Referer", "http://a.example/"))))),
        response_headers=draw(st.sampled_from(((), (("Content-Type", "text/html; charset=utf-8"),)))),
        expect_continue=bool(upload) and not pipelined and draw(st.booleans()),
        hints=() if pipelined else draw(st.sampled_from(((), (), (103,), (103, 103)))),
    )


@st.composite
def talks(draw: st.DrawFn, most: int = 3, *, exchanges_most: int = 4, longest: int = 400) -> list[Talk]:
    """Some connections at the same time, each with its own client port."""
    made = []
    for place in range(draw(st.integers(1, most))):
        near, far = draw(st.sampled_from((("192.0.2.1", "198.51.100.2"), ("2001:db8::1", "2001:db8::2"))))
        if draw(st.booleans()):
            near, far = far, near
        pipelined = draw(st.booleans())
        count = draw(st.integers(1, exchanges_most))
        numbers = [place * 100 + number for number in range(count)]
        made.append(
            Talk(
                client=near,
                server=far,
                port=40_000 + place,
                client_isn=draw(st.integers(0, 2**32 - 1)),
                server_isn=draw(st.integers(0, 2**32 - 1)),
                vlans=draw(st.sampled_from(((), (), (7,), (200, 31)))),
                made=tuple(
                    draw(exchanges(number, last=number == numbers[-1], pipelined=pipelined, longest=longest))
                    for number in numbers
                ),
                pipelined=pipelined,
                close=draw(st.sampled_from(("client", "server", "reset", ""))),
            )
        )
    return made


sizes = st.one_of(st.just(1), st.integers(1, 50), st.lists(st.integers(1, 200), min_size=1, max_size=12))


def delayed(frames: Sequence[Frame], chosen: random.Random, count: int, places: int) -> list[Frame]:
    """Some frames come later by up to `places` places; the time stamps stay where they are."""
    order = [float(place) for place in range(len(frames))]
    for place in chosen.sample(range(len(frames)), min(count, len(frames))):
        order[place] += chosen.randrange(1, places + 1) + 0.5
    sources = sorted(range(len(frames)), key=order.__getitem__)
    return [(frames[place][0], frames[source][1]) for place, source in enumerate(sources)]


def flipped(frames: Sequence[Frame], chosen: random.Random, p: float) -> list[Frame]:
    """Frames with a bit turned over here and there."""
    out = []
    for ts_ns, frame in frames:
        if chosen.random() < p:
            damaged = bytearray(frame)
            damaged[chosen.randrange(len(damaged))] ^= 1 << chosen.randrange(8)
            frame = bytes(damaged)
        out.append((ts_ns, frame))
    return out
