"""A metric, the input of all metrics, and the usual ways to compute the values of one.

Pure: a `MetricsInput` of the run in, samples out.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from appliance.config.schema import Config
from appliance.stats.names import DRAINING, READY
from appliance.stats.snapshot import Counts, Pages, keepers

PREFIX = "appliance_"
INTERFACE, WORKER = ("interface",), ("worker",)  # labels of most families


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


def counter(name: str, help: str, labels: Sequence[str], rows: Callable[[MetricsInput], Rows]) -> Family:
    """Return a counter, whose name gets `_total` in the scrape."""
    return Family(name, "counter", help, labels, rows)


def gauge(name: str, help: str, labels: Sequence[str], rows: Callable[[MetricsInput], Rows]) -> Family:
    """Return a gauge."""
    return Family(name, "gauge", help, labels, rows)


def one(value: Callable[[MetricsInput], float]) -> Callable[[MetricsInput], Rows]:
    """Return the rows of a metric with one sample."""
    return lambda view: [([], value(view))]


def by_interface(slot: str, scale: float = 1) -> Callable[[MetricsInput], Rows]:
    """Return the rows of a slot of the captures."""
    return lambda view: [([name], page[slot] * scale) for name, page in interfaces(view)]


def by_worker(slot: str, scale: float = 1) -> Callable[[MetricsInput], Rows]:
    """Return the rows of a slot of the workers."""
    return lambda view: [([str(w)], page[slot] * scale) for w, page in enumerate(view.pages.workers)]


def interfaces(view: MetricsInput) -> Iterator[tuple[str, Counts]]:
    """Yield each interface with the page of its capture."""
    return zip(view.config.interface_names, view.pages.captures, strict=True)


def verdicts(page: Counts) -> Iterator[tuple[str, int]]:
    """Yield each verdict on frames that a capture rejects, with their number."""
    return ((name.partition(".")[2], count) for name, count in page.items() if name.startswith("rejected."))


def children(view: MetricsInput) -> list[Counts]:
    """Return the pages of all processes except the supervisor."""
    pages = view.pages
    return [*pages.captures, *pages.workers, pages.feed, *(page for _, page in keepers(pages))]
