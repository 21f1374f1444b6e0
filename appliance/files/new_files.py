"""NewFiles: the queue of new files, which the files process announces in the folder new/.

The folder is the queue, so it outlives both sides. This object adds the time to try a file again: after 1 s, then twice
as long each time, up to MAX_PAUSE_S. It remembers no file that has left the queue.
"""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

from appliance.config.section_files import NEW
from appliance.files.store import NAME

MAX_PAUSE_S = 300.0


class NewFiles:
    """The queue of one folder of files. Times are those of one monotonic clock, in seconds.

    retry: try a file that failed again; else it stays in the queue for the next one of these objects.
    """

    def __init__(self, folder: Path, *, retry: bool = True) -> None:
        self.folder = folder
        self.retry = retry
        self.queue = folder / NEW
        self._taken: set[str] = set()  # names that are being worked on
        self._later: dict[str, tuple[float, float]] = {}  # name: when to try it again, and the pause before that

    def due(self, most: int, now: float) -> list[Path]:
        """Take up to `most` files that are to be worked on now. Raises OSError."""
        found: list[Path] = []
        seen: set[str] = set()
        with os.scandir(self.queue) as entries:
            for entry in entries:
                name = entry.name
                if NAME.fullmatch(name) is None or name in self._taken:
                    continue
                seen.add(name)
                if len(found) < most and self._later.get(name, (now, 0.0))[0] <= now:
                    if (self.folder / name).exists():
                        found.append(self.folder / name)
                    else:  # the budget or its age has removed it
                        self._remove(name)
        self._later = {name: when for name, when in self._later.items() if name in seen}
        self._taken.update(path.name for path in found)
        return found

    def done(self, path: Path) -> None:
        """Remove a file that was taken from the queue."""
        self._taken.discard(path.name)
        self._later.pop(path.name, None)
        self._remove(path.name)

    def failed(self, path: Path, now: float) -> float:
        """Leave a file that was taken in the queue; return the seconds until it is due again."""
        self._taken.discard(path.name)
        pause = min(MAX_PAUSE_S, 2 * self._later.get(path.name, (0.0, 0.5))[1]) if self.retry else math.inf
        self._later[path.name] = now + pause, pause
        return pause

    def _remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self.queue / name)
