"""Every metric: its name, type, help and labels, and how its values follow from the stats pages.

Pure: a `View` of the run in, samples out; exporter.py turns them into the text that Prometheus reads. No label value
comes from traffic, and every series is there from the start, so that rate() and alerts see the first loss.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from appliance import ledger
from appliance.config import Config
from appliance.stats import (
    ANOMALIES,
    BLIND,
    BODY_OUTCOMES,
    CHECKSUM_FAULTS,
    DIRECTIONS,
    DRAINING,
    FENCES_OF,
    FLOW_ENDS,
    FRAGMENT_OUTCOMES,
    LINK_DROPS,
    LOG_REASONS,
    MESSAGE_OUTCOMES,
    METHODS,
    NOT_HTTP,
    PAIRINGS,
    PAYLOAD_OUTCOMES,
    READY,
    REFUSALS,
    RELOADS,
    REPLAY_RESULTS,
    RESPONSE_BUCKETS_S,
    SEGMENT_VERDICTS,
    STATUS_CLASSES,
    TOPICS,
    Counts,
    Pages,
)

PREFIX = "appliance_"


class Process(NamedTuple):
    """One process of the run, as the operating system sees it now; all 0 when it is not running."""

    name: str  # "capture-0", "worker-1", "feed", "supervisor"
    alive: bool
    cpu_s: float  # of all its lives in this run
    rss_bytes: int
    progress_age_s: float


class View(NamedTuple):
    """What the metrics are computed from, at one moment."""

    config: Config
    pages: Pages
    processes: Sequence[Process]
    version: str
    python: str

    def alive(self, name: str) -> bool:
        return any(process.alive for process in self.processes if process.name == name)

    def up(self, name: str, page: Counts) -> int:
        """Running, ready and without error."""
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
    rows: Callable[[View], Rows] | None = None
    histogram: Callable[[View], Histogram] | None = None


# -- shapes: where the label values come from ------------------------------------------------------------------------


def _interfaces(view: View) -> Iterator[tuple[str, Counts]]:
    return zip(view.config.interface_names, view.pages.captures, strict=True)


def _by_interface(slot: str, scale: float = 1) -> Callable[[View], Rows]:
    return lambda view: [([name], page[slot] * scale) for name, page in _interfaces(view)]


def _by_worker(slot: str, scale: float = 1) -> Callable[[View], Rows]:
    return lambda view: [([str(w)], page[slot] * scale) for w, page in enumerate(view.pages.workers)]


def _by_worker_and(group: str, values: Sequence[str]) -> Callable[[View], Rows]:
    return lambda view: [
        ([str(w), value], page[f"{group}.{value}"]) for w, page in enumerate(view.pages.workers) for value in values
    ]


def _by_topic(slot: str) -> Callable[[View], Rows]:
    return lambda view: [([topic], view.pages.feed[f"{slot}.{topic}"]) for topic in TOPICS]


def _feed(slot: str) -> Callable[[View], Rows]:
    return lambda view: [([], view.pages.feed[slot])]


def _one(value: Callable[[View], float]) -> Callable[[View], Rows]:
    return lambda view: [([], value(view))]


def _by_process(value: Callable[[Process], float]) -> Callable[[View], Rows]:
    return lambda view: [([process.name], value(process)) for process in view.processes]


# -- what takes more than one slot -----------------------------------------------------------------------------------


def _build_info(view: View) -> Rows:
    yield [view.version, view.python], 1


def _capture_dropped(view: View) -> Rows:
    for name, page in _interfaces(view):
        yield [name, "nic"], page["kernel_if_dropped"]
        yield [name, "kernel"], page["kernel_dropped"]
        yield [name, "abandoned"], page["kernel_abandoned"]


def _verdicts(page: Counts) -> Iterator[tuple[str, int]]:
    return ((name.partition(".")[2], count) for name, count in page.items() if name.startswith("rejected."))


def _capture_rejected(view: View) -> Rows:
    return [([name, verdict], n) for name, page in _interfaces(view) for verdict, n in _verdicts(page)]


def _fragments(view: View) -> Rows:
    return [
        ([name, outcome], page[f"fragments.{outcome}"])
        for name, page in _interfaces(view)
        for outcome in FRAGMENT_OUTCOMES
    ]


def _blind(view: View) -> Rows:
    return [([name, why], page[f"blind_ns.{why}"] * 1e-9) for name, page in _interfaces(view) for why in BLIND]


def _outcomes(view: View) -> Rows:
    """Where each frame that a capture read or made of fragments has ended: in exactly one of these, or in flight."""
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
        yield ["worker", "quarantined", str(w)], worker["quarantined"]
        yield ["worker", "crash_lost", str(w)], worker["crash_lost"]
        yield ["worker", "segment", str(w)], worker["segments"]


def _unaccounted(view: View) -> Rows:
    return [([name], identity["difference"]) for name, identity in ledger.identities(view.pages).items()]


def _sent(slot: str) -> Callable[[View], Rows]:
    """Of all captures to each worker."""
    return lambda view: [
        ([str(w)], sum(page[f"{slot}.{w}"] for page in view.pages.captures)) for w in range(len(view.pages.workers))
    ]


def _shed_ratio(view: View) -> Rows:
    """By worker: of what its captures want, the largest is what all of them do."""
    captures = view.pages.captures
    return [([str(w)], max(page[f"shed_steps.{w}"] for page in captures) / 256) for w in range(len(view.pages.workers))]


def _queue(view: View) -> Rows:
    captures = view.pages.captures
    for w, worker in enumerate(view.pages.workers):
        arrived = sum(worker[f"received.{c}"] + worker[f"lost.{c}"] for c in range(len(captures)))
        yield [str(w)], max(0, sum(page[f"sent.{w}"] for page in captures) - arrived)


def _response_duration(view: View) -> Histogram:
    workers = view.pages.workers
    slots = [(bound, f"response_seconds.le.{bound}") for bound in RESPONSE_BUCKETS_S]
    buckets = [
        ("+Inf" if bound == "inf" else str(float(bound)), sum(page[slot] for page in workers)) for bound, slot in slots
    ]
    return Histogram(buckets, sum(page["response_seconds.sum_ns"] for page in workers) / 1e9)


def _body_bytes(view: View) -> Rows:
    for direction in DIRECTIONS:
        yield [direction], sum(page[f"body_bytes.{direction}"] for page in view.pages.workers)


def _feed_dropped(view: View) -> Rows:
    """By topic where it is known: what a link or a killed process lost is not."""
    feed, workers = view.pages.feed, view.pages.workers
    for topic in TOPICS:
        for reason, slot in (("backlog", "dropped_backlog"), ("worker_crash", "dropped_crash")):
            yield [topic, reason], sum(page[f"{slot}.{topic}"] for page in workers)
    yield ["", "link_lost"], sum(feed[f"lost.{w}"] for w in range(len(workers)))
    yield ["", "feed_crash"], feed["crash_lost"]


def _made(view: View) -> Rows:
    return [([topic], sum(page[f"made.{topic}"] for page in view.pages.workers)) for topic in TOPICS]


def _feed_queue(view: View) -> float:
    feed, workers = view.pages.feed, view.pages.workers
    return max(0, sum(p["events_sent"] - feed[f"received.{w}"] - feed[f"lost.{w}"] for w, p in enumerate(workers)))


def _refused(view: View) -> Rows:
    return [([reason], view.pages.feed[f"refused.{reason}"]) for reason in REFUSALS]


def _replays(view: View) -> Rows:
    return [([result], view.pages.feed[f"replay_{result}"]) for result in REPLAY_RESULTS]


def _sandbox(view: View) -> Rows:
    pages = view.pages
    named = [(f"capture-{c}", page) for c, page in enumerate(pages.captures)]
    named += [(f"worker-{w}", page) for w, page in enumerate(pages.workers)]
    for name, page in [("supervisor", pages.supervisor), *named, ("feed", pages.feed)]:
        for fence in FENCES_OF[name.partition("-")[0]]:
            yield [name, fence], page[f"sandbox.{fence}"]


def _capture_up(view: View) -> Rows:
    return [([name], view.up(f"capture-{c}", page)) for c, (name, page) in enumerate(_interfaces(view))]


def _worker_up(view: View) -> Rows:
    return [([str(w)], view.up(f"worker-{w}", page)) for w, page in enumerate(view.pages.workers)]


def _capture_restarts(view: View) -> Rows:
    return [([n], view.pages.supervisor[f"restarts.capture.{c}"]) for c, (n, _) in enumerate(_interfaces(view))]


def _worker_restarts(view: View) -> Rows:
    return [([str(w)], view.pages.supervisor[f"restarts.worker.{w}"]) for w in range(len(view.pages.workers))]


def _restarts(view: View) -> Rows:
    for slot, count in view.pages.supervisor.items():
        group, _, child = slot.partition(".")
        if group == "restarts":
            hung = view.pages.supervisor[f"hung.{child}"]
            yield [child.replace(".", "-"), "died"], count - hung
            yield [child.replace(".", "-"), "hung"], hung


def _log(slot: str) -> Callable[[View], Rows]:
    """Of all processes."""

    def rows(view: View) -> Rows:
        pages = [*view.pages.captures, *view.pages.workers, view.pages.feed, view.pages.supervisor]
        return [([reason], sum(page[f"{slot}.{reason}"] for page in pages)) for reason in LOG_REASONS]

    return rows


def _generation(view: View) -> float:
    """What is in force everywhere: children take a new one over within a turn of their loops."""
    children = (*view.pages.captures, *view.pages.workers, view.pages.feed)
    return min(page["generation"] for page in (view.pages.supervisor, *(one for one in children if one["starts"])))


def _reloads(view: View) -> Rows:
    return [([result], view.pages.supervisor[f"reloads.{result}"]) for result in RELOADS]


def _reloaded_well(view: View) -> float:
    pages = (view.pages.supervisor, *view.pages.captures, *view.pages.workers, view.pages.feed)
    return float(not any(page["config_error"] for page in pages))


def _limit(value: Callable[[Config], float]) -> Callable[[View], Rows]:
    """Of each worker: all have the same."""
    return lambda view: [([str(w)], value(view.config)) for w in range(len(view.pages.workers))]


# -- the table -------------------------------------------------------------------------------------------------------

_C: Literal["counter"] = "counter"
_G: Literal["gauge"] = "gauge"
_IFACE, _WORKER, _TOPIC, _PROCESS = ("interface",), ("worker",), ("topic",), ("process",)

FAMILIES = (
    # the run
    Family("build_info", _G, "Version of the appliance and of Python; always 1.", ("version", "python"), _build_info),
    Family("compiled", _G, "1: the data path is compiled code; there is no other way to run.", (), _one(lambda _: 1)),
    Family("frames_unaccounted", _G, "What each identity of the ledger lacks: 0 at rest, else what is on its way.",
           ("identity",), _unaccounted),
    Family("frames_in_flight", _G, "Frames read by a capture and not yet judged by anybody.", (),
           _one(lambda view: ledger.in_flight(ledger.identities(view.pages)))),
    Family("frames_outcome", _C, "Where each frame read or made of fragments ended, exclusive; worker is empty if it "
           "was offered to none.", ("stage", "outcome", "worker"), _outcomes),
    Family("config_generation", _G, "Number of the configuration that is in force in every process; a start has 1.", (),
           _one(_generation)),
    Family("config_reloads", _C, "Reloads of the configuration that were asked for.", ("result",), _reloads),
    Family("config_last_reload_successful", _G, "0: the last reload was refused, or a process could not follow it.", (),
           _one(_reloaded_well)),
    Family("config_last_reload_timestamp_seconds", _G, "When a reload was last asked for; 0: never.", (),
           _one(lambda view: view.pages.supervisor["reloaded_ns"] * 1e-9)),
    # capture
    Family("capture_up", _G, "1 while the capture runs and is ready.", _IFACE, _capture_up),
    Family("capture_restarts", _C, "Times the capture was started again after it had died.", _IFACE, _capture_restarts),
    Family("capture_frames", _C, "Frames read by the capture.", _IFACE, _by_interface("frames")),
    Family("capture_bytes", _C, "Bytes of those frames as captured.", _IFACE, _by_interface("bytes")),
    Family("capture_wire_bytes", _C, "Bytes of those frames as they were on the wire.", _IFACE,
           _by_interface("wire_bytes")),
    Family("capture_kernel_received_frames", _C, "Frames the kernel took, dropped ones too; 0 for a file.",
           _IFACE, _by_interface("kernel_received")),
    Family("capture_dropped_frames", _C, "Frames lost before they were read: by the interface (nic), for want of room "
           "(kernel), in the ring of a capture that was killed (abandoned).", ("interface", "stage"), _capture_dropped),
    Family("capture_rejected_frames", _C, "Frames without a usable TCP segment, by reason.", ("interface", "reason"),
           _capture_rejected),
    Family("capture_fragments", _C, "IP fragments among them, by what became of each; merged: in a whole datagram.",
           ("interface", "outcome"), _fragments),
    Family("capture_fragments_held", _G, "IP fragments that wait for the rest of their datagram.", _IFACE,
           _by_interface("fragments.held")),
    Family("capture_reassembled_datagrams", _C, "IP datagrams put together from fragments.", _IFACE,
           _by_interface("reassembled")),
    Family("capture_fragment_conflicts", _C, "IPv4 fragments that bring other bytes for a place that has some already.",
           _IFACE, _by_interface("fragment_conflicts")),
    Family("capture_truncated_frames", _C, "Frames cut short by the snapshot length.", _IFACE,
           _by_interface("truncated_frames")),
    Family("capture_looped_frames", _C, "Second copies of loopback frames, which libpcap throws away.", _IFACE,
           _by_interface("looped_frames")),
    Family("capture_shed_frames", _C, "Frames of connections left out as a whole, because the machine is not enough.",
           _IFACE, _by_interface("shed_frames")),
    Family("capture_shed_bytes", _C, "Bytes of those frames as captured.", _IFACE, _by_interface("shed_bytes")),
    Family("capture_shed_flows", _C, "Connections left out.", _IFACE, _by_interface("shed_flows")),
    Family("capture_shed_evicted_flows", _C, "Of these, forgotten before they ended, for want of room.", _IFACE,
           _by_interface("shed_evicted")),
    Family("capture_shed_ratio", _G, "Share of the new connections of the worker that is left out now.", _WORKER,
           _shed_ratio),
    Family("capture_kernel_shed_ratio", _G, "Share of all connections whose frames the kernel refuses now, uncounted.",
           _IFACE, _by_interface("kernel_shed_steps", 1 / 256)),
    Family("capture_kernel_shed_seconds", _C, "Time during which the kernel refused any.", _IFACE,
           _by_interface("kernel_shed_ns", 1e-9)),
    Family("capture_link_down", _G, "1 while the interface is down, without a carrier, or gone.", _IFACE,
           _by_interface("link_down")),
    Family("capture_blind_seconds", _C, "Time in which frames could pass in no counter: link down, interface gone, "
           "capture restarted, a filter changed where that means to refuse frames for a moment.",
           ("interface", "reason"), _blind),
    Family("capture_last_frame_timestamp_seconds", _G, "Time stamp of the last frame read.", _IFACE,
           _by_interface("last_frame_ns", 1e-9)),
    Family("capture_input_read_bytes", _C, "Bytes read of the capture file.", _IFACE,
           _by_interface("input_bytes_read")),
    Family("capture_input_size_bytes", _G, "Size of the capture file; 0 when there is none or it is not known.", _IFACE,
           _by_interface("input_bytes_total")),
    # links
    Family("ipc_batches", _C, "Batches of frames sent to the worker.", _WORKER, _sent("sent_batches")),
    Family("ipc_bytes", _C, "Bytes of those batches.", _WORKER, _sent("sent_bytes")),
    Family("ipc_queue_frames", _G, "Frames sent to the worker that it has not received.", _WORKER, _queue),
    # workers
    Family("worker_up", _G, "1 while the worker runs and is ready.", _WORKER, _worker_up),
    Family("worker_restarts", _C, "Times the worker was started again after it had died.", _WORKER, _worker_restarts),
    Family("worker_quarantined_batches", _C, "Batches left out because workers died of them twice.", _WORKER,
           _by_worker("quarantined_batches")),
    Family("packet_lag_seconds", _G, "Age of the last batch when the worker took it.", _WORKER,
           _by_worker("lag_ns", 1e-9)),
    # TCP
    Family("tcp_flows", _G, "Connections followed now.", _WORKER, _by_worker("flows")),
    Family("tcp_flows_limit", _G, "Connections that the worker may follow at a time.", _WORKER,
           _limit(lambda config: config.tcp.max_connections)),
    Family("tcp_half_open", _G, "Of these, attempts that nothing has proven yet.", _WORKER, _by_worker("half_open")),
    Family("tcp_half_open_limit", _G, "Attempts that the worker may follow at a time.", _WORKER,
           _limit(lambda config: config.tcp.max_half_open)),
    Family("tcp_flows_opened", _C, "Connections begun.", _WORKER, _by_worker("flows_opened")),
    Family("tcp_flows", _C, "Connections ended, by what ended them.", ("worker", "end"),
           _by_worker_and("flows_ended", FLOW_ENDS)),
    Family("tcp_buffer_bytes", _G, "Bytes held behind holes.", _WORKER, _by_worker("pending_bytes")),
    Family("tcp_buffer_limit_bytes", _G, "What the worker may hold behind holes.", _WORKER,
           _limit(lambda config: config.tcp.max_total_pending_bytes)),
    Family("tcp_received_bytes", _C, "Payload bytes received.", _WORKER, _by_worker("payload_bytes")),
    Family("tcp_payload_bytes", _C, "Payload bytes by what became of them.", ("worker", "outcome"),
           _by_worker_and("payload", PAYLOAD_OUTCOMES)),
    Family("tcp_flows_one_sided", _C, "Connections ended of which one direction was never seen.", _WORKER,
           _by_worker("flows_one_sided")),
    Family("tcp_resets_ignored", _C, "RSTs that could not be, or whose sender went on.", _WORKER,
           _by_worker("resets_ignored")),
    Family("tcp_checksums", _C, "Segments whose checksums are wrong, left to a network card, or cut off.",
           ("worker", "found"), _by_worker_and("checksums", CHECKSUM_FAULTS)),
    Family("tcp_duplicate_frames", _C, "Frames seen again bit by bit: a mirror port that copies twice.", _WORKER,
           _by_worker("duplicate_frames")),
    Family("tcp_urgent_segments", _C, "Segments with urgent data, which stay in line.", _WORKER,
           _by_worker("urgent_segments")),
    Family("tcp_gaps", _C, "Holes in streams that were given up.", _WORKER, _by_worker("gaps")),
    Family("tcp_gap_bytes", _C, "Bytes known to be missing in them.", _WORKER, _by_worker("gap_bytes")),
    Family("tcp_out_of_order_segments", _C, "Segments that came before their turn.", _WORKER,
           _by_worker("out_of_order_segments")),
    Family("tcp_ack_unseen", _C, "Acknowledgements of bytes never seen: loss before this machine.", _WORKER,
           _by_worker("ack_unseen")),
    Family("tcp_acked_unseen_bytes", _C, "Bytes that their receiver acknowledged and that were never captured: less "
           "our own drops, what was lost before this machine.", _WORKER, _by_worker("acked_unseen_bytes")),
    Family("tcp_midstream_streams", _C, "Streams whose beginning was not seen.", _WORKER,
           _by_worker("midstream_streams")),
    # HTTP
    Family("http_messages_started", _C, "Messages begun.", _WORKER, _by_worker("messages.started")),
    Family("http_messages", _C, "Messages ended, by how.", ("worker", "outcome"),
           _by_worker_and("messages", MESSAGE_OUTCOMES)),
    Family("http_messages_open", _G, "Messages begun and not ended.", _WORKER, _by_worker("messages.open")),
    Family("http_head_bytes", _G, "Bytes held of heads that are not whole.", _WORKER, _by_worker("head_bytes")),
    Family("http_head_limit_bytes", _G, "What the worker may hold of them.", _WORKER,
           _limit(lambda config: config.http.max_total_head_bytes)),
    Family("http_requests", _C, "Requests.", ("worker", "method"), _by_worker_and("requests", METHODS)),
    Family("http_responses", _C, "Responses.", ("worker", "status_class"), _by_worker_and("responses", STATUS_CLASSES)),
    Family("http_transactions", _C, "Transactions, by how request and response were matched.", ("worker", "pairing"),
           _by_worker_and("pairing", PAIRINGS)),
    Family("http_parse_errors", _C, "Messages that are not HTTP as it is written down.", _WORKER,
           _by_worker("parse_errors")),
    Family("http_resyncs", _C, "Times the parser found the next message after a gap or an error.", _WORKER,
           _by_worker("resyncs")),
    Family("http_retracted_messages", _C, "Complete messages that were text in a body; in no event.", _WORKER,
           _by_worker("retracted")),
    Family("http_anomalies", _C, "Transactions with something odd about them, by what it was.", ("worker", "anomaly"),
           _by_worker_and("anomalies", ANOMALIES)),
    Family("http_skipped_bytes", _C, "Bytes of HTTP connections that belong to no message: behind a gap or an error.",
           _WORKER, _by_worker("skipped_bytes")),
    Family("http_not_http_streams", _C, "Streams that turned out not to be HTTP, by what they seem to be.",
           ("worker", "kind"), _by_worker_and("not_http_streams", NOT_HTTP)),
    Family("http_not_http_bytes", _C, "Bytes of these streams.", _WORKER, _by_worker("not_http_bytes")),
    Family("http_tunnels", _C, "Connections that left HTTP by CONNECT or an upgrade.", _WORKER, _by_worker("tunnels")),
    Family("http_tunnel_bytes", _C, "Bytes that they carried from then on.", _WORKER, _by_worker("tunnel_bytes")),
    Family("http_body_bytes", _C, "Bytes of message bodies as they were on the wire.", ("direction",), _body_bytes),
    Family("http_bodies", _C, "Bodies that were looked into, by how that went.", ("worker", "outcome"),
           _by_worker_and("bodies", BODY_OUTCOMES)),
    Family("http_decoded_bytes", _C, "Bytes that codings of bodies were undone to.", _WORKER,
           _by_worker("decoded_bytes")),
    Family("http_response_duration_seconds", "histogram", "Last byte of a request to first of its response.",
           histogram=_response_duration),
    # feed and output
    Family("feed_up", _G, "1 while the feed runs and is ready.", (),
           _one(lambda view: view.up("feed", view.pages.feed))),
    Family("feed_restarts", _C, "Times the feed was started again after it had died.", (),
           _one(lambda view: view.pages.supervisor["restarts.feed"])),
    Family("events_made", _C, "Events made by the workers.", _TOPIC, _made),
    Family("feed_events", _C, "Events published.", _TOPIC, _by_topic("published")),
    Family("feed_messages", _C, "Messages published.", _TOPIC, _by_topic("published_messages")),
    Family("feed_bytes", _C, "Bytes of events published.", _TOPIC, _by_topic("published_bytes")),
    Family("feed_dropped_events", _C, "Events made and never published; topic is empty where it is not known.",
           ("topic", "reason"), _feed_dropped),
    Family("feed_queue_events", _G, "Events sent by workers that the feed has not received.", (), _one(_feed_queue)),
    Family("feed_subscribers", _G, "Subscriptions of subscribers connected now.", (), _feed("subscribers")),
    Family("feed_invalid_messages", _C, "Messages of workers that the feed could not read.", (),
           _feed("invalid_messages")),
    Family("feed_heartbeats", _C, "Heartbeats sent.", (), _feed("heartbeats")),
    Family("feed_refused_peers", _C, "Peers that were not let in: their key is not allowed, or they did not come as "
           "far as to show one (no key, another protocol).", ("reason",), _refused),
    Family("feed_allowed_clients", _G, "Keys that may read the feed; 0 without a lock.", (), _feed("clients_allowed")),
    Family("feed_store_messages", _G, "Messages kept to be sent again.", (), _feed("store_messages")),
    Family("feed_store_bytes", _G, "Memory they take.", (), _feed("store_bytes")),
    Family("feed_store_limit_bytes", _G, "Memory they may take.", (),
           _one(lambda view: view.config.feed.replay_bytes)),
    Family("feed_store_evicted_messages", _C, "Messages that had to make room for newer ones.", (),
           _feed("store_evicted")),
    Family("feed_replay_requests", _C, "Requests for stored messages: answered in full (served) or with something "
           "missing (gone), no request (invalid), too many at a time (refused), or the client did not wait for the "
           "answer (abandoned).", ("result",), _replays),
    Family("feed_replay_messages", _C, "Messages sent again.", (), _feed("replay_messages")),
    Family("feed_replay_bytes", _C, "Bytes of the answers to requests.", (), _feed("replay_bytes")),
    Family("feed_replay_pauses", _C, "Times that answers had to wait because of their rate.", (),
           _feed("replay_pauses")),
    Family("output_events", _C, "Events written to the output.", (), _feed("written_events")),
    Family("output_bytes", _C, "Bytes written to the output.", (), _feed("written_bytes")),
    Family("output_write_errors", _C, "Failed writes to the output.", (), _feed("write_errors")),
    Family("output_dropped_events", _C, "Events that the output did not take; they are on the feed all the same.", (),
           _feed("dropped_output")),
    Family("output_rotations", _C, "Output files closed because of their size or age.", (), _feed("rotations")),
    Family("output_rotation_errors", _C, "Failed tries to close one; writing goes on in it.", (),
           _feed("rotation_errors")),
    Family("output_compressed_files", _C, "Closed files compressed.", (), _feed("compressed_files")),
    Family("output_removed_files", _C, "Closed files removed to keep to the limits.", (), _feed("removed_files")),
    Family("output_archive_errors", _C, "Failed tries to compress or remove closed files; tried again later.", (),
           _feed("archive_errors")),
    Family("output_torn_bytes", _C, "Bytes of half lines that killed processes left, cut off.", (),
           _feed("torn_bytes")),
    Family("output_open_events", _G, "Events in a Parquet file that is not finished: a kill loses them.", (),
           _feed("open_events")),
    # the log
    Family("log_lines", _C, "Lines that processes have said, by reason.", ("reason",), _log("log_lines")),
    Family("log_suppressed", _C, "Lines left out because there were too many of their reason.", ("reason",),
           _log("log_suppressed")),
    # processes
    Family("process_restarts", _C, "Times the process was started again after it had died, by itself or by somebody's "
           "signal, or had hung: it was killed because it did not move.", ("process", "reason"), _restarts),
    Family("process_up", _G, "1 while the process runs.", _PROCESS, _by_process(lambda process: process.alive)),
    Family("process_cpu_seconds", _C, "Processor time, user and system, over restarts.", _PROCESS,
           _by_process(lambda process: process.cpu_s)),
    Family("process_resident_memory_bytes", _G, "Memory in use.", _PROCESS,
           _by_process(lambda process: process.rss_bytes)),
    Family("process_progress_age_seconds", _G, "Time since the last turn of its loop.", _PROCESS,
           _by_process(lambda process: process.progress_age_s)),
    Family("sandbox", _G, "1 while this fence is around the process; 0: it goes without.", ("process", "fence"),
           _sandbox),
)  # fmt: skip
