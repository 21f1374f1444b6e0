"""The ledger: seven identities that account for every frame, byte, message and event between the wire and the feed.

Pure: snapshots of the stats pages in, differences out. At rest every difference is 0. While a run goes on a difference
is what is on its way between the two counters (in the kernel's ring, in a batch, on a link, in a pipeline); L1 may then
be negative as well, since the kernel is asked for its counters only once a second.

An identity has parts, one per process or link. Parts of opposite sign must not cancel out: a frame too many on one link
and one too few on another are two errors. Then the difference is the sum of the magnitudes.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from appliance.stats import EVENT_DROPS, LINK_DROPS, MESSAGE_OUTCOMES, PAYLOAD_OUTCOMES, TOPICS, Counts, Pages

TITLES = {
    "L1": "kernel: received by the kernel = read + dropped by it",
    "L2": "capture: read + reassembled = offered to workers + rejected + shed; fragments = sum of their outcomes",
    "L3": "link: offered = sent + dropped; sent = received + lost",
    "L4": "worker: received = segments + rejected + quarantined + lost in a crash",
    "L5": "bytes: payload = delivered + not delivered, by reason",
    "L6": "messages: started = complete + truncated + failed + open",
    "L7": "feed: made = sent + dropped; sent = received + lost; received = published",
}


class Identity(TypedDict):
    """One equation: what it lacks to being true, and the sums it is made of."""

    difference: int
    terms: dict[str, int]


Identities = dict[str, Identity]


def identities(pages: Pages) -> Identities:
    """The seven identities, "L1" to "L7". Pages as they are once everything has ended, or of a running system."""
    return {
        "L1": _kernel(pages.captures),
        "L2": _capture(pages.captures),
        "L3": _link(pages.captures, pages.workers),
        "L4": _worker(pages.captures, pages.workers),
        "L5": _bytes(pages.workers),
        "L6": _messages(pages.workers),
        "L7": _feed(pages.workers, pages.feed),
    }


def unaccounted(found: Mapping[str, Identity]) -> int:
    """0 when every identity is true."""
    return sum(abs(identity["difference"]) for identity in found.values())


def in_flight(found: Mapping[str, Identity]) -> int:
    """Frames that a capture has read and that no counter has judged yet; at least 0."""
    return sum(max(0, found[name]["difference"]) for name in ("L2", "L3", "L4"))


def render(found: Mapping[str, Identity]) -> str:
    """The ledger as plain text for people; reasons that never happened are left out."""
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


def to_json(found: Mapping[str, Identity]) -> bytes:
    """The ledger as a JSON document, one line per term."""
    return (json.dumps({"unaccounted": unaccounted(found), "identities": found}, indent=2) + "\n").encode()


def write(path: Path | str, found: Mapping[str, Identity]) -> None:
    """Leaves `to_json` in a file. Raises OSError."""
    Path(path).write_bytes(to_json(found))


# -- the identities --------------------------------------------------------------------------------------------------


def _kernel(captures: Sequence[Counts]) -> Identity:
    """A capture whose kernel counted nothing reads from a file, or has not asked yet: it takes no part."""
    live = [page for page in captures if page["kernel_received"]]
    names = ("kernel_received", "frames", "kernel_dropped", "kernel_abandoned", "looped_frames")
    parts = [page[names[0]] - sum(page[name] for name in names[1:]) for page in live]
    return _identity(parts, {name: sum(page[name] for page in live) for name in names})


def _capture(captures: Sequence[Counts]) -> Identity:
    """A fragment is rejected by itself, and the datagram that fragments make counts like a frame that was read."""
    parts = []
    for page in captures:
        entered = page["frames"] + page["reassembled"]
        parts.append(entered - _under(page, "offered") - _under(page, "rejected") - page["shed_frames"])
        parts.append(page["rejected.fragment"] - _under(page, "fragments"))
    terms = {name: _total(captures, [name]) for name in ("frames", "reassembled")}
    terms["offered"] = sum(_under(page, "offered") for page in captures)
    terms["shed_frames"] = _total(captures, ["shed_frames"])
    return _identity(parts, terms | _each(captures, "rejected") | _each(captures, "fragments"))


def _link(captures: Sequence[Counts], workers: Sequence[Counts]) -> Identity:
    parts = []
    for c, capture in enumerate(captures):
        for w, worker in enumerate(workers):
            dropped = sum(capture[f"{reason}.{w}"] for reason in LINK_DROPS)
            parts.append(capture[f"offered.{w}"] - capture[f"sent.{w}"] - dropped)
            parts.append(capture[f"sent.{w}"] - worker[f"received.{c}"] - worker[f"lost.{c}"])
    terms = {name: sum(_under(page, name) for page in captures) for name in ("offered", "sent", *LINK_DROPS)}
    return _identity(
        parts, terms | {name: sum(_under(page, name) for page in workers) for name in ("received", "lost")}
    )


def _worker(captures: Sequence[Counts], workers: Sequence[Counts]) -> Identity:
    parts = [
        sum(page[f"received.{c}"] for c in range(len(captures)))
        - page["segments"]
        - _under(page, "rejected")
        - page["quarantined"]
        - page["crash_lost"]
        for page in workers
    ]
    terms = {"received": sum(_under(page, "received") for page in workers)}
    terms["segments"] = _total(workers, ["segments"])
    lost = {name: _total(workers, [name]) for name in ("quarantined", "crash_lost")}
    return _identity(parts, terms | _each(workers, "rejected") | lost)


def _bytes(workers: Sequence[Counts]) -> Identity:
    names = ["payload_bytes", *(f"payload.{outcome}" for outcome in PAYLOAD_OUTCOMES), "pending_bytes"]
    return _sums(workers, names, beside=["gap_bytes"])


def _messages(workers: Sequence[Counts]) -> Identity:
    return _sums(workers, [f"messages.{name}" for name in ("started", *MESSAGE_OUTCOMES, "open")])


def _feed(workers: Sequence[Counts], feed: Counts) -> Identity:
    parts = []
    for w, page in enumerate(workers):
        for topic in TOPICS:
            dropped = sum(page[f"{reason}.{topic}"] for reason in EVENT_DROPS)
            parts.append(page[f"made.{topic}"] - page[f"sent.{topic}"] - dropped)
        parts.append(page["events_sent"] - feed[f"received.{w}"] - feed[f"lost.{w}"])
        parts.append(page["events_sent"] - _under(page, "sent"))
    published, received = _under(feed, "published"), _under(feed, "received")
    parts.append(received - published - feed["crash_lost"])
    terms = {name: sum(_under(page, name) for page in workers) for name in ("made", "sent", *EVENT_DROPS)}
    terms |= {"received": received, "lost": _under(feed, "lost"), "published": published}
    return _identity(parts, terms | {"crash_lost": feed["crash_lost"], "dropped_output": feed["dropped_output"]})


# -- sums ------------------------------------------------------------------------------------------------------------


def _identity(parts: Iterable[int], terms: dict[str, int]) -> Identity:
    parts = list(parts)
    total, magnitude = sum(parts), sum(map(abs, parts))
    return {"difference": total if abs(total) == magnitude else magnitude, "terms": terms}


def _sums(pages: Sequence[Counts], names: list[str], beside: Sequence[str] = ()) -> Identity:
    """On every page: the first is the sum of the others. `beside` is shown and takes no part."""
    parts = [page[names[0]] - sum(page[name] for name in names[1:]) for page in pages]
    return _identity(parts, {name: _total(pages, [name]) for name in [*names, *beside]})


def _total(pages: Sequence[Counts], names: Sequence[str]) -> int:
    return sum(page[name] for page in pages for name in names)


def _under(page: Counts, group: str) -> int:
    """The sum of the slots `group.…`; "received" is not "received_bytes"."""
    return sum(value for name, value in page.items() if name.startswith(f"{group}."))


def _each(pages: Sequence[Counts], group: str) -> dict[str, int]:
    """Every slot `group.…`, summed over pages."""
    names = dict.fromkeys(name for page in pages for name in page if name.startswith(f"{group}."))
    return {name: _total(pages, [name]) for name in names}
