"""Events for people: one line each, or a table of them.

The sender of the traffic chose every text in an event. Characters that a terminal could act on are written as escapes:
control characters, direction overrides, lone surrogates, heaps of combining marks. Events are the decoded JSON objects
of the feed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from appliance.text.terminal import GAP, safe, shortened

if TYPE_CHECKING:
    from rich.table import Table

Event = dict[str, Any]
# by the first letter of a status, or of the outcome of a handshake: green, cyan, yellow, red, magenta
COLOURS = {"2": 32, "3": 36, "4": 33, "5": 31, "-": 35, "o": 32, "f": 31}
HEADINGS = ("time", "client", "server", "method", "url", "status", "bytes", "ms")
NUMBERS = ("status", "bytes", "ms")
DRAWN = ("time", "client", "server", "status", "bytes", "ms", "method", "url")  # the columns of a table
# columns dropped from it, in this order, if the terminal is narrow
LEFT_OUT = ("client", "server", "time", "method", "bytes", "ms")
LEAST_URL = 24  # minimum columns of a URL before others are dropped
LONGEST_METHOD = 16


def cells(event: Event) -> tuple[str, ...]:
    """Return the columns of HEADINGS, terminal-safe; "-" where the event lacks the value."""
    middle = _TRANSACTION
    if isinstance(event.get("tls"), dict):
        middle = _HANDSHAKE
    elif isinstance(_dig(event, "appliance", "websocket"), dict):
        middle = _WEBSOCKET
    elif isinstance(_dig(event, "appliance", "flow"), dict):
        middle = _FLOW
    start = _time(str(event.get("@timestamp", ""))), _endpoint(event.get("source")), _endpoint(event.get("destination"))
    return tuple(safe(column) for column in (*start, *(column(event) for column in middle)))


def heading() -> str:
    """Return the headings for the columns of `line`."""
    return f"{'time':<26}  {'client':<21} > {'server':<21}  status  {'size':>9}    {'duration':>9}     method url"


def line(event: Event, *, colours: bool = False) -> str:
    """Format one line without its end: time, client > server, status, bytes, milliseconds, method, url."""
    time, client, server, method, url, status, size, ms = cells(event)
    shown = f"{status:>6}"
    if colours and (colour := COLOURS.get(status[:1])):
        shown = f"\x1b[{colour}m{shown}\x1b[0m"
    ends = f"{client:<21} > {server:<21}"
    return f"{time:<26}  {ends}  {shown}  {size:>9} B  {ms:>9} ms  {method} {url}{_doubt(event)}"


def table(events: Iterable[Event], *, width: int | None = None) -> Table:
    """Return a rich table of these events; see `drawn`."""
    return drawn([row(event) for event in events], width)


def row(event: Event) -> dict[str, str]:
    """Return the columns of a table by their headings; behind the URL is what the reader should know."""
    found = dict(zip(HEADINGS, cells(event), strict=True))
    found["url"] += _doubt(event)
    return found


def drawn(rows: Sequence[Mapping[str, str]], width: int | None = None) -> Table:
    """Return a rich table of rows. Where `width` columns of a terminal have no room for all, columns are left out in
    the order of LEFT_OUT. Only an URL and a method are ever cut, and end with "…"."""
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    lines = [{**row, "method": shortened(row["method"], LONGEST_METHOD)} for row in rows]
    if len({row["time"].partition(" ")[0] for row in lines}) <= 1:  # one day: no date in each line
        for row in lines:
            row["time"] = row["time"].partition(" ")[2] or row["time"]
    needed = {name: max(map(cell_len, [name, *(row[name] for row in lines)])) for name in HEADINGS}
    names = list(DRAWN)
    room = sum(needed.values()) + GAP * len(names) if width is None else width
    wanted = min(needed["url"], LEAST_URL)
    for name in LEFT_OUT:
        if sum(needed[one] + GAP for one in names if one != "url") + wanted > room:
            names.remove(name)
    needed["url"] = max(1, room - sum(needed[one] + GAP for one in names if one != "url"))
    if needed["url"] < len("url") and width is not None:
        names.remove("url")
    grid = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for name in names:
        grid.add_column(name, justify="right" if name in NUMBERS else "left", no_wrap=True, width=needed[name])
    for row in lines:
        row["url"] = shortened(row["url"], needed["url"])
        grid.add_row(*(Text(row[name], overflow="fold" if name != "url" else "ellipsis") for name in names))
    return grid


def count_by_class(events: Iterable[Event]) -> dict[str, int]:
    """Count transactions by class of status: 1xx … 5xx, and none without a response."""
    counts = dict.fromkeys(("1xx", "2xx", "3xx", "4xx", "5xx", "none"), 0)
    for event in events:
        status = _dig(event, "http", "response", "status_code")
        name = f"{status // 100}xx" if isinstance(status, int) else "none"
        counts[name] = counts.get(name, 0) + 1
    return counts


def _milliseconds(nanoseconds: Any) -> str:
    return f"{nanoseconds / 1e6:.3f}" if isinstance(nanoseconds, int) else "-"


def _status(event: Event) -> str:
    status = _dig(event, "http", "response", "status_code")
    return str(status) if status is not None else "-"


_TRANSACTION: tuple[Callable[[Event], str], ...] = (
    lambda event: str(_dig(event, "http", "request", "method") or "-"),
    lambda event: _url(event.get("url") or {}),
    _status,
    lambda event: str(_total_bytes(event)),
    lambda event: _milliseconds(_dig(event, "event", "duration")),
)


def _close_code(event: Event) -> str:
    websocket = _dig(event, "appliance", "websocket")
    code = _dig(websocket, str(websocket.get("closed_by")), "close_code")
    return str(code) if code is not None else "-"


# Of a WebSocket connection, the status is the code of its first Close frame, and bytes are those of its messages.
_WEBSOCKET = (lambda event: "WebSocket", _TRANSACTION[1], _close_code, *_TRANSACTION[3:])
# A flow event shows its state as status, the application as URL, and the bytes of its frames.
_FLOW = (
    lambda event: "flow",
    lambda event: str(_dig(event, "appliance", "flow", "application") or "-"),
    lambda event: str(_dig(event, "appliance", "flow", "state") or "-"),
    *_TRANSACTION[3:],
)
_OUTCOMES = {True: "ok", False: "failed"}
OLD_VERSIONS = ("2.0", "3.0", "1.0", "1.1")  # of SSL and TLS; RFC 7568, RFC 8996


def _names(event: Event) -> str:
    """Return the names of a handshake: server name, ALPN, cipher, fingerprint of the client."""
    offered = _dig(event, "appliance", "tls", "alpn_offered")
    protocol = _dig(event, "tls", "next_protocol") or (",".join(map(str, offered)) if isinstance(offered, list) else "")
    parts = (_dig(event, "tls", "client", "server_name"), protocol, _dig(event, "tls", "cipher"))
    return " ".join(str(part or "-") for part in (*parts, _dig(event, "appliance", "tls", "ja4")))


_HANDSHAKE: tuple[Callable[[Event], str], ...] = (
    lambda event: f"{_dig(event, 'tls', 'version_protocol') or 'tls'}{_dig(event, 'tls', 'version') or ''}".upper(),
    _names,
    lambda event: _OUTCOMES.get(_dig(event, "tls", "established"), "-"),
    lambda event: str(sum(_dig(event, "appliance", "tls", "bytes", side) or 0 for side in ("client", "server"))),
    lambda event: _milliseconds(_dig(event, "appliance", "tls", "handshake_ns")),
)


def _faults_of_handshake(event: Event) -> list[str]:
    """Return what an operator should know of a handshake: an alert, an old version, a doubtful certificate."""
    tls = event["tls"]
    server = _dig(tls, "server") or {}
    alert, version = _dig(event, "appliance", "tls", "alert", "description"), _dig(tls, "version")
    notes = [f"alert {alert}"] if alert else []
    if version in OLD_VERSIONS:
        notes.append("old version")
    if server.get("subject") and server.get("subject") == server.get("issuer"):
        notes.append("self-signed")
    if str(server.get("not_after", "9")) < str(event.get("@timestamp", "")):
        notes.append("expired")
    missing = sum(
        _dig(event, "appliance", "tls", f"{side}_hello", "missing_bytes") or 0 for side in ("client", "server")
    )
    return [*notes, f"{missing} bytes missing"] if missing else notes


def _dig(event: Event, *path: str) -> Any:
    value: Any = event
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def _time(timestamp: str) -> str:
    """Format a time to microseconds: 2026-11-22T10:00:00.123456789Z as 2026-11-22 10:00:00.123456."""
    return timestamp.replace("T", " ").rstrip("Z")[:26] or "-"


def _endpoint(side: Any) -> str:
    if not isinstance(side, dict) or "ip" not in side:
        return "-"
    ip = str(side["ip"])
    return f"[{ip}]:{side.get('port', '-')}" if ":" in ip else f"{ip}:{side.get('port', '-')}"


def _url(url: Event) -> str:
    original = str(url.get("original") or url.get("path") or "")
    if "://" in original or "domain" not in url or not original.startswith("/"):
        return original or str(url.get("domain") or "-")
    domain = str(url["domain"])
    port = url.get("port")
    host = f"[{domain}]" if ":" in domain and not domain.startswith("[") else domain
    return f"{host}{original}" if port in (None, 80) else f"{host}:{port}{original}"


def _total_bytes(event: Event) -> int:
    http = (_dig(event, "http", side, "bytes") for side in ("request", "response"))
    websocket = (_dig(event, "appliance", "websocket", side, "bytes") for side in ("client", "server"))
    flow = (_dig(event, "network", "bytes"),)
    return sum(size for size in (*http, *websocket, *flow) if isinstance(size, int))


def _doubt(event: Event) -> str:
    """Return a remark about missing or doubtful parts of the event."""
    facts = event.get("appliance") or {}
    if isinstance(event.get("tls"), dict):
        notes = _faults_of_handshake(event)
        return f"  ({safe(', '.join(notes))})" if notes else ""
    notes = [str(anomaly) for anomaly in facts.get("anomalies") or []]
    missing = sum(_dig(facts, side, "missing_bytes") or 0 for side in ("request", "response"))
    missing += sum(_dig(facts, "websocket", side, "missing_bytes") or 0 for side in ("client", "server"))
    missing += sum(_dig(facts, "flow", "missing_bytes", side) or 0 for side in ("client", "server"))
    if missing:
        notes.append(f"{missing} bytes missing")
    if facts.get("pairing") == "uncertain":
        notes.append("pairing uncertain")
    return f"  ({safe(', '.join(notes))})" if notes else ""
