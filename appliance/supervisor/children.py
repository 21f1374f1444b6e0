"""The child processes of a run: which there are, the links between them, and their pages as one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from appliance.config.schema import Config
from appliance.runtime.paths import Paths, process_name
from appliance.stats import reconcile as books
from appliance.stats.layout import (
    capture_layout,
    feed_layout,
    files_layout,
    keeper_layout,
    recorder_layout,
    worker_layout,
)
from appliance.stats.page import SharedPage
from appliance.stats.snapshot import NONE, Counts, Snapshots
from appliance.supervisor.child_process import Child
from appliance.wire.tcp_locator import VERDICTS

# By name and not by import, because an import would cross the border between the two halves.
MODULES = {
    "capture": "appliance.capture.process",
    "worker": "workers.process.worker",
    "feed": "appliance.feed.process",
    "recorder": "appliance.recorder.process",
    "keeper": "appliance.keeper.process",
    "files": "appliance.files.process",
}


class Children:
    """The children of one run. Iteration gives all, in the order of the data path; none before make()."""

    def __init__(self) -> None:
        self.captures: list[Child] = []
        self.workers: list[Child] = []
        self.feed: Child
        self.recorder: Child | None = None
        self.keeper: Child | None = None
        self.files: Child | None = None
        self.others: list[Child] = []  # each alone of its kind
        self.pages: list[int] = []  # descriptors of their pages

    def make(self, config: Config, paths: Paths, stdin: int) -> None:
        """Make them with their pages, and start none. stdin: the descriptor that ends with the supervisor.

        Raises OSError.
        """
        captures, workers = config.capture_count, config.worker_count
        recording, keeping, files = bool(config.record.path), config.record.keeps, bool(config.files.path)
        quiet = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)

        def child(kind: str, index: int, slots: list[str]) -> Child:
            page = SharedPage.create(paths.page(kind, index), slots)
            self.pages.append(page.fileno())
            stdout = 1 if kind == "feed" and config.output.path == "-" else quiet
            mine = None if kind == "capture" and config.source.file == "-" else stdin
            return Child(kind, index, paths.root, page, module=MODULES[kind], stdin=mine, stdout=stdout)

        layout = capture_layout(workers, VERDICTS, recording=recording)
        self.captures = [child("capture", c, layout) for c in range(captures)]
        layout = worker_layout(captures, files=files)
        self.workers = [child("worker", w, layout) for w in range(workers)]
        self.feed = child("feed", 0, feed_layout(workers, keeping=keeping))
        self.recorder = child("recorder", 0, recorder_layout(captures)) if recording else None
        self.keeper = child("keeper", 0, keeper_layout()) if keeping else None
        self.files = child("files", 0, files_layout(workers)) if files else None
        self.others = [one for one in (self.feed, self.recorder, self.keeper, self.files) if one]

    def __iter__(self) -> Iterator[Child]:
        yield from self.captures
        yield from self.workers
        yield from self.others

    @property
    def folders(self) -> list[str]:
        """Return the names of their folders in the run directory."""
        return [process_name(child.kind, child.index) for child in self]

    @property
    def links(self) -> list[tuple[list[Child], list[Child]]]:
        """Return the senders and receivers of each kind of message."""
        links = [(self.captures, self.workers), (self.workers, [self.feed])]
        links += [(self.captures, [self.recorder])] if self.recorder else []
        links += [([self.feed], [self.keeper])] if self.keeper else []
        return links + ([(self.workers, [self.files])] if self.files else [])

    def senders_to(self, receiver: Child) -> list[Child]:
        """Return the children whose messages a child receives."""
        return next((senders for senders, receivers in self.links if receiver in receivers), [])

    def snapshots(self, supervisor: Callable[[], Counts]) -> Snapshots:
        """Return every page as it is now. supervisor: it returns its own, which is read last."""
        # Downstream first: frames moving meanwhile are counted at the sender only.
        recorder = self.recorder.page.snapshot() if self.recorder else NONE
        files = self.files.page.snapshot() if self.files else NONE
        keeper = self.keeper.page.snapshot() if self.keeper else NONE
        feed = self.feed.page.snapshot()
        workers = [child.page.snapshot() for child in self.workers]
        captures = [child.page.snapshot() for child in self.captures]
        return Snapshots(captures, workers, feed, supervisor(), recorder, files, keeper)

    def settle(self) -> None:
        """Count for the processes what they can no longer count; all have ended."""
        books.settle(
            [child.page for child in self.captures],
            [child.page for child in self.workers],
            self.feed.page,
            self.recorder.page if self.recorder else None,
            self.files.page if self.files else None,
            self.keeper.page if self.keeper else None,
        )
