"""The end of the last whole line of an output file."""

from __future__ import annotations

import json
import os
from pathlib import Path

TAIL_READ_BYTES = 65536  # bytes read at a time from the end of a file, to find its last line


def end_of_lines(path: Path) -> int:
    """Return the end of the last whole line. A line without its newline counts; a partial event does not."""
    with path.open("rb") as file:
        size = place = file.seek(0, os.SEEK_END)
        tail = b""
        while place and b"\n" not in tail:
            step = min(TAIL_READ_BYTES, place)
            place -= step
            file.seek(place)
            tail = file.read(step) + tail
    last = tail[tail.rfind(b"\n") + 1 :]
    if not last.startswith(b"{"):
        return size
    try:
        json.loads(last)
    except (ValueError, RecursionError):  # a partial line, or not ours
        return size - len(last)
    return size
