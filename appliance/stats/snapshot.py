"""The pages of a run as they were at one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

from appliance.stats.names import TOPICS

Counts = Mapping[str, int]
NONE: Counts = MappingProxyType({})


class Pages(Protocol):
    """Snapshots of every page of a run.

    Read pages downstream first (feed, workers, captures). Frames moving during the read are then counted at the sender
    only, so differences cannot become negative.
    """

    @property
    def captures(self) -> Sequence[Counts]: ...
    @property
    def workers(self) -> Sequence[Counts]: ...
    @property
    def feed(self) -> Counts: ...
    @property
    def supervisor(self) -> Counts: ...
    @property
    def recorder(self) -> Counts: ...
    @property
    def files(self) -> Counts: ...
    @property
    def keeper(self) -> Counts: ...


class Snapshots(NamedTuple):
    """The pages of a run at one moment."""

    captures: Sequence[Counts]
    workers: Sequence[Counts]
    feed: Counts
    supervisor: Counts
    recorder: Counts = NONE  # without slots if nothing is recorded
    files: Counts = NONE  # without slots if no files are kept
    keeper: Counts = NONE  # without slots if no frames are kept

    def total(self, name: str) -> int:
        """Return the sum of one counter over all captures."""
        return sum(page[name] for page in self.captures)

    def frames(self) -> int:
        return self.total("frames")

    def events(self) -> int:
        return sum(self.feed[f"published.{topic}"] for topic in TOPICS)

    def restarts(self) -> int:
        return sum(value for name, value in self.supervisor.items() if name.startswith("restarts."))


def keepers(pages: Pages) -> list[tuple[str, Counts]]:
    """Return the processes that only some runs have, by name, with their pages."""
    named = (("recorder", pages.recorder), ("keeper", pages.keeper), ("files", pages.files))
    return [(name, page) for name, page in named if page]


def under(seen: Counts, group: str) -> int:
    """Return the sum of the slots `group.…`; "received" is not "received_bytes"."""
    return sum(value for name, value in seen.items() if name.startswith(f"{group}."))
