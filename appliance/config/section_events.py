"""The section [events] of the options."""

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from appliance.config.field import Section, note
from appliance.stats.names import DATASETS

ON = ("http", "websocket", "tls")  # by default

if TYPE_CHECKING:
    Dataset = str
else:
    Dataset = Literal[tuple(DATASETS)]


class Events(Section, frozen=True):
    """The kinds of events."""

    datasets: Annotated[
        list[Dataset],
        note(
            "Kinds of events to write: http is a transaction, websocket a WebSocket connection, tls a handshake, "
            "flow a TCP connection. Counters cover the others too.",
            counter="appliance_events_made_total",
        ),
    ] = msgspec.field(default_factory=lambda: list(ON))
    interval_s: Annotated[
        float,
        note(
            "Time after which a connection that lasts gets another flow or websocket event, with the totals so far. "
            "The first bytes after that time bring a websocket event.",
            unit="seconds",
            ge=1,
            le=86400,
        ),
    ] = 300.0
