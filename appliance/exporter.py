"""Prometheus: the metrics of metrics.py as text, and the HTTP server that gives them out.

The only file that knows prometheus_client. The server answers /metrics, /healthz and / from threads of its own; a
client that is slow, silent or one of many costs a bounded number of them for a bounded time, and never stops the run.
"""

import os
import platform
import selectors
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest

from appliance import log
from appliance.config import Config, split_address
from appliance.metrics import FAMILIES, PREFIX, Family, Process, View
from appliance.stats import Counts, Pages

# Not OpenMetrics, where the gauge appliance_tcp_flows and the counter appliance_tcp_flows_total would be one name.
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
REQUEST_S = 10.0  # a request that takes longer is cut off
MAX_REQUESTS = 16  # at a time; Prometheus needs one
TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

_INDEX = (
    b'<!doctype html><meta charset="utf-8"><title>appliance</title><h1>appliance</h1>'
    b'<p><a href="/metrics">metrics</a> <a href="/healthz">health</a></p>\n'
)


def product_version() -> str:
    """Of the installed package; "unknown" in a source tree that was never installed."""
    try:
        return version("capture-appliance")
    except PackageNotFoundError:
        return "unknown"


# -- metrics ---------------------------------------------------------------------------------------------------------


class Collector:
    """Computes every metric anew each time. `pages` is called once per scrape, from the server's threads."""

    def __init__(self, config: Config, pages: Callable[[], Pages]) -> None:
        self.config = config  # another one after a reload
        self._pages = pages
        self._version = product_version()
        self._clock = _ProcessorTime()

    def collect(self) -> Iterator[Metric]:
        """Every family of metrics.py, in its order."""
        pages = self._pages()
        named = [("supervisor", {**pages.supervisor, "pid": os.getpid(), "progress_ns": 0})]
        named += [(f"capture-{c}", dict(page)) for c, page in enumerate(pages.captures)]
        named += [(f"worker-{w}", dict(page)) for w, page in enumerate(pages.workers)]
        named.append(("feed", dict(pages.feed)))
        processes = [self._process(name, page) for name, page in named]
        view = View(self.config, pages, processes, self._version, platform.python_version())
        return (_metric(family, view) for family in FAMILIES)

    def _process(self, name: str, page: Counts) -> Process:
        cpu_s, rss_bytes = _processor_and_memory(page["pid"])
        progress_ns = page["progress_ns"]
        age_s = max(0, time.monotonic_ns() - progress_ns) / 1e9 if progress_ns else 0.0
        return Process(name, rss_bytes > 0, self._clock.over_restarts(name, page["pid"], cpu_s), rss_bytes, age_s)


class _ProcessorTime:
    """Adds up the processor time of the processes that had one role, so that the counter never goes backwards."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[str, tuple[int, float, float]] = {}  # pid, its time, the time of those before

    def over_restarts(self, name: str, pid: int, cpu_s: float) -> float:
        with self._lock:
            known, seconds, before = self._last.get(name, (pid, 0.0, 0.0))
            if known != pid:
                before += seconds
                seconds = 0.0
            seconds = max(seconds, cpu_s)
            self._last[name] = (pid, seconds, before)
            return before + seconds


def _processor_and_memory(pid: int) -> tuple[float, int]:
    """Seconds of processor and bytes of memory; zeros for a process that is not there, or dead and not yet reaped."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # behind the name, which may hold blanks and parentheses
    except OSError:
        return 0.0, 0
    state, user, system, pages = fields[0], fields[11], fields[12], fields[21]  # proc(5): 3, 14, 15 and 24
    if state in (b"Z", b"X"):
        return 0.0, 0
    return (int(user) + int(system)) / TICKS, int(pages) * PAGE_BYTES


def _metric(family: Family, view: View) -> Metric:
    name = PREFIX + family.name
    if family.histogram is not None:
        values = family.histogram(view)
        running, buckets = 0, []
        for bound, count in values.buckets:
            running += count
            buckets.append((bound, float(running)))
        return HistogramMetricFamily(name, family.help, buckets=buckets, sum_value=values.total)
    metric: CounterMetricFamily | GaugeMetricFamily
    if family.kind == "counter":
        metric = CounterMetricFamily(name, family.help, labels=family.labels)
    else:
        metric = GaugeMetricFamily(name, family.help, labels=family.labels)
    for labels, value in family.rows(view) if family.rows else ():
        metric.add_metric(labels, value)
    return metric


