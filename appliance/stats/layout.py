"""The slots of each stats page."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.stats.names import (
    BLIND,
    EVENT_DROPS,
    FENCES,
    FILES_LEFT_OUT,
    FILES_REFUSED,
    FILES_REMOVED,
    FRAGMENT_OUTCOMES,
    KEEP_LEFT_OUT,
    KEYLOG_LINES,
    LINK_DROPS,
    LOG_REASONS,
    RECORD_LEFT_OUT,
    REFUSALS,
    RELOADS,
    REPLAY_RESULTS,
    STORED_TOPICS,
    TOPICS,
)
from appliance.stats.pipeline_counters import PIPELINE_COUNTERS

_LOG = tuple(f"{slot}.{reason}" for slot in ("log_lines", "log_suppressed") for reason in LOG_REASONS)
_COMMON = (
    *("state", "pid", "progress_ns", "starts", "error", "generation", "wanted_generation", "config_error"),
    *(f"sandbox.{fence}" for fence in FENCES),
    *_LOG,
)


def capture_layout(workers: int, verdicts: Sequence[str], *, recording: bool = False) -> list[str]:
    """Return the slots of a capture's page. verdicts: those of wire.tcp_locator.

    A slot counts frames unless its name says bytes. A fragment is a frame with the verdict "fragment" and one of the
    fragment outcomes, or the reassembler holds it. A reassembled datagram counts as reassembled, and as offered,
    rejected or shed like a frame. shed_steps is the share of new flows that this capture sheds now, in 256ths.
    kernel_shed_steps is the share of all flows that the kernel filter refuses, and kernel_shed_ns the time during which
    it has refused any. opened counts how often the capture opened its source; interface_monitor defines blind_ns. With
    a recorder, to_recorder counts the frames that went to it as well as to a worker, past_recorder the rest.
    """
    names = [*_COMMON, "kernel_received", "kernel_dropped", "kernel_if_dropped", "kernel_abandoned", "looped_frames"]
    names += ["frames", "bytes", "wire_bytes", "truncated_frames", "input_bytes_read", "input_bytes_total"]
    names += ["last_frame_ns", "link_type", *(f"rejected.{verdict}" for verdict in verdicts)]
    names += [*(f"fragments.{outcome}" for outcome in FRAGMENT_OUTCOMES), "fragments.held"]
    names += ["reassembled", "fragment_conflicts", "shed_frames", "shed_bytes", "shed_flows", "shed_evicted"]
    names += ["kernel_shed_steps", "kernel_shed_ns", "opened", "link_down", *(f"blind_ns.{why}" for why in BLIND)]
    per_link = ("offered", "sent", "sent_batches", "sent_bytes", *LINK_DROPS, "shed_steps")
    names += ["to_recorder", "to_recorder_batches", "past_recorder"] * recording
    return names + [f"{name}.{worker}" for worker in range(workers) for name in per_link]


def worker_layout(captures: int, *, files: bool = False) -> list[str]:
    """Return the slots of a worker's page: frames received by capture, pipeline counters, events by topic.

    appliance.stats.receive_cursor defines epoch, taking, taken and begun. With files, files_sent are the bodies whose
    end the files process was sent, and files_open those without an outcome yet.
    """
    per_link = ("received", "received_batches", "received_bytes", "lost", "ended", "epoch", "taking", "taken", "begun")
    names = [*_COMMON, *(f"{name}.{capture}" for capture in range(captures) for name in per_link)]
    names += ["crash_lost", "quarantined", "quarantined_batches"]
    names += ["events_sent", "events_end_sent", "lag_ns", "keys_taken", *PIPELINE_COUNTERS]
    if files:
        names += ["files_offered", "files_sent", "files_open", *(f"files_left_out.{why}" for why in FILES_LEFT_OUT)]
    return names + [f"{name}.{topic}" for topic in TOPICS for name in ("made", "sent", *EVENT_DROPS)]


def feed_layout(workers: int, *, keeping: bool = False) -> list[str]:
    """Return the slots of the feed's page.

    With a keeper, to_keeper counts the events that it was sent, past_keeper those without room on the link.
    """
    per_link = ("received", "lost", "ended", "epoch", "taking")
    names = [*_COMMON, *(f"{name}.{worker}" for worker in range(workers) for name in per_link)]
    names += [f"{name}.{topic}" for topic in TOPICS for name in ("published", "published_messages", "published_bytes")]
    names += ["crash_lost", "invalid_messages", "written_events", "written_bytes", "write_errors", "dropped_output"]
    names += ["rotations", "rotation_errors", "archive_errors", "compressed_files", "removed_files", "torn_bytes"]
    names += ["open_events", "output_opened"]
    names += [f"replay_{result}" for result in REPLAY_RESULTS]
    names += ["replay_messages", "replay_bytes", "replay_pauses", "store_messages", "store_bytes", "store_evicted"]
    names += [f"sequence.{topic}" for topic in STORED_TOPICS]  # the last number of each, in this epoch
    names += [f"refused.{reason}" for reason in REFUSALS]
    names += ["to_keeper", "past_keeper"] * keeping
    return [*names, "clients_allowed", "reloads", "output_closed", "subscribers", "heartbeats", "epoch"]


def recorder_layout(captures: int) -> list[str]:
    """Return the slots of the recorder's page: frames by capture and by what became of them, and its ring."""
    per_link = ("received", "received_batches", "lost", "ended", "epoch", "taking")
    names = [*_COMMON, *(f"{name}.{capture}" for capture in range(captures) for name in per_link)]
    names += ["recorded", "recorded_bytes", *(f"left_out.{reason}" for reason in RECORD_LEFT_OUT), "crash_lost"]
    names += ["left_out_share", "write_errors", "removed_files", "torn_bytes", "invalid_messages"]
    return [*names, "ring_bytes", "ring_files", "ring_oldest_ns"]


