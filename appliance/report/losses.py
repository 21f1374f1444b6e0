"""Losses of a run: place, amount, and the option that helps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from appliance.config.address import OFF
from appliance.config.defaults import LONGEST_FRAME
from appliance.config.schema import Config
from appliance.runtime.run_directory import base_directory
from appliance.stats.ledger import Identities, unaccounted
from appliance.stats.snapshot import Counts, Snapshots


def dropped_frames(now: Snapshots) -> int:
    """Count the frames that reached this machine's capture but no worker."""
    backlog = sum(value for page in now.captures for name, value in page.items() if name.startswith("dropped_"))
    lost = sum(value for page in now.workers for name, value in page.items() if name.startswith("lost."))
    return now.total("kernel_dropped") + backlog + lost


class Loss(NamedTuple):
    """One kind of loss: the total so far, its description, and the option that helps."""

    kind: str  # a word
    total: int
    what: str
    remedy: str
    stage: str = ""  # the stage of the data path, if `total` counts losses there


def losses(now: Snapshots, config: Config) -> list[Loss]:
    """Return the losses that happened, each with the option that helps."""
    found: list[Loss] = []

    def add(count: int, what: str, remedy: str, kind: str, stage: str = "") -> None:
        if count:
            found.append(Loss(kind, count, what, remedy, stage))

    ring, link = f"{config.capture.ring_bytes >> 20}M", config.link_bytes
    place = config.run.directory or base_directory()
    room = f"make room there (df; in a container: --shm-size), or lower [shard] link_bytes (now {link})"
    add(
        now.total("kernel_dropped"),
        "frames dropped by the kernel before the capture read them",
        f"raise --ring (now {ring}) or narrow --filter",
        "kernel",
        "kernel ring",
    )
    add(
        now.total("kernel_if_dropped"),
        "frames dropped by the interface or its driver",
        "raise its ring: ethtool -G IFACE rx N",
        "nic",
        "card",
    )
    add(
        now.total("shed_flows"),
        f"connections ({now.total('shed_frames'):,} frames) shed as a whole because of overload",
        f"raise --workers (now {config.worker_count}) or narrow --filter",
        "shed",
        "shed, conn.",
    )
    add(
        -(-now.total("kernel_shed_ns") // 10**9),
        "seconds in which the kernel refused a share of all connections, uncounted",
        f"narrow --filter, or raise --ring (now {ring})",
        "kernel_shed",
    )
    add(
        _matching(now.captures, "dropped_backlog."),
        "frames dropped because workers fell behind",
        f"raise --workers (now {config.worker_count}) or [shard] link_bytes (now {link})",
        "link",
        "links",
    )
    add(
        _matching(now.captures, "dropped_memory."),
        f"frames dropped because {place} is full",
        room,
        "link_memory",
        "links",
    )
    add(
        _matching(now.captures, "dropped_stopping."),
        "frames dropped while stopping",
        f"raise [run] drain_s (now {config.run.drain_s:g})",
        "stopping",
        "links",
    )
    add(
        _matching(now.captures, "dropped_crash.") + now.total("kernel_abandoned"),
        "frames lost in a capture that was killed",
        "see the messages above",
        "capture_crash",
        "links",
    )
    add(
        now.total("truncated_frames"),
        "frames cut short by the snapshot length",
        f"each leaves a gap in its stream; raise --snaplen (now {config.capture.snaplen})"
        if config.capture.snaplen < LONGEST_FRAME
        else "each leaves a gap in its stream; capture whole frames",
        "snaplen",
    )
    add(
        _matching(now.workers, "lost.") + sum(page["crash_lost"] for page in now.workers),
        "frames lost in a worker that was killed, or on the way to it",
        "see the messages above",
        "worker_crash",
        "workers",
    )
    add(
        sum(page["quarantined"] for page in now.workers),
        "frames skipped because they crashed workers twice",
        "examine the files named above, and report it",
        "quarantined",
        "workers",
    )
    add(
        sum(page["quic_datagrams.over_limit"] for page in now.workers),
        "QUIC datagrams left closed, because too many came in a second",
        f"raise [quic] max_initials_per_second (now {config.quic.max_initials_per_second})",
        "quic_limit",
    )
    add(
        _matching(now.workers, "dropped_backlog."),
        "events dropped because the feed fell behind",
        f"write to a faster disk, or raise [shard] link_bytes (now {link})",
        "feed",
        "events",
    )
    add(
        _matching(now.workers, "dropped_memory."),
        f"events dropped because {place} is full",
        room,
        "feed_memory",
        "events",
    )
    add(
        _matching(now.workers, "dropped_share."),
        "events dropped because their connection exceeded its share of the feed",
        "if such a connection is legitimate, raise [feed] connection_share or connection_bytes_s (now "
        f"{config.feed.connection_share:g}, {config.feed.connection_bytes_s})",
        "connection_share",
        "events",
    )
    add(
        _matching(now.workers, "dropped_crash.http.") + _matching([now.feed], "lost.") + now.feed["crash_lost"],
        "events lost in processes that were killed, or on the way between them",
        "see the messages above",
        "event_crash",
        "events",
    )
    if config.output.path != "-" or not now.feed["output_closed"]:  # a closed standard output is no failure
        add(
            now.feed["dropped_output"],
            f"events could not be written to {'standard output' if config.output.path == '-' else config.output.path}",
            "see the messages above" if config.feed.bind == OFF else "they are on the feed; see the messages above",
            "output",
            "output",
        )
    if now.recorder:
        add(
            now.recorder["left_out.behind"] + now.total("past_recorder"),
            "frames not recorded because the recorder was behind",
            f"record on a faster disk (now {config.record.path}), or narrow --filter",
            "record",
        )
        add(
            now.recorder["left_out.disk"],
            "frames not recorded because the disk did not take them",
            f"make room in {config.record.path}, or lower [record] bytes (now {config.record.bytes})",
            "record_disk",
        )
        add(
            now.recorder["crash_lost"] + _matching([now.recorder], "lost."),
            "frames not recorded because the recorder was killed",
            "see the messages above",
            "record_crash",
        )
    if now.keeper:
        add(
            now.keeper["left_out.not_in_ring"],
            "events that match record.only without frames in the ring",
            f"raise [record] bytes (now {config.record.bytes}) or seconds (now {config.record.seconds})",
            "keep",
        )
        add(
            now.keeper["left_out.disk"] + now.keeper["left_out.size"],
            "events that match record.only whose frames had no room",
            f"make room in {config.record.kept_path}, or raise [record] kept_bytes (now {config.record.kept_bytes})",
            "keep_disk",
        )
        add(
            now.feed["past_keeper"],
            "events past record.only because the keeper was behind",
            "a narrower record.only, or a smaller ring, costs it less",
            "keep_link",
        )
        add(
            now.keeper["crash_lost"] + now.keeper["lost.0"],
            "events past record.only because the keeper was killed",
            "see the messages above",
            "keep_crash",
        )
    if now.files:
        add(
            _matching(now.workers, "files_left_out.link") + _matching(now.workers, "files_left_out.open"),
            "files not kept because the files process was behind, or too many were open",
            f"keep files on a faster disk (now {config.files.path}), or fewer [files] types; or raise max_open",
            "files",
        )
        add(
            now.files["left_out.disk"] + now.files["left_out.budget"],
            "files not kept because there was no room for them",
            f"make room in {config.files.path}, or raise [files] budget_bytes (now {config.files.budget_bytes})",
            "files_disk",
        )
        add(
            now.files["crash_lost"] + _matching([now.files], "lost."),
            "files not kept because the files process was killed",
            "see the messages above",
            "files_crash",
        )
    return found


UNDELIVERED = (
    *("output", "event_crash", "worker_crash", "capture_crash", "quarantined", "feed", "link"),
    *("feed_memory", "link_memory"),
)


def undelivered(now: Snapshots, config: Config, identities: Identities) -> bool:
    """Return whether part of a file did not reach the output. A live capture reports it in its losses."""
    if unaccounted(identities):
        return True
    if not config.lossless:
        return False
    used = [w for w, page in enumerate(now.workers) if _matching([page], "received.") + _matching([page], "lost.")]
    died = any(now.supervisor[f"restarts.worker.{w}"] for w in used)  # with the state of its connections
    return died or now.feed["write_errors"] > 0 or any(loss.kind in UNDELIVERED for loss in losses(now, config))


def warnings(now: Snapshots, config: Config) -> list[tuple[str, str]]:
    """Return the warnings for the end of a run: (reason, line)."""
    found = [(loss.kind, f"{loss.total:,} {loss.what}; {loss.remedy}") for loss in losses(now, config)]
    if now.restarts():
        found.append(("restart", f"restarts of processes: {now.restarts()}; see the messages above"))
    return found


def _matching(pages: Sequence[Counts], prefix: str) -> int:
    return sum(value for page in pages for name, value in page.items() if name.startswith(prefix))
