"""Reasons why a run makes no event: the kinds of its frames, and the protocols of its connections.

In: snapshots of the stats pages. Out: text, for the end of a run, for doctor and for top. Nothing here prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from appliance.config.schema import Config
from appliance.report.losses import dropped_frames
from appliance.report.status_lines import UNLIMITED
from appliance.stats.names import NOT_HTTP, SPOKEN
from appliance.stats.snapshot import Snapshots
from appliance.text.terminal import fit, safe, shortened

WORDS = {
    "tls": "TLS",
    "ssh": "SSH",
    "smtp": "SMTP",
    "http2": "HTTP/2",
    "http": "HTTP/1",
    "other": "of another protocol",
}
# Reasons why frames reach no connection, by the slots that count them.
FRAMES = {
    "unknown_link": "of a link type that is not decoded",
    "truncated": "truncated before the end of their TCP header",
    "not_ip": "not IP",
    "bad_ip_header": "of a broken IP header",
    "fragment": "fragments of incomplete datagrams",
    "not_tcp": "not TCP or QUIC but UDP or another",
    "bad_tcp_header": "of a broken TCP header",
    "too_many_tags": "of too many VLAN tags",
    "too_many_headers": "of too many IP headers",
    "too_many_tunnels": "in too many tunnels",
    "bad_header": "of a broken TCP header",
    "no_connection": "of no connection",
    "bad_checksum": "of a wrong checksum",
}
LONGEST_FILTER = 40  # characters shown


class Reason(NamedTuple):
    """The reason for no event.

    cause: "filter" (no frame passed), "frames" (none of TCP), "data" (none), "protocol" or "dataset" (left out).
    note: a possible second reason, or empty.
    """

    cause: str
    text: str
    note: str = ""


def no_event(now: Snapshots, config: Config, width: int = UNLIMITED) -> Reason | None:
    """Return the reason, in at most `width` characters; None where there is an event, or one may follow."""
    if now.events():
        return None
    if _sum(now, "messages.started"):
        return None if "http" in config.events.datasets else _left_out(now, width)
    if not _sum(now, "segments"):
        return _frames(now, config, width)
    return _connections(now, width)


def mostly(now: Snapshots, before: Snapshots, width: int = UNLIMITED) -> str:
    """Return what most of the payload since `before` is, if that is not HTTP/1; empty if it is."""
    octets = {kind: max(0, _bytes(now, kind) - _bytes(before, kind)) for kind in NOT_HTTP}
    payload = max(_sum(now, "payload_bytes") - _sum(before, "payload_bytes"), sum(octets.values()))
    if 2 * sum(octets.values()) <= payload:
        return ""
    counts = _connections_by_kind(now)
    found = sorted((kind for kind in NOT_HTTP if octets[kind]), key=lambda kind: -octets[kind])
    parts: list[tuple[str, int]] = []
    for kind in found:
        share = f"{100 * octets[kind] / payload:.0f} %"
        if not parts:
            parts.append((f"{share} of the payload is {WORDS[kind]}", 0))
            parts.append((f" ({_of(counts[kind], sum(counts.values()))})", 1))
        else:
            parts.append((f", {share} {WORDS[kind]} ({counts[kind]:,})", len(parts)))
    return fit(parts, width, "")


def _left_out(now: Snapshots, width: int) -> Reason:
    """Return which connections would have events if the configuration asked for them."""
    counts = _connections_by_kind(now)
    connections = f"{_of(counts['http'], sum(counts.values()))} {_verb(counts['http'])} HTTP/1"
    why = "http is not in events.datasets"
    return Reason("dataset", _fitted([(f"no event: {connections}, but {why}", 0)], width, why))


def _frames(now: Snapshots, config: Config, width: int) -> Reason | None:
    """Return why no frame reached a connection."""
    frames, lost = now.frames(), dropped_frames(now)
    if not frames and lost:
        return Reason(
            "frames", _fitted([(f"no event: all {_many(lost, 'frame')} were dropped", 0)], width, "all dropped")
        )
    if not frames and not config.source.filter:
        return None  # the caller reports that there was no frame
    if not frames:
        words = f"no event: no frame passed the filter {shortened(safe(config.source.filter), LONGEST_FILTER)}"
        return Reason("filter", shortened(words, width))
    found = dict.fromkeys(FRAMES.values(), 0)
    for page in (*now.captures, *now.workers):
        for name, word in FRAMES.items():
            found[word] += page.get(f"rejected.{name}", 0)
    found["QUIC handshakes"] = sum(_sum(now, f"quic_datagrams.{name}") for name in ("opened", "followed"))
    found["QUIC that does not open"] = sum(_sum(now, f"quic_datagrams.{name}") for name in ("unopened", "over_limit"))
    found["shed because of overload"] = now.total("shed_frames")
    found["dropped"] = lost
    ranked = sorted(((count, word) for word, count in found.items() if count), reverse=True)
    if not ranked:
        return None
    whole = frames + now.total("reassembled")
    parts = [
        (f"no event: {_of(count, whole, 'frame')} {_verb(count)} {word}" if not place else f"{count:,} {word}", place)
        for place, (count, word) in enumerate(ranked)
    ]
    return Reason("frames", _fitted(parts, width, f"frames {ranked[0][1]}"))


def _connections(now: Snapshots, width: int) -> Reason | None:
    """Return which protocols the connections carry."""
    counts = _connections_by_kind(now)
    whole, silent = sum(counts.values()), counts.pop("silent")
    if not whole:
        return None
    ranked = sorted(((_bytes(now, kind), kind) for kind in counts if counts[kind]), reverse=True)
    parts: list[tuple[str, int]] = []
    for octets, kind in ranked:
        head = f"no event: {_of(counts[kind], whole)} {_verb(counts[kind])} " if not parts else f"{counts[kind]:,} "
        parts.append((f"{head}{WORDS[kind]} ({_many(octets, 'byte')})", len(parts)))
    one_sided = _sum(now, "flows_one_sided")
    if not parts:
        parts.append((f"no event: {_of(silent, whole)} sent no data", 0))
    elif silent:
        parts.append((f"{silent:,} sent no data", len(parts)))
    note = f"only one direction was captured of {_of(one_sided, whole)}" if 2 * one_sided > whole else ""
    text = _fitted(parts, width, WORDS[ranked[0][1]] if ranked else "no data")
    return Reason("protocol" if ranked else "data", text, note)


def _fitted(parts: Sequence[tuple[str, int]], width: int, short: str) -> str:
    """Return as many parts as fit; where none does, `short`: it has no number that a cut would change."""
    return fit(parts, width, ", ") or shortened(f"no event: {short}", width)


def _connections_by_kind(now: Snapshots) -> dict[str, int]:
    """Count connections by protocol, open ones included."""
    found = {
        kind: _sum(now, f"connections.{kind}") + (_sum(now, f"connections_open.{kind}") if kind != "silent" else 0)
        for kind in SPOKEN
    }
    speaking = sum(_sum(now, f"connections_open.{kind}") for kind in SPOKEN if kind != "silent")
    found["silent"] += max(0, _sum(now, "flows") - speaking)
    return found


def _bytes(now: Snapshots, kind: str) -> int:
    return _sum(now, f"not_http_bytes.{kind}") if kind in NOT_HTTP else 0


def _sum(now: Snapshots, name: str) -> int:
    return sum(page[name] for page in now.workers)


def _many(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _of(count: int, whole: int, word: str = "connection") -> str:
    return f"{count:,} of {_many(whole, word)}"


def _verb(count: int) -> str:
    return "is" if count == 1 else "are"
