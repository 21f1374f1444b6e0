"""Status of a run in words: the progress line, the status line, and the summary with its warnings.

In: snapshots of the stats pages. Out: text. Nothing here prints.
"""

from __future__ import annotations

from appliance.report.losses import dropped_frames
from appliance.stats.names import TOPICS
from appliance.stats.snapshot import Snapshots
from appliance.text.terminal import fit
from appliance.text.units import duration, size

UNLIMITED = 1 << 30  # characters of a line
CLOSED = "ledger closed"


def rates(now: Snapshots, before: Snapshots, seconds: float) -> str:
    """Format frames and bits a second between two moments."""
    seconds = max(seconds, 1e-9)
    frames = (now.frames() - before.frames()) / seconds
    bits = 8 * (now.total("wire_bytes") - before.total("wire_bytes")) / seconds
    return f"{size(frames, 'frames/s')}, {size(bits, 'bit/s')}"


def progress(now: Snapshots, before: Snapshots, seconds: float, elapsed: float, width: int = UNLIMITED) -> str:
    """Format one line about reading a file; the rate covers the last `seconds`. Whole parts that exceed `width` are
    dropped.
    """
    read, total = now.total("input_bytes_read"), now.total("input_bytes_total")
    speed = (read - before.total("input_bytes_read")) / max(seconds, 1e-9)
    parts = [(f"{100 * min(read, total) / total:3.0f} %", 0)] if total else []
    parts += [(f"{size(read)} of {size(total)}" if total else size(read), 2 if total else 0)]
    parts += [(rates(now, before, seconds), 5), (f"{now.events():,} events", 1)]
    if total and speed > 0:
        parts.append((f"{duration(max(0, total - read) / speed)} left", 3))
    return fit([*parts, (f"{duration(elapsed)} so far", 4)], width)


def status(now: Snapshots, before: Snapshots, seconds: float) -> str:
    """Format one line about live capture since `before`."""
    lost = dropped_frames(now) - dropped_frames(before)
    shed = now.total("shed_flows") - before.total("shed_flows")
    return (
        f"{rates(now, before, seconds)}, {now.events() - before.events():,} events, {now.events():,} in all, "
        f"{sum(page['flows'] for page in now.workers):,} connections, {lost:,} frames dropped"
        f"{f', {shed:,} connections shed' if shed else ''}"
    )


def totals(now: Snapshots, seconds: float) -> str:
    """Format one line about live capture since its start."""
    lost = dropped_frames(now)
    return (
        f"{now.frames():,} frames, {now.events():,} events, {lost:,} frames dropped, "
        f"{sum(page['flows'] for page in now.workers):,} connections; up {seconds:,.0f} s"
    )


def closing(now: Snapshots, seconds: float, width: int = UNLIMITED, ledger: str = "") -> str:
    """Format the closing line of a run. If it exceeds `width`, drop the rates, then the classes."""
    classes = {topic.removeprefix("http.").rstrip("."): now.feed[f"published.{topic}"] for topic in TOPICS}
    seen = ", ".join(f"{name} {count:,}" for name, count in classes.items() if count)
    frames, octets, seconds = now.frames(), now.total("wire_bytes"), max(seconds, 1e-9)
    text = f"{frames:,} frames, {size(octets)}, {now.events():,} events"
    speed = f": {size(frames / seconds, 'frames/s')}, {size(8 * octets / seconds, 'bit/s')}"
    least, meaning = f" in {duration(seconds)}", ": nothing is unaccounted for" if ledger == CLOSED else ""
    end = f"; {ledger}" if ledger else ""
    parts = [(text, 0), (f" ({seen})" if seen else "", 1), (least, 0), (speed, 2), (end, 0), (meaning, 3)]
    return fit(parts, width, "") or f"{text}{least}{end}"
