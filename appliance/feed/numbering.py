"""The numbers of the feed's messages in one epoch, and the store of the last ones.

An epoch is one life of the feed process. Numbers begin anew with each, so heartbeats also tell how earlier ones ended:
a subscriber may have missed their last messages.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import msgspec

from appliance.config.address import OFF
from appliance.config.schema import Config
from appliance.feed.replay_store import Store
from appliance.native.safe_files import make_folder
from appliance.pubsub.protocol import Epoch
from appliance.runtime.paths import part_of
from appliance.stats.names import STORED_TOPICS
from appliance.stats.page import Page

MAX_EPOCHS = 8  # earlier epochs in a heartbeat


class Numbering:
    """The number of the last message of each topic, and its events until then. epochs: the file of earlier epochs."""

    def __init__(self, config: Config, page: Page, epochs: Path) -> None:
        self.page = page
        self.past_epochs = _close_epoch(page, epochs)
        self.epoch = max(time.time_ns(), page["epoch"] + 1)  # also after the clock went back
        self.sequences = dict.fromkeys(STORED_TOPICS, 0)
        self.events = dict.fromkeys(STORED_TOPICS, 0)
        self.store = Store(config.feed.replay_bytes)
        self._stored = config.feed.bind != OFF

    def begin(self) -> None:
        """Begin the epoch in the page, after the counters of the one before are closed."""
        self.page.update({f"sequence.{topic}": 0 for topic in STORED_TOPICS})
        self.page.update({"epoch": self.epoch, "store_messages": 0, "store_bytes": 0})

    def add(self, topic: str, events: int, body: bytes) -> int:
        """Return the number of a new message, and store a copy.

        The page has the number first, so that subscribers learn of the loss if the feed dies before it is sent.
        """
        page = self.page
        sequence = self.sequences[topic] + 1
        page[f"sequence.{topic}"] = sequence
        self.sequences[topic] = sequence
        self.events[topic] += events
        if self._stored:
            self.store.put(topic, sequence, events, body)
            page["store_messages"], page["store_bytes"] = len(self.store), self.store.size
            page["store_evicted"] += self.store.take_evicted()
        return sequence


def _close_epoch(page: Page, path: Path) -> list[Epoch]:
    """Add the epoch in the page to the file of earlier ones, and return these."""
    make_folder(path.parent)
    past_epochs = []
    with suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):  # there is none, or a dying one wrote it
        past_epochs = msgspec.json.decode(path.read_bytes(), type=list[Epoch])
    if page["epoch"] and page["epoch"] not in [life.epoch for life in past_epochs]:
        past_epochs.append(Epoch(page["epoch"], {topic: page[f"sequence.{topic}"] for topic in STORED_TOPICS}))
        part = part_of(path)
        part.write_bytes(msgspec.json.encode(past_epochs[-MAX_EPOCHS:]))
        part.replace(path)
    return past_epochs[-MAX_EPOCHS:]
