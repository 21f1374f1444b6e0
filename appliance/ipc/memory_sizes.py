"""The sizes of links, and the room that they take in the run directory.

A slot is the memory of one message. A worker keeps the last batches to compare retransmissions with, so it needs more
slots than those on their way.
"""

from __future__ import annotations

from appliance.config.schema import Config
from appliance.ipc.file_batch import FILE_BATCH_BYTES
from appliance.ipc.frame_batch import KEPT_BATCHES

LEAST_RECORD_SLOTS = 4  # of the recorder, in a run directory with little room
MIN_QUEUE = 4  # messages: below, ZeroMQ's batched acknowledgements stall the sender
LONGEST_BATCH = (1 << 18) + 128  # bytes of a batch of one frame: libpcap's longest, with header and record
LEAST_SLOTS = KEPT_BATCHES + 2  # of one worker; with fewer it would keep all slots, and the link would stall
FILLED_SLOTS = 14  # of one capture, which fills them
KEPT_CONNECTION_BYTES = 48 << 10  # of one connection that a worker keeps for its successor
SPARE_SLOTS = 32  # slots that the capture fills, and has filled, while the workers have their whole quota


def queue_length(budget_bytes: int, message_bytes: int, links: int = 1) -> int:
    """Return the high-water mark of one end of a link, in messages.

    ZeroMQ counts messages, and both ends hold a queue.
    """
    return max(MIN_QUEUE, budget_bytes // (message_bytes * links * 2))


def slots(config: Config) -> tuple[int, int]:
    """Return the slots of one worker of one capture, and all slots of that capture's shared memory."""
    shard, workers = config.shard, config.worker_count
    quota = KEPT_BATCHES + queue_length(config.link_bytes, shard.batch_bytes, config.capture_count)
    return quota, workers * (quota + 2) + SPARE_SLOTS + record_quota(config)


def record_quota(config: Config) -> int:
    """Return the slots of one capture that the recorder may keep back; 0 without one."""
    if not config.record.path:
        return 0
    return queue_length(config.link_bytes, config.shard.batch_bytes, config.capture_count)


def arena_bytes(config: Config) -> int:
    """Return the largest size of batches, of frames and of events, in the run directory."""
    captures, batch_bytes = config.capture_count, config.feed.event_batch_bytes
    frames = captures and captures * slots(config)[1] * max(config.shard.batch_bytes, LONGEST_BATCH)
    events = queue_length(config.link_bytes, batch_bytes) * batch_bytes
    copies = copy_slots(config) * batch_bytes
    return frames + config.worker_count * (events + file_slots(config) * FILE_BATCH_BYTES) + copies


def kept_bytes(config: Config) -> int:
    """Return the most room in the run directory for connections that outlive a worker. Batches come first."""
    return config.worker_count * config.workers.kept_connections * KEPT_CONNECTION_BYTES


def file_slots(config: Config) -> int:
    """Return the slots of one worker for files; 0 if none are kept."""
    return queue_length(config.link_bytes, FILE_BATCH_BYTES) if config.files.path else 0


def copy_slots(config: Config) -> int:
    """Return the slots of the feed for copies of events; 0 without a keeper."""
    return queue_length(config.link_bytes, config.feed.event_batch_bytes) if config.record.keeps else 0


def least_bytes(config: Config) -> int:
    """Return the least room in the run directory; with less the workers would keep all slots, and links would stall."""
    count = config.capture_count * (config.worker_count * LEAST_SLOTS + FILLED_SLOTS)
    frames = count * max(config.shard.batch_bytes, LONGEST_BATCH)
    return frames + config.worker_count * config.feed.event_batch_bytes
