"""Events for people: one line each, or a table of them.

Every text in an event was chosen by whoever sent the traffic, so whatever a terminal could act on (control characters,
direction overrides, lone surrogates) is written as an escape. Events are the decoded JSON objects of the feed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

Event = dict[str, Any]
COLOURS = {"2": 32, "3": 36, "4": 33, "5": 31, "-": 35}  # by class of status: green, cyan, yellow, red, magenta
HEADINGS = ("time", "client", "server", "method", "url", "status", "bytes", "ms")


def safe(text: str) -> str:
    """`text` with everything that is not plainly visible as \\x, \\u or \\U escapes, and backslashes doubled."""
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(_escape(character) for character in text)


def _escape(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def cells(event: Event) -> tuple[str, ...]:
    """The columns of HEADINGS, terminal-safe; "-" where the event does not know."""
    status = _dig(event, "http", "response", "status_code")
    duration = _dig(event, "event", "duration")
    columns = (
        _time(str(event.get("@timestamp", ""))),
        _endpoint(event.get("source")),
        _endpoint(event.get("destination")),
        str(_dig(event, "http", "request", "method") or "-"),
        _url(event.get("url") or {}),
        str(status) if status is not None else "-",
        str(_total_bytes(event)),
        f"{duration / 1e6:.3f}" if isinstance(duration, int) else "-",
    )
    return tuple(safe(column) for column in columns)


def heading() -> str:
    """What stands above the columns of `line`."""
    return f"{'time':<26}  {'client':<21} > {'server':<21}  status  {'size':>9}    {'duration':>9}     method url"


def line(event: Event, *, colours: bool = False) -> str:
    """One line without its end: time, client > server, status, bytes, milliseconds, method, url."""
    time, client, server, method, url, status, size, ms = cells(event)
    shown = f"{status:>6}"
    if colours and (colour := COLOURS.get(status[:1])):
        shown = f"\x1b[{colour}m{shown}\x1b[0m"
    ends = f"{client:<21} > {server:<21}"
    return f"{time:<26}  {ends}  {shown}  {size:>9} B  {ms:>9} ms  {method} {url}{_doubt(event)}"


def table(events: Iterable[Event], *, title: str = "") -> Table:
    """A rich table of the same columns."""
    from rich.table import Table
    from rich.text import Text

    grid = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for heading in HEADINGS:
        right = heading in ("status", "bytes", "ms")
        whole = 9 if heading == "ms" else len(heading) if right or heading == "method" else None
        grid.add_column(
            heading, justify="right" if right else "left", no_wrap=True, overflow="ellipsis", min_width=whole
        )
    grid.columns[HEADINGS.index("url")].ratio = 1
    for event in events:
        time, *others = cells(event)
        grid.add_row(*(Text(cell) for cell in (time.partition(" ")[2] or time, *others)))  # a table is of one day
    return grid


def count_by_class(events: Iterable[Event]) -> dict[str, int]:
    """Transactions by class of their status: 1xx … 5xx, and none where no response was seen."""
    counts = dict.fromkeys(("1xx", "2xx", "3xx", "4xx", "5xx", "none"), 0)
    for event in events:
        status = _dig(event, "http", "response", "status_code")
        name = f"{status // 100}xx" if isinstance(status, int) else "none"
        counts[name] = counts.get(name, 0) + 1
    return counts


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Plain text columns, left-aligned, two blanks apart."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _dig(event: Event, *path: str) -> Any:
    value: Any = event
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def _time(timestamp: str) -> str:
    """Microseconds are plenty for an eye: 2026-11-22T10:00:00.123456789Z as 2026-11-22 10:00:00.123456."""
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
    sizes = (_dig(event, "http", side, "bytes") for side in ("request", "response"))
    return sum(size for size in sizes if isinstance(size, int))


def _doubt(event: Event) -> str:
    """What the reader should know before trusting the line."""
    facts = event.get("appliance") or {}
    notes = [str(anomaly) for anomaly in facts.get("anomalies") or []]
    missing = sum(_dig(facts, side, "missing_bytes") or 0 for side in ("request", "response"))
    if missing:
        notes.append(f"{missing} bytes missing")
    if facts.get("pairing") == "uncertain":
        notes.append("pairing uncertain")
    return f"  ({safe(', '.join(notes))})" if notes else ""
