"""The sections [shard] and [workers] of the options."""

from typing import Annotated

from appliance.config.field import Section, note

MAX_WORKERS = 256  # size of the sharder's table of open batches


class Shard(Section, frozen=True):
    """The links from a capture to the workers."""

    batch_bytes: Annotated[
        int,
        note(
            "Size of a batch of frames. Large batches cost less per frame; a longer frame gets a batch of its own.",
            unit="bytes",
            ge=4096,
            le=1 << 26,
            reached="the batch is sent",
        ),
    ] = 1048576
    batch_age_ms: Annotated[
        int,
        note(
            "Longest time a frame waits for its batch to fill; most of the latency on a quiet network.",
            unit="milliseconds",
            ge=1,
            le=10000,
            reached="the batch is sent",
        ),
    ] = 20
    link_bytes: Annotated[
        int,
        note(
            "Maximum backlog between a capture and one worker: the memory that a slow or restarting worker "
            "costs. The backlog between a worker and the feed may have half as much, also in shared memory. 0 is "
            "134217728, a tenth of a second at 10 Gbit/s, and 33554432 to read a file, when the capture waits "
            "instead.",
            unit="bytes per worker",
            ge=0,
            le=1 << 36,
            reached="live, the batch (or the events) is dropped; from a file, the sender waits",
            counter='appliance_frames_outcome_total{stage="link",outcome="dropped_backlog"}, '
            'appliance_feed_dropped_events_total{reason="backlog"}',
        ),
    ] = 0


class Workers(Section, frozen=True):
    """The processes that reassemble and parse."""

    count: Annotated[
        int,
        note(
            "Number of workers; 0 is one less than this machine's usable cores, at least 1; as many as cores to "
            "read a file, and 1 for a file that fits into shard.batch_bytes.",
            unit="processes",
            ge=0,
            le=MAX_WORKERS,
        ),
    ] = 0
    quarantine_files: Annotated[
        int,
        note(
            "Batches kept as capture files after two workers died of each, in the folder quarantine of the run "
            "directory, for analysis. Each has about shard.batch_bytes. Such a batch is skipped; 0 keeps none.",
            unit="files",
            ge=0,
            le=1024,
            reached="the oldest file is removed",
            counter="appliance_worker_quarantined_batches_total",
        ),
    ] = 8
    kept_connections: Annotated[
        int,
        note(
            "HTTP/2 connections of a worker whose header tables outlive it in a copy, so that its successor "
            "takes them over. Each takes 48 KiB of the run directory, from when it is needed. 0 keeps none.",
            unit="connections per worker",
            ge=0,
            le=65536,
            reached="the one that was silent the longest gives way; if none was for a second, the new one is not kept",
            counter='appliance_http2_kept_outcomes_total{outcome="no_room"}',
        ),
    ] = 1024
