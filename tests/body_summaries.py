"""Summaries of an event's account of a body, short enough for tables of cases."""

from __future__ import annotations

from typing import NamedTuple

from builders import Event, events_of, response, spoken

OK = response(b"200 OK", b"Content-Length: 0")
NEXT = b"GET /next HTTP/1.1\r\nHost: a.example\r\n\r\n"
NEXT_OK = b"HTTP/1.1 200 next\r\nContent-Length: 0\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked"


class Reading(NamedTuple):
    """A message's body: its bytes, whether its end was seen, and how else it could be framed."""

    body: int
    complete: bool
    anomalies: set[str]
    others: list[str]  # "chunked", "length 5"


def reading(event: Event, side: str) -> Reading:
    """Of one side of an event; the anomalies are those of both."""
    own = event["appliance"]
    others = [
        " ".join((other["framing"], *(str(other[name]) for name in ("body_bytes",) if name in other)))
        for other in own[side].get("other_framings", ())
    ]
    return Reading(event["http"][side]["body"]["bytes"], own[side]["complete"], {*own.get("anomalies", ())}, others)


def request_reading(said: bytes) -> tuple[Reading, bool]:
    """Of the first request of a client that says this and then asks for /next; is that one found where it starts?"""
    events = events_of(spoken(said + NEXT, OK + NEXT_OK).frames)
    targets = [event.get("url", {}).get("original") for event in events]
    return reading(events[0], "request"), "/next" in targets[1:]


def response_reading(said: bytes, asked: bytes = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n") -> tuple[Reading, bool]:
    """Of the first response, as request_reading() of the first request."""
    events = events_of(spoken(asked + NEXT, said + NEXT_OK).frames)
    reasons = [event["http"].get("response", {}).get("reason") for event in events]
    return reading(events[0], "response"), "next" in reasons[1:]
