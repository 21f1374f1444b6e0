"""A small capture that shows every ordinary thing once: for `make run`, for trying the tools, for the tests."""

from __future__ import annotations

import random
from collections.abc import Sequence

from conversation import START_NS, Conversation
from exchange import Exchange, Expected, Headers, exchange
from impair import duplicate, interleave, reorder, truth
from pcapfile import Frame
from wire import arp_request, icmp_echo, udp

_V4_CLIENTS = tuple(f"192.0.2.{number}" for number in range(10, 22))
_V6_CLIENTS = tuple(f"2001:db8:1::{number:x}" for number in range(16, 22))
_V4_SERVERS = ("198.51.100.10", "198.51.100.11", "203.0.113.80")
_V6_SERVERS = ("2001:db8:ff::10", "2001:db8:ff::11")
_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0.0.0 Safari/537.36",
    "curl/8.9.1",
    "stock-sync/2.4 (linux; x64)",
)
_PAGES = (
    "/",
    "/index.html",
    "/products",
    "/products/1042",
    "/cart",
    "/search?q=red+shoes&page=2",
    "/about",
    "/news/2026",
)
_ASSETS = ("/static/app.css", "/static/app.js", "/img/logo.png", "/img/hero.jpg", "/favicon.ico")
_MILLISECOND = 1_000_000

Made = tuple[list[Frame], list[Expected]]


