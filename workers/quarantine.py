"""Batches that workers died of, as capture files: a few, in the run directory, for its user alone.

Their frames may be anybody's, and hostile: nothing of them is in a message."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

from appliance.batch import frames

FOLDER = "quarantine"  # appliance.processes knows it, too
FILE_HEADER = struct.Struct("<IHHiIII")  # magic, version, zone, accuracy, longest frame, link type
FRAME_HEADER = struct.Struct("<IIII")  # seconds, nanoseconds, bytes here, bytes on the wire
NANOSECONDS = 0xA1B23C4D
LONGEST = 1 << 24


def keep(run_dir: Path, name: str, batch: memoryview, link_type: int, limit: int) -> Path | None:
    """Writes the frames of a batch; the oldest files go so that there are at most `limit`. None where there is to be
    none. Raises OSError.

    A datagram that was put together from fragments has no link header any more, and no other reader knows it."""
    if not limit:
        return None
    folder = run_dir / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    known = sorted(folder.glob("*.pcap"), key=lambda path: path.stat().st_mtime_ns)
    for old in known[: max(0, len(known) + 1 - limit)]:
        old.unlink(missing_ok=True)
    path = folder / f"{name}-{time.time_ns():x}.pcap"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(FILE_HEADER.pack(NANOSECONDS, 2, 4, 0, 0, LONGEST, link_type))
        for ts_ns, wirelen, frame in frames(batch):
            seconds, rest = divmod(ts_ns, 10**9)
            file.write(FRAME_HEADER.pack(seconds & 0xFFFFFFFF, rest, len(frame), wirelen) + frame)
    return path
