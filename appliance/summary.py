"""What a run tells its operator in words: the progress line, the status line, and the summary with its warnings.

In: snapshots of the stats pages. Out: text. Nothing here prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from appliance.config import Config
from appliance.stats import TOPICS, Counts


class Snapshots(NamedTuple):
    """The pages of a run at one moment."""

    captures: Sequence[Counts]
    workers: Sequence[Counts]
    feed: Counts
    supervisor: Counts

    def total(self, name: str) -> int:
        """The sum of one counter over all captures."""
        return sum(page[name] for page in self.captures)

    def frames(self) -> int:
        return self.total("frames")

    def events(self) -> int:
        return sum(self.feed[f"published.{topic}"] for topic in TOPICS)

    def restarts(self) -> int:
        return sum(value for name, value in self.supervisor.items() if name.startswith("restarts."))


def size(count: float, unit: str = "B") -> str:
    """1234567 as "1.23 MB": three digits and a decimal prefix."""
    for prefix in ("", "k", "M", "G", "T"):
        if abs(count) < 999.5 or prefix == "T":
            break
        count /= 1000
    digits = 0 if prefix == "" else max(0, 2 - (count >= 9.995) - (count >= 99.95))
    return f"{count:.{digits}f} {prefix}{unit}"


def duration(seconds: float) -> str:
    """3725 as "1:02:05", 12.34 as "12.3 s"."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def rates(now: Snapshots, before: Snapshots, seconds: float) -> str:
    """Frames and bits a second between two moments."""
    seconds = max(seconds, 1e-9)
    frames = (now.frames() - before.frames()) / seconds
    bits = 8 * (now.total("wire_bytes") - before.total("wire_bytes")) / seconds
    return f"{size(frames, 'frames/s')}, {size(bits, 'bit/s')}"


def progress(now: Snapshots, before: Snapshots, seconds: float, elapsed: float) -> str:
    """One line about reading a file; the rate is that of the last `seconds`."""
    read, total = now.total("input_bytes_read"), now.total("input_bytes_total")
    speed = (read - before.total("input_bytes_read")) / max(seconds, 1e-9)
    head = size(read)
    if total:
        head = f"{100 * min(read, total) / total:3.0f} %  {size(read)} of {size(total)}"
    line = f"{head}  {rates(now, before, seconds)}  {now.events():,} events"
    if total and speed > 0:
        line += f"  {duration(max(0, total - read) / speed)} left"
    return f"{line}  {duration(elapsed)} so far"


def status(now: Snapshots, before: Snapshots, seconds: float) -> str:
    """One line about live capture since `before`."""
    lost = dropped_frames(now) - dropped_frames(before)
    left_out = now.total("shed_flows") - before.total("shed_flows")
    return (
        f"{rates(now, before, seconds)}, {now.events() - before.events():,} events, {now.events():,} in all, "
        f"{sum(page['flows'] for page in now.workers):,} connections, {lost:,} frames dropped"
        f"{f', {left_out:,} connections left out' if left_out else ''}"
    )


def totals(now: Snapshots, seconds: float) -> str:
    """One line about live capture since its start."""
    lost = dropped_frames(now)
    return (
        f"{now.frames():,} frames, {now.events():,} events, {lost:,} frames dropped, "
        f"{sum(page['flows'] for page in now.workers):,} connections; up {seconds:,.0f} s"
    )


def dropped_frames(now: Snapshots) -> int:
    """Frames that reached this machine's capture and no worker."""
    backlog = sum(value for page in now.captures for name, value in page.items() if name.startswith("dropped_"))
    lost = sum(value for page in now.workers for name, value in page.items() if name.startswith("lost."))
    return now.total("kernel_dropped") + backlog + lost


def closing(now: Snapshots, seconds: float) -> str:
    """The line that closes a run."""
    classes = {topic.removeprefix("http.").rstrip("."): now.feed[f"published.{topic}"] for topic in TOPICS}
    seen = ", ".join(f"{name} {count:,}" for name, count in classes.items() if count)
    frames, octets, seconds = now.frames(), now.total("wire_bytes"), max(seconds, 1e-9)
    return (
        f"{frames:,} frames, {size(octets)}, {now.events():,} events{f' ({seen})' if seen else ''} "
        f"in {duration(seconds)}: {size(frames / seconds, 'frames/s')}, {size(8 * octets / seconds, 'bit/s')}"
    )