class _Scene:
    """The seeded choices of the sample, and the conversations made so far."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.conversations: list[Conversation] = []

    def connection(
        self, *, v6: bool = False, vlans: Sequence[int] = (), port: int = 80, mss: int = 1460
    ) -> Conversation:
        rng = self.rng
        number = len(self.conversations)
        made = Conversation(
            rng.choice(_V6_CLIENTS if v6 else _V4_CLIENTS),
            rng.choice(_V6_SERVERS if v6 else _V4_SERVERS),
            49152 + number,
            port,
            client_isn=rng.getrandbits(32),
            server_isn=rng.getrandbits(32),
            mss=mss - 20 * v6,
            start_ns=START_NS + number * 137 * _MILLISECOND + rng.randrange(50 * _MILLISECOND),
            rtt_ns=rng.randrange(200_000, 30 * _MILLISECOND),
            vlans=vlans,
        )
        self.conversations.append(made)
        return made

    def wait(self) -> int:
        """A server's time: mostly milliseconds, now and then a second or more."""
        return min(4_000 * _MILLISECOND, int(self.rng.lognormvariate(1.9, 1.4) * _MILLISECOND))

    def text(self, least: int, most: int) -> bytes:
        """Some HTML-like bytes."""
        size = self.rng.randrange(least, most)
        return (b"<p>" + self.rng.randbytes(size // 2).hex().encode() + b"</p>\n")[:size]

    def agent(self, host: str, *more: tuple[str, str]) -> Headers:
        agent = self.rng.choice(_AGENTS)
        cookie = ("Cookie", f"session={self.rng.getrandbits(64):016x}")
        return [("User-Agent", agent), ("Accept", "*/*"), ("Referer", f"http://{host}/"), cookie, *more]

    def page(self, host: str = "shop.example") -> Exchange:
        """A browser's GET, with the answers a site gives."""
        rng = self.rng
        target = rng.choice(_PAGES + _ASSETS)
        status = rng.choices((200, 304, 404, 301, 500, 403), (80, 8, 5, 3, 2, 2))[0]
        kind = "text/html; charset=utf-8" if target in _PAGES else "application/octet-stream"
        headers = [("Server", "nginx"), ("Content-Type", kind), ("ETag", f'"{rng.getrandbits(40):x}"')]
        if status == 301:
            headers.append(("Location", f"https://{host}{target}"))
        body = self.text(800, 24_000) if status == 200 else b"" if status == 304 else self.text(60, 400)
        return exchange(
            target=target,
            host=host,
            status=status,
            body=body,
            framing="chunked" if status == 200 and rng.random() < 0.35 else "length",
            chunk=rng.choice((512, 4096, 8000)),
            request_headers=self.agent(host),
            response_headers=headers,
        )

    def call(self, host: str = "api.example") -> Exchange:
        """A JSON call of a service."""
        rng = self.rng
        method = rng.choice(("GET", "GET", "POST", "PUT", "DELETE", "HEAD"))
        number = rng.randrange(10_000)
        upload = b'{"id":%d,"count":%d}' % (number, rng.randrange(50)) if method in ("POST", "PUT") else b""
        status = {"POST": 201, "DELETE": 204}.get(method, rng.choices((200, 404, 500), (90, 6, 4))[0])
        return exchange(
            method,
            f"/v1/orders/{number}",
            host,
            status=status,
            upload=upload,
            upload_framing=rng.choice(("length", "chunked")),
            body=b'{"id":%d,"state":"open","items":[]}' % number,
            request_headers=self.agent(host, ("Content-Type", "application/json"), ("Authorization", "Bearer none")),
            response_headers=[("Content-Type", "application/json"), ("Server", "gateway/2")],
        )


def _browsing(scene: _Scene, count: int, *, v6: bool = False, vlans: Sequence[int] = ()) -> None:
    made = scene.connection(v6=v6, vlans=vlans).handshake()
    for _ in range(count):
        made.exchange(scene.page(), wait_ns=scene.wait()).idle(scene.rng.randrange(400 * _MILLISECOND))
    made.close()


def _service(scene: _Scene, count: int, *, v6: bool = False, vlans: Sequence[int] = ()) -> None:
    made = scene.connection(v6=v6, vlans=vlans, port=8080).handshake()
    for _ in range(count):
        made.exchange(scene.call("api.example:8080"), wait_ns=scene.wait()).idle(scene.rng.randrange(90 * _MILLISECOND))
    if scene.rng.random() < 0.5:
        made.close("server")
    else:
        made.reset()


def _old_client(scene: _Scene) -> None:
    """HTTP/1.0: one request, and the end of the connection ends the body."""
    made = exchange(
        target="/feed.xml", host="news.example", version="1.0", body=scene.text(2_000, 9_000), framing="close"
    )
    scene.connection().handshake().exchange(made, wait_ns=scene.wait()).close("server")


def _upload(scene: _Scene) -> None:
    """A PUT that waits for 100 Continue."""
    made = exchange(
        "PUT",
        f"/files/{scene.rng.randrange(1000)}.bin",
        "files.example",
        status=201,
        upload=scene.rng.randbytes(scene.rng.randrange(5_000, 60_000)),
        expect_continue=True,
        request_headers=scene.agent("files.example"),
    )
    scene.connection().handshake().exchange(made, wait_ns=scene.wait()).close()


def _pipelined(scene: _Scene, v6: bool = False) -> None:
    made = scene.connection(v6=v6).handshake()
    made.pipeline([scene.page("static.example") for _ in range(6)], wait_ns=scene.wait())
    made.pipeline([scene.call("static.example") for _ in range(4)], wait_ns=scene.wait()).close()


def _encrypted(scene: _Scene) -> None:
    """Something that looks like TLS: records of random bytes, no transaction."""
    made = scene.connection(port=443).handshake()
    random_bytes = scene.rng.randbytes
    made.client_sends(b"\x16\x03\x01\x02\x00" + random_bytes(512)).idle(5 * _MILLISECOND)
    made.server_sends(b"\x16\x03\x03\x0a\x00" + random_bytes(2560)).idle(_MILLISECOND)
    made.client_sends(b"\x17\x03\x03\x01\x00" + random_bytes(256)).server_sends(
        b"\x17\x03\x03\x20\x00" + random_bytes(8192)
    )
    made.close()


def _others(scene: _Scene, end_ns: int) -> list[Frame]:
    """Name queries, pings and ARP spread over the capture."""
    frames: list[Frame] = []
    for number in range(24):
        now = START_NS + (end_ns - START_NS) * number // 24
        client = scene.rng.choice(_V4_CLIENTS)
        query = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x04shop\x07example\0\0\x01\0\x01"
        ports = (50_000 + number, 53)
        frames.append((now, udp(client, "198.51.100.53", ports, query)))
        frames.append((now + 900_000, udp("198.51.100.53", client, ports[::-1], query, client=False)))
        if number % 3 == 0:
            frames.append((now + 2_000_000, icmp_echo(client, "198.51.100.10", number)))
            frames.append((now + 2_700_000, icmp_echo("198.51.100.10", client, number, reply=True)))
            frames.append((now + 3_000_000, arp_request(client, "192.0.2.1")))
    return frames


def sample(seed: int = 7) -> Made:
    """The sample's frames in order of time, and its transactions: 40 HTTP connections and some other traffic."""
    scene = _Scene(seed)
    for number in range(14):
        _browsing(
            scene, scene.rng.randrange(6, 14), v6=number % 4 == 3, vlans={5: (100,), 9: (200, 31)}.get(number, ())
        )
    for number in range(10):
        _service(scene, scene.rng.randrange(6, 13), v6=number % 5 == 2, vlans=(100,) if number == 6 else ())
    for _ in range(6):
        _old_client(scene)
    for _ in range(5):
        _upload(scene)
    for number in range(5):
        _pipelined(scene, v6=number == 3)
    for _ in range(2):
        _encrypted(scene)
    frames = interleave(scene.conversations)
    frames = interleave([frames, _others(scene, frames[-1][0])])
    # A frame out of place by up to 3, now and then; some captured twice, as at two mirror ports.
    frames = duplicate(reorder(frames, 3, seed + 1, p=0.04), 0.004, seed + 2)
    return frames, truth(scene.conversations)
