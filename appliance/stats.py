"""Stats pages: what every process counts, in memory that outlives it.

A page is a file of unsigned 64-bit counters, mapped by the one process that writes it and by the supervisor that reads
it. The pages belong to the supervisor: it makes them before it starts a process, so that a counter survives kill -9 and
goes on where it stood. Layout of the file, numbers as the machine has them:

    magic 8 | version u32 | slots u32 | offset of slot 0 u32 | length of names u32 | names, a JSON list | pad | u64 …

A slot is stored and loaded by one aligned 8-byte access, so a reader sees the old value or the new one. Two slots are
not read at one moment: sums over several are exact once the writer is at rest.
"""

import json
import mmap
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

MAGIC = b"APPSTATS"
VERSION = 1
_HEADER = struct.Struct("=8sIIII")
_SLOT = 8

ABSENT, STARTING, READY, DRAINING, DONE = range(5)  # of the slot "state"

TOPICS = ("http.1xx.", "http.2xx.", "http.3xx.", "http.4xx.", "http.5xx.", "http.none.")
STORED_TOPICS = (*TOPICS, "status.")  # what the feed numbers and keeps for replay
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "other")
STATUS_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
RESPONSE_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, "inf")  # upper bounds

# Why something ended, or did not go on; each value counts once.
BLIND = ("down", "gone", "restart", "filter")  # a capture that could see nothing of its interface
FRAGMENT_OUTCOMES = (  # the order of appliance.fragment.Outcome; the last is for the books of a killed capture
    "merged",
    "timeout",
    "evicted",
    "too_short",
    "too_long",
    "truncated",
    "overlapping",
    "inconsistent",
    "too_many",
    "crash",
)
SEGMENT_VERDICTS = ("bad_header", "no_connection", "bad_checksum")
LINK_DROPS = ("dropped_backlog", "dropped_stopping", "dropped_crash")
EVENT_DROPS = ("dropped_backlog", "dropped_crash")
FLOW_ENDS = ("fin", "rst", "timeout", "evicted", "half_open", "reused", "shutdown")
PAYLOAD_OUTCOMES = (
    "delivered",
    "duplicate",
    "conflicting",
    "out_of_window",
    "unacknowledged",
    "late",
    "evicted",
    "past_limit",
    "ignored",
)
CHECKSUM_FAULTS = ("bad", "offloaded", "unverified")
MESSAGE_OUTCOMES = ("complete", "truncated", "failed")
PAIRINGS = ("ordered", "verified", "uncertain", "request_only", "response_only")
DIRECTIONS = ("request", "response")
BODY_OUTCOMES = ("plain", "decoded", "incomplete", "failed", "unknown", "limit")
NOT_HTTP = ("other", "tls", "ssh", "smtp", "http2")
ANOMALIES = (
    "length_and_chunked",
    "lengths_differ",
    "bad_length",
    "bad_chunk",
    "bare_lf",
    "folded_header",
    "space_before_colon",
    "bad_header_line",
    "head_too_long",
    "chunked_not_last",
    "unknown_coding",
    "spaces_in_target",
    "body_cut",
    "overlap_conflict",
    "fragment_conflict",
    "missing_version",
    "odd_version",
    "odd_request_line",
    "odd_status_line",
    "unknown_method",
    "blank_lines",
    "bare_cr",
    "control_in_head",
    "host_missing",
    "hosts_differ",
    "too_many_headers",
    "length_repeated",
    "length_leading_zeros",
    "chunked_repeated",
    "chunked_in_http10",
    "odd_chunk",
    "chunk_section_too_long",
    "extra_bytes",
    "resynchronised",
    "early_response",
    "odd_target",
    "length_not_allowed",
    "body_coding_failed",
    "body_coding_unknown",
    "body_limit",
)
REFUSALS = ("key", "handshake")  # a key that is not allowed; whatever else did not come as far
RELOADS = ("applied", "refused")
REPLAY_RESULTS = ("served", "gone", "invalid", "refused", "abandoned")

