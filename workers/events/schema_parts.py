"""The parts that events of all datasets have, as types."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

Count = Annotated[int, Meta(ge=0)]
Timestamp = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$")]
Port = Annotated[int, Meta(ge=0, le=65535)]
Sampling = Annotated[
    float, Meta(gt=0, lt=1, description="share of new connections that was kept when this one began; absent: all")
]
Outcome = Literal["success", "failure", "unknown"]


class Part(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Strict: a field that the contract does not know is an error."""


class Ecs(Part, kw_only=True):
    version: Literal["8.11.0"]


class EventFields(Part, kw_only=True):
    """`event`: a dataset adds what its events say there."""

    kind: Literal["event"]
    id: Annotated[str, Meta(description="stable: the same traffic gives the same id in every run")]
    start: Timestamp
    end: Timestamp
    duration: Annotated[int, Meta(ge=0, description="ns from start to end")]


class Interface(Part, kw_only=True):
    name: str


class Ingress(Part, kw_only=True):
    interface: Interface


class Observer(Part, kw_only=True):
    name: str
    ingress: Ingress


class Vlan(Part, kw_only=True):
    id: str


class Inner(Part, kw_only=True):
    vlan: Vlan


class AnyNetwork(Part, kw_only=True):
    transport: Literal["tcp", "udp"]
    type: Literal["ipv4", "ipv6"]
    community_id: Annotated[str, Meta(pattern=r"^1:[A-Za-z0-9+/]{27}=$", description="Community ID 1, seed 0")]
    vlan: Annotated[Vlan, Meta(description="the outermost tag")] | UnsetType = UNSET
    inner: Annotated[Inner, Meta(description="the innermost tag, if there are several")] | UnsetType = UNSET


class Network(AnyNetwork, kw_only=True):
    protocol: Literal["http", "websocket", "tls", "quic"]


class Endpoint(Part, kw_only=True):
    ip: str
    port: Port


class Url(Part, kw_only=True):
    original: Annotated[str, Meta(description="the request target as sent; :path")] | UnsetType = UNSET
    domain: Annotated[str, Meta(description="host of an absolute target, else of :authority or Host")] | UnsetType = (
        UNSET
    )
    path: str | UnsetType = UNSET
    query: str | UnsetType = UNSET
    scheme: Annotated[str, Meta(description="http; of HTTP/2 as sent")] | UnsetType = UNSET
    port: Annotated[int, Meta(ge=0, le=99999, description="only if the authority names one")] | UnsetType = UNSET


class Own(Part, kw_only=True):
    """`appliance`: a dataset adds its own fields."""

    connection: Annotated[
        str,
        Meta(
            pattern="^[0-9a-f]{32}$",
            description="the same in all events of a connection, and in every run like event.id",
        ),
    ]


class AnyEvent(Part, kw_only=True, rename={"timestamp": "@timestamp"}):
    """The fields that every event has beside those of its dataset."""

    timestamp: Timestamp
    ecs: Ecs
    observer: Observer
    network: AnyNetwork
    source: Annotated[Endpoint, Meta(description="the client")]
    destination: Annotated[Endpoint, Meta(description="the server")]
    appliance: Own
