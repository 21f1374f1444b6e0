"""HTTP/1 transactions of two byte streams as h11 reads them: the second opinion about framing."""

from __future__ import annotations

from dataclasses import dataclass

import h11


@dataclass(frozen=True, slots=True)
class Transaction:
    """Facts that both readers must agree on; body sizes are without chunk framing."""

    method: str
    target: str
    status: int
    request_body: int
    response_body: int
    informational: tuple[int, ...] = ()


def _read(connection: h11.Connection, data: bytes) -> tuple[list[h11.Event], bytes]:
    """The events of one message and of the informational ones before it, and the bytes behind it."""
    connection.receive_data(data)
    connection.receive_data(b"")
    events: list[h11.Event] = []
    while True:
        event = connection.next_event()
        if event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
            break
        if event is h11.NEED_DATA:
            raise h11.RemoteProtocolError("no end")
        events.append(event)
        if isinstance(event, h11.EndOfMessage):
            break
    return events, connection.trailing_data[0]


def _body(events: list[h11.Event]) -> int:
    return sum(len(event.data) for event in events if isinstance(event, h11.Data))


class Refused(Exception):
    """h11 does not take all of these bytes for whole messages."""


def accepted(client: bytes, server: bytes) -> list[Transaction]:
    """As transactions(), if h11 has nothing against a single byte; else Refused."""
    try:
        return transactions(client, server)
    except (h11.RemoteProtocolError, h11.LocalProtocolError) as error:
        raise Refused from error


def transactions(client: bytes, server: bytes) -> list[Transaction]:
    """Every transaction of a connection whose two directions said these bytes; raises h11's errors on bad HTTP."""
    out = []
    while client:
        events, client = _read(h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20), client)
        request = events[0]
        assert isinstance(request, h11.Request)
        asked = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        asked.send(h11.Request(method=request.method, target=request.target, headers=[("Host", "a.example")]))
        asked.send(h11.EndOfMessage())
        answers, server = _read(asked, server)
        final = next((event for event in answers if isinstance(event, h11.Response)), None)
        if final is None:
            raise h11.RemoteProtocolError("no response")
        interim = [event.status_code for event in answers if isinstance(event, h11.InformationalResponse)]
        out.append(
            Transaction(
                request.method.decode("latin-1"),
                request.target.decode("latin-1"),
                final.status_code,
                _body(events),
                _body(answers),
                tuple(interim),
            )
        )
    if server:
        raise h11.RemoteProtocolError("more responses than requests")
    return out