PIPELINE_GAUGES = (
    "flows",
    "half_open",
    "pending_bytes",
    "messages.open",
    "head_bytes",
)  # of the living pipeline: they start at 0 in every process
PIPELINE_COUNTERS = (
    "segments",
    *(f"rejected.{verdict}" for verdict in SEGMENT_VERDICTS),
    "duplicate_frames",
    *(f"checksums.{fault}" for fault in CHECKSUM_FAULTS),
    "urgent_segments",
    "resets_ignored",
    "flows",
    "half_open",
    "flows_opened",
    *(f"flows_ended.{end}" for end in FLOW_ENDS),
    "flows_one_sided",
    "payload_bytes",
    *(f"payload.{outcome}" for outcome in PAYLOAD_OUTCOMES),
    "pending_bytes",
    "gaps",
    "gap_bytes",
    "out_of_order_segments",
    "ack_unseen",
    "acked_unseen_bytes",
    "midstream_streams",
    "messages.started",
    *(f"messages.{outcome}" for outcome in MESSAGE_OUTCOMES),
    "messages.open",
    "head_bytes",
    *(f"requests.{method}" for method in METHODS),
    *(f"responses.{status}" for status in STATUS_CLASSES),
    *(f"pairing.{pairing}" for pairing in PAIRINGS),
    "parse_errors",
    "resyncs",
    "retracted",
    *(f"not_http_streams.{kind}" for kind in NOT_HTTP),
    "not_http_bytes",
    "skipped_bytes",
    "tunnels",
    "tunnel_bytes",
    *(f"anomalies.{anomaly}" for anomaly in ANOMALIES),
    *(f"body_bytes.{direction}" for direction in DIRECTIONS),
    *(f"bodies.{outcome}" for outcome in BODY_OUTCOMES),
    "decoded_bytes",
    *(f"response_seconds.le.{bound}" for bound in RESPONSE_BUCKETS_S),  # each value in one bucket: not cumulative
    "response_seconds.sum_ns",
)
LOG_REASONS = (
    "run",
    "loss",
    "source",
    "link",
    "feed",
    "keys",
    "config",
    "sandbox",
    "status",
    "ledger",
    "bug",
)  # of log.py
_LOG = tuple(f"{slot}.{reason}" for slot in ("log_lines", "log_suppressed") for reason in LOG_REASONS)
FENCES = ("capabilities", "no_new_privileges", "undumpable", "seccomp", "landlock", "network", "network_namespace")
FENCES_OF = {"supervisor": FENCES[:4], "capture": FENCES[:5], "worker": FENCES, "feed": FENCES[:5]}
_COMMON = (
    *("state", "pid", "progress_ns", "starts", "error", "generation", "wanted_generation", "config_error"),
    *(f"sandbox.{fence}" for fence in FENCES),
    *_LOG,
)

Counts = Mapping[str, int]


class Pages(Protocol):
    """Snapshots of every page of a run. Take them against the flow (feed, workers, captures): what moves meanwhile is
    then seen where it left and not yet where it arrives, so no difference is negative for that reason."""

    @property
    def captures(self) -> Sequence[Counts]: ...
    @property
    def workers(self) -> Sequence[Counts]: ...
    @property
    def feed(self) -> Counts: ...
    @property
    def supervisor(self) -> Counts: ...


def capture_layout(workers: int, verdicts: Sequence[str]) -> list[str]:
    """The slots of a capture's page; verdicts: appliance.locate.VERDICTS. They count frames unless they say bytes.

    A fragment is a frame with the verdict "fragment" and with one of the outcomes, or it is held. A datagram made of
    fragments is counted as reassembled, and offered, rejected or shed like a frame. shed_steps is the share of new
    flows that this capture wants left out now, in 256ths; kernel_shed_steps what the kernel refuses of all flows, and
    kernel_shed_ns how long it has refused any. opened: how often the source was; blind_ns: see appliance.lookout."""
    names = [*_COMMON, "kernel_received", "kernel_dropped", "kernel_if_dropped", "kernel_abandoned", "looped_frames"]
    names += ["frames", "bytes", "wire_bytes", "truncated_frames", "input_bytes_read", "input_bytes_total"]
    names += ["last_frame_ns", "link_type", *(f"rejected.{verdict}" for verdict in verdicts)]
    names += [*(f"fragments.{outcome}" for outcome in FRAGMENT_OUTCOMES), "fragments.held"]
    names += ["reassembled", "fragment_conflicts", "shed_frames", "shed_bytes", "shed_flows", "shed_evicted"]
    names += ["kernel_shed_steps", "kernel_shed_ns", "opened", "link_down", *(f"blind_ns.{why}" for why in BLIND)]
    per_link = ("offered", "sent", "sent_batches", "sent_bytes", *LINK_DROPS, "shed_steps")
    return names + [f"{name}.{worker}" for worker in range(workers) for name in per_link]


def worker_layout(captures: int) -> list[str]:
    """The slots of a worker's page: what it received by capture, its pipeline, its events by topic.

    What epoch, taking, taken and begun mean is in appliance.hands."""
    per_link = ("received", "received_batches", "received_bytes", "lost", "ended", "epoch", "taking", "taken", "begun")
    names = [*_COMMON, *(f"{name}.{capture}" for capture in range(captures) for name in per_link)]
    names += ["crash_lost", "quarantined", "quarantined_batches"]
    names += ["events_sent", "events_end_sent", "lag_ns", *PIPELINE_COUNTERS]
    return names + [f"{name}.{topic}" for topic in TOPICS for name in ("made", "sent", *EVENT_DROPS)]


