"""Events of the dataset appliance.websocket, as types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from appliance.stats.names import WEBSOCKET_ANOMALIES
from workers.events.schema_parts import AnyEvent, Count, EventFields, Network, Own, Part, Url

if TYPE_CHECKING:
    Anomaly = str
else:
    Anomaly = Literal[WEBSOCKET_ANOMALIES]


class WebSocketEventFields(EventFields, kw_only=True):
    category: list[Literal["network"]]
    type: list[Literal["connection"]]
    dataset: Literal["appliance.websocket"]


class WebSocketSide(Part, kw_only=True):
    """Counts of one side so far."""

    messages: Annotated[int, Meta(ge=0, description="whole messages")]
    text: Annotated[int, Meta(ge=0, description="text messages begun")]
    binary: Annotated[int, Meta(ge=0, description="binary messages begun")]
    ping: Count
    pong: Count
    fragments: Annotated[int, Meta(ge=0, description="continuation frames")]
    bytes: Annotated[
        int, Meta(ge=0, description="payload of messages on the wire, missing bytes of known frames included")
    ]
    decoded_bytes: (
        Annotated[int, Meta(ge=0, description="the same with permessage-deflate undone, with websocket.decode")]
        | UnsetType
    ) = UNSET
    masked_wrong: Annotated[int, Meta(ge=0, description="frames masked where they may not be, or unmasked")]
    close_code: (
        Annotated[int, Meta(ge=0, le=65535, description="of its first Close frame; 1005: that frame has none")]
        | UnsetType
    ) = UNSET
    complete: Annotated[bool, Meta(description="every frame was read, or skipped by its known length")]
    missing_bytes: Annotated[int, Meta(ge=0, description="bytes of the side that were not captured")]


class WebSocket(Part, kw_only=True):
    index: Annotated[int, Meta(ge=0, description="of this event among those of the connection")]
    final: Annotated[bool, Meta(description="the connection has ended")]
    client: WebSocketSide
    server: WebSocketSide
    compressed: Annotated[bool, Meta(description="a message was compressed (RSV1)")]
    closed_by: (
        Annotated[Literal["client", "server"], Meta(description="the side of the first Close frame")] | UnsetType
    ) = UNSET
    longest_pause_ns: Annotated[int, Meta(ge=0, description="longest time without a byte of either side")]


class WebSocketOwn(Own, kw_only=True):
    transaction: Annotated[int, Meta(ge=0, description="index of the upgrade in its connection")]
    websocket: WebSocket
    midstream: Annotated[bool, Meta(description="the connection was open before the capture saw it")]
    sampling: (
        Annotated[
            float,
            Meta(gt=0, lt=1, description="share of new connections that was kept when this one began; absent: all"),
        ]
        | UnsetType
    ) = UNSET
    anomalies: list[Anomaly] | UnsetType = UNSET


class WebSocketEvent(AnyEvent, kw_only=True):
    """A WebSocket connection so far."""

    event: WebSocketEventFields
    network: Network
    url: Url | UnsetType = UNSET
    appliance: WebSocketOwn
