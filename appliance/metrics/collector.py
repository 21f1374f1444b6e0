"""Compute the metric families of a run for prometheus_client, from its stats pages and from /proc."""

import os
import platform
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from appliance.config.schema import Config
from appliance.metrics.families import FAMILIES
from appliance.metrics.family import PREFIX, Family, MetricsInput, Process
from appliance.stats.snapshot import Counts, Pages, keepers

TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def product_version() -> str:
    """Return the version of the installed package; "unknown" in a source tree that was never installed."""
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
        """Yield every metric family, in the order of the table."""
        pages = self._pages()
        named = [("supervisor", {**pages.supervisor, "pid": os.getpid(), "progress_ns": 0})]
        named += [(f"capture-{c}", dict(page)) for c, page in enumerate(pages.captures)]
        named += [(f"worker-{w}", dict(page)) for w, page in enumerate(pages.workers)]
        named.append(("feed", dict(pages.feed)))
        named += [(name, dict(page)) for name, page in keepers(pages)]
        processes = [self._process(name, page) for name, page in named]
        view = MetricsInput(self.config, pages, processes, self._version, platform.python_version())
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
    """Return seconds of processor and bytes of memory; zeros for a process that is missing or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # behind the name, which may hold blanks and parentheses
    except OSError:
        return 0.0, 0
    state, user, system, pages = fields[0], fields[11], fields[12], fields[21]  # proc(5): 3, 14, 15 and 24
    if state in (b"Z", b"X"):
        return 0.0, 0
    return (int(user) + int(system)) / TICKS, int(pages) * PAGE_BYTES


def _metric(family: Family, view: MetricsInput) -> Metric:
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
    """Yield metrics of one value each, for a process with an endpoint of its own."""
    for name, kind, about, value in rows:
        metric = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
        yield metric(PREFIX + name, about, value=value)


# -- server ----------------------------------------------------------------------------------------------------------