def feed_layout(workers: int) -> list[str]:
    """The slots of the feed's page."""
    per_link = ("received", "lost", "ended", "epoch", "taking")
    names = [*_COMMON, *(f"{name}.{worker}" for worker in range(workers) for name in per_link)]
    names += [f"{name}.{topic}" for topic in TOPICS for name in ("published", "published_messages", "published_bytes")]
    names += ["crash_lost", "invalid_messages", "written_events", "written_bytes", "write_errors", "dropped_output"]
    names += ["rotations", "rotation_errors", "archive_errors", "compressed_files", "removed_files", "torn_bytes"]
    names += ["open_events"]
    names += [f"replay_{result}" for result in REPLAY_RESULTS]
    names += ["replay_messages", "replay_bytes", "replay_pauses", "store_messages", "store_bytes", "store_evicted"]
    names += [f"sequence.{topic}" for topic in STORED_TOPICS]  # the last number of each, in this epoch
    names += [f"refused.{reason}" for reason in REFUSALS]
    return [*names, "clients_allowed", "reloads", "output_closed", "subscribers", "heartbeats", "epoch"]


def supervisor_layout(workers: int, captures: int) -> list[str]:
    """The slots of the supervisor's own page. Restarts after a process was killed for not moving are in both groups."""
    children = [*(f"worker.{worker}" for worker in range(workers))]
    children += [*(f"capture.{capture}" for capture in range(captures)), "feed"]
    names = [*_COMMON, *(f"{group}.{child}" for group in ("restarts", "hung") for child in children)]
    return [*names, *(f"reloads.{result}" for result in RELOADS), "reloaded_ns"]


class PageError(ValueError):
    """The file is not a stats page of this version."""


class Page:
    """A mapped page. One process writes it, others read; `close` it, or leave that to the end of the process."""

    def __init__(self, memory: mmap.mmap, first: int, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._slot = {name: slot for slot, name in enumerate(self.names)}
        self._memory = memory
        self._bytes = memoryview(memory)
        self._slots = self._bytes[first : first + _SLOT * len(self.names)].cast("Q")

    @classmethod
    def create(cls, path: Path, names: Sequence[str]) -> "Page":
        """A new page, every slot 0; it replaces an older file, whose mappings stay what they were. Raises OSError."""
        if len(set(names)) != len(names):
            raise ValueError(f"{path}: two slots have the same name")
        listed = json.dumps(list(names)).encode()
        first = -(-(_HEADER.size + len(listed)) // 64) * 64
        content = _HEADER.pack(MAGIC, VERSION, len(names), first, len(listed)) + listed
        part = path.with_name(f"{path.name}.part")
        part.unlink(missing_ok=True)
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            # Written, not left sparse: a full file system is an error here instead of a SIGBUS at some store later.
            file.write(content.ljust(first, b"\0") + bytes(_SLOT * len(names)))
        part.replace(path)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path, *, writable: bool = True) -> "Page":
        """Maps an existing page. Raises OSError, or PageError when it is something else."""
        with path.open("r+b" if writable else "rb") as file:
            if os.fstat(file.fileno()).st_size < _HEADER.size:
                raise PageError(f"{path}: too short for a stats page")
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ)
        magic, version, slots, first, listed = _HEADER.unpack_from(memory)
        fits = _HEADER.size + listed <= first <= len(memory) - _SLOT * slots and first % _SLOT == 0
        if magic != MAGIC or version != VERSION or not fits:
            memory.close()
            raise PageError(f"{path}: not a stats page of version {VERSION}")
        names = json.loads(memory[_HEADER.size : _HEADER.size + listed])
        if len(names) != slots:
            memory.close()
            raise PageError(f"{path}: {len(names)} names for {slots} slots")
        return cls(memory, first, names)

    def __getitem__(self, name: str) -> int:
        return self._slots[self._slot[name]]

    def __setitem__(self, name: str, value: int) -> None:
        """Stores 0 to 2**64 - 1. Raises KeyError for an unknown name, ValueError for another value."""
        self._slots[self._slot[name]] = value

    def add(self, name: str, amount: int) -> None:
        """Adds to a slot that only this process writes."""
        slot = self._slot[name]
        self._slots[slot] += amount

    def update(self, values: Counts) -> None:
        """Stores absolute values; costs some 60 ns each. Raises KeyError for an unknown name."""
        slots, slot = self._slots, self._slot
        for name, value in values.items():
            slots[slot[name]] = value

    def snapshot(self) -> dict[str, int]:
        """Every slot by name."""
        return dict(zip(self.names, self._slots.tolist(), strict=True))

    def close(self) -> None:
        """Unmaps the page; the file stays."""
        self._slots.release()
        self._bytes.release()
        self._memory.close()
