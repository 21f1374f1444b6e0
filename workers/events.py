"""The event: what leaves the box. The product's contract, as types.

Names are those of the Elastic Common Schema 8.11, so that Elastic, OpenSearch, Loki and SIEM rules work unchanged;
what is ours stands under `appliance`. Absent means unknown. Bytes are counted on the wire; times are those of frames.
workers/encode.pyx writes these lines without building the objects; a test holds the two together. `python -m
workers.events` prints the JSON Schema that is kept in ops/schema/event.json.

Text is UTF-8. A byte of the wire that is not is written as \\xNN, and a backslash that stands before x and two
hexadecimal digits as \\x5c: wire_bytes() gives the exact bytes back.
"""

import json
import re
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from appliance.stats import ANOMALIES

Count = Annotated[int, Meta(ge=0)]
Timestamp = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$")]
Port = Annotated[int, Meta(ge=0, le=65535)]
Headers = dict[str, list[str]]
if TYPE_CHECKING:
    Anomaly = str
else:
    Anomaly = Literal[ANOMALIES]


class _Part(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Strict: a field that the contract does not know is an error."""


class Ecs(_Part, kw_only=True):
    version: Literal["8.11.0"]


class EventFields(_Part, kw_only=True):
    kind: Literal["event"]
    category: list[Literal["web", "network"]]
    type: list[Literal["access"]]
    dataset: Literal["appliance.http"]
    id: Annotated[str, Meta(description="stable: the same traffic gives the same id in every run")]
    start: Timestamp
    end: Timestamp
    duration: Annotated[int, Meta(ge=0, description="ns from start to end")]
    outcome: Annotated[
        Literal["success", "failure", "unknown"],
        Meta(description="success below status 400, failure from 400, unknown without a status"),
    ]


class Interface(_Part, kw_only=True):
    name: str


class Ingress(_Part, kw_only=True):
    interface: Interface


class Observer(_Part, kw_only=True):
    name: str
    ingress: Ingress


class Vlan(_Part, kw_only=True):
    id: str


class Inner(_Part, kw_only=True):
    vlan: Vlan


class Network(_Part, kw_only=True):
    transport: Literal["tcp"]
    type: Literal["ipv4", "ipv6"]
    protocol: Literal["http"]
    community_id: Annotated[str, Meta(pattern=r"^1:[A-Za-z0-9+/]{27}=$", description="Community ID 1, seed 0")]
    vlan: Annotated[Vlan, Meta(description="the outermost tag")] | UnsetType = UNSET
    inner: Annotated[Inner, Meta(description="the innermost tag, if there are several")] | UnsetType = UNSET


class Endpoint(_Part, kw_only=True):
    ip: str
    port: Port


class Url(_Part, kw_only=True):
    original: Annotated[str, Meta(description="the request target as sent")]
    domain: Annotated[str, Meta(description="host of an absolute target, else of the Host header")] | UnsetType = UNSET
    path: str | UnsetType = UNSET
    query: str | UnsetType = UNSET
    scheme: Literal["http"]
    port: Annotated[int, Meta(ge=0, le=99999, description="only if the authority names one")] | UnsetType = UNSET


class UserAgent(_Part, kw_only=True):
    original: str


class Body(_Part, kw_only=True):
    bytes: Annotated[int, Meta(ge=0, description="of the body without chunk framing, missing bytes included")]
    content: Annotated[str, Meta(description="the beginning of the decoded content, if it is UTF-8")] | UnsetType = (
        UNSET
    )


class Request(_Part, kw_only=True):
    method: str
    referrer: str | UnsetType = UNSET
    mime_type: str | UnsetType = UNSET
    bytes: Count
    body: Body
    headers: Headers | UnsetType = UNSET


class Response(_Part, kw_only=True):
    status_code: Annotated[int, Meta(ge=100, le=999, description="absent from HTTP/0.9")] | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    mime_type: str | UnsetType = UNSET
    bytes: Count
    body: Body
    headers: Headers | UnsetType = UNSET


class Http(_Part, kw_only=True):
    version: str
    request: Request | UnsetType = UNSET
    response: Response | UnsetType = UNSET


Framing = Literal["none", "length", "chunked", "until_close"]


class OtherFraming(_Part, kw_only=True):
    framing: Framing
    body_bytes: Annotated[int, Meta(ge=0, description="of a length")] | UnsetType = UNSET


class Content(_Part, kw_only=True):
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")] | UnsetType = UNSET
    md5: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}$")] | UnsetType = UNSET
    decoded_bytes: Annotated[int, Meta(ge=0, description="as far as it was decoded")] | UnsetType = UNSET
    codings: Annotated[list[str], Meta(description="that were undone, in this order")] | UnsetType = UNSET
    content_base64: (
        Annotated[str, Meta(description="the beginning of the decoded content, if it is not UTF-8")] | UnsetType
    ) = UNSET


class Completeness(_Part, kw_only=True):
    complete: Annotated[bool, Meta(description="the end of the message is known")]
    missing_bytes: Annotated[int, Meta(ge=0, description="bytes of the message that were not captured")]
    framing: (
        Annotated[Framing, Meta(description="how the body was framed; given where its head contradicts itself")]
        | UnsetType
    ) = UNSET
    other_framings: Annotated[list[OtherFraming], Meta(description="the other readings of that head")] | UnsetType = (
        UNSET
    )
    body: Annotated[Content, Meta(description="what the body contains; by the options of [bodies]")] | UnsetType = UNSET


class Tunnel(_Part, kw_only=True):
    protocol: Annotated[str, Meta(description='"connect", or the protocol that the Upgrade field names')]


class Timing(_Part, kw_only=True):
    send_ns: Annotated[int, Meta(ge=0, description="first to last byte of the request")] | UnsetType = UNSET
    wait_ns: (
        Annotated[int, Meta(ge=0, description="last byte sent to first byte of the final response")] | UnsetType
    ) = UNSET
    receive_ns: Annotated[int, Meta(ge=0, description="first to last byte of the response")] | UnsetType = UNSET


class Appliance(_Part, kw_only=True):
    transaction: Annotated[int, Meta(ge=0, description="index in its connection")]
    pairing: Literal["ordered", "verified", "uncertain", "request_only", "response_only"]
    request: Completeness | UnsetType = UNSET
    response: Completeness | UnsetType = UNSET
    timing: Timing
    tunnel: Annotated[Tunnel, Meta(description="HTTP ended behind this transaction")] | UnsetType = UNSET
    midstream: Annotated[bool, Meta(description="the connection was open before the capture saw it")]
    sampling: (
        Annotated[
            float,
            Meta(gt=0, lt=1, description="share of new connections that was kept when this one began; absent: all"),
        ]
        | UnsetType
    ) = UNSET
    anomalies: list[Anomaly] | UnsetType = UNSET
    informational: (
        Annotated[list[int], Meta(description="1xx responses before the final one, the first 16")] | UnsetType
    ) = UNSET


class Event(_Part, kw_only=True, rename={"timestamp": "@timestamp"}):
    """One HTTP transaction."""

    timestamp: Timestamp
    ecs: Ecs
    event: EventFields
    observer: Observer
    network: Network
    source: Annotated[Endpoint, Meta(description="the client")]
    destination: Annotated[Endpoint, Meta(description="the server")]
    url: Url | UnsetType = UNSET
    user_agent: UserAgent | UnsetType = UNSET
    http: Http
    appliance: Appliance


decode = msgspec.json.Decoder(Event).decode

_ESCAPE = re.compile(rb"\\x([0-9a-fA-F]{2})")


def wire_bytes(text: str) -> bytes:
    """The bytes on the wire behind a text of an event."""
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), text.encode())


def schema() -> dict[str, Any]:
    """The JSON Schema of one event."""
    found = msgspec.json.schema(Event)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "appliance.http event", **found}


if __name__ == "__main__":
    json.dump(schema(), sys.stdout, indent=2)
    print()