def keeper_layout() -> list[str]:
    """Return the slots of the keeper's page: events by what became of them, and its folder.

    kept counts events whose frames were copied, waiting those whose frames it will look for.
    """
    names = [*_COMMON, *(f"{name}.0" for name in ("received", "lost", "ended", "epoch", "taking"))]
    names += ["unmatched", "kept", *(f"left_out.{reason}" for reason in KEEP_LEFT_OUT), "waiting", "crash_lost"]
    names += ["kept_frames", "kept_files", "removed_files", "write_errors", "invalid_messages", "look_ns"]
    return [*names, "stored_files", "stored_bytes"]


def files_layout(workers: int) -> list[str]:
    """Return the slots of the page of the files process: bodies by worker, their outcomes, and its folder."""
    per_link = ("received", "lost", "ended", "epoch", "taking")
    names = [*_COMMON, *(f"{name}.{worker}" for worker in range(workers) for name in per_link)]
    names += ["kept", "kept_bytes", "duplicates", *(f"left_out.{why}" for why in FILES_REFUSED), "crash_lost"]
    names += [*(f"removed.{why}" for why in FILES_REMOVED), "write_errors", "invalid_messages"]
    return [*names, "stored_files", "stored_bytes", "oldest_ns"]


def supervisor_layout(
    workers: int, captures: int, *, recording: bool = False, keeping: bool = False, files: bool = False
) -> list[str]:
    """Return the slots of the supervisor's page. A restart after a hang is in both groups."""
    children = [*(f"worker.{worker}" for worker in range(workers))]
    children += [
        *(f"capture.{capture}" for capture in range(captures)),
        "feed",
        *["recorder"] * recording,
        *["keeper"] * keeping,
        *["files"] * files,
    ]
    names = [*_COMMON, *(f"{group}.{child}" for group in ("restarts", "hung") for child in children)]
    names += [*(f"reloads.{result}" for result in RELOADS), "reloaded_ns", "blind_ns"]
    # Secrets of TLS sessions: keys_told is the number of a capture's last message, keys_added that of its last secret.
    names += [f"keylog_lines.{kind}" for kind in KEYLOG_LINES]
    return [*names, "keylog_bytes", "keylog_restarts", "keys_added", "keys_told", "keys_kept"]
