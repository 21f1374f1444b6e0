"""HTTP/1 messages for made traffic: the bytes of a request and of its response, and what an observer must find."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

REASONS = {
    100: "Continue",
    103: "Early Hints",
    200: "OK",
    201: "Created",
    202: "Accepted",
    204: "No Content",
    301: "Moved Permanently",
    302: "Found",
    304: "Not Modified",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Expected:
    """Ground truth of one transaction; byte counts are on the wire, `*_body` without chunk framing."""

    client: str
    client_port: int
    server: str
    server_port: int
    vlans: tuple[int, ...]
    index: int  # in its connection, from 0
    method: str
    target: str
    host: str
    status: int
    request_body: int
    response_body: int
    request_bytes: int  # head, framing and body
    response_bytes: int  # head, framing and body of the final response
    informational: tuple[int, ...]  # 1xx responses before the final one

    def as_dict(self) -> dict[str, object]:
        """Plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its response as bytes. `held` is what the client keeps back until a 100 response arrives."""

    method: str
    target: str
    host: str
    status: int
    request: bytes
    response: bytes
    request_body: int
    response_body: int
    held: bytes = b""
    interim: bytes = b""
    informational: tuple[int, ...] = ()


def chunked(body: bytes, size: int, *, extension: str = "", trailers: Headers = ()) -> bytes:
    """`body` in chunks of `size` bytes, with the last chunk and trailers."""
    parts = [
        b"%x%s\r\n%s\r\n" % (len(piece), extension.encode(), piece)
        for piece in (body[place : place + size] for place in range(0, len(body), size))
    ]
    tail = "".join(f"{name}: {value}\r\n" for name, value in trailers)
    return b"".join(parts) + b"0\r\n" + tail.encode() + b"\r\n"


def _head(first: str, headers: Iterable[tuple[str, str]]) -> bytes:
    return (first + "\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers) + "\r\n").encode("latin-1")


def _framed(body: bytes, framing: str, chunk: int, trailers: Headers = ()) -> tuple[list[tuple[str, str]], bytes]:
    """Header fields and body bytes for a framing: length, chunked, or close (the end of the connection ends it)."""
    if framing == "length":
        return [("Content-Length", str(len(body)))], body
    if framing == "chunked":
        return [("Transfer-Encoding", "chunked")], chunked(body, chunk, trailers=trailers)
    if framing == "close":
        return [("Connection", "close")], body
    raise ValueError(f"framing is length, chunked or close, not {framing!r}")


def exchange(
    method: str = "GET",
    target: str = "/",
    host: str = "shop.example",
    *,
    status: int = 200,
    reason: str | None = None,
    version: str = "1.1",
    body: bytes = b"",
    upload: bytes = b"",
    framing: str = "length",
    upload_framing: str = "length",
    chunk: int = 1000,
    request_headers: Headers = (),
    response_headers: Headers = (),
    trailers: Headers = (),
    expect_continue: bool = False,
    hints: Sequence[int] = (),
) -> Exchange:
    """The bytes of one transaction. `body` is the response's; of a HEAD's only the length is sent."""
    request_fields = [("Host", host)] if host else []
    request_fields += list(request_headers)
    upload_bytes = b""
    if upload or method in ("POST", "PUT", "PATCH"):
        fields, upload_bytes = _framed(upload, upload_framing, chunk)
        request_fields += fields
    if expect_continue:
        request_fields.append(("Expect", "100-continue"))
    head = _head(f"{method} {target} HTTP/{version}", request_fields)
    bodiless = method == "HEAD" or status in (204, 304)
    fields, body_bytes = _framed(body, framing, chunk, trailers)
    if status == 204:
        fields = []
    response = _head(
        f"HTTP/{version} {status} {REASONS.get(status, '') if reason is None else reason}",
        [*response_headers, *fields],
    )
    informational = ((100,) if expect_continue else ()) + tuple(hints)
    return Exchange(
        method=method,
        target=target,
        host=host,
        status=status,
        request=head if expect_continue else head + upload_bytes,
        held=upload_bytes if expect_continue else b"",
        interim=b"".join(_head(f"HTTP/1.1 {code} {REASONS.get(code, '')}", ()) for code in informational),
        informational=informational,
        response=response if bodiless else response + body_bytes,
        request_body=len(upload),
        response_body=0 if bodiless else len(body),
    )


def pieces(data: bytes, sizes: int | Iterable[int]) -> Iterator[bytes]:
    """Cut `data` in pieces of one size, or of the sizes given (the last is repeated; sizes below 1 count as 1)."""
    place = 0
    size = 1
    source = iter(()) if isinstance(sizes, int) else iter(sizes)
    if isinstance(sizes, int):
        size = max(1, sizes)
    while place < len(data):
        size = max(1, next(source, size))
        yield data[place : place + size]
        place += size
