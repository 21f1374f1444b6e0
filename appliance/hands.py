"""What a receiver has in its hands: which message it works on, kept in its stats page so that its successor knows.

Batches of a capture are numbered by the arena they lie in (epoch); a new capture begins another one. A killed worker
leaves batches there that it had not come to, and one that it was at work on. Its successor goes on with them: the one
in its hands is tried once more, because most deaths have nothing to do with it; what a worker died of twice is not.
"""

from appliance.stats import Page

TRIES = 2  # of one batch


class Once:
    """For a receiver that begins nothing twice: what a killed one had in its hands is lost, what waited for it is not.

    Slots by sender: epoch, and taking, the number behind the last message that was taken in hand."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def first(self, sender: int, epoch: int) -> int:
        """The number of the first message in this arena that nobody has taken in hand."""
        page = self.page
        if page[f"epoch.{sender}"] != epoch:
            page[f"taking.{sender}"] = 0
            page[f"epoch.{sender}"] = epoch
        return page[f"taking.{sender}"]

    def take(self, sender: int, number: int) -> None:
        """Takes a message in hand."""
        self.page[f"taking.{sender}"] = number + 1


class Hands:
    """Slots by capture: epoch; taking, the number behind the last batch that was taken in hand; taken, the same of the
    last one that was let go; begun, how often work on it has begun."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def first(self, capture: int, epoch: int) -> int:
        """The number of the first batch in this arena that no worker has done with."""
        page = self.page
        if page[f"epoch.{capture}"] != epoch:
            page[f"begun.{capture}"] = page[f"taking.{capture}"] = page[f"taken.{capture}"] = 0
            page[f"epoch.{capture}"] = epoch
        return page[f"taken.{capture}"]

    def hold(self, capture: int, number: int) -> bool:
        """Whether this batch was in the hands of a worker that died."""
        return self.page[f"taking.{capture}"] == number + 1 > self.page[f"taken.{capture}"]

    def take(self, capture: int, number: int) -> bool:
        """Takes a batch in hand; False if it was begun too often already."""
        page = self.page
        if page[f"taking.{capture}"] != number + 1:
            page[f"begun.{capture}"] = 0
            page[f"taking.{capture}"] = number + 1
        return page[f"begun.{capture}"] < TRIES

    def begin(self, capture: int) -> None:
        """Work on it begins."""
        self.page.add(f"begun.{capture}", 1)

    def done(self, capture: int) -> None:
        """It will not be looked at again."""
        self.page[f"taken.{capture}"] = self.page[f"taking.{capture}"]
