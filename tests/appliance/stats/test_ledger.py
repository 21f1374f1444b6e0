"""The ledger: any consistent flow closes to 0, and one thing missing anywhere is seen."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.stats import layout, ledger
from appliance.stats import names as stats

VERDICTS = ("truncated", "not_ip", "fragment", "not_tcp")
COUNT = st.integers(min_value=0, max_value=2**40)


@dataclass
class Pages:
    captures: list[dict[str, int]]
    workers: list[dict[str, int]]
    feed: dict[str, int]
    supervisor: dict[str, int]
    recorder: dict[str, int] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    keeper: dict[str, int] = field(default_factory=dict)


def still(captures: int = 1, workers: int = 1) -> Pages:
    """A run in which nothing has happened."""
    return Pages(
        [dict.fromkeys(layout.capture_layout(workers, VERDICTS, recording=True), 0) for _ in range(captures)],
        [dict.fromkeys(layout.worker_layout(captures), 0) for _ in range(workers)],
        dict.fromkeys(layout.feed_layout(workers), 0),
        dict.fromkeys(layout.supervisor_layout(workers, captures), 0),
    )


def flow_frames(pages: Pages, count: Any) -> None:
    """Frames from the kernel to the segments: each part is drawn, each whole is the sum of its parts."""
    for c, capture in enumerate(pages.captures):
        for verdict in VERDICTS:
            capture[f"rejected.{verdict}"] = count()
        fragments = {f"fragments.{name}": count() for name in (*stats.FRAGMENT_OUTCOMES, "held")}
        capture |= fragments
        capture["rejected.fragment"] = sum(fragments.values())
        for w, worker in enumerate(pages.workers):
            worker[f"received.{c}"], worker[f"lost.{c}"] = count(), count()
            capture[f"sent.{w}"] = worker[f"received.{c}"] + worker[f"lost.{c}"]
            dropped = {f"{reason}.{w}": count() for reason in stats.LINK_DROPS}
            capture |= dropped
            capture[f"offered.{w}"] = capture[f"sent.{w}"] + sum(dropped.values())
        capture["shed_frames"] = count()
        judged = capture["shed_frames"] + sum(capture[f"rejected.{verdict}"] for verdict in VERDICTS)
        judged += sum(capture[f"offered.{w}"] for w in range(len(pages.workers)))
        capture["reassembled"] = min(count(), judged)
        capture["frames"] = judged - capture["reassembled"]
        lost = {name: count() for name in ("kernel_dropped", "kernel_abandoned", "looped_frames")}
        capture |= lost
        capture["kernel_received"] = capture["frames"] + sum(lost.values())
    for worker in pages.workers:
        received = sum(worker[f"received.{c}"] for c in range(len(pages.captures)))
        for name in ("rejected.bad_header", "rejected.no_connection", "crash_lost"):
            worker[name] = min(count(), received)
            received -= worker[name]
        worker["segments"] = received


def flow_payload(pages: Pages, count: Any) -> None:
    """Bytes, messages and events, made and moved on to the feed."""
    for w, worker in enumerate(pages.workers):
        parts = [*(f"payload.{outcome}" for outcome in stats.PAYLOAD_OUTCOMES), "pending_bytes"]
        worker |= {name: count() for name in parts}
        worker["payload_bytes"] = sum(worker[name] for name in parts)
        worker["gap_bytes"] = count()
        left = worker["payload_bytes"]
        for name in ("flow_payload.reported", "flow_payload.refused", "flow_payload.crash", "flow_open_bytes"):
            worker[name] = min(count(), left)
            left -= worker[name]
        worker["flow_payload.off"] = left
        ends = [f"messages.{end}" for end in (*stats.MESSAGE_OUTCOMES, "open")]
        worker |= {name: count() for name in ends}
        worker["messages.started"] = sum(worker[name] for name in ends)
        for topic in stats.TOPICS:
            parts = [f"{name}.{topic}" for name in ("sent", *stats.EVENT_DROPS)]
            worker |= {name: count() for name in parts}
            worker[f"made.{topic}"] = sum(worker[name] for name in parts)
        worker["events_sent"] = sum(worker[f"sent.{topic}"] for topic in stats.TOPICS)
        pages.feed[f"lost.{w}"] = min(count(), worker["events_sent"])
        pages.feed[f"received.{w}"] = worker["events_sent"] - pages.feed[f"lost.{w}"]
    received = sum(pages.feed[f"received.{w}"] for w in range(len(pages.workers)))
    pages.feed["crash_lost"] = min(count(), received)
    pages.feed["published.http.2xx."] = received - pages.feed["crash_lost"]


@st.composite
def runs(draw: st.DrawFn, workers: int = 0) -> Pages:
    """A run at rest, of any size, in which anything may have been lost anywhere."""
    pages = still(draw(st.integers(1, 3)), workers or draw(st.integers(1, 3)))
    flow_frames(pages, lambda: draw(COUNT))
    flow_payload(pages, lambda: draw(COUNT))
    return pages


def terms_of(pages: Pages) -> list[tuple[dict[str, int], str]]:
    """Every counter that an identity uses and that is not 0."""
    every = [*pages.captures, *pages.workers, pages.feed]
    return [(page, name) for page in every for name, value in page.items() if value and name != "gap_bytes"]


@given(runs())
def test_any_consistent_flow_closes_to_zero(pages):
    found = ledger.identities(pages)
    assert {name: identity["difference"] for name, identity in found.items()} == dict.fromkeys(ledger.TITLES, 0)
    assert ledger.unaccounted(found) == 0


@given(runs(), st.data())
def test_one_missing_anywhere_is_seen(pages, data):
    counters = terms_of(pages)
    if not counters:
        return
    page, name = data.draw(st.sampled_from(counters))
    page[name] -= 1
    if name == "kernel_received" and page[name] == 0:
        return  # a kernel that counted nothing is a file
    assert ledger.unaccounted(ledger.identities(pages)) > 0, name


@given(runs(workers=2), st.data())
def test_what_one_worker_lacks_does_not_make_up_for_what_another_has_too_much(pages, data):
    poor, rich = pages.workers
    name = data.draw(st.sampled_from([name for page, name in terms_of(pages) if page is poor] or ["gaps"]))
    if name == "gaps":
        return
    poor[name] -= 1
    rich[name] += 1
    assert ledger.unaccounted(ledger.identities(pages)) > 0, name


# -- while running -----------------------------------------------------------------------------------------------------


def test_what_is_on_its_way_is_the_difference_and_positive():
    pages = still()
    pages.captures[0] |= {"frames": 10, "offered.0": 10, "sent.0": 7}
    pages.workers[0] |= {"received.0": 4, "segments": 3}
    found = ledger.identities(pages)
    assert [found[name]["difference"] for name in ("L2", "L3", "L4")] == [0, 6, 1]
    assert ledger.in_flight(found) == 7


def test_frames_on_the_wrong_link_are_two_errors():
    pages = still(workers=2)
    pages.captures[0] |= {"frames": 2, "offered.0": 1, "sent.0": 1, "offered.1": 1, "sent.1": 1}
    pages.workers[0] |= {"received.0": 2, "segments": 2}
    found = ledger.identities(pages)
    assert found["L3"]["difference"] == 2


def test_in_flight_is_never_negative():
    pages = still()
    pages.workers[0]["received.0"] = 5
    pages.workers[0]["segments"] = 5
    assert ledger.in_flight(ledger.identities(pages)) == 0


# -- fragments ---------------------------------------------------------------------------------------------------------


def test_a_datagram_made_of_fragments_counts_like_a_frame():
    pages = still()
    pages.captures[0] |= {"frames": 3, "rejected.fragment": 3, "fragments.merged": 3, "reassembled": 1, "offered.0": 1}
    found = ledger.identities(pages)
    assert found["L2"]["difference"] == 0
    assert "reassembled 1" in ledger.render(found)


def test_frames_of_connections_left_out_are_accounted_for():
    pages = still()
    pages.captures[0] |= {"frames": 3, "shed_frames": 2, "offered.0": 1, "sent.0": 1}
    pages.workers[0] |= {"received.0": 1, "segments": 1}
    found = ledger.identities(pages)
    assert ledger.unaccounted(found) == 0
    assert "shed_frames 2" in ledger.render(found)


def test_fragments_that_are_held_are_accounted_for():
    pages = still()
    pages.captures[0] |= {"frames": 3, "rejected.fragment": 3, "fragments.timeout": 1, "fragments.held": 2}
    assert ledger.identities(pages)["L2"]["difference"] == 0


def test_a_fragment_without_an_outcome_is_seen():
    pages = still()
    pages.captures[0] |= {"frames": 3, "rejected.fragment": 3, "fragments.merged": 2}
    assert ledger.identities(pages)["L2"]["difference"] == 1


# -- the kernel --------------------------------------------------------------------------------------------------------


def test_a_file_has_no_kernel():
    pages = still()
    pages.captures[0] |= {"frames": 3, "rejected.not_tcp": 3}
    assert ledger.identities(pages)["L1"]["difference"] == 0


def test_frames_the_kernel_dropped_are_accounted():
    pages = still()
    pages.captures[0] |= {"kernel_received": 10, "kernel_dropped": 7, "frames": 3, "rejected.not_tcp": 3}
    assert ledger.unaccounted(ledger.identities(pages)) == 0


def test_frames_the_interface_dropped_never_reached_the_kernel():
    pages = still()
    pages.captures[0] |= {"kernel_received": 3, "kernel_if_dropped": 7, "frames": 3, "rejected.not_tcp": 3}
    assert ledger.unaccounted(ledger.identities(pages)) == 0


def test_events_that_the_output_did_not_take_are_published_all_the_same():
    pages = still()
    pages.workers[0] |= {"made.http.2xx.": 4, "sent.http.2xx.": 4, "events_sent": 4}
    pages.feed |= {"received.0": 4, "published.http.2xx.": 4, "dropped_output": 4}
    found = ledger.identities(pages)
    assert ledger.unaccounted(found) == 0
    assert found["L7"]["terms"]["dropped_output"] == 4


# -- for people and programs -------------------------------------------------------------------------------------------


def test_a_closed_ledger_says_so_in_words():
    text = ledger.render(ledger.identities(still()))
    assert text.endswith("ledger closed: nothing is unaccounted for")
    assert "OPEN" not in text


def test_an_open_ledger_says_where_and_by_how_much():
    pages = still()
    pages.captures[0] |= {"frames": 1234, "rejected.not_tcp": 0}
    text = ledger.render(ledger.identities(pages))
    assert "L2 OPEN BY 1,234" in text
    assert "LEDGER OPEN: 1,234 unaccounted for" in text


def test_a_reason_that_happened_is_shown_and_one_that_did_not_is_not():
    pages = still()
    pages.captures[0] |= {"frames": 5, "rejected.not_tcp": 5}
    text = ledger.render(ledger.identities(pages))
    assert "rejected.not_tcp 5" in text
    assert "rejected.not_ip" not in text


@pytest.mark.parametrize("missing", [0, 3])
def test_the_file_holds_the_total_and_every_term(missing):
    pages = still()
    pages.captures[0] |= {"frames": 5 + missing, "rejected.not_tcp": 5}
    written = json.loads(ledger.to_json(ledger.identities(pages)))
    assert written["unaccounted"] == missing
    assert written["identities"]["L2"]["difference"] == missing
    assert written["identities"]["L2"]["terms"] == {
        "frames": 5 + missing, "reassembled": 0, "offered": 0, "shed_frames": 0, "rejected.truncated": 0,
        "rejected.not_ip": 0, "rejected.fragment": 0, "rejected.not_tcp": 5,
        **{f"fragments.{name}": 0 for name in (*stats.FRAGMENT_OUTCOMES, "held")},
    }  # fmt: skip


@given(*[COUNT] * 5)
def test_recorded_frames_are_those_that_workers_got(recorded, behind, disk, past, lost):
    pages = still()
    capture = pages.captures[0]
    pages.recorder = dict.fromkeys(layout.recorder_layout(1), 0)
    pages.recorder |= {"recorded": recorded, "left_out.behind": behind, "left_out.disk": disk, "lost.0": lost}
    pages.recorder["received.0"] = recorded + behind + disk
    capture |= {"to_recorder": recorded + behind + disk + lost, "past_recorder": past}
    capture["sent.0"] = recorded + behind + disk + lost + past
    assert ledger.identities(pages)["L9"]["difference"] == 0
    pages.recorder["recorded"] += 1
    assert abs(ledger.identities(pages)["L9"]["difference"]) == 1


@given(*[COUNT] * 7)
def test_bodies_of_a_wanted_type_have_one_outcome(kept, duplicates, disk, missing, still_open, lost, crashed):
    pages = still()
    worker = dict.fromkeys(layout.worker_layout(1, files=True), 0)
    sent = kept + duplicates + disk + crashed + lost
    worker |= {"files_offered": sent + missing + still_open, "files_sent": sent, "files_open": still_open}
    worker["files_left_out.missing"] = missing
    pages.workers = [worker]
    pages.files = dict.fromkeys(layout.files_layout(1), 0) | {"kept": kept, "duplicates": duplicates}
    pages.files |= {"left_out.disk": disk, "crash_lost": crashed, "lost.0": lost, "received.0": sent - lost}
    assert ledger.identities(pages)["L11"]["difference"] == 0
    pages.files["kept"] += 1
    assert abs(ledger.identities(pages)["L11"]["difference"]) == 1


@given(*[COUNT] * 7)
def test_copied_events_have_one_outcome(unmatched, kept, gone, waiting, crashed, lost, past):
    pages = still()
    received = unmatched + kept + gone + waiting + crashed
    pages.keeper = dict.fromkeys(layout.keeper_layout(), 0) | {"unmatched": unmatched, "kept": kept}
    pages.keeper |= {"left_out.not_in_ring": gone, "waiting": waiting, "crash_lost": crashed}
    pages.keeper |= {"received.0": received, "lost.0": lost}
    pages.feed = dict.fromkeys(layout.feed_layout(1, keeping=True), 0) | {"published.http.2xx.": received + lost + past}
    pages.feed |= {"to_keeper": received + lost, "past_keeper": past}
    assert ledger.identities(pages)["L12"]["difference"] == 0
    pages.keeper["kept"] += 1
    assert abs(ledger.identities(pages)["L12"]["difference"]) == 1
