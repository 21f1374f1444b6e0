"""The picture that `appliance top` draws: two moments of a run, and its slowest hosts, as lines of text.

Nothing here knows a terminal: width and height come in, lines go out, each with how bad it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from appliance import ledger, summary
from appliance.books import under
from appliance.config import Config
from appliance.show import safe
from appliance.slowest import Host
from appliance.stats import METHODS, RESPONSE_BUCKETS_S, STATUS_CLASSES, TOPICS
from appliance.summary import Snapshots, duration, size

CALM, NOTE, ALARM, HEAD = "calm", "note", "alarm", "head"
FIXED_ROWS = 15  # of everything but workers and hosts
HOST_ROWS = 3  # that hosts have at least, beside their heading


class Line(NamedTuple):
    """One line, and how it is to be shown."""

    text: str
    tone: str = CALM


class View(NamedTuple):
    """What one picture is made of."""

    config: Config
    before: Snapshots
    now: Snapshots
    seconds: float  # between the two
    uptime_s: float
    clock: str  # the time of day
    cpu: Mapping[str, float]  # by process ("worker 0"): share of a core
    hosts: Sequence[Host]
    note: str = ""  # about the hosts: why there are none, or which part of the events was looked at

    def rate(self, count: Callable[[Snapshots], int]) -> float:
        """How much a counter grew, per second."""
        return self.per_second(count(self.now) - count(self.before))

    def per_second(self, growth: int) -> float:
        return max(0, growth) / max(self.seconds, 1e-9)


def draw(view: View, width: int, height: int) -> list[Line]:
    """At most `height` lines of at most `width` characters."""
    room = max(0, height - FIXED_ROWS)
    workers = list(_workers(view, min(len(view.now.workers), max(1, room - HOST_ROWS))))
    lines = [*_title(view, width), *_traffic(view), *_losses(view, width), *workers]
    lines += [*_tcp(view), *_http(view), *_feed(view)]
    lines += _hosts(view, width, max(0, height - len(lines) - 1))
    return [Line(line.text[:width].rstrip(), line.tone) for line in lines[:height]]


def _title(view: View, width: int) -> Iterator[Line]:
    names = ", ".join(view.config.interface_names)
    left = f"appliance top  {names}, up {duration(view.uptime_s)}"
    restarts = view.now.restarts()
    right = f"{f'{restarts} restarts  ' if restarts else ''}{view.clock}  q ends"
    yield Line(f"{left[: max(0, width - len(right) - 1)]:<{max(0, width - len(right))}}{right}", HEAD)


def _traffic(view: View) -> Iterator[Line]:
    frames = view.rate(Snapshots.frames)
    bits = 8 * view.rate(lambda pages: pages.total("wire_bytes"))
    waiting = ledger.in_flight(ledger.identities(view.now))
    events = view.rate(Snapshots.events)
    yield Line(f"traffic   {number(frames)} frames/s   {size(bits, 'bit/s')}   {number(events)} events/s   "
               f"{waiting:,} in flight")  # fmt: skip


def _slot(pages: Sequence[Mapping[str, int]], name: str) -> int:
    return sum(page[name] for page in pages)


def _group(pages: Sequence[Mapping[str, int]], *names: str) -> int:
    return sum(under(page, name) for page in pages for name in names)


NEVER_SEEN = "never seen, B"
# From the wire to the output; all but the first as in summary.losses().
STAGES = (NEVER_SEEN, "card", "kernel ring", "left out, conn.", "links", "workers", "events", "output")


def _lost(pages: Snapshots, config: Config) -> Counter[str]:
    """How much was lost at each stage."""
    found = Counter({NEVER_SEEN: _slot(pages.workers, "acked_unseen_bytes")})
    for loss in summary.losses(pages, config):
        found[loss.stage] += loss.total
    return found


def _losses(view: View, width: int) -> Iterator[Line]:
    """Two stages to a line, downwards first."""
    heading = f"{'lost':<17}{'now/s':>9}{'in all':>13}"
    yield Line(f"{heading} {'':1}{heading}", HEAD)
    half = len(STAGES) // 2
    before, now = (_lost(pages, view.config) for pages in (view.before, view.now))
    for left, right in zip(STAGES[:half], STAGES[half:], strict=True):
        cells, worst = [], CALM
        for name in (left, right):
            rate, total = view.per_second(now[name] - before[name]), now[name]
            cells.append(f"  {name:<15}{number(rate):>9}{number(total):>13}")
            worst = ALARM if rate else worst if worst == ALARM or not total else NOTE
        yield Line("  ".join(cells), worst)


def _workers(view: View, rows: int) -> Iterator[Line]:
    """The busiest, as many as there is room for; drift: how far from an equal share."""
    names = (("cpu", 7), ("frames/s", 10), ("share", 7), ("drift", 8), ("connections", 12), ("half open", 11))
    cells = "".join(f"{name:>{width}}" for name, width in (*names, ("lag", 9), ("waiting", 9)))
    yield Line(f"worker{cells}", HEAD)
    pairs = list(zip(view.before.workers, view.now.workers, strict=True))
    rates = [max(0, now["segments"] - before["segments"]) / max(view.seconds, 1e-9) for before, now in pairs]
    total, mean = sum(rates), sum(rates) / max(1, len(rates))
    order = sorted(range(len(pairs)), key=lambda w: -rates[w])[: rows if rows >= len(pairs) else rows - 1]
    for w in sorted(order):
        page = view.now.workers[w]
        share, drift = (rates[w] / total, rates[w] / mean - 1) if total else (0.0, 0.0)
        waiting = sum(capture[f"sent.{w}"] - page[f"received.{c}"] - page[f"lost.{c}"]
                      for c, capture in enumerate(view.now.captures))  # fmt: skip
        lag_s = page["lag_ns"] / 1e9
        tone = ALARM if lag_s > 1 else CALM
        yield Line(
            f"{w:>6}{_percent(view.cpu.get(f'worker {w}')):>7}{number(rates[w]):>10}{_percent(share):>7}"
            f"{f'{100 * drift:+.0f} %':>8}{number(page['flows']):>12}{number(page['half_open']):>11}"
            f"{milliseconds(lag_s):>9}{number(max(0, waiting)):>9}",
            tone,
        )
    if len(order) < len(pairs):
        rest = [rate for w, rate in enumerate(rates) if w not in order]
        yield Line(f"     … {len(rest)} more workers, {number(sum(rest))} frames/s")


def _tcp(view: View) -> Iterator[Line]:
    workers, rate = view.now.workers, view.rate
    ended = max(1, _group(workers, "flows_ended") - _slot(workers, "flows_ended.half_open"))
    one_sided = _slot(workers, "flows_one_sided") / ended
    gaps, wrong = rate(_of("gaps")), rate(_of("checksums.bad"))
    yield Line(
        f"tcp    {number(_slot(workers, 'flows'))} open, {number(rate(_of('flows_opened')))}/s new, "
        f"{_percent(one_sided)} one-sided, {number(wrong)}/s bad checksums",
        NOTE if wrong else CALM,
    )
    shuffled, copies = rate(_of("out_of_order_segments")), rate(_of("duplicate_frames"))
    yield Line(
        f"       {number(gaps)} gaps/s ({size(rate(_of('gap_bytes')), 'B/s')}), {number(shuffled)}/s out of order, "
        f"{number(copies)}/s copies",
        NOTE if gaps else CALM,
    )


def _http(view: View) -> Iterator[Line]:
    rate = view.rate
    classes = [rate(_of(f"responses.{status}")) for status in STATUS_CLASSES]
    unpaired = rate(
        lambda pages: _slot(pages.workers, "pairing.request_only") + _slot(pages.workers, "pairing.response_only")
    )
    heads = "".join(f"{name:>7}" for name in ("2xx/s", "3xx/s", "4xx/s", "5xx/s"))
    yield Line(f"http req/s  {heads}{'unpaired/s':>12}{'errors/s':>10}{'median':>9}{'95 %':>9}", HEAD)
    asked = rate(lambda pages: sum(_slot(pages.workers, f"requests.{method}") for method in METHODS))
    cells = "".join(f"{number(count):>7}" for count in classes[1:])
    middle, most = quantile(view, 0.5), quantile(view, 0.95)
    errors = rate(_of("parse_errors"))
    yield Line(
        f"{number(asked):>12}{cells}{number(unpaired):>12}{number(errors):>10}{middle:>9}{most:>9}",
        NOTE if unpaired or errors else CALM,
    )


def _of(name: str) -> Callable[[Snapshots], int]:
    """A counter of all workers."""
    return lambda pages: _slot(pages.workers, name)


def _feed(view: View) -> Iterator[Line]:
    feed, rate = view.now.feed, view.rate
    octets = rate(lambda pages: sum(pages.feed[f"published_bytes.{topic}"] for topic in TOPICS))
    refused, written = under(feed, "refused"), rate(lambda pages: pages.feed["written_events"])
    yield Line(
        f"feed   {number(rate(Snapshots.events))} events/s, {size(octets, 'B/s')}, {feed['subscribers']:,} readers, "
        f"{number(refused)} refused, {number(written)}/s written",
        NOTE if refused else CALM,
    )


def _hosts(view: View, width: int, rows: int) -> Iterator[Line]:
    room = max(10, width - 42)
    yield Line(f"{'slowest hosts, last minute':<{room}}{'95 %':>10}{'median':>11}{'responses':>12}{'5xx':>9}", HEAD)
    if view.note and rows:
        rows -= 1
    for host in view.hosts[:rows]:
        name = safe(host.name).encode("ascii", "backslashreplace").decode()
        name = name if len(name) < room - 1 else f"{name[: room - 4]}..."
        yield Line(
            f"  {name:<{room - 2}}{milliseconds(host.p95_s):>10}{milliseconds(host.median_s):>11}"
            f"{number(host.responses):>12}{number(host.errors):>9}",
            NOTE if host.errors else CALM,
        )
    if view.note:
        yield Line(f"  {view.note}", NOTE)


# -- words -----------------------------------------------------------------------------------------------------------


def number(count: float) -> str:
    """Up to seven characters: 12,345 in full, 1.23 M beyond; a rate below 10 with a decimal, never 0 if it is not."""
    if count and count < 9.95:
        return f"{max(count, 0.1):.1f}".removesuffix(".0")
    return f"{count:,.0f}" if count < 999_999.5 else size(count, "").strip()


def milliseconds(seconds: float) -> str:
    """0.0123 as "12.3 ms", three digits at most."""
    value = seconds * 1000
    return f"{value:.0f} ms" if value >= 99.95 else f"{value:.1f} ms"


def quantile(view: View, share: float) -> str:
    """The upper bound of the bucket of response times in which this share of the last interval's is reached."""
    names = [f"response_seconds.le.{bound}" for bound in RESPONSE_BUCKETS_S]
    counts = [max(0, _slot(view.now.workers, name) - _slot(view.before.workers, name)) for name in names]
    wanted, seen = share * sum(counts), 0
    for bound, count in zip(RESPONSE_BUCKETS_S, counts, strict=True):
        seen += count
        if seen and seen >= wanted:
            return f"> {RESPONSE_BUCKETS_S[-2]} s" if bound == "inf" else f"< {float(str(bound)) * 1000:g} ms"
    return "-"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"
