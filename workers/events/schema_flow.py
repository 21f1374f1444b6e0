"""The event of a TCP connection or UDP flow, as types; workers/flow/encoder.pyx writes it. Absent means unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from appliance.stats.names import FLOW_STATES, SPOKEN
from workers.events.schema_parts import AnyEvent, AnyNetwork, Count, Endpoint, EventFields, Own, Part, Sampling

APPLICATIONS = (*(name for name in SPOKEN if name not in ("silent", "other")), "quic")

if TYPE_CHECKING:
    Application = str
    State = str
else:
    Application = Literal[APPLICATIONS]
    State = Literal[FLOW_STATES]

Bytes = Annotated[int, Meta(ge=0, description="of frames on the wire, headers included, since the connection began")]
Packets = Annotated[int, Meta(ge=0, description="captured frames, copies too, since the connection began")]


class FlowEventFields(EventFields, kw_only=True):
    category: list[Literal["network"]]
    type: list[Literal["connection"]]
    dataset: Literal["appliance.flow"]


class FlowNetwork(AnyNetwork, kw_only=True):
    protocol: Annotated[str, Meta(description="that the content shows")] | UnsetType = UNSET
    bytes: Bytes
    packets: Packets


class FlowEndpoint(Endpoint, kw_only=True):
    bytes: Bytes
    packets: Packets


class Totals(Part, kw_only=True):
    """Both sides together."""

    payload_bytes: Annotated[int, Meta(ge=0, description="captured payload, copies too")]
    packets: Count
    bytes: Count


class SinceLast(Totals, kw_only=True):
    transactions: Count


class Sides(Part, kw_only=True):
    client: Count
    server: Count


class Flow(Part, kw_only=True):
    state: State
    final: Annotated[bool, Meta(description="no other event of this connection follows")]
    index: Annotated[int, Meta(ge=0, description="among the flow events of the connection")]
    application: Application | UnsetType = UNSET
    totals: Annotated[Totals, Meta(description="since the connection began")]
    since_last: Annotated[SinceLast, Meta(description="since the last flow event of the connection")]
    transactions: Annotated[int, Meta(ge=0, description="HTTP transactions begun")]
    payload_bytes: Sides
    retransmitted_bytes: Annotated[Sides, Meta(description="payload that came again; TCP only")] | UnsetType = UNSET
    missing_bytes: Annotated[Sides, Meta(description="payload that was not captured; TCP only")] | UnsetType = UNSET
    handshake_ns: (
        Annotated[int, Meta(ge=0, description="from the SYN to the client's acknowledgement of the SYN-ACK")]
        | UnsetType
    ) = UNSET
    one_sided: Annotated[bool, Meta(description="only one direction was captured")]


class FlowOwn(Own, kw_only=True):
    flow: Flow
    midstream: Annotated[bool, Meta(description="the connection was open before the capture saw it")]
    sampling: Sampling | UnsetType = UNSET


class FlowEvent(AnyEvent, kw_only=True):
    """A TCP connection, or a flow of UDP datagrams, at its end or so far."""

    event: FlowEventFields
    network: FlowNetwork
    source: Annotated[FlowEndpoint, Meta(description="the client")]
    destination: Annotated[FlowEndpoint, Meta(description="the server")]
    appliance: FlowOwn
