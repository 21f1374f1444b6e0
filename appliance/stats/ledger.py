"""Account for every frame, byte, message and event between the wire and the feed, by twelve identities.

The module is pure: it turns snapshots of the stats pages into differences. At rest every difference is 0. During a run
a difference is the amount between its two counters (in the kernel's ring, a batch, a link or a pipeline). L1 may then
be negative as well, because a capture reads the kernel's counters only once a second.

An identity has parts, one per process or link. Parts of opposite sign must not cancel out, because a frame too many on
one link and one too few on another are two errors. The difference is then the sum of the magnitudes.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict

from appliance.stats.links import ReceivedLink, SentLink, TopicEvents
from appliance.stats.names import (
    EVENT_DROPS,
    FILES_LEFT_OUT,
    FILES_REFUSED,
    FLOW_PAYLOAD,
    HTTP2_STREAM_OUTCOMES,
    KEEP_LEFT_OUT,
    LINK_DROPS,
    MESSAGE_OUTCOMES,
    PAYLOAD_OUTCOMES,
    RECORD_LEFT_OUT,
    TLS_BYTES,
    TOPICS,
)
from appliance.stats.snapshot import Counts, Pages, under

TITLES = {
    "L1": "kernel: received by the kernel = read + dropped by it",
    "L2": "capture: read + reassembled = offered to workers + rejected + shed; fragments = sum of their outcomes",
    "L3": "link: offered = sent + dropped; sent = received + lost",
    "L4": "worker: received = segments + QUIC datagrams + other UDP for flows + rejected + quarantined"
    " + lost in a crash",
    "L5": "bytes: payload = delivered + not delivered, by reason",
    "L6": "messages: started = complete + truncated + failed + open; WebSocket connections: started = ended + open;"
    " HTTP/2 streams: opened = ended, by outcome + open",
    "L7": "feed: made = sent + dropped; sent = received + lost; received = published",
    "L8": "flows: payload of TCP and UDP = in flow events + of open connections + in none, by reason",
    "L9": "record: sent to workers = to the recorder + past it; to it = recorded + left out, by reason + lost",
    "L10": "decryption: bytes of TLS = in the clear + opened + not opened, by reason",
    "L11": "files: bodies of a wanted type = sent + left out, by reason + open;"
    " sent = kept + duplicates + left out, by reason + lost",
    "L12": "keep: published = to the keeper + past it; to it = unmatched + kept + left out, by reason + waiting + lost",
}


class Identity(TypedDict):
    """An equation: its difference from being true, and its terms."""

    difference: int
    terms: dict[str, int]


Identities = dict[str, Identity]


def identities(pages: Pages) -> Identities:
    """Return the identities "L1" to "L12". The pages are final, or those of a running system."""
    return {
        "L1": _kernel(pages.captures),
        "L2": _capture(pages.captures),
        "L3": _link(pages.captures, pages.workers),
        "L4": _worker(pages.captures, pages.workers),
        "L5": _bytes(pages.workers),
        "L6": _messages(pages.workers),
        "L7": _feed(pages.workers, pages.feed),
        "L8": _flows(pages.workers),
        "L9": _record(pages.captures, pages.recorder),
        "L10": _decryption(pages.workers),
        "L11": _files(pages.workers, pages.files),
        "L12": _keep(pages.feed, pages.keeper),
    }


def unaccounted(found: Mapping[str, Identity]) -> int:
    """Return the sum of the magnitudes of the differences, 0 when every identity is true."""
    return sum(abs(identity["difference"]) for identity in found.values())


def in_flight(found: Mapping[str, Identity]) -> int:
    """Return the frames captured but not yet counted under an outcome; at least 0."""
    return sum(max(0, found[name]["difference"]) for name in ("L2", "L3", "L4"))


def render(found: Mapping[str, Identity]) -> str:
    """Return the ledger as plain text, without outcomes whose count is 0."""
    lines = []
    for name, identity in found.items():
        difference = identity["difference"]
        lines.append(f"{name} {'closed' if difference == 0 else f'OPEN BY {difference:,}':<9} {TITLES[name]}")
        shown = [(term, count) for place, (term, count) in enumerate(identity["terms"].items()) if count or place == 0]
        lines.append("   " + "".join(f"  {term} {count:,}" for term, count in shown))
    total = unaccounted(found)
    lines.append(
        "ledger closed: nothing is unaccounted for" if total == 0 else f"LEDGER OPEN: {total:,} unaccounted for"
    )
    return "\n".join(lines)


def to_json(found: Mapping[str, Identity], blind_ns: int = 0) -> bytes:
    """Return the ledger as a JSON document, one line per term.

    blind_ns: the time without capture before the run, which no identity covers; 0 if it is unknown.
    """
    blind = {"blind_ms": round(blind_ns * 1e-6, 3)} if blind_ns else {}
    return (json.dumps({"unaccounted": unaccounted(found), **blind, "identities": found}, indent=2) + "\n").encode()


# -- the identities --------------------------------------------------------------------------------------------------


def _kernel(captures: Sequence[Counts]) -> Identity:
    """Compare the kernel's counters with the frames read.

    A capture whose kernel counted nothing takes no part: it reads a file, or has not read the kernel's counters yet.
    """
    live = [page for page in captures if page["kernel_received"]]
    names = ("kernel_received", "frames", "kernel_dropped", "kernel_abandoned", "looped_frames")
    parts = [page[names[0]] - sum(page[name] for name in names[1:]) for page in live]
    return _identity(parts, {name: sum(page[name] for page in live) for name in names})


def _capture(captures: Sequence[Counts]) -> Identity:
    """Compare frames read with their outcomes.

    A fragment counts as rejected; the datagram reassembled from fragments counts like a frame that was read.
    """
    parts = []
    for page in captures:
        entered = page["frames"] + page["reassembled"]
        parts.append(entered - under(page, "offered") - under(page, "rejected") - page["shed_frames"])
        parts.append(page["rejected.fragment"] - under(page, "fragments"))
    terms = {name: _total(captures, [name]) for name in ("frames", "reassembled")}
    terms["offered"] = sum(under(page, "offered") for page in captures)
    terms["shed_frames"] = _total(captures, ["shed_frames"])
    return _identity(parts, terms | _each(captures, "rejected") | _each(captures, "fragments"))


def _link(captures: Sequence[Counts], workers: Sequence[Counts]) -> Identity:
    parts = []
    for c, capture in enumerate(captures):
        for w, worker in enumerate(workers):
            link = SentLink(capture, w)
            parts.append(link.offered - link.sent - link.dropped)
            parts.append(link.sent - ReceivedLink(worker, c).accounted)
    terms = {name: sum(under(page, name) for page in captures) for name in ("offered", "sent", *LINK_DROPS)}
    return _identity(parts, terms | {name: sum(under(page, name) for page in workers) for name in ("received", "lost")})


def _worker(captures: Sequence[Counts], workers: Sequence[Counts]) -> Identity:
    parts = [
        sum(ReceivedLink(page, c).received for c in range(len(captures)))
        - page["segments"]
        - under(page, "quic_datagrams")
        - page["udp_datagrams"]
        - under(page, "rejected")
        - page["quarantined"]
        - page["crash_lost"]
        for page in workers
    ]
    terms = {"received": sum(under(page, "received") for page in workers)}
    terms |= {name: _total(workers, [name]) for name in ("segments", "udp_datagrams")}
    lost = {name: _total(workers, [name]) for name in ("quarantined", "crash_lost")}
    return _identity(parts, terms | _each(workers, "quic_datagrams") | _each(workers, "rejected") | lost)


def _bytes(workers: Sequence[Counts]) -> Identity:
    names = ["payload_bytes", *(f"payload.{outcome}" for outcome in PAYLOAD_OUTCOMES), "pending_bytes"]
    return _sums(workers, names, beside=["gap_bytes"])


def _flows(workers: Sequence[Counts]) -> Identity:
    """Compare the payload with what flow events report of it: the sum of their `since_last.payload_bytes`."""
    payload = ("payload_bytes", "udp_payload_bytes")
    ends = [*(f"flow_payload.{outcome}" for outcome in FLOW_PAYLOAD), "flow_open_bytes"]
    parts = [sum(page[name] for name in payload) - sum(page[name] for name in ends) for page in workers]
    return _identity(parts, {name: _total(workers, [name]) for name in (*payload, *ends)})


def _record(captures: Sequence[Counts], recorder: Counts) -> Identity:
    """Compare the frames sent to workers with what the recorder did with them; nothing without a recorder."""
    names = ("recorded", *(f"left_out.{reason}" for reason in RECORD_LEFT_OUT), "crash_lost")
    if not recorder:
        return _identity([], dict.fromkeys(("sent", "to_recorder", "past_recorder", "lost", *names), 0))
    parts = [under(recorder, "received") - sum(recorder[name] for name in names)]
    for c, page in enumerate(captures):
        parts.append(under(page, "sent") - page["to_recorder"] - page["past_recorder"])
        parts.append(page["to_recorder"] - ReceivedLink(recorder, c).accounted)
    terms = {"sent": sum(under(page, "sent") for page in captures)}
    terms |= {name: _total(captures, [name]) for name in ("to_recorder", "past_recorder")}
    return _identity(parts, terms | {"lost": under(recorder, "lost")} | {name: recorder[name] for name in names})


def _decryption(workers: Sequence[Counts]) -> Identity:
    """Compare the bytes of TLS connections that might be decrypted with what became of them."""
    return _sums(
        workers, ["tls_seen_bytes", *(f"tls_bytes.{fate}" for fate in (*TLS_BYTES, "crash")), "tls_open_bytes"]
    )


def _files(workers: Sequence[Counts], files: Counts) -> Identity:
    """Compare the bodies of a wanted type with what became of them; nothing if no files are kept."""
    ends = ("files_sent", *(f"files_left_out.{why}" for why in FILES_LEFT_OUT), "files_open")
    outcomes = ("kept", "duplicates", *(f"left_out.{why}" for why in FILES_REFUSED), "crash_lost")
    if not files:
        return _identity([], dict.fromkeys(("files_offered", *ends, *outcomes, "lost"), 0))
    parts = [under(files, "received") - sum(files[name] for name in outcomes)]
    for w, page in enumerate(workers):
        parts.append(page["files_offered"] - sum(page[name] for name in ends))
        parts.append(page["files_sent"] - ReceivedLink(files, w).accounted)
    terms = {name: _total(workers, [name]) for name in ("files_offered", *ends)}
    return _identity(parts, terms | {name: files[name] for name in outcomes} | {"lost": under(files, "lost")})


def _keep(feed: Counts, keeper: Counts) -> Identity:
    """Compare the events published with what the keeper did with them; nothing without a keeper."""
    links = ("to_keeper", "past_keeper")
    outcomes = ("unmatched", "kept", *(f"left_out.{why}" for why in KEEP_LEFT_OUT), "waiting", "crash_lost")
    if not keeper:
        return _identity([], dict.fromkeys(("published", *links, "lost", *outcomes), 0))
    published, received, lost = under(feed, "published"), keeper["received.0"], keeper["lost.0"]
    parts = [published - sum(feed[name] for name in links), feed["to_keeper"] - received - lost]
    parts.append(received - sum(keeper[name] for name in outcomes))
    terms = {"published": published} | {name: feed[name] for name in links} | {"lost": lost}
    return _identity(parts, terms | {name: keeper[name] for name in outcomes})


def _messages(workers: Sequence[Counts]) -> Identity:
    """Compare messages of HTTP, connections of WebSocket and streams of HTTP/2 with their outcomes."""
    messages = _sums(workers, [f"messages.{name}" for name in ("started", *MESSAGE_OUTCOMES, "open")])
    websockets = _sums(workers, [f"websockets.{name}" for name in ("started", "ended", "open")])
    ended = [f"http2_streams_ended.{name}" for name in HTTP2_STREAM_OUTCOMES]
    streams = _sums(workers, ["http2_streams", *ended, "http2_streams_open"])
    parts = (messages, websockets, streams)
    terms = messages["terms"] | websockets["terms"] | streams["terms"]
    return _identity([part["difference"] for part in parts], terms)


def _feed(workers: Sequence[Counts], feed: Counts) -> Identity:
    parts = []
    for w, page in enumerate(workers):
        for topic in TOPICS:
            events = TopicEvents(page, topic)
            parts.append(events.made - events.sent - events.dropped)
        parts.append(page["events_sent"] - ReceivedLink(feed, w).accounted)
        parts.append(page["events_sent"] - under(page, "sent"))
    published, received = under(feed, "published"), under(feed, "received")
    parts.append(received - published - feed["crash_lost"])
    terms = {name: sum(under(page, name) for page in workers) for name in ("made", "sent", *EVENT_DROPS)}
    terms |= {"received": received, "lost": under(feed, "lost"), "published": published}
    return _identity(parts, terms | {"crash_lost": feed["crash_lost"], "dropped_output": feed["dropped_output"]})


# -- sums ------------------------------------------------------------------------------------------------------------


def _identity(parts: Iterable[int], terms: dict[str, int]) -> Identity:
    parts = list(parts)
    total, magnitude = sum(parts), sum(map(abs, parts))
    return {"difference": total if abs(total) == magnitude else magnitude, "terms": terms}


def _sums(pages: Sequence[Counts], names: list[str], beside: Sequence[str] = ()) -> Identity:
    """Return an identity per page: the first name is the sum of the others. `beside` is only shown."""
    parts = [page[names[0]] - sum(page[name] for name in names[1:]) for page in pages]
    return _identity(parts, {name: _total(pages, [name]) for name in [*names, *beside]})


def _total(pages: Sequence[Counts], names: Sequence[str]) -> int:
    return sum(page[name] for page in pages for name in names)


def _each(pages: Sequence[Counts], group: str) -> dict[str, int]:
    """Return every slot `group.…`, summed over pages."""
    names = dict.fromkeys(name for page in pages for name in page if name.startswith(f"{group}."))
    return {name: _total(pages, [name]) for name in names}
