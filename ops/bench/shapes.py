"""The shapes of traffic the benchmark runs on, made lazily: up to a gigabyte each, in the memory of a few connections.

A session is one connection as a generator of bursts (frames that follow each other at once, like a window's flight).
weave() takes a burst from a random live session at a time, so frames of many connections interleave, and the clock
moves with the bytes, so time stamps never go back.
"""

from __future__ import annotations

import hashlib
import json
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h2_text
import tls_text
from conversation import START_NS
from pcapfile import PcapWriter
from text import Pool, api_request, api_response, web_request, web_response
from wire import ACK, FIN, MASK, PSH, SYN, Wire

Burst = list[bytes]
Session = Iterator[Burst]

MSS = 1460
_OPTIONS = struct.pack(">BBH", 2, 4, MSS) + b"\x01\x01\x04\x02\x01\x03\x03\x07"
_FLIGHT = 4  # data segments of one burst: short, so that connections really interleave


@dataclass(slots=True)
class Tally:
    """Counted while a shape is made."""

    transactions: int = 0  # or handshakes: what has one event
    connections: int = 0
    payload_bytes: int = 0


class Peer:
    """The two wires of one session and their sequence numbers; the generators below move them."""

    __slots__ = ("ack", "back", "seq", "tally", "there")

    def __init__(self, rng: random.Random, tally: Tally, servers: int, port: int = 80) -> None:
        number = tally.connections
        tally.connections += 1
        client = f"192.0.2.{1 + number % 250}"
        server = f"198.51.100.{1 + int(rng.random() * servers)}"
        # A client takes its ports in turn: 60,000 connections of one client before a flow comes again.
        ports = (1025 + (number // 250) * 7 % 64000, port)
        ident = int(rng.random() * 65536)
        self.there = Wire(client, server, ports, ident=ident)
        self.back = Wire(server, client, ports[::-1], from_client=False, ident=ident ^ 0x5555, ttl=57)
        self.seq = int(rng.random() * 0xFFFFFFFF)  # next byte of the client
        self.ack = int(rng.random() * 0xFFFFFFFF)  # next byte of the server
        self.tally = tally

    def open(self) -> Session:
        """The handshake: a burst, then the client's acknowledgement joins the first request's burst."""
        yield [self.there.frame(self.seq, 0, SYN, options=_OPTIONS)]
        self.seq = (self.seq + 1) & MASK
        yield [self.back.frame(self.ack, self.seq, SYN | ACK, options=_OPTIONS)]
        self.ack = (self.ack + 1) & MASK
        yield [self.there.frame(self.seq, self.ack, ACK)]

    def close(self) -> Session:
        """FIN from the client, FIN from the server, the last acknowledgement."""
        yield [self.there.frame(self.seq, self.ack, FIN | ACK)]
        self.seq = (self.seq + 1) & MASK
        yield [self.back.frame(self.ack, self.seq, FIN | ACK)]
        self.ack = (self.ack + 1) & MASK
        yield [self.there.frame(self.seq, self.ack, ACK)]

    def request(self, data: bytes) -> Session:
        """A request of any length; the server acknowledges every second segment."""
        self.tally.payload_bytes += len(data)
        place, size = 0, len(data)
        while place < size:
            burst = [self.there.frame(self.seq, self.ack, PSH | ACK, data[place : place + MSS])]
            self.seq = (self.seq + min(MSS, size - place)) & MASK
            place += MSS
            if place < size:
                burst.append(self.there.frame(self.seq, self.ack, PSH | ACK, data[place : place + MSS]))
                self.seq = (self.seq + min(MSS, size - place)) & MASK
                place += MSS
                burst.append(self.back.frame(self.ack, self.seq, ACK))
            yield burst

    def download(self, head: bytes, pool: Pool | None, start: int, length: int) -> Session:
        """A response: `head`, then `length` bytes of the pool from `start` on, whose sums are known beforehand.

        The pool part's segments must begin at even places of the pool: `start` has the parity of the first segment's
        share of head bytes.
        """
        self.tally.payload_bytes += len(head) + length
        back, there = self.back.frame, self.there.frame
        seq, ack = self.seq, self.ack
        burst: Burst = []
        unacked = 0
        end = len(head) + length
        place = 0
        while place < end:
            stop = min(place + MSS, end)
            flags = ACK if stop < end else PSH | ACK
            if pool is None or place < len(head):
                payload = head[place:stop]
                if stop > len(head) and pool is not None:
                    payload += pool.data[start : start + stop - max(place, len(head))]
                burst.append(back(ack, seq, flags, payload))
            else:
                first = start + place - len(head)
                last = first + stop - place
                burst.append(back(ack, seq, flags, pool.data[first:last], pool.total(first, last)))
            ack = (ack + stop - place) & MASK
            place = stop
            unacked += 1
            if unacked & 1 == 0:
                burst.append(there(seq, ack, ACK))
                if unacked == _FLIGHT:
                    self.ack = ack
                    yield burst
                    burst = []
                    unacked = 0
        self.ack = ack
        if burst:
            if unacked & 1:  # the reader thinks longer than its delayed acknowledgement waits
                burst.append(there(seq, ack, ACK))
            yield burst


def web_session(rng: random.Random, tally: Tally, pool: Pool, requests: int) -> Session:
    """A browser's connection: a page and what belongs to it, 5 to 20 requests, bodies mostly 1 to 40 KB."""
    peer = Peer(rng, tally, 40)
    yield from peer.open()
    for _ in range(requests):
        tally.transactions += 1
        yield from peer.request(web_request(rng, tally.transactions, pool))
        head, start, length = web_response(rng, tally.transactions, pool)
        yield from peer.download(head, pool if length else None, start, length)
    yield from peer.close()


def api_session(rng: random.Random, tally: Tally, pool: Pool, requests: int) -> Session:
    """A service calling a service: 60 to 140 small JSON calls, one segment each way, a pure ACK now and then."""
    peer = Peer(rng, tally, 12)
    yield from peer.open()
    there, back = peer.there.frame, peer.back.frame
    for _ in range(requests):
        tally.transactions += 1
        number = tally.transactions
        data = api_request(rng, number)
        yield [there(peer.seq, peer.ack, PSH | ACK, data)]
        peer.seq = (peer.seq + len(data)) & MASK
        answer = api_response(rng, number)
        tally.payload_bytes += len(data) + len(answer)
        burst = [back(peer.ack, peer.seq, PSH | ACK, answer)]
        peer.ack = (peer.ack + len(answer)) & MASK
        if rng.random() < 0.165:  # the client paused: its delayed acknowledgement comes alone
            burst.append(there(peer.seq, peer.ack, ACK))
        yield burst
    yield from peer.close()


def bulk_session(rng: random.Random, tally: Tally, pool: Pool, requests: int) -> Session:
    """Downloads of 2 to 5 MB, the small ones the more frequent, two or three on a connection."""
    peer = Peer(rng, tally, 8)
    yield from peer.open()
    for _ in range(requests):
        tally.transactions += 1
        yield from peer.request(web_request(rng, tally.transactions, pool, page=False))
        length = 2_000_000 + int(3_000_000 * rng.random() ** 3.1)
        head, start, length = web_response(rng, tally.transactions, pool, length=length)
        yield from peer.download(head, pool, start, length)
    yield from peer.close()


def tls_session(rng: random.Random, tally: Tally, pool: Pool, requests: int) -> Session:
    """A handshake, TLS 1.3 or in one of four 1.2, then requests of one record and answers of 4 to 22 kB."""
    peer = Peer(rng, tally, len(_SITES), port=443)
    tally.transactions += 1
    site = _SITES[int(rng.random() * len(_SITES))]
    old, browser = rng.random() < 0.25, rng.random() < 0.5
    yield from peer.open()
    yield from peer.request(tls_text.client_hello(rng, site.name, browser=browser and not old))
    yield from peer.download(tls_text.server_flight(rng, site, old=old), None, 0, 0)
    yield from peer.request(tls_text.client_finish(rng, old=old))
    if old:
        yield from peer.download(tls_text.server_finish(rng), None, 0, 0)
    for _ in range(requests):
        request = rng.randbytes(200 + int(300 * rng.random()))
        yield from peer.request(tls_text.record(tls_text.APPLICATION_DATA, request))
        left = 4_000 + int(18_000 * rng.random())
        while left:
            length = min(left, tls_text.RECORD_BYTES)
            head = tls_text.record(tls_text.APPLICATION_DATA, bytes(length))[:5]
            yield from peer.download(head, pool, pool.start(rng, length, MSS - len(head)), length)
            left -= length
    yield from peer.close()


def _streams(rng: random.Random, tally: Tally, requests: int, *, calls: bool) -> Session:
    """One connection of HTTP/2: up to eight streams at a time, whose frames share segments."""
    peer = Peer(rng, tally, 12, port=50051 if calls else 8080)
    asks, answers = h2_text.Encoder(), h2_text.Encoder()
    settings = h2_text.frame(h2_text.SETTINGS, 0, 0)
    yield from peer.open()
    yield from peer.request(h2_text.PREFACE + settings)
    yield from peer.download(settings, None, 0, 0)
    stream = 1
    while requests:
        together = min(requests, 1 + int(8 * rng.random()))
        requests -= together
        asked, said = [], []
        for _ in range(together):
            tally.transactions += 1
            number = tally.transactions
            if calls:
                asked.append(h2_text.call(asks, rng, stream, number))
                said.append(h2_text.outcome(answers, rng, stream))
            else:
                asked.append(h2_text.web_request(asks, rng, stream, number))
                said.append(h2_text.web_response(answers, rng, stream, number))
            stream += 2
        yield from peer.request(b"".join(asked))
        yield from peer.download(b"".join(said), None, 0, 0)
    yield from peer.close()


def h2_session(rng: random.Random, tally: Tally, pool: Pool, requests: int) -> Session:
    """HTTP/2 in clear text: many requests on a connection, answers of up to 12 kB."""
    return _streams(rng, tally, requests, calls=False)


def grpc_session(rng: random.Random, tally: Tally, pool: Pool, requests: int) -> Session:
    """A service calling a service: unary gRPC calls, small messages, the status in trailers."""
    return _streams(rng, tally, requests, calls=True)


_SITES = tls_text.make_sites(40)


@dataclass(frozen=True, slots=True)
class Shape:
    """Sessions that a shape is made of, and the number of them that live at a time."""

    session: Callable[[random.Random, Tally, Pool, int], Session]
    transactions: int
    fewest: int  # requests of a connection
    most: int
    concurrent: int
    seed: int
    pool_bytes: int
    pause_ns: int  # mean silence between two bursts
    events: str = "http"  # dataset of its events


SHAPES = {
    "web": Shape(web_session, 99_000, 5, 20, 800, 11, 1 << 21, 24_000),
    "api": Shape(api_session, 467_000, 60, 140, 600, 12, 1 << 12, 12_000),
    "bulk": Shape(bulk_session, 462, 2, 3, 24, 13, 1 << 23, 8_000),
    "tls": Shape(tls_session, 31_000, 2, 8, 400, 14, 1 << 21, 24_000, "tls"),
    "h2": Shape(h2_session, 120_000, 40, 160, 300, 15, 1 << 12, 24_000, "http2"),
    "grpc": Shape(grpc_session, 280_000, 100, 400, 300, 16, 1 << 12, 12_000, "http2"),
}


def weave(shape: Shape, scale: float, tally: Tally) -> Iterator[Burst]:
    """The bursts of a shape in their order on the wire; deterministic; only the live sessions are in memory."""
    rng = random.Random(shape.seed)
    pool = Pool(random.Random(shape.seed + 1000), shape.pool_bytes)
    left = max(1, round(shape.transactions * scale))
    live: list[Session] = []
    draw = rng.random
    while True:
        while left and len(live) < shape.concurrent:
            requests = min(left, shape.fewest + int(draw() * (shape.most - shape.fewest + 1)))
            left -= requests
            live.append(shape.session(rng, tally, pool, requests))
        if not live:
            return
        while True:
            place = int(draw() * len(live))
            burst = next(live[place], None)
            if burst is None:
                live[place] = live[-1]
                live.pop()
                break
            yield burst


def builder() -> str:
    """A digest of everything that decides the bytes of a shape: with another one, a kept file is out of date."""
    digest = hashlib.sha256()
    for name in ("shapes", "text", "h2_text", "tls_text", "wire", "pcapfile", "conversation"):
        digest.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    return digest.hexdigest()[:16]


def write_shape(name: str, path: Path, scale: float = 1.0) -> dict[str, int | float | str]:
    """Write a shape as a capture file and its figures beside it (.json instead of .pcap); returns the figures."""
    shape = SHAPES[name]
    tally = Tally()
    pause = random.Random(shape.seed + 2000).random
    now = START_NS
    with PcapWriter(path) as out:
        write = out.write_burst
        for burst in weave(shape, scale, tally):
            now += int(pause() * 2 * shape.pause_ns)
            now = write(now, burst)
    figures: dict[str, int | float | str] = {
        "shape": name,
        "builder": builder(),
        "scale": scale,
        "frames": out.frames,
        "bytes": out.file_bytes,
        "frame_bytes": out.frame_bytes,
        "payload_bytes": tally.payload_bytes,
        "connections": tally.connections,
        "transactions": tally.transactions,
        "seconds": round((now - START_NS) / 1e9, 3),
    }
    path.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")
    return figures
