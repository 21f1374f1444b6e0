"""Reconcile the counters of a process after a crash: frames and events without an outcome become counted losses.

The module only calculates, on pages whose writers are at rest. A crash may interrupt a multi-counter update. Any
discrepancy is booked as loss, so no frame or event disappears from the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from appliance.stats.links import ReceivedLink, SentLink, TopicEvents
from appliance.stats.names import DONE, MESSAGE_OUTCOMES, SPOKEN, TOPICS
from appliance.stats.page import Page
from appliance.stats.pipeline_counters import PIPELINE_GAUGES
from appliance.stats.received_counters import ReceivedCounters
from appliance.stats.snapshot import under


def settle(
    captures: Sequence[Page],
    workers: Sequence[Page],
    feed: Page,
    recorder: Page | None = None,
    files: Page | None = None,
    keeper: Page | None = None,
) -> None:
    """Reconcile the pages of a whole run after its last process ended, along the data path.

    Pages without a discrepancy do not change.
    """
    for page in captures:
        if page["state"] != DONE:
            close_capture(page, len(workers))
    for w, page in enumerate(workers):
        if page["state"] != DONE:
            for c, capture in enumerate(captures):
                _close_link(SentLink(capture, w).sent, page, c)
            close_worker(page, len(captures))
    if recorder is not None and recorder["state"] != DONE:
        for c, capture in enumerate(captures):
            _close_link(capture["to_recorder"], recorder, c)
        close_recorder(recorder)
    if files is not None and files["state"] != DONE:
        for w, page in enumerate(workers):
            _close_link(page["files_sent"], files, w)
        close_files(files)
    if feed["state"] != DONE:
        for w, page in enumerate(workers):
            _close_link(page["events_sent"], feed, w)
        close_feed(feed, len(workers))
    if keeper is not None and keeper["state"] != DONE:
        _close_link(feed["to_keeper"], keeper, 0)
        close_keeper(keeper)


def close_capture(page: Page, workers: int) -> None:
    """Book unsent frames of batches, held fragments, and frames left in the kernel's ring as losses."""
    for worker in range(workers):
        link = SentLink(page.snapshot(), worker)
        _close(page, f"offered.{worker}", link.sent + link.dropped, f"dropped_crash.{worker}")
    if "to_recorder" in page.names:
        seen = page.snapshot()
        page.add("past_recorder", max(0, under(seen, "sent") - seen["to_recorder"] - seen["past_recorder"]))
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
    """Book the frames, bytes, messages, flows and events that died with the process as losses."""
    seen = page.snapshot()
    received = sum(ReceivedLink(seen, c).received for c in range(captures))
    read = seen["segments"] + under(seen, "quic_datagrams") + seen["udp_datagrams"]
    judged = read + under(seen, "rejected") + seen["quarantined"] + seen["crash_lost"]
    page.add("crash_lost", max(0, received - judged))
    _close(page, "payload_bytes", under(seen, "payload"), "payload.evicted")
    flows = under(seen, "flow_payload") - seen["udp_payload_bytes"]
    _close(page, "payload_bytes", flows, "flow_payload.crash")
    _close(page, "tls_seen_bytes", under(seen, "tls_bytes"), "tls_bytes.crash")
    _close(page, "payload_bytes", under(page.snapshot(), "payload"), "payload.evicted")  # it may have grown
    ended = sum(seen[f"messages.{outcome}"] for outcome in MESSAGE_OUTCOMES)
    _close(page, "messages.started", ended, "messages.truncated")
    _close(page, "websockets.started", seen["websockets.ended"], "websockets.ended")
    _close(page, "http2_streams", under(seen, "http2_streams_ended"), "http2_streams_ended.crash")
    _close(page, "flows_opened", under(seen, "flows_ended"), "flows_ended.evicted")
    for kind in SPOKEN[1:]:
        page.add(f"connections.{kind}", seen[f"connections_open.{kind}"])
    seen = page.snapshot()
    page.add("connections.silent", max(0, under(seen, "flows_ended") - under(seen, "connections")))
    for topic in TOPICS:
        events = TopicEvents(seen, topic)
        _close(page, f"made.{topic}", events.sent + events.dropped, f"dropped_crash.{topic}")
    page["events_sent"] = under(seen, "sent")
    for name in PIPELINE_GAUGES:
        page[name] = 0
    if "files_offered" in page.names:
        _close(page, "files_offered", page["files_sent"] + under(seen, "files_left_out"), "files_left_out.crash")
        page["files_open"] = 0


def close_feed(page: Page, workers: int) -> None:
    """Book events received but not published as losses."""
    seen = page.snapshot()
    received = sum(ReceivedLink(seen, w).received for w in range(workers))
    page.add("crash_lost", max(0, received - under(seen, "published") - seen["crash_lost"]))
    if "to_keeper" in page.names:
        page.add("past_keeper", max(0, under(seen, "published") - seen["to_keeper"] - seen["past_keeper"]))


def close_recorder(page: Page) -> None:
    """Book frames received and not recorded as losses."""
    seen = page.snapshot()
    page.add("crash_lost", max(0, under(seen, "received") - recorder_outcomes(seen)))


def recorder_outcomes(seen: Mapping[str, int]) -> int:
    """Return the frames that the recorder has accounted for."""
    return seen["recorded"] + under(seen, "left_out") + seen["crash_lost"]


def close_keeper(page: Page) -> None:
    """Book events received and without an outcome as losses."""
    page["waiting"] = 0
    seen = page.snapshot()
    outcomes = seen["unmatched"] + seen["kept"] + under(seen, "left_out") + seen["crash_lost"]
    page.add("crash_lost", max(0, under(seen, "received") - outcomes))


def close_files(page: Page) -> None:
    """Book bodies received and without an outcome as losses."""
    seen = page.snapshot()
    outcomes = seen["kept"] + seen["duplicates"] + under(seen, "left_out") + seen["crash_lost"]
    page.add("crash_lost", max(0, under(seen, "received") - outcomes))


def _close(page: Page, whole: str, parts: int, lost: str) -> None:
    """Make `whole` the sum of its parts: add the difference to the part `lost`, or else to the whole."""
    difference = page[whole] - parts
    page.add(lost, max(0, difference))
    page.add(whole, max(0, -difference))


def _close_link(sent: int, receiver: Page, sender: int) -> None:
    """Book messages sent but not received as losses of the link."""
    ReceivedCounters(receiver, sender).close_gap(sent)
