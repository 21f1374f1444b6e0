"""The metrics of the workers and of the links to them; most follow from the list of what a pipeline counts."""

from collections.abc import Callable, Iterator, Sequence

from appliance.config.schema import Config
from appliance.metrics.family import WORKER, Family, Histogram, MetricsInput, Rows, by_worker, counter, gauge
from appliance.stats.links import ReceivedLink, SentLink
from appliance.stats.names import DIRECTIONS, RESPONSE_BUCKETS_S
from appliance.stats.pipeline_counters import COUNTERS


def _sent(slot: str) -> Callable[[MetricsInput], Rows]:
    """Sum a slot over all captures, per worker."""
    return lambda view: [
        ([str(w)], sum(page[f"{slot}.{w}"] for page in view.pages.captures)) for w in range(len(view.pages.workers))
    ]


def _queue(view: MetricsInput) -> Rows:
    captures = view.pages.captures
    for w, worker in enumerate(view.pages.workers):
        arrived = sum(ReceivedLink(worker, c).accounted for c in range(len(captures)))
        yield [str(w)], max(0, sum(SentLink(page, w).sent for page in captures) - arrived)


def _worker_up(view: MetricsInput) -> Rows:
    return [([str(w)], view.up(f"worker-{w}", page)) for w, page in enumerate(view.pages.workers)]


def _worker_restarts(view: MetricsInput) -> Rows:
    return [([str(w)], view.pages.supervisor[f"restarts.worker.{w}"]) for w in range(len(view.pages.workers))]


def _by_worker_and(group: str, values: Sequence[str]) -> Callable[[MetricsInput], Rows]:
    return lambda view: [
        ([str(w), value], page[f"{group}.{value}"]) for w, page in enumerate(view.pages.workers) for value in values
    ]


def _pipeline_families() -> Iterator[Family]:
    """Yield a family for each row of the list of counters that names one."""
    for row in COUNTERS:
        if row.metric:
            values = [str(value) for value in row.values]
            rows = _by_worker_and(row.slot, values) if values else by_worker(row.slot)
            labels = ("worker", row.label) if values else ("worker",)
            yield Family(row.metric, "gauge" if row.gauge else "counter", row.help, labels, rows)


def _limit(value: Callable[[Config], float]) -> Callable[[MetricsInput], Rows]:
    """Return a limit per worker; all have the same."""
    return lambda view: [([str(w)], value(view.config)) for w in range(len(view.pages.workers))]


def _body_bytes(view: MetricsInput) -> Rows:
    for direction in DIRECTIONS:
        yield [direction], sum(page[f"body_bytes.{direction}"] for page in view.pages.workers)


def _response_duration(view: MetricsInput) -> Histogram:
    workers = view.pages.workers
    slots = [(bound, f"response_seconds.le.{bound}") for bound in RESPONSE_BUCKETS_S]
    buckets = [
        ("+Inf" if bound == "inf" else str(float(bound)), sum(page[slot] for page in workers)) for bound, slot in slots
    ]
    return Histogram(buckets, sum(page["response_seconds.sum_ns"] for page in workers) / 1e9)


WORKER_FAMILIES = (
    counter("ipc_batches", "Batches of frames sent to the worker.", WORKER, _sent("sent_batches")),
    counter("ipc_bytes", "Bytes of the batches sent to the worker.", WORKER, _sent("sent_bytes")),
    gauge("ipc_queue_frames", "Frames sent to the worker that it has not received.", WORKER, _queue),
    gauge("worker_up", "1 while the worker runs and is ready.", WORKER, _worker_up),
    counter("worker_restarts", "Restarts of the worker.", WORKER, _worker_restarts),
    counter("worker_quarantined_batches", "Batches skipped because they crashed workers twice.", WORKER,
            by_worker("quarantined_batches")),
    gauge("packet_lag_seconds", "Age of the last batch when the worker received it.", WORKER,
          by_worker("lag_ns", 1e-9)),
    # TCP and HTTP: most of them follow from the list of what a pipeline counts
    *_pipeline_families(),
    gauge("tcp_flows_limit", "Connections that the worker may follow at a time.", WORKER,
          _limit(lambda config: config.tcp.max_connections)),
    gauge("tcp_half_open_limit", "Half-open connections that the worker may follow at a time.", WORKER,
          _limit(lambda config: config.tcp.max_half_open)),
    gauge("tcp_buffer_limit_bytes", "Maximum of out-of-order bytes of the worker.", WORKER,
          _limit(lambda config: config.tcp.max_total_pending_bytes)),
    gauge("http_head_limit_bytes", "Maximum of incomplete heads in the worker.", WORKER,
          _limit(lambda config: config.http.max_total_head_bytes)),
    gauge("http_waiting_limit_bytes", "Maximum of waiting bytes of the worker.", WORKER,
          _limit(lambda config: config.http.max_total_waiting_bytes)),
    counter("http_body_bytes", "Bytes of message bodies on the wire.", ("direction",), _body_bytes),
    Family("http_response_duration_seconds", "histogram", "Last request byte to first response byte.",
           histogram=_response_duration),
)  # fmt: skip