Row = tuple[str, str, str, float]  # name without prefix, "counter" or "gauge", help, value


def simple(rows: Iterable[Row]) -> Iterator[Metric]:
    """Metrics of one value each, for a process with an endpoint of its own."""
    for name, kind, about, value in rows:
        metric = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
        yield metric(PREFIX + name, about, value=value)


# -- server ----------------------------------------------------------------------------------------------------------


class MetricsServer:
    """Serves `collect` at /metrics and `healthy` at /healthz until `close`. Both are called from the server's threads.

    bind: HOST:PORT; port 0 takes any free one, `port` says which. healthy: (False, why) makes /healthz answer 503.
    Raises OSError with its errno when the address cannot be had."""

    def __init__(
        self, bind: str, collect: Callable[[], Iterable[Metric]], healthy: Callable[[], tuple[bool, str]]
    ) -> None:
        self._server = _Server(split_address(bind), _Answers(collect, healthy))
        self.port: int = self._server.server_address[1]
        self._wake, self._sleeper = socket.socketpair()
        self._thread = threading.Thread(target=self._server.serve, args=[self._sleeper], name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops listening and cuts off requests that are not answered yet."""
        self._wake.close()
        self._thread.join()
        self._server.server_close()
        self._server.cut_off(float("inf"))
        self._sleeper.close()


class _Answers:
    """What is said at each path: status, content type, body."""

    def __init__(self, collect: Callable[[], Iterable[Metric]], healthy: Callable[[], tuple[bool, str]]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Adapter(collect))
        self._healthy = healthy

    def to(self, path: str) -> tuple[int, str, bytes]:
        if path == "/metrics":
            return 200, METRICS_TYPE, generate_latest(self._registry)
        if path == "/healthz":
            well, text = self._healthy()
            return (200 if well else 503), "text/plain; charset=utf-8", f"{text or 'ok'}\n".encode()
        if path == "/":
            return 200, "text/html; charset=utf-8", _INDEX
        return 404, "text/plain; charset=utf-8", b"not here; try /metrics or /healthz\n"


class _Adapter:
    """A Collector in the words of prometheus_client."""

    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self.collect = collect


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"
    server_version = "appliance"
    sys_version = ""
    timeout = REQUEST_S

    def do_GET(self) -> None:
        try:
            status, kind, body = self.server.answers.to(self.path.partition("?")[0])
        except Exception as error:  # the scrape fails, and says so to both sides; the run goes on
            log.current().exception(type(error), error, error.__traceback__)
            status, kind, body = 500, "text/plain; charset=utf-8", b"the metrics could not be computed\n"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a scrape every 15 s is no news."""


class _Server(ThreadingHTTPServer):
    """Bounded in threads and in time; http.server bounds neither."""

    daemon_threads = True
    request_queue_size = 64
    timeout = 0  # of handle_request, which is called when there is one

    def __init__(self, address: tuple[str, int], answers: _Answers) -> None:
        self.answers = answers
        self._open: dict[socket.socket, float] = {}  # since when, time.monotonic()
        self._lock = threading.Lock()
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(("" if address[0] == "*" else address[0], address[1]), _Handler)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's own asks the resolver for our name, which may take long

    def serve(self, sleeper: socket.socket) -> None:
        """Until the other end of `sleeper` closes. serve_forever would need up to its poll interval to stop, and wake
        up all the time until then."""
        with selectors.DefaultSelector() as selector:
            selector.register(self, selectors.EVENT_READ)
            selector.register(sleeper, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select(1.0 if self._open else None)]
                if sleeper in ready:
                    return
                if ready:
                    self.handle_request()
                self.cut_off(time.monotonic() - REQUEST_S)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        with self._lock:
            if len(self._open) >= MAX_REQUESTS:
                return False
            self._open[request] = time.monotonic()
            return True

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def cut_off(self, before: float) -> None:
        """Ends the requests that began before then; their threads see the end of the connection."""
        with self._lock:
            for request, since in self._open.items():
                if since < before:
                    try:
                        request.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        pass  # its client was faster

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: what is left here is a client that went away."""
