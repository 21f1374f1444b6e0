"""The picture of `appliance top`: two moments of a run and its slowest hosts, as lines of text.

Nothing here knows a terminal: width and height come in, lines go out, each with its severity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from appliance.config.schema import Config
from appliance.report import losses
from appliance.report import no_events as reasons
from appliance.stats import ledger
from appliance.stats.links import ReceivedLink, SentLink
from appliance.stats.names import METHODS, RESPONSE_BUCKETS_S, STATUS_CLASSES, TLS_HANDSHAKES, TOPICS
from appliance.stats.snapshot import Snapshots, under
from appliance.text.terminal import fit, plain, safe, shortened
from appliance.text.units import duration, size
from appliance.top.host_latency import Host

CALM, NOTE, ALARM, HEAD = "calm", "note", "alarm", "head"
FIXED_ROWS = 17  # all rows but those of workers and hosts
USUAL = 80  # columns: text is wrapped at this width
TWO_STAGES = 80  # minimum columns for two stages of losses side by side
LEAST_NAME = 12  # minimum columns of a host's name
HOST_ROWS = 3  # minimum rows of hosts, beside their heading


class ScreenLine(NamedTuple):
    """One line and its style."""

    text: str
    tone: str = CALM


class Sample(NamedTuple):
    """The data of one picture."""

    config: Config
    before: Snapshots
    now: Snapshots
    seconds: float  # between the two
    uptime_s: float
    clock: str  # the time of day
    cpu: Mapping[str, float]  # by process ("worker 0"): share of a core
    hosts: Sequence[Host]
    note: str = ""  # about the hosts: why there are none, or which share of the events was decoded

    def rate(self, count: Callable[[Snapshots], int]) -> float:
        """Return the growth of a counter per second."""
        return self.per_second(count(self.now) - count(self.before))

    def per_second(self, growth: int) -> float:
        return max(0, growth) / max(self.seconds, 1e-9)


def draw(sample: Sample, width: int, height: int) -> list[ScreenLine]:
    """Return at most `height` lines of at most `width` characters."""
    room = max(0, height - FIXED_ROWS)
    workers = list(_workers(sample, width, min(len(sample.now.workers), max(1, room - HOST_ROWS))))
    lines = [*_title(sample, width), *_traffic(sample, width), *_losses(sample, width), *workers]
    lines += [*_tcp(sample, width), *_http(sample, width), *_protocols(sample, width)]
    lines += [*_reason(sample, width), *_feed(sample, width), *_record(sample, width)]
    lines += _hosts(sample, width, max(0, height - len(lines) - 1))
    return [ScreenLine(plain(line.text)[:width].rstrip(), line.tone) for line in lines[:height]]


def _title(sample: Sample, width: int) -> Iterator[ScreenLine]:
    names = ", ".join(sample.config.interface_names)
    restarts = sample.now.restarts()
    right = fit([(f"{restarts} restarts" if restarts else "", 0), (sample.clock, 1), ("q ends", 2)], width).strip()
    up = f"up {duration(sample.uptime_s)}"
    room = width - len(right) - len(f"appliance top  , {up}") - 2
    left = f"appliance top  {shortened(plain(names), room)}, {up}" if room > 1 else ""
    if not left:
        left = fit([("appliance top", 2), (up, 1)], width - len(right) - 2)
    yield ScreenLine(f"{left}{' ' * (width - len(left) - len(right))}{right}", HEAD)


def _traffic(sample: Sample, width: int) -> Iterator[ScreenLine]:
    frames = sample.rate(Snapshots.frames)
    bits = 8 * sample.rate(lambda pages: pages.total("wire_bytes"))
    waiting = ledger.in_flight(ledger.identities(sample.now))
    events = sample.rate(Snapshots.events)
    parts = [(f"traffic   {number(frames)} frames/s", 0), (size(bits, "bit/s"), 1), (f"{number(events)} events/s", 2)]
    yield ScreenLine(fit([*parts, (f"{waiting:,} in flight", 3)], width, "   "))


def _slot(pages: Sequence[Mapping[str, int]], name: str) -> int:
    return sum(page[name] for page in pages)


def _group(pages: Sequence[Mapping[str, int]], *names: str) -> int:
    return sum(under(page, name) for page in pages for name in names)


NEVER_SEEN = "never seen, B"
# From the wire to the output; all but the first are stages of losses.losses().
STAGES = (NEVER_SEEN, "card", "kernel ring", "shed, conn.", "links", "workers", "events", "output")


def _lost(pages: Snapshots, config: Config) -> Counter[str]:
    """Count the losses of each stage."""
    found = Counter({NEVER_SEEN: _slot(pages.workers, "acked_unseen_bytes")})
    for loss in losses.losses(pages, config):
        found[loss.stage] += loss.total
    return found


def _losses(sample: Sample, width: int) -> Iterator[ScreenLine]:
    """Yield two stages per line, in column order; one per line if the screen is narrow."""
    heading = f"{'lost':<17}{'now/s':>9}{'in all':>13}"
    yield ScreenLine(fit([(heading, 0), (heading, 1)], width), HEAD)
    half = len(STAGES) // 2
    before, now = (_lost(pages, sample.config) for pages in (sample.before, sample.now))
    pairs = (
        list(zip(STAGES[:half], STAGES[half:], strict=True)) if width >= TWO_STAGES else [(name,) for name in STAGES]
    )
    for names in pairs:
        cells, worst = [], CALM
        for name in names:
            rate, total = sample.per_second(now[name] - before[name]), now[name]
            cells.append(f"  {name:<15}{number(rate):>9}{number(total):>13}")
            worst = ALARM if rate else worst if worst == ALARM or not total else NOTE
        yield ScreenLine(fit([(cell, 0) for cell in cells], width), worst)


def _workers(sample: Sample, width: int, rows: int) -> Iterator[ScreenLine]:
    """Yield the busiest workers that fit; drift: deviation from an equal share."""
    table, tones = (
        [["worker", "cpu", "frames/s", "share", "drift", "connections", "half open", "lag", "waiting"]],
        [HEAD],
    )
    pairs = list(zip(sample.before.workers, sample.now.workers, strict=True))
    rates = [max(0, now["segments"] - before["segments"]) / max(sample.seconds, 1e-9) for before, now in pairs]
    total, mean = sum(rates), sum(rates) / max(1, len(rates))
    order = sorted(range(len(pairs)), key=lambda w: -rates[w])[: rows if rows >= len(pairs) else rows - 1]
    for w in sorted(order):
        page = sample.now.workers[w]
        share, drift = (rates[w] / total, rates[w] / mean - 1) if total else (0.0, 0.0)
        waiting = sum(SentLink(capture, w).sent - ReceivedLink(page, c).accounted
                      for c, capture in enumerate(sample.now.captures))  # fmt: skip
        lag_s = page["lag_ns"] / 1e9
        tones.append(ALARM if lag_s > 1 else CALM)
        table.append([
            str(w), _percent(sample.cpu.get(f"worker {w}")), number(rates[w]), _percent(share), f"{100 * drift:+.0f} %",
            number(page["flows"]), number(page["half_open"]), milliseconds(lag_s), number(max(0, waiting)),
        ])  # fmt: skip
    yield from map(ScreenLine, grid(table, (6, 6, 10, 7, 8, 12, 11, 9, 9), width), tones)
    if len(order) < len(pairs):
        rest = [rate for w, rate in enumerate(rates) if w not in order]
        parts = [(f"     … {len(rest)} more workers", 0), (f"{number(sum(rest))} frames/s", 1)]
        yield ScreenLine(fit(parts, width, ", "))


def _tcp(sample: Sample, width: int) -> Iterator[ScreenLine]:
    workers, rate = sample.now.workers, sample.rate
    ended = max(1, _group(workers, "flows_ended") - _slot(workers, "flows_ended.half_open"))
    one_sided = _slot(workers, "flows_one_sided") / ended
    gaps, wrong = rate(_of("gaps")), rate(_of("checksums.bad"))
    parts = [(f"tcp    {number(_slot(workers, 'flows'))} open", 0), (f"{number(rate(_of('flows_opened')))}/s new", 1)]
    parts += [(f"{_percent(one_sided)} one-sided", 2), (f"{number(wrong)}/s bad checksums", 3)]
    yield ScreenLine(fit(parts, width, ", "), NOTE if wrong else CALM)
    shuffled, copies = rate(_of("out_of_order_segments")), rate(_of("duplicate_frames"))
    parts = [(f"       {number(gaps)} gaps/s ({size(rate(_of('gap_bytes')), 'B/s')})", 0)]
    parts += [(f"{number(shuffled)}/s out of order", 1), (f"{number(copies)}/s copies", 2)]
    yield ScreenLine(fit(parts, width, ", "), NOTE if gaps else CALM)


def _http(sample: Sample, width: int) -> Iterator[ScreenLine]:
    rate = sample.rate
    classes = [rate(_of(f"responses.{status}")) for status in STATUS_CLASSES]
    unpaired = rate(
        lambda pages: _slot(pages.workers, "pairing.request_only") + _slot(pages.workers, "pairing.response_only")
    )
    names = ["http req/s", "2xx/s", "3xx/s", "4xx/s", "5xx/s", "unpaired/s", "errors/s", "median", "95 %"]
    asked = rate(lambda pages: sum(_slot(pages.workers, f"requests.{method}") for method in METHODS))
    cells = [number(count) if count < 99_999.5 else size(count, "").strip() for count in classes[1:]]
    errors = rate(_of("parse_errors"))
    cells += [number(unpaired), number(errors), quantile(sample, 0.5), quantile(sample, 0.95)]
    lines = grid([names, [number(asked), *cells]], (10, 7, 7, 7, 7, 11, 9, 10, 10), width)
    yield from map(ScreenLine, lines, (HEAD, NOTE if unpaired or errors else CALM))


def _protocols(sample: Sample, width: int) -> Iterator[ScreenLine]:
    """Yield lines about HTTP/2, and about WebSocket, TLS and QUIC: those of them that were seen."""
    workers, rate = sample.now.workers, sample.rate
    parts: list[str] = []
    if _slot(workers, "http2_streams"):
        streams, reset = rate(_of("http2_streams")), rate(lambda pages: _group(pages.workers, "http2_resets"))
        text = f"http2  {number(streams)} streams/s, {number(_slot(workers, 'http2_streams_open'))} open"
        yield ScreenLine(fit([(text, 0), (f"{number(reset)}/s reset", 1)], width, ", "), NOTE if reset else CALM)
    if _slot(workers, "websockets.started"):
        text = f"websocket {number(_slot(workers, 'websockets.open'))} open"
        parts.append(f"{text} ({number(rate(_of('websocket_messages')))} messages/s)")
    handshakes = [f"tls_handshakes.{outcome}" for outcome in TLS_HANDSHAKES]
    if sum(_slot(workers, name) for name in handshakes):
        made = rate(lambda pages: sum(_slot(pages.workers, name) for name in handshakes))
        parts.append(f"tls {number(made)}/s")
    if _slot(workers, "quic_connections_opened"):
        parts.append(f"quic {number(rate(_of('quic_connections_opened')))}/s")
    if parts:
        yield ScreenLine(fit([(part, at) for at, part in enumerate(parts)], width, ", "))


def _reason(sample: Sample, width: int) -> Iterator[ScreenLine]:
    """Yield a line with the reason for no event, or with the dominant protocol if that is not HTTP/1."""
    indent = " " * 7
    room = min(width, USUAL) - len(indent)
    why = reasons.no_event(sample.now, sample.config, room)
    text = why.text if why else reasons.mostly(sample.now, sample.before, room)
    if text:
        yield ScreenLine(f"{indent}{text}", NOTE)


def _of(name: str) -> Callable[[Snapshots], int]:
    """Return a function that sums a counter over all workers."""
    return lambda pages: _slot(pages.workers, name)


def _feed(sample: Sample, width: int) -> Iterator[ScreenLine]:
    feed, rate = sample.now.feed, sample.rate
    octets = rate(lambda pages: sum(pages.feed[f"published_bytes.{topic}"] for topic in TOPICS))
    refused, written = under(feed, "refused"), rate(lambda pages: pages.feed["written_events"])
    parts = [(f"feed   {number(rate(Snapshots.events))} events/s", 0), (size(octets, "B/s"), 3)]
    parts += [(f"{feed['subscribers']:,} readers", 1), (f"{number(refused)} refused", 2)]
    yield ScreenLine(fit([*parts, (f"{number(written)}/s saved", 4)], width, ", "), NOTE if refused else CALM)


def _record(sample: Sample, width: int) -> Iterator[ScreenLine]:
    page = sample.now.recorder
    if not page:
        return
    octets = sample.rate(lambda pages: pages.recorder["recorded_bytes"])
    left_out = sample.rate(lambda pages: under(pages.recorder, "left_out") + pages.total("past_recorder"))
    parts = [(f"record {size(octets, 'B/s')}", 0), (f"{number(left_out)} frames/s left out", 1)]
    parts.append((f"ring {size(page['ring_bytes'])} of {size(sample.config.record.bytes)}", 2))
    yield ScreenLine(fit(parts, width, ", "), NOTE if left_out else CALM)
    page = sample.now.keeper
    if not page:
        return
    left_out = sample.rate(lambda pages: under(pages.keeper, "left_out") + pages.feed["past_keeper"])
    parts = [(f"keep   {number(sample.rate(lambda pages: pages.keeper['kept']))} events/s", 0)]
    parts += [(f"{number(left_out)} left out", 1), (f"{page['waiting']:,} waiting", 3)]
    parts.append((f"{size(page['stored_bytes'])} of {size(sample.config.record.kept_bytes)}", 2))
    yield ScreenLine(fit(parts, width, ", "), NOTE if left_out else CALM)


def _hosts(sample: Sample, width: int, rows: int) -> Iterator[ScreenLine]:
    """Yield the slowest hosts. A name gets the width that the numbers leave; a long one ends with "..."."""
    shown = sample.hosts[: max(0, rows - bool(sample.note))]
    table = [["95 %", "median", "responses", "5xx"]]
    table += [
        [milliseconds(host.p95_s), milliseconds(host.median_s), number(host.responses), number(host.errors)]
        for host in shown
    ]
    names = ["slowest hosts, last minute", *(f"  {_ascii(safe(host.name))}" for host in shown)]
    tones = [HEAD, *(NOTE if host.errors else CALM for host in shown)]
    numbers = grid(table, (9, 9, 10, 8), max(0, width - LEAST_NAME))
    room = max(0, width - max(map(len, numbers)) - 1)
    for name, cells, tone in zip(names, numbers, tones, strict=True):
        shortest = name if len(name) <= room else f"{name[: max(0, room - 3)]}..."[:room]
        yield ScreenLine(f"{shortest:<{room}} {cells}", tone)
    if sample.note:
        yield ScreenLine(shortened(f"  {sample.note}", width), NOTE)


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()


def grid(rows: Sequence[Sequence[str]], least: Sequence[int], width: int) -> list[str]:
    """Format right-aligned columns, each as wide as `least` or as its widest cell and a blank.

    If `width` is too small, drop blanks between columns, then whole columns from the right; no cell is cut.
    """
    needed = [max(map(len, column)) + (place > 0) for place, column in enumerate(zip(*rows, strict=True))]
    widths = [max(pair) for pair in zip(needed, least, strict=True)]
    spare = sum(widths) - width
    for place in range(len(widths)):
        taken = min(max(0, spare), widths[place] - needed[place])
        widths[place], spare = widths[place] - taken, spare - taken
    while widths and sum(widths) > width:
        widths.pop()
    return ["".join(f"{cell:>{size}}" for cell, size in zip(row, widths, strict=False)) for row in rows]


# -- words -----------------------------------------------------------------------------------------------------------


def number(count: float) -> str:
    """Format a count in up to seven characters: 12,345 in full, 1.23 M beyond; a rate below 10 with a decimal, 0 only
    for 0.
    """
    if count and count < 9.95:
        return f"{max(count, 0.1):.1f}".removesuffix(".0")
    return f"{count:,.0f}" if count < 999_999.5 else size(count, "").strip()


def milliseconds(seconds: float) -> str:
    """Format a time: 0.0123 as "12.3 ms", at most four digits; from 10 s on, seconds."""
    value = seconds * 1000
    if value >= 9999.5:
        return f"{number(seconds)} s"
    return f"{value:.0f} ms" if value >= 99.95 else f"{value:.1f} ms"


def quantile(sample: Sample, share: float) -> str:
    """Return the upper bound of the bucket in which this share of the interval's response times is reached."""
    names = [f"response_seconds.le.{bound}" for bound in RESPONSE_BUCKETS_S]
    counts = [max(0, _slot(sample.now.workers, name) - _slot(sample.before.workers, name)) for name in names]
    wanted, seen = share * sum(counts), 0
    for bound, count in zip(RESPONSE_BUCKETS_S, counts, strict=True):
        seen += count
        if seen and seen >= wanted:
            return f"> {RESPONSE_BUCKETS_S[-2]} s" if bound == "inf" else f"< {float(str(bound)) * 1000:g} ms"
    return "-"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"
