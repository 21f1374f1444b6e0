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
            "flow a TCP connection, with udp_flows also the datagrams between two UDP ports. Counters cover the others "
            "too.",
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
    udp_flows: Annotated[
        bool,
        note(
            "Flow events also for UDP: QUIC, DNS and all others. Workers then get every UDP datagram, and so does a "
            "recorder. Without the dataset flow, the option only costs time.",
            counter="appliance_udp_datagrams_total",
        ),
    ] = False
    udp_timeout_s: Annotated[
        float,
        note(
            "Pause of a UDP flow after which it ends.",
            unit="seconds",
            ge=0.1,
            le=86400,
            reached="the flow ends, and another one begins with the next datagram",
        ),
    ] = 60.0
    max_udp_flows: Annotated[
        int,
        note(
            "UDP flows of a worker at the same time, of some 500 bytes each.",
            unit="flows per worker",
            ge=1,
            le=1 << 24,
            reached="the flow that was silent longest ends",
            counter="appliance_udp_flows_evicted_total",
        ),
    ] = 65536
