"""Closing the books of a process that was killed: what its page says came in and never went out is counted as lost.

Pure arithmetic on pages whose writers are at rest. A kill may tear an update of several counters; that is closed in our
disfavour, so that no frame and no event can vanish between two counters."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.stats import (
    DONE,
    EVENT_DROPS,
    LINK_DROPS,
    MESSAGE_OUTCOMES,
    PIPELINE_GAUGES,
    TOPICS,
    Counts,
    Page,
)


def settle(captures: Sequence[Page], workers: Sequence[Page], feed: Page) -> None:
    """The books of a whole run after its last process ended, along the data path; no change when they are closed."""
    for page in captures:
        if page["state"] != DONE:
            close_capture(page, len(workers))
    for w, page in enumerate(workers):
        if page["state"] != DONE:
            for c, capture in enumerate(captures):
                _close_link(capture[f"sent.{w}"], page, c)
            close_worker(page, len(captures))
    if feed["state"] != DONE:
        for w, page in enumerate(workers):
            _close_link(page["events_sent"], feed, w)
        close_feed(feed, len(workers))


def close_capture(page: Page, workers: int) -> None:
    """Frames in batches that were never sent, fragments that were held, frames that were left in the kernel's ring."""
    for worker in range(workers):
        seen = page.snapshot()
        kept = sum(seen[f"{name}.{worker}"] for name in ("sent", *LINK_DROPS))
        _close(page, f"offered.{worker}", kept, f"dropped_crash.{worker}")
    page["fragments.held"] = 0
    _close(page, "rejected.fragment", under(page.snapshot(), "fragments"), "fragments.crash")
    seen = page.snapshot()
    judged = under(seen, "offered") + under(seen, "rejected") + seen["shed_frames"]
    page["reassembled"] = min(seen["reassembled"], judged)
    page["frames"] = judged - page["reassembled"]
    if seen["kernel_received"]:
        taken = page["frames"] + seen["kernel_dropped"] + seen["looped_frames"] + seen["kernel_abandoned"]
        _close(page, "kernel_received", taken, "kernel_abandoned")


def close_worker(page: Page, captures: int) -> None:
    """Frames, bytes, messages, flows and events that died with the process."""
    seen = page.snapshot()
    received = sum(seen[f"received.{c}"] for c in range(captures))
    judged = seen["segments"] + under(seen, "rejected") + seen["quarantined"] + seen["crash_lost"]
    page.add("crash_lost", max(0, received - judged))
    _close(page, "payload_bytes", under(seen, "payload"), "payload.evicted")
    ended = sum(seen[f"messages.{outcome}"] for outcome in MESSAGE_OUTCOMES)
    _close(page, "messages.started", ended, "messages.truncated")
    _close(page, "flows_opened", under(seen, "flows_ended"), "flows_ended.evicted")
    for topic in TOPICS:
        gone = seen[f"sent.{topic}"] + sum(seen[f"{reason}.{topic}"] for reason in EVENT_DROPS)
        _close(page, f"made.{topic}", gone, f"dropped_crash.{topic}")
    page["events_sent"] = under(seen, "sent")
    for name in PIPELINE_GAUGES:
        page[name] = 0


def close_feed(page: Page, workers: int) -> None:
    """Events that were received and not published."""
    seen = page.snapshot()
    received = sum(seen[f"received.{w}"] for w in range(workers))
    page.add("crash_lost", max(0, received - under(seen, "published") - seen["crash_lost"]))


def under(seen: Counts, group: str) -> int:
    """The sum of the slots `group.…`."""
    return sum(value for name, value in seen.items() if name.startswith(f"{group}."))


def _close(page: Page, whole: str, parts: int, lost: str) -> None:
    """Makes `whole` the sum of its parts, by adding to the part `lost` or else to the whole."""
    difference = page[whole] - parts
    page.add(lost, max(0, difference))
    page.add(whole, max(0, -difference))


def _close_link(sent: int, receiver: Page, sender: int) -> None:
    """What was sent and is nowhere now."""
    receiver.add(f"lost.{sender}", max(0, sent - receiver[f"received.{sender}"] - receiver[f"lost.{sender}"]))