class Loss(NamedTuple):
    """What was lost in one way: how much so far, of what, and what to turn."""

    kind: str  # a word
    total: int
    what: str
    remedy: str
    stage: str = ""  # on the way from the wire to the output, if it is what is lost there that `total` counts


def losses(now: Snapshots, config: Config) -> list[Loss]:
    """What was lost, where, and which option to turn; nothing that never happened."""
    found: list[Loss] = []

    def say(count: int, what: str, remedy: str, kind: str, stage: str = "") -> None:
        if count:
            found.append(Loss(kind, count, what, remedy, stage))

    ring, link = f"{config.capture.ring_bytes >> 20}M", config.link_bytes
    say(
        now.total("kernel_dropped"),
        "frames dropped by the kernel before the capture read them",
        f"raise --ring (now {ring}) or narrow --filter",
        "kernel",
        "kernel ring",
    )
    say(
        now.total("kernel_if_dropped"),
        "frames dropped by the interface or its driver",
        "raise its ring: ethtool -G IFACE rx N",
        "nic",
        "card",
    )
    say(
        now.total("shed_flows"),
        f"connections ({now.total('shed_frames'):,} frames) left out as a whole because the machine was not enough",
        f"raise --workers (now {config.worker_count}) or narrow --filter",
        "shed",
        "left out, conn.",
    )
    say(
        -(-now.total("kernel_shed_ns") // 10**9),
        "seconds in which the kernel refused a share of all connections, unseen",
        f"narrow --filter, or raise --ring (now {ring})",
        "kernel_shed",
    )
    say(
        _matching(now.captures, "dropped_backlog."),
        "frames dropped because workers fell behind",
        f"raise --workers (now {config.worker_count}) or [shard] link_bytes (now {link})",
        "link",
        "links",
    )
    say(
        _matching(now.captures, "dropped_stopping."),
        "frames given up while stopping",
        f"raise [run] drain_s (now {config.run.drain_s:g})",
        "stopping",
        "links",
    )
    say(
        _matching(now.captures, "dropped_crash.") + now.total("kernel_abandoned"),
        "frames lost in a capture that was killed",
        "see the messages above",
        "capture_crash",
        "links",
    )
    say(
        now.total("truncated_frames"),
        "frames cut short by the snapshot length",
        f"what is missing is a gap in its stream; raise --snaplen (now {config.capture.snaplen})"
        if config.capture.snaplen < 262144
        else "what is missing is a gap in its stream; capture whole frames",
        "snaplen",
    )
    say(
        _matching(now.workers, "lost.") + sum(page["crash_lost"] for page in now.workers),
        "frames lost on the way to, or in, a worker that was killed",
        "see the messages above",
        "worker_crash",
        "workers",
    )
    say(
        sum(page["quarantined"] for page in now.workers),
        "frames left out because workers died of them twice",
        "look at the files named above, and report it",
        "quarantined",
        "workers",
    )
    say(
        _matching(now.workers, "dropped_backlog."),
        "events dropped because the feed fell behind",
        f"write to a faster disk, or raise [shard] link_bytes (now {link})",
        "feed",
        "events",
    )
    say(
        _matching(now.workers, "dropped_crash.http.") + _matching([now.feed], "lost.") + now.feed["crash_lost"],
        "events lost in, or on the way between, processes that were killed",
        "see the messages above",
        "event_crash",
        "events",
    )
    if not now.feed["output_closed"]:
        say(
            now.feed["dropped_output"],
            f"events could not be written to {config.output.path}",
            "they are on the feed; make room on the disk",
            "output",
            "output",
        )
    return found


def warnings(now: Snapshots, config: Config) -> list[tuple[str, str]]:
    """What the operator should know at the end: (reason, line)."""
    found = [(loss.kind, f"{loss.total:,} {loss.what}; {loss.remedy}") for loss in losses(now, config)]
    if now.restarts():
        found.append(("restart", f"restarts of processes: {now.restarts()}; see the messages above"))
    return found


def _matching(pages: Sequence[Counts], prefix: str) -> int:
    return sum(value for page in pages for name, value in page.items() if name.startswith(prefix))
