"""Receive cursors: which message a receiver works on, kept in its stats page for the process that restarts it.

A capture numbers its batches per arena (epoch); a new capture begins a new epoch. A killed worker leaves unread batches
in the arena, and one that it was processing. The restarted worker processes that one once more, because most crashes
have nothing to do with the batch. It does not process a batch that killed a worker twice.
"""

from appliance.stats.page import Page

TRIES = 2  # of one batch


class AtMostOnceCursor:
    """A cursor for a receiver that processes nothing twice.

    A crash loses the message in progress; messages behind it survive. Slots by sender: epoch; taking, one more than the
    number of the last message begun.
    """

    def __init__(self, page: Page) -> None:
        self.page = page

    def first(self, sender: int, epoch: int) -> int:
        """Return the number of the first message in this arena that has not been begun."""
        page = self.page
        if page[f"epoch.{sender}"] != epoch:
            page[f"taking.{sender}"] = 0
            page[f"epoch.{sender}"] = epoch
        return page[f"taking.{sender}"]

    def take(self, sender: int, number: int) -> None:
        """Record that work on a message begins."""
        self.page[f"taking.{sender}"] = number + 1


class AtLeastOnceCursor:
    """A cursor for a receiver that retries the batch in progress after a crash.

    Slots by capture: epoch; taking, one more than the number of the last batch begun; taken, the same of the last batch
    finished; begun, the number of attempts at the current one.
    """

    def __init__(self, page: Page) -> None:
        self.page = page

    def first(self, capture: int, epoch: int) -> int:
        """Return the number of the first batch in this arena that no worker has finished."""
        page = self.page
        if page[f"epoch.{capture}"] != epoch:
            page[f"begun.{capture}"] = page[f"taking.{capture}"] = page[f"taken.{capture}"] = 0
            page[f"epoch.{capture}"] = epoch
        return page[f"taken.{capture}"]

    def hold(self, capture: int, number: int) -> bool:
        """Return whether a crashed worker was processing this batch."""
        return self.page[f"taking.{capture}"] == number + 1 > self.page[f"taken.{capture}"]

    def take(self, capture: int, number: int) -> bool:
        """Record that work on a batch begins; return False if it has had its `TRIES` attempts."""
        page = self.page
        if page[f"taking.{capture}"] != number + 1:
            page[f"begun.{capture}"] = 0
            page[f"taking.{capture}"] = number + 1
        return page[f"begun.{capture}"] < TRIES

    def begin(self, capture: int) -> None:
        """Count an attempt at the current batch."""
        self.page.add(f"begun.{capture}", 1)

    def done(self, capture: int) -> None:
        """Record that the current batch is finished."""
        self.page[f"taken.{capture}"] = self.page[f"taking.{capture}"]
