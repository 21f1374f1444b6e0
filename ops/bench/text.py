"""Varied, plausible HTTP text for the shapes: no two messages are equal, so nothing can be answered from a cache."""

from __future__ import annotations

import random
import sys
from array import array
from itertools import accumulate

_VOCABULARY = (
    "account archive article avatar banner basket billing bundle cart catalog checkout comment contact delivery "
    "detail discount event export feature filter gallery gift header help history home image invoice item label "
    "landing license list login map media menu news offer order page partner payment photo picture preview price "
    "product profile promo query rating report result review sale search season service session shipping shop "
    "sitemap size status stock store style summary support tag thumb ticket topic track update upload user vendor "
    "video voucher widget wishlist zone"
)
_WORDS = _VOCABULARY.split()
_HOSTS = (
    "shop.example",
    "www.shop.example",
    "static.shop.example",
    "img.media.example",
    "news.example",
    "www.travel.example",
    "cdn.travel.example",
    "forum.hobby.example:8080",
)
_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_6) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.6 Safari/605",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Mobile",
)
_LANGUAGES = (
    "en-US,en;q=0.9",
    "de-DE,de;q=0.8,en;q=0.5",
    "fr-FR,fr;q=0.8,en-US;q=0.5,en;q=0.3",
    "ja,en-US;q=0.7,en;q=0.3",
)
_KINDS = (  # extension, media type, what the request accepts
    ("", "text/html; charset=utf-8", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    (".css", "text/css", "text/css,*/*;q=0.1"),
    (".js", "application/javascript", "*/*"),
    (".jpg", "image/jpeg", "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"),
    (".png", "image/png", "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"),
    (".json", "application/json", "application/json, text/plain, */*"),
)
_SERVICES = ("orders", "stock", "prices", "users", "carts", "sessions", "ledger", "metrics")
_FILL = tuple(
    ',"links":[' + ",".join(f'"/v1/{name}/{len(name) * 101}"' for name in _SERVICES[:many]) + "]"
    for many in (1, 3, 5, 8)
)
_WEB_MEAN = 9_300  # bytes added to the smallest body, on average: sets the frames of the shape
_CHUNK = 8192


class Pool:
    """Bytes that bodies are cut from, with running sums, so that the checksum of any cut costs two look-ups."""

    __slots__ = ("_sums", "data", "size")

    def __init__(self, rng: random.Random, size: int) -> None:
        letters = bytes(
            b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789  .\n"[i % 66] for i in range(256)
        )
        self.size = size
        self.data = b"".join(rng.randbytes(1 << 12).translate(letters) for _ in range(size >> 12))
        words = array("H", self.data)
        if sys.byteorder == "little":
            words.byteswap()
        self._sums = array("Q", accumulate(words, initial=0))

    def total(self, first: int, last: int) -> int:
        """Sum of the 16-bit words of data[first:last]; `first` must be even."""
        total = self._sums[last >> 1] - self._sums[first >> 1]
        return total + (self.data[last - 1] << 8) if last & 1 else total

    def start(self, rng: random.Random, length: int, head: int) -> int:
        """A random place for `length` bytes, of the parity of the `head` bytes before them."""
        return (int(rng.random() * (self.size - length - 2)) & ~1) | (head & 1)


def _pick(rng: random.Random, values: tuple[str, ...] | list[str]) -> str:
    return values[int(rng.random() * len(values))]


def web_request(rng: random.Random, number: int, pool: Pool, *, page: bool = True) -> bytes:
    """A browser's request, 400 to 600 bytes of head; one in 25 of a page is a form's POST."""
    host = _pick(rng, _HOSTS)
    token = int(rng.random() * (1 << 53))
    extension, _, accept = _KINDS[number % len(_KINDS)]
    path = f"/{_pick(rng, _WORDS)}/{_pick(rng, _WORDS)}-{number}{extension}"
    if token & 3 == 0:
        path += f"?{_pick(rng, _WORDS)}={token % 99991}&page={token % 37}"
    referrer = f"http://{host}/{_pick(rng, _WORDS)}/{_pick(rng, _WORDS)}.html"
    common = (
        f"Host: {host}\r\nUser-Agent: {_AGENTS[number % 5]}\r\nAccept: {accept}\r\n"
        f"Accept-Language: {_LANGUAGES[token & 3]}\r\nAccept-Encoding: identity\r\n"
        f"Referer: {referrer}\r\nConnection: keep-alive\r\n"
        f"Cookie: session={token:x}{number:08x}; theme={_pick(rng, _WORDS)}; seen={token % 1013}\r\n"
    )
    if page and token % 25 == 7:
        length = 150 + token % 1800
        start = token % (pool.size - 2000)
        form = f"POST {path} HTTP/1.1\r\n{common}Content-Type: application/x-www-form-urlencoded\r\n"
        return f"{form}Content-Length: {length}\r\n\r\n".encode() + pool.data[start : start + length]
    return f"GET {path} HTTP/1.1\r\n{common}\r\n".encode()


def web_response(rng: random.Random, number: int, pool: Pool, length: int = -1) -> tuple[bytes, int, int]:
    """A response: (head, start, length), the body being pool.data[start:start+length]; or (all of it, 0, 0)."""
    token = int(rng.random() * (1 << 53))
    status = "200 OK"
    free = length < 0
    if free:
        length = min(120_000, 1024 + int(rng.expovariate(1 / _WEB_MEAN)))
        kind = token % 40
        if kind < 2:
            status, length = "304 Not Modified", 0
        elif kind == 2:
            status, length = "404 Not Found", 300 + token % 900
        elif kind == 3:
            status, length = "302 Found", 0
    chunks = free and length > 1000 and token % 5 == 4
    common = (
        f"HTTP/1.1 {status}\r\nServer: nginx/1.{token % 27}.{token % 4}\r\n"
        f"Date: Sun, 22 Nov 2026 {number % 24:02d}:{number % 60:02d}:{token % 60:02d} GMT\r\n"
        f"Content-Type: {_KINDS[number % len(_KINDS)][1]}\r\nConnection: keep-alive\r\n"
        f'Cache-Control: max-age={token % 86400}, public\r\nETag: "{token:x}-{number:x}"\r\n'
        f"Vary: Accept-Encoding\r\nX-Request-Id: {token:014x}{number:08x}\r\n"
        "Last-Modified: Sat, 21 Nov 2026 08:00:00 GMT\r\n"
    )
    if status[0] == "3" and status[2] == "2":
        common += f"Location: http://{_pick(rng, _HOSTS)}/{_pick(rng, _WORDS)}/{number}\r\n"
    if chunks:
        start = int(rng.random() * (pool.size - length))
        parts = [f"{common}Transfer-Encoding: chunked\r\n\r\n".encode()]
        for place in range(0, length, _CHUNK):
            piece = pool.data[start + place : start + min(place + _CHUNK, length)]
            parts += (b"%x\r\n" % len(piece), piece, b"\r\n")
        parts.append(b"0\r\n\r\n")
        return b"".join(parts), 0, 0
    if status.startswith("304"):
        return f"{common}\r\n".encode(), 0, 0
    head = f"{common}Content-Length: {length}\r\n\r\n".encode()
    return head, pool.start(rng, length, len(head)), length


def api_request(rng: random.Random, number: int) -> bytes:
    """A service's JSON call in one segment: GET, POST, PUT or DELETE, some 440 bytes."""
    token = int(rng.random() * (1 << 53))
    service = _SERVICES[token & 7]
    common = (
        f"Host: {service}.api.example\r\nUser-Agent: {service}-client/2.{token % 19} (linux; x64)\r\n"
        f"Accept: application/json\r\nAuthorization: Bearer {token:014x}.{token * 40503 & 0xFFFFFFFFFFFFFFFF:016x}\r\n"
        f"X-Request-Id: {token >> 5:012x}-{number:08x}\r\nX-Trace: 00-{token * 2654435761:032x}-01\r\n"
        "Connection: keep-alive\r\n"
    )
    path = f"/v1/{service}/{number * 7919 % 1000003}"
    kind = token >> 3 & 7
    if kind < 4:
        path += f"?limit={token % 50}&after={token % 100003}&fields=id,name,total"
        return f"GET {path} HTTP/1.1\r\n{common}\r\n".encode()
    if kind == 4:
        return f"DELETE {path} HTTP/1.1\r\n{common}\r\n".encode()
    word = _WORDS[token % len(_WORDS)]
    body = f'{{"id":{number},"sku":"{token:x}","count":{token % 97},"price":{token % 10007}.5,"note":"{word}"}}'
    method = "POST" if kind < 7 else "PUT"
    head = f"{method} {path} HTTP/1.1\r\n{common}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()


def api_response(rng: random.Random, number: int) -> bytes:
    """The answer in one segment, some 400 bytes; 204, 404 and 500 now and then."""
    token = int(rng.random() * (1 << 53))
    common = (
        f"Server: gateway/{token % 13}.2\r\nDate: Sun, 22 Nov 2026 {number % 24:02d}:{number % 60:02d}:07 GMT\r\n"
        f"X-Request-Id: {token:014x}\r\nX-Elapsed-Ms: {token % 431}\r\nCache-Control: no-store\r\n"
        f"X-RateLimit-Remaining: {token % 5000}\r\nVary: Accept, Origin\r\nConnection: keep-alive\r\n"
    )
    kind = token & 31
    if kind == 0:
        return f"HTTP/1.1 204 No Content\r\n{common}\r\n".encode()
    body = (
        f'{{"id":{number},"state":"{_WORDS[token % len(_WORDS)]}","total":{token % 100003},'
        f'"items":[{{"sku":"{token:x}","count":{token % 11}}},{{"sku":"{token * 3:x}","count":{token % 7}}}],'
        f'"next":"{token * 31:020x}"'
        f"{_FILL[token % 4] if token & 32 else ''}}}"
    )
    status = "404 Not Found" if kind == 1 else "500 Internal Server Error" if kind == 2 else "200 OK"
    head = f"HTTP/1.1 {status}\r\n{common}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()
