"""File systems below a directory: their free space, and whether they are in memory."""

from __future__ import annotations

import os
from pathlib import Path


def free_bytes(path: Path) -> int | None:
    """Return the free bytes of the file system of a directory, or of its nearest existing parent."""
    for place in (path, *path.parents):
        try:
            about = os.statvfs(place)
        except OSError:
            continue
        return about.f_bavail * about.f_frsize
    return None


def in_memory(path: Path) -> bool:
    """Return whether a directory, or its nearest existing parent, is on tmpfs or ramfs."""
    place = os.path.realpath(path)
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="replace") as mounts:
            kinds = {fields[1]: fields[2] for fields in (line.split(" ", 3) for line in mounts)}
    except OSError:
        return False
    nearest = max((mount for mount in kinds if f"{place}/".startswith(f"{mount.rstrip('/')}/")), key=len, default="/")
    return kinds.get(nearest) in ("tmpfs", "ramfs")
