"""The metrics that every process has: its log, its restarts, its resources and its fences."""

from collections.abc import Callable

from appliance.metrics.family import MetricsInput, Process, Rows, children, counter, gauge
from appliance.stats.names import FENCES_OF, LOG_REASONS
from appliance.stats.snapshot import keepers


def _log(slot: str) -> Callable[[MetricsInput], Rows]:
    """Sum a slot over all processes."""

    def rows(view: MetricsInput) -> Rows:
        pages = [*children(view), view.pages.supervisor]
        return [([reason], sum(page[f"{slot}.{reason}"] for page in pages)) for reason in LOG_REASONS]

    return rows


def _restarts(view: MetricsInput) -> Rows:
    for slot, count in view.pages.supervisor.items():
        group, _, child = slot.partition(".")
        if group == "restarts":
            hung = view.pages.supervisor[f"hung.{child}"]
            yield [child.replace(".", "-"), "died"], count - hung
            yield [child.replace(".", "-"), "hung"], hung


def _by_process(value: Callable[[Process], float]) -> Callable[[MetricsInput], Rows]:
    return lambda view: [([process.name], value(process)) for process in view.processes]


def _sandbox(view: MetricsInput) -> Rows:
    pages = view.pages
    named = [(f"capture-{c}", page) for c, page in enumerate(pages.captures)]
    named += [(f"worker-{w}", page) for w, page in enumerate(pages.workers)]
    named += [("feed", pages.feed), *keepers(pages)]
    for name, page in [("supervisor", pages.supervisor), *named]:
        for fence in FENCES_OF[name.partition("-")[0]]:
            yield [name, fence], page[f"sandbox.{fence}"]


PROCESS_FAMILIES = (
    counter("log_lines", "Lines logged, by reason.", ("reason",), _log("log_lines")),
    counter("log_suppressed", "Lines suppressed by the rate limit of their reason.",
            ("reason",), _log("log_suppressed")),
    counter("process_restarts", "Restarts of the process, after it died or because it hung.",
            ("process", "reason"), _restarts),
    gauge("process_up", "1 while the process runs.", ("process",), _by_process(lambda process: process.alive)),
    counter("process_cpu_seconds", "Processor time, user and system, summed over restarts.", ("process",),
            _by_process(lambda process: process.cpu_s)),
    gauge("process_resident_memory_bytes", "Memory in use.", ("process",),
          _by_process(lambda process: process.rss_bytes)),
    gauge("process_progress_age_seconds", "Time since the last turn of the process's loop.",
          ("process",), _by_process(lambda process: process.progress_age_s)),
    gauge("sandbox", "1 while this fence is around the process; 0 without it.", ("process", "fence"), _sandbox),
)  # fmt: skip
