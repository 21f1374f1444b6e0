"""Every metric: its name, type, help and labels, and how its values follow from the stats pages.

Pure: a `MetricsInput` of the run in, samples out; collector.py turns them into the text that Prometheus reads. No label
value comes from traffic, and every series is there from the start, so that rate() and alerts see the first loss.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from appliance.config.schema import Config
from appliance.stats import ledger
from appliance.stats.names import (
    BLIND,
    DIRECTIONS,
    DRAINING,
    EVENT_DROPS,
    FENCES_OF,
    FILES_LEFT_OUT,
    FILES_REFUSED,
    FILES_REMOVED,
    FRAGMENT_OUTCOMES,
    KEYLOG_LINES,
    LINK_DROPS,
    LOG_REASONS,
    QUIC_OUTCOMES,
    READY,
    RECORD_LEFT_OUT,
    REFUSALS,
    RELOADS,
    REPLAY_RESULTS,
    RESPONSE_BUCKETS_S,
    SEGMENT_VERDICTS,
    TOPICS,
)
from appliance.stats.pipeline_counters import COUNTERS
from appliance.stats.snapshot import Counts, Pages, keepers

PREFIX = "appliance_"


class Process(NamedTuple):
    """One process of the run, as the operating system sees it now; all 0 when it is not running."""

    name: str  # "capture-0", "worker-1", "feed", "supervisor"
    alive: bool
    cpu_s: float  # of all its lives in this run
    rss_bytes: int
    progress_age_s: float


class MetricsInput(NamedTuple):
    """The input of the metrics, at one moment."""

    config: Config
    pages: Pages
    processes: Sequence[Process]
    version: str
    python: str

    def alive(self, name: str) -> bool:
        return any(process.alive for process in self.processes if process.name == name)

    def up(self, name: str, page: Counts) -> int:
        """Return whether it is running, ready and without error."""
        return int(self.alive(name) and page["state"] in (READY, DRAINING) and not page["error"])


class Histogram(NamedTuple):
    """Counts per bucket, not cumulative, the last bucket being infinite; and the sum of all values."""

    buckets: Sequence[tuple[str, int]]
    total: float


Rows = Iterable[tuple[Sequence[str], float]]  # label values, value


class Family(NamedTuple):
    """One metric. `rows` gives its samples; `histogram` instead, for a histogram."""

    name: str  # without prefix, and without _total
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Sequence[str] = ()
    rows: Callable[[MetricsInput], Rows] | None = None
    histogram: Callable[[MetricsInput], Histogram] | None = None


# -- shapes: where the label values come from ------------------------------------------------------------------------


def _interfaces(view: MetricsInput) -> Iterator[tuple[str, Counts]]:
    return zip(view.config.interface_names, view.pages.captures, strict=True)


def _by_interface(slot: str, scale: float = 1) -> Callable[[MetricsInput], Rows]:
    return lambda view: [([name], page[slot] * scale) for name, page in _interfaces(view)]


def _by_worker(slot: str, scale: float = 1) -> Callable[[MetricsInput], Rows]:
    return lambda view: [([str(w)], page[slot] * scale) for w, page in enumerate(view.pages.workers)]


def _by_worker_and(group: str, values: Sequence[str]) -> Callable[[MetricsInput], Rows]:
    return lambda view: [
        ([str(w), value], page[f"{group}.{value}"]) for w, page in enumerate(view.pages.workers) for value in values
    ]


def _by_topic(slot: str) -> Callable[[MetricsInput], Rows]:
    return lambda view: [([topic], view.pages.feed[f"{slot}.{topic}"]) for topic in TOPICS]


def _feed(slot: str) -> Callable[[MetricsInput], Rows]:
    return lambda view: [([], view.pages.feed[slot])]


def _one(value: Callable[[MetricsInput], float]) -> Callable[[MetricsInput], Rows]:
    return lambda view: [([], value(view))]


def _by_process(value: Callable[[Process], float]) -> Callable[[MetricsInput], Rows]:
    return lambda view: [([process.name], value(process)) for process in view.processes]


# -- what takes more than one slot -----------------------------------------------------------------------------------


def _build_info(view: MetricsInput) -> Rows:
    yield [view.version, view.python], 1


def _capture_dropped(view: MetricsInput) -> Rows:
    for name, page in _interfaces(view):
        yield [name, "nic"], page["kernel_if_dropped"]
        yield [name, "kernel"], page["kernel_dropped"]
        yield [name, "abandoned"], page["kernel_abandoned"]


def _verdicts(page: Counts) -> Iterator[tuple[str, int]]:
    return ((name.partition(".")[2], count) for name, count in page.items() if name.startswith("rejected."))


def _capture_rejected(view: MetricsInput) -> Rows:
    return [([name, verdict], n) for name, page in _interfaces(view) for verdict, n in _verdicts(page)]


def _fragments(view: MetricsInput) -> Rows:
    return [
        ([name, outcome], page[f"fragments.{outcome}"])
        for name, page in _interfaces(view)
        for outcome in FRAGMENT_OUTCOMES
    ]


def _blind(view: MetricsInput) -> Rows:
    return [([name, why], page[f"blind_ns.{why}"] * 1e-9) for name, page in _interfaces(view) for why in BLIND]


def _outcomes(view: MetricsInput) -> Rows:
    """Count each frame that a capture read or reassembled under exactly one outcome, unless it is in flight."""
    captures = view.pages.captures
    for verdict in dict.fromkeys(verdict for page in captures for verdict, _ in _verdicts(page)):
        yield ["capture", verdict, ""], sum(page[f"rejected.{verdict}"] for page in captures)
    yield ["capture", "shed", ""], sum(page["shed_frames"] for page in captures)
    for w, worker in enumerate(view.pages.workers):
        for reason in LINK_DROPS:
            yield ["link", reason, str(w)], sum(page[f"{reason}.{w}"] for page in captures)
        yield ["link", "lost", str(w)], sum(worker[f"lost.{c}"] for c in range(len(captures)))
        for verdict in SEGMENT_VERDICTS:
            yield ["worker", verdict, str(w)], worker[f"rejected.{verdict}"]
        quic = sum(worker[f"quic_datagrams.{outcome}"] for outcome in QUIC_OUTCOMES)
        yield ["worker", "quic", str(w)], quic
        yield ["worker", "quarantined", str(w)], worker["quarantined"]
        yield ["worker", "crash_lost", str(w)], worker["crash_lost"]
        yield ["worker", "segment", str(w)], worker["segments"]


def _unaccounted(view: MetricsInput) -> Rows:
    return [([name], identity["difference"]) for name, identity in ledger.identities(view.pages).items()]


def _sent(slot: str) -> Callable[[MetricsInput], Rows]:
    """Sum a slot over all captures, per worker."""
    return lambda view: [
        ([str(w)], sum(page[f"{slot}.{w}"] for page in view.pages.captures)) for w in range(len(view.pages.workers))
    ]


def _shed_ratio(view: MetricsInput) -> Rows:
    """Return the shed ratio by worker: the largest of its captures, which all of them apply."""
    captures = view.pages.captures
    return [([str(w)], max(page[f"shed_steps.{w}"] for page in captures) / 256) for w in range(len(view.pages.workers))]


def _queue(view: MetricsInput) -> Rows:
    captures = view.pages.captures
    for w, worker in enumerate(view.pages.workers):
        arrived = sum(worker[f"received.{c}"] + worker[f"lost.{c}"] for c in range(len(captures)))
        yield [str(w)], max(0, sum(page[f"sent.{w}"] for page in captures) - arrived)


def _response_duration(view: MetricsInput) -> Histogram:
    workers = view.pages.workers
    slots = [(bound, f"response_seconds.le.{bound}") for bound in RESPONSE_BUCKETS_S]
    buckets = [
        ("+Inf" if bound == "inf" else str(float(bound)), sum(page[slot] for page in workers)) for bound, slot in slots
    ]
    return Histogram(buckets, sum(page["response_seconds.sum_ns"] for page in workers) / 1e9)


def _body_bytes(view: MetricsInput) -> Rows:
    for direction in DIRECTIONS:
        yield [direction], sum(page[f"body_bytes.{direction}"] for page in view.pages.workers)


def _feed_dropped(view: MetricsInput) -> Rows:
    """Count unpublished events, by topic if known; losses of a link or a crash have none."""
    feed, workers = view.pages.feed, view.pages.workers
    for topic in TOPICS:
        for reason, drop in zip(("backlog", "memory", "connection_share", "worker_crash"), EVENT_DROPS, strict=True):
            yield [topic, reason], sum(page[f"{drop}.{topic}"] for page in workers)
    yield ["", "link_lost"], sum(feed[f"lost.{w}"] for w in range(len(workers)))
    yield ["", "feed_crash"], feed["crash_lost"]


def _made(view: MetricsInput) -> Rows:
    return [([topic], sum(page[f"made.{topic}"] for page in view.pages.workers)) for topic in TOPICS]


def _feed_queue(view: MetricsInput) -> float:
    feed, workers = view.pages.feed, view.pages.workers
    return max(0, sum(p["events_sent"] - feed[f"received.{w}"] - feed[f"lost.{w}"] for w, p in enumerate(workers)))


def _refused(view: MetricsInput) -> Rows:
    return [([reason], view.pages.feed[f"refused.{reason}"]) for reason in REFUSALS]


def _replays(view: MetricsInput) -> Rows:
    return [([result], view.pages.feed[f"replay_{result}"]) for result in REPLAY_RESULTS]


def _sandbox(view: MetricsInput) -> Rows:
    pages = view.pages
    named = [(f"capture-{c}", page) for c, page in enumerate(pages.captures)]
    named += [(f"worker-{w}", page) for w, page in enumerate(pages.workers)]
    named += [("feed", pages.feed), *keepers(pages)]
    for name, page in [("supervisor", pages.supervisor), *named]:
        for fence in FENCES_OF[name.partition("-")[0]]:
            yield [name, fence], page[f"sandbox.{fence}"]


def _capture_up(view: MetricsInput) -> Rows:
    return [([name], view.up(f"capture-{c}", page)) for c, (name, page) in enumerate(_interfaces(view))]


def _worker_up(view: MetricsInput) -> Rows:
    return [([str(w)], view.up(f"worker-{w}", page)) for w, page in enumerate(view.pages.workers)]


def _capture_restarts(view: MetricsInput) -> Rows:
    return [([n], view.pages.supervisor[f"restarts.capture.{c}"]) for c, (n, _) in enumerate(_interfaces(view))]


def _worker_restarts(view: MetricsInput) -> Rows:
    return [([str(w)], view.pages.supervisor[f"restarts.worker.{w}"]) for w in range(len(view.pages.workers))]


def _restarts(view: MetricsInput) -> Rows:
    for slot, count in view.pages.supervisor.items():
        group, _, child = slot.partition(".")
        if group == "restarts":
            hung = view.pages.supervisor[f"hung.{child}"]
            yield [child.replace(".", "-"), "died"], count - hung
            yield [child.replace(".", "-"), "hung"], hung


def _children(view: MetricsInput) -> list[Counts]:
    pages = view.pages
    return [*pages.captures, *pages.workers, pages.feed, *(page for _, page in keepers(pages))]


def _file(slot: str, scale: float = 1) -> Callable[[MetricsInput], Rows]:
    """Return a slot of the files process; 0 without one."""
    return lambda view: [([], view.pages.files.get(slot, 0) * scale)]


def _files_left_out(view: MetricsInput) -> Rows:
    files, workers = view.pages.files, view.pages.workers
    crashed = sum(page.get("files_left_out.crash", 0) for page in workers) + files.get("crash_lost", 0)
    for why in FILES_LEFT_OUT:
        if why != "crash":
            yield [why], sum(page.get(f"files_left_out.{why}", 0) for page in workers)
    for why in FILES_REFUSED:
        yield [why], files.get(f"left_out.{why}", 0)
    yield ["crash"], crashed + sum(files.get(f"lost.{w}", 0) for w in range(len(workers)))


def _record(slot: str, scale: float = 1) -> Callable[[MetricsInput], Rows]:
    """Return a slot of the recorder; 0 without one."""
    return lambda view: [([], view.pages.recorder.get(slot, 0) * scale)]


def _not_recorded(view: MetricsInput) -> Rows:
    recorder, captures = view.pages.recorder, view.pages.captures
    for reason in RECORD_LEFT_OUT:
        yield [reason], recorder.get(f"left_out.{reason}", 0)
    yield ["link"], sum(page.get("past_recorder", 0) for page in captures)
    yield ["crash"], recorder.get("crash_lost", 0) + sum(recorder.get(f"lost.{c}", 0) for c in range(len(captures)))


def _log(slot: str) -> Callable[[MetricsInput], Rows]:
    """Sum a slot over all processes."""

    def rows(view: MetricsInput) -> Rows:
        pages = [*_children(view), view.pages.supervisor]
        return [([reason], sum(page[f"{slot}.{reason}"] for page in pages)) for reason in LOG_REASONS]

    return rows


def _generation(view: MetricsInput) -> float:
    """Return the generation in force everywhere; children apply a new one within a turn of their loops."""
    started = (page for page in _children(view) if page["starts"])
    return min(page["generation"] for page in (view.pages.supervisor, *started))


def _reloads(view: MetricsInput) -> Rows:
    return [([result], view.pages.supervisor[f"reloads.{result}"]) for result in RELOADS]


def _keylog_lines(view: MetricsInput) -> Rows:
    return [([kind], view.pages.supervisor[f"keylog_lines.{kind}"]) for kind in KEYLOG_LINES]


def _reloaded_well(view: MetricsInput) -> float:
    return float(not any(page["config_error"] for page in (view.pages.supervisor, *_children(view))))


def _limit(value: Callable[[Config], float]) -> Callable[[MetricsInput], Rows]:
    """Return a limit per worker; all have the same."""
    return lambda view: [([str(w)], value(view.config)) for w in range(len(view.pages.workers))]


def _pipeline_families() -> Iterator[Family]:
    """Yield a family for each row of the list of counters that names one."""
    for counter in COUNTERS:
        if counter.metric:
            values = [str(value) for value in counter.values]
            rows = _by_worker_and(counter.slot, values) if values else _by_worker(counter.slot)
            labels = ("worker", counter.label) if values else ("worker",)
            yield Family(counter.metric, "gauge" if counter.gauge else "counter", counter.help, labels, rows)


# -- the table -------------------------------------------------------------------------------------------------------

_C: Literal["counter"] = "counter"
_G: Literal["gauge"] = "gauge"
_IFACE, _WORKER, _TOPIC, _PROCESS = ("interface",), ("worker",), ("topic",), ("process",)

FAMILIES = (
    # the run
    Family("build_info", _G, "Version of the appliance and of Python; always 1.", ("version", "python"), _build_info),
    Family("compiled", _G, "1: the data path is compiled code; there is no other way to run.", (), _one(lambda _: 1)),
    Family("frames_unaccounted", _G, "Difference of each identity of the ledger: 0 at rest, else the amount in "
           "transit.",
           ("identity",), _unaccounted),
    Family("frames_in_flight", _G, "Frames captured but not yet counted under an outcome.",
           (), _one(lambda view: ledger.in_flight(ledger.identities(view.pages)))),
    Family("frames_outcome", _C, "Frames read or reassembled, by their one outcome; worker is empty if none was "
           "offered the frame.",
           ("stage", "outcome", "worker"), _outcomes),
    Family("config_generation", _G, "Generation of the configuration that every process applies; a start has 1.",
           (), _one(_generation)),
    Family("tls_keylog_lines", _C, "Lines of key logs, by what they are.", ("kind",), _keylog_lines),
    Family("tls_keylog_bytes", _C, "Bytes read of tls.keylog.",
           (), _one(lambda view: view.pages.supervisor["keylog_bytes"])),
    Family("tls_keylog_restarts", _C, "Files that replaced the one before as tls.keylog, or began anew.",
           (), _one(lambda view: view.pages.supervisor["keylog_restarts"])),
    Family("tls_keylog_kept", _G, "Secrets that the supervisor keeps for its workers.",
           (), _one(lambda view: view.pages.supervisor["keys_kept"])),
    Family("config_reloads", _C, "Requested reloads of the configuration, by result.", ("result",), _reloads),
    Family("config_last_reload_successful", _G, "0 if the last reload was refused, or a process could not apply it.",
           (), _one(_reloaded_well)),
    Family("config_last_reload_timestamp_seconds", _G, "Time of the last requested reload; 0 if there was none.",
           (), _one(lambda view: view.pages.supervisor["reloaded_ns"] * 1e-9)),
    # capture
    Family("capture_up", _G, "1 while the capture runs and is ready.", _IFACE, _capture_up),
    Family("capture_restarts", _C, "Restarts of the capture.", _IFACE, _capture_restarts),
    Family("capture_frames", _C, "Frames read by the capture.", _IFACE, _by_interface("frames")),
    Family("capture_bytes", _C, "Captured bytes of those frames.", _IFACE, _by_interface("bytes")),
    Family("capture_wire_bytes", _C, "Bytes of those frames on the wire.", _IFACE, _by_interface("wire_bytes")),
    Family("capture_kernel_received_frames", _C, "Frames that the kernel received, with dropped ones; 0 for a file.",
           _IFACE, _by_interface("kernel_received")),
    Family("capture_dropped_frames", _C, "Frames lost before they were read: by the interface (nic), in a full ring "
           "(kernel), in the ring of a killed capture (abandoned).",
           ("interface", "stage"), _capture_dropped),
    Family("capture_rejected_frames", _C, "Frames without a usable TCP segment, by reason.", ("interface", "reason"),
           _capture_rejected),
    Family("capture_fragments", _C, "IP fragments among them, by outcome; merged: part of a whole datagram.",
           ("interface", "outcome"), _fragments),
    Family("capture_fragments_held", _G, "IP fragments that wait for the rest of their datagram.", _IFACE,
           _by_interface("fragments.held")),
    Family("capture_reassembled_datagrams", _C, "IP datagrams reassembled from fragments.",
           _IFACE, _by_interface("reassembled")),
    Family("capture_fragment_conflicts", _C, "IPv4 fragments with other bytes for a range already received.",
           _IFACE, _by_interface("fragment_conflicts")),
    Family("capture_truncated_frames", _C, "Frames truncated at the snapshot length.",
           _IFACE, _by_interface("truncated_frames")),
    Family("capture_looped_frames", _C, "Second copies of loopback frames, which libpcap discards.",
           _IFACE, _by_interface("looped_frames")),
    Family("capture_shed_frames", _C, "Frames of connections that load shedding dropped as a whole.",
           _IFACE, _by_interface("shed_frames")),
    Family("capture_shed_bytes", _C, "Captured bytes of those frames.", _IFACE, _by_interface("shed_bytes")),
    Family("capture_shed_flows", _C, "Connections dropped by load shedding.", _IFACE, _by_interface("shed_flows")),
    Family("capture_shed_evicted_flows", _C, "Shed connections evicted from the full table before their end.",
           _IFACE, _by_interface("shed_evicted")),
    Family("capture_shed_ratio", _G, "Share of the worker's new connections that load shedding drops now.",
           _WORKER, _shed_ratio),
    Family("capture_kernel_shed_ratio", _G, "Share of all connections whose frames the kernel filter refuses now, "
           "uncounted.",
           _IFACE, _by_interface("kernel_shed_steps", 1 / 256)),
    Family("capture_kernel_shed_seconds", _C, "Time during which the kernel filter refused connections.",
           _IFACE, _by_interface("kernel_shed_ns", 1e-9)),
    Family("capture_link_down", _G, "1 while the interface is down, without a carrier, or gone.", _IFACE,
           _by_interface("link_down")),
    Family("capture_blind_seconds", _C, "Time during which frames could pass uncounted: link down, interface gone, "
           "capture restarting, non-atomic filter change.",
           ("interface", "reason"), _blind),
    Family("capture_last_frame_timestamp_seconds", _G, "Time stamp of the last frame read.", _IFACE,
           _by_interface("last_frame_ns", 1e-9)),
    Family("capture_input_read_bytes", _C, "Bytes read of the capture file.", _IFACE,
           _by_interface("input_bytes_read")),
    Family("capture_input_size_bytes", _G, "Size of the capture file; 0 without a file or for an unknown size.",
           _IFACE, _by_interface("input_bytes_total")),
    # links
    Family("ipc_batches", _C, "Batches of frames sent to the worker.", _WORKER, _sent("sent_batches")),
    Family("ipc_bytes", _C, "Bytes of those batches.", _WORKER, _sent("sent_bytes")),
    Family("ipc_queue_frames", _G, "Frames sent to the worker that it has not received.", _WORKER, _queue),
    # workers
    Family("worker_up", _G, "1 while the worker runs and is ready.", _WORKER, _worker_up),
    Family("worker_restarts", _C, "Restarts of the worker.", _WORKER, _worker_restarts),
    Family("worker_quarantined_batches", _C, "Batches skipped because they crashed workers twice.", _WORKER,
           _by_worker("quarantined_batches")),
    Family("packet_lag_seconds", _G, "Age of the last batch when the worker received it.", _WORKER,
           _by_worker("lag_ns", 1e-9)),
    # TCP and HTTP: most of them follow from the list of what a pipeline counts
    *_pipeline_families(),
    Family("tcp_flows_limit", _G, "Connections that the worker may follow at a time.", _WORKER,
           _limit(lambda config: config.tcp.max_connections)),
    Family("tcp_half_open_limit", _G, "Half-open connections that the worker may follow at a time.", _WORKER,
           _limit(lambda config: config.tcp.max_half_open)),
    Family("tcp_buffer_limit_bytes", _G, "Maximum of out-of-order bytes of the worker.", _WORKER,
           _limit(lambda config: config.tcp.max_total_pending_bytes)),
    Family("http_head_limit_bytes", _G, "Maximum of incomplete heads in the worker.", _WORKER,
           _limit(lambda config: config.http.max_total_head_bytes)),
    Family("http_waiting_limit_bytes", _G, "Maximum of waiting bytes of the worker.", _WORKER,
           _limit(lambda config: config.http.max_total_waiting_bytes)),
    Family("http_body_bytes", _C, "Bytes of message bodies on the wire.", ("direction",), _body_bytes),
    Family("http_response_duration_seconds", "histogram", "Last request byte to first response byte.",
           histogram=_response_duration),
    # feed and output
    Family("feed_up", _G, "1 while the feed runs and is ready.", (),
           _one(lambda view: view.up("feed", view.pages.feed))),
    Family("feed_restarts", _C, "Restarts of the feed.", (), _one(lambda view: view.pages.supervisor["restarts.feed"])),
    Family("events_made", _C, "Events made by the workers.", _TOPIC, _made),
    Family("feed_events", _C, "Events published.", _TOPIC, _by_topic("published")),
    Family("feed_messages", _C, "Messages published.", _TOPIC, _by_topic("published_messages")),
    Family("feed_bytes", _C, "Bytes of events published.", _TOPIC, _by_topic("published_bytes")),
    Family("feed_dropped_events", _C, "Events made and never published; topic is empty if unknown.",
           ("topic", "reason"), _feed_dropped),
    Family("feed_queue_events", _G, "Events sent by workers that the feed has not received.", (), _one(_feed_queue)),
    Family("feed_subscribers", _G, "Peers with a subscription, each counted once.", (), _feed("subscribers")),
    Family("feed_invalid_messages", _C, "Messages of workers that the feed could not read.", (),
           _feed("invalid_messages")),
    Family("feed_heartbeats", _C, "Heartbeats sent.", (), _feed("heartbeats")),
    Family("feed_refused_peers", _C, "Peers refused or disconnected: key not allowed, handshake incomplete, memory "
           "limit exceeded, or no free place.",
           ("reason",), _refused),
    Family("feed_allowed_clients", _G, "Keys that may read the feed; 0 without CURVE.", (), _feed("clients_allowed")),
    Family("feed_store_messages", _G, "Messages in the replay store.", (), _feed("store_messages")),
    Family("feed_store_bytes", _G, "Memory of the replay store.", (), _feed("store_bytes")),
    Family("feed_store_limit_bytes", _G, "Maximum memory of the replay store.",
           (), _one(lambda view: view.config.feed.replay_bytes)),
    Family("feed_store_evicted_messages", _C, "Messages evicted from the replay store.", (), _feed("store_evicted")),
    Family("feed_replay_requests", _C, "Replay requests: answered in full (served) or in part (gone), malformed "
           "(invalid), too many at a time (refused), or unread by the client (abandoned).",
           ("result",), _replays),
    Family("feed_replay_messages", _C, "Messages replayed.", (), _feed("replay_messages")),
    Family("feed_replay_bytes", _C, "Bytes of replay answers.", (), _feed("replay_bytes")),
    Family("feed_replay_pauses", _C, "Pauses of replay answers at their rate limit.", (), _feed("replay_pauses")),
    Family("output_events", _C, "Events written to the output.", (), _feed("written_events")),
    Family("output_bytes", _C, "Bytes written to the output.", (), _feed("written_bytes")),
    Family("output_write_errors", _C, "Failed writes to the output.", (), _feed("write_errors")),
    Family("output_dropped_events", _C, "Events that the output did not accept; the feed still publishes them, if it "
           "is on.",
           (), _feed("dropped_output")),
    Family("output_rotations", _C, "Output files closed because of their size or age.", (), _feed("rotations")),
    Family("output_rotation_errors", _C, "Failed attempts to close an output file; writing continues in it.",
           (), _feed("rotation_errors")),
    Family("output_compressed_files", _C, "Closed files compressed.", (), _feed("compressed_files")),
    Family("output_removed_files", _C, "Closed files removed by the retention limits.", (), _feed("removed_files")),
    Family("output_archive_errors", _C, "Failed attempts to compress or remove closed files, which are repeated.",
           (), _feed("archive_errors")),
    Family("output_torn_bytes", _C, "Bytes of incomplete lines of killed processes, removed from the output.",
           (), _feed("torn_bytes")),
    Family("output_opened", _C, "Opens of the output: at the start and after each move or removal of the file.",
           (), _feed("output_opened")),
    Family("output_open_events", _G, "Events in an unfinished Parquet file, which a kill would lose.",
           (), _feed("open_events")),
    # the recorder
    Family("record_up", _G, "1 while the recorder runs and is ready; 0 if nothing is recorded.", (),
           _one(lambda view: view.up("recorder", view.pages.recorder) if view.pages.recorder else 0)),
    Family("record_frames", _C, "Frames recorded.", (), _record("recorded")),
    Family("record_bytes", _C, "Captured bytes of those frames.", (), _record("recorded_bytes")),
    Family("record_left_out_frames", _C, "Frames that workers got and the ring has not, by reason: connections left "
           "out because the recorder was behind, a failed write (disk), no room for the batch (link), a killed "
           "recorder (crash).", ("reason",), _not_recorded),
    Family("record_left_out_ratio", _G, "Share of all connections that the recorder leaves out now.", (),
           _record("left_out_share", 1 / 256)),
    Family("record_write_errors", _C, "Failed writes to the ring.", (), _record("write_errors")),
    Family("record_ring_bytes", _G, "Size of the ring.", (), _record("ring_bytes")),
    Family("record_ring_limit_bytes", _G, "Maximum size of the ring; 0 if nothing is recorded.", (),
           _one(lambda view: view.config.record.bytes if view.config.record.path else 0)),
    Family("record_ring_files", _G, "Files of the ring, without their indexes.", (), _record("ring_files")),
    Family("record_ring_oldest_timestamp_seconds", _G, "Time of the last frame in the oldest file; 0: no frames.", (),
           _record("ring_oldest_ns", 1e-9)),
    Family("record_removed_files", _C, "Files removed because of the ring's size or their age.", (),
           _record("removed_files")),
    Family("record_torn_bytes", _C, "Bytes of incomplete blocks of killed recorders, removed from the ring.", (),
           _record("torn_bytes")),
    # files out of bodies
    Family("files_up", _G, "1 while the files process runs and is ready; 0 if no files are kept.", (),
           _one(lambda view: view.up("files", view.pages.files) if view.pages.files else 0)),
    Family("files_offered", _C, "Bodies of a wanted type.", (),
           _one(lambda view: sum(page.get("files_offered", 0) for page in view.pages.workers))),
    Family("files_open", _G, "Those without an outcome yet.", (),
           _one(lambda view: sum(page.get("files_open", 0) for page in view.pages.workers))),
    Family("files_kept", _C, "Files kept that were not there yet.", (), _file("kept")),
    Family("files_kept_bytes", _C, "Bytes of those files.", (), _file("kept_bytes")),
    Family("files_duplicates", _C, "Bodies whose content was kept already.", (), _file("duplicates")),
    Family("files_left_out", _C, "Bodies of a wanted type that were not kept, by reason: bytes not captured (missing), "
           "not decoded (undecoded), a limit of [bodies] (limit), a part of a content (part), their size (small, "
           "large), too many at once (open), no room on the link (link), no room in the budget (budget), a failed "
           "write (disk), a wrong digest (mismatch), a killed process (crash).", ("reason",), _files_left_out),
    Family("files_removed", _C, "Files removed, by reason.", ("reason",),
           lambda view: [([why], view.pages.files.get(f"removed.{why}", 0)) for why in FILES_REMOVED]),
    Family("files_write_errors", _C, "Failed writes of files.", (), _file("write_errors")),
    Family("files_stored", _G, "Files in the folder.", (), _file("stored_files")),
    Family("files_stored_bytes", _G, "Size of the files, in multiples of 4096 bytes, with unfinished ones.", (),
           _file("stored_bytes")),
    Family("files_limit_bytes", _G, "Maximum of that size; 0 if no files are kept.", (),
           _one(lambda view: view.config.files.budget_bytes if view.config.files.path else 0)),
    Family("files_oldest_timestamp_seconds", _G, "Time at which the file that was seen longest ago was last seen; 0: "
           "no files.", (), _file("oldest_ns", 1e-9)),
    # the log
    Family("log_lines", _C, "Lines logged, by reason.", ("reason",), _log("log_lines")),
    Family("log_suppressed", _C, "Lines suppressed by the rate limit of their reason.",
           ("reason",), _log("log_suppressed")),
    # processes
    Family("process_restarts", _C, "Restarts of the process, after it died or because it hung.",
           ("process", "reason"), _restarts),
    Family("process_up", _G, "1 while the process runs.", _PROCESS, _by_process(lambda process: process.alive)),
    Family("process_cpu_seconds", _C, "Processor time, user and system, over restarts.", _PROCESS,
           _by_process(lambda process: process.cpu_s)),
    Family("process_resident_memory_bytes", _G, "Memory in use.", _PROCESS,
           _by_process(lambda process: process.rss_bytes)),
    Family("process_progress_age_seconds", _G, "Time since the last turn of the process's loop.",
           _PROCESS, _by_process(lambda process: process.progress_age_s)),
    Family("sandbox", _G, "1 while this fence is around the process; 0 without it.", ("process", "fence"), _sandbox),
)  # fmt: skip
