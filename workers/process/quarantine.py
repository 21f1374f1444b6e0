"""Quarantine: batches that crashed workers, as capture files: a few, in the run directory, for its user alone.

A worker writes in its own folder only. The supervisor moves the files from there, and removes the oldest.
Their frames may be private or hostile: no message contains any part of them."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

from appliance.ipc.frame_batch import frames
from appliance.native.safe_files import OUTPUT_MODE
from appliance.runtime.paths import Paths, part_of

FILE_HEADER = struct.Struct("<IHHiIII")  # magic, version, zone, accuracy, longest frame, link type
FRAME_HEADER = struct.Struct("<IIII")  # seconds, nanoseconds, bytes here, bytes on the wire
NANOSECONDS = 0xA1B23C4D
LONGEST = 1 << 24


def keep(run_dir: Path, worker: int, batch: memoryview, link_type: int, limit: int) -> Path | None:
    """Write the frames of a batch, and return the file's later place, or None at a limit of 0 files.

    A datagram reassembled from fragments has no link header any more, so other readers cannot decode it.
    Raises OSError, and BadBatch if a record of the batch cannot be read.
    """
    if not limit:
        return None
    records = frames(batch)
    paths = Paths(run_dir)
    path = paths.quarantine_file(worker, time.time_ns())
    part = part_of(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with open(os.open(part, flags, OUTPUT_MODE), "wb") as file:
        file.write(FILE_HEADER.pack(NANOSECONDS, 2, 4, 0, 0, LONGEST, link_type))
        for ts_ns, wirelen, frame in records:
            seconds, rest = divmod(ts_ns, 10**9)
            file.write(FRAME_HEADER.pack(seconds & 0xFFFFFFFF, rest, len(frame), wirelen) + frame)
    part.rename(path)  # whole: it may be moved from here at any time
    return paths.quarantined(path.name)
