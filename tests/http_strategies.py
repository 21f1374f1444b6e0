"""Bytes of two directions that are HTTP, nearly HTTP, or not HTTP at all: turns made of the pieces of messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from builders import MILLISECOND, Conversation, Outcome
from hypothesis import strategies as st

Turn = tuple[bool, bytes]  # from the client?
Sizes = int | Sequence[int] | None

ENDS = (b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n", b"")
METHODS = (b"GET", b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"CONNECT", b"BREW", b"PRI", b"get", b"M" * 33, b"")
TARGETS = (b"/", b"/a", b"/b c", b"*", b"http://a.example/x", b"a.example:443", b"", b"/\xff", b"x", b"/#f")
VERSIONS = (
    b"HTTP/1.1",
    b"HTTP/1.1",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/0.9",
    b"http/1.1",
    b"HTTP/2.0",
    b"HTTP/1.12",
    b"",
)
STATUSES = (b"200 OK", b"200", b"204 No", b"304 Not", b"100 Go on", b"101 Up", b"404 \xff", b"99", b"2000", b"20x", b"")
BLANKS = (b" ", b" ", b" ", b"  ", b"\t", b"", b"\r")
FIELDS = (
    b"Host: a.example",
    b"Host: a.example",
    b"Content-Length: 0",
    b"Content-Length: 5",
    b"Content-Length: 5, 7",
    b"Content-Length: +5",
    b"Content-Length : 3",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip",
    b"Transfer-Encoding: chunked, gzip",
    b" folded",
    b"\tfolded: too",
    b"Connection: close",
    b"Upgrade: websocket",
    b"no colon",
    b": no name",
    b"X: \0\x01",
    b"X\xa0: 1",
    b"X: " + b"f" * 200,
)
BODIES = (
    b"",
    b"hello",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
    b"5\nhello\n0\n\n",
    b"5 \r\nhello\r\n00\r\n\r\n",
    b"5\r\nhello!\r\n0\r\n\r\n",
    b"zz\r\n",
    b"\r\n",
    b"\x16\x03\x01\x02\0\x01",
    b"SSH-2.0-x\r\n",
    b"EHLO a\r\n",
    b"\x05\x01\0",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\4abcd",
    b"GET /in HTTP/1.1\r\n",
    b"HTTP/1.1 200 in\r\n\r\n",
    b"x" * 700,
)


def _some(words: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    return st.sampled_from(words)


_request_line = st.builds(lambda *parts: b"".join(parts), *map(_some, (METHODS, BLANKS, TARGETS, BLANKS, VERSIONS)))
_status_line = st.builds(lambda *parts: b"".join(parts), *map(_some, (VERSIONS, BLANKS, STATUSES)))
_good_request = st.builds(
    lambda method, target: method + target + b" HTTP/1.1", _some(METHODS[:7]), _some((b" /", b" /a"))
)
_good_status = st.builds(lambda status: b"HTTP/1.1 " + status, _some(STATUSES[:7]))
_lines = st.builds(
    lambda fields, end: b"".join(field + end for field in fields),
    st.lists(_some(FIELDS), max_size=4),
    _some(ENDS[:5]),
)


def _message(start: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """A start line, some fields, an end that may be missing, and what may be its body."""
    return st.builds(
        lambda first, end, lines, blank, body: first + end + lines + blank + body,
        start,
        _some(ENDS),
        _lines,
        _some((b"\r\n", b"\r\n", b"\r\n", b"\n", b"")),
        _some(BODIES),
    )


_requests = st.one_of(_message(_good_request), _message(_good_request), _message(_request_line), _some(BODIES))
_responses = st.one_of(_message(_good_status), _message(_good_status), _message(_status_line), _some(BODIES))


@st.composite
def speeches(draw: st.DrawFn, turns: int = 5, messages: int = 3) -> list[Turn]:
    """Turns of client and server, the client first (mostly); a few bytes of it are damaged."""
    said = []
    mine = draw(st.sampled_from((True, True, True, False)))
    for _ in range(draw(st.integers(1, turns))):
        text = b"".join(draw(st.lists(_requests if mine else _responses, min_size=1, max_size=messages)))
        if text and draw(st.sampled_from((False, False, True))):
            damaged = bytearray(text)
            damaged[draw(st.integers(0, len(text) - 1))] = draw(st.integers(0, 255))
            text = bytes(damaged)
        said.append((mine, text))
        mine = not mine
    return said


def conversation(said: Sequence[Turn], sizes: Sizes = None, close: str = "client") -> Conversation:
    """The turns as a connection, each cut by the sizes."""
    made = Conversation(mss=1 << 15).handshake()
    for mine, text in said:
        (made.client_sends if mine else made.server_sends)(text, sizes)
        made.idle(MILLISECOND)
    return made.close(close) if close else made


def http_counts(outcome: Outcome) -> Counter[str]:
    """The counters that speak of HTTP: they depend on what was said, not on how it was cut.

    Bytes of no message are skipped or not HTTP by what is known when they are given up; only their sum is certain.
    """
    starts = (
        *("messages.", "requests.", "responses.", "pairing.", "not_http_streams.", "anomalies.", "body_bytes."),
        "connections.",
    )
    names = ("parse_errors", "resyncs", "tunnels", "tunnel_bytes")
    counts = Counter(
        {name: value for name, value in outcome.counts.items() if value and (name.startswith(starts) or name in names)}
    )
    counts["bytes of no message"] = outcome.counts["skipped_bytes"] + outcome.counts["not_http_bytes"]
    return counts
