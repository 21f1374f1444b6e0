"""Events, the appliance's output: the product's contract, as types.

Names are those of the Elastic Common Schema 8.11, so that Elastic, OpenSearch, Loki and SIEM rules work unchanged;
the appliance's own fields stand under `appliance`. Absent means unknown. Sizes are bytes on the wire; times are those
of frames.
workers/http1/encoder.pyx writes these lines without building the objects; a test holds the two together. `python -m
workers.events` prints the JSON Schema that is kept in ops/schema/event.json.

Text is UTF-8. Any other byte of the wire becomes \\xNN, and a backslash before x and two hexadecimal digits becomes
\\x5c: appliance.text.event_text.wire_bytes() returns the exact bytes.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from appliance.stats.names import ANOMALIES, FILES_LEFT_OUT, HTTP2_CERTAINTIES, HTTP2_SIDES
from workers.events.schema_flow import FlowEvent
from workers.events.schema_parts import AnyEvent, Count, EventFields, Network, Outcome, Own, Part, Sampling, Url
from workers.events.schema_tls import TlsEvent
from workers.events.schema_websocket import WebSocketEvent

Headers = dict[str, list[str]]
if TYPE_CHECKING:
    Anomaly = str
    Certainty = str
    Side = str
    FileReason = str
else:
    Anomaly = Literal[ANOMALIES]
    Certainty = Literal[HTTP2_CERTAINTIES]
    Side = Literal[HTTP2_SIDES]
    FileReason = Literal[FILES_LEFT_OUT[:-1]]  # not of a crash


class HttpEventFields(EventFields, kw_only=True):
    category: list[Literal["web", "network"]]
    type: list[Literal["access"]]
    dataset: Literal["appliance.http"]
    outcome: Annotated[
        Outcome,
        Meta(description="success below status 400, failure from 400, unknown without a status; of gRPC success is OK"),
    ]


class UserAgent(Part, kw_only=True):
    original: str


class Body(Part, kw_only=True):
    bytes: Annotated[int, Meta(ge=0, description="of the body without chunk framing, missing bytes included")]
    content: Annotated[str, Meta(description="the beginning of the decoded content, if it is UTF-8")] | UnsetType = (
        UNSET
    )


class Request(Part, kw_only=True):
    method: Annotated[str, Meta(description="absent only if it is unknown (HTTP/2)")] | UnsetType = UNSET
    referrer: str | UnsetType = UNSET
    mime_type: str | UnsetType = UNSET
    bytes: Count
    body: Body
    headers: Headers | UnsetType = UNSET
    trailers: Annotated[Headers, Meta(description="fields behind the body (HTTP/2)")] | UnsetType = UNSET


class Response(Part, kw_only=True):
    status_code: Annotated[int, Meta(ge=100, le=999, description="absent from HTTP/0.9")] | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    mime_type: str | UnsetType = UNSET
    bytes: Count
    body: Body
    headers: Headers | UnsetType = UNSET
    trailers: Annotated[Headers, Meta(description="fields behind the body (HTTP/2)")] | UnsetType = UNSET


class Http(Part, kw_only=True):
    version: str
    request: Request | UnsetType = UNSET
    response: Response | UnsetType = UNSET


Framing = Literal["none", "length", "chunked", "until_close"]


class OtherFraming(Part, kw_only=True):
    framing: Framing
    body_bytes: Annotated[int, Meta(ge=0, description="of a length")] | UnsetType = UNSET


class Content(Part, kw_only=True):
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")] | UnsetType = UNSET
    md5: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}$")] | UnsetType = UNSET
    decoded_bytes: Annotated[int, Meta(ge=0, description="bytes that decoding produced")] | UnsetType = UNSET
    codings: Annotated[list[str], Meta(description="codings decoded, in this order")] | UnsetType = UNSET
    content_base64: (
        Annotated[str, Meta(description="the beginning of the decoded content, if it is not UTF-8")] | UnsetType
    ) = UNSET


class Completeness(Part, kw_only=True):
    complete: Annotated[bool, Meta(description="the end of the message is known")]
    missing_bytes: Annotated[int, Meta(ge=0, description="bytes of the message that were not captured")]
    framing: (
        Annotated[Framing, Meta(description="how the body was framed; given where its head contradicts itself")]
        | UnsetType
    ) = UNSET
    other_framings: Annotated[list[OtherFraming], Meta(description="the other readings of that head")] | UnsetType = (
        UNSET
    )
    body: Annotated[Content, Meta(description="contents of the body, by the options of [bodies]")] | UnsetType = UNSET


class Tunnel(Part, kw_only=True):
    protocol: Annotated[str, Meta(description='"connect", or the protocol that Upgrade or :protocol names')]


class Timing(Part, kw_only=True):
    send_ns: Annotated[int, Meta(ge=0, description="first to last byte of the request")] | UnsetType = UNSET
    wait_ns: (
        Annotated[int, Meta(ge=0, description="last byte sent to first byte of the final response")] | UnsetType
    ) = UNSET
    receive_ns: Annotated[int, Meta(ge=0, description="first to last byte of the response")] | UnsetType = UNSET


class Reset(Part, kw_only=True):
    error: Annotated[str, Meta(description="name of RFC 9113 section 7; a number in hexadecimal if there is none")]
    by: Side


class Http2(Part, kw_only=True):
    stream_id: Annotated[int, Meta(ge=0, le=0x7FFFFFFF)]
    headers: Annotated[
        Certainty,
        Meta(
            description="exact: the header table is known from the connection's start; joined: entries from before a "
            "late join or a loss are unknown; inferred: a field comes from an entry whose place was inferred"
        ),
    ]
    unknown_headers: (
        Annotated[int, Meta(ge=1, description="header fields whose name or value is unknown")] | UnsetType
    ) = UNSET
    path_ref: (
        Annotated[
            str,
            Meta(description="entry of the header table that holds the unknown :path; equal ones have equal paths"),
        ]
        | UnsetType
    ) = UNSET
    reset: Annotated[Reset, Meta(description="the RST_STREAM that ended the stream")] | UnsetType = UNSET
    pushed: Annotated[Literal[True], Meta(description="the server promised the request")] | UnsetType = UNSET
    upgraded: Annotated[Literal[True], Meta(description="the request was HTTP/1.1, with Upgrade: h2c")] | UnsetType = (
        UNSET
    )


class GrpcSide(Part, kw_only=True):
    messages: Annotated[int, Meta(ge=0, description="whole messages")]
    bytes: Annotated[int, Meta(ge=0, description="of these, on the wire, without their prefixes")]


class Grpc(Part, kw_only=True):
    request: Annotated[GrpcSide, Meta(description="absent where a gap may hide messages")] | UnsetType = UNSET
    response: GrpcSide | UnsetType = UNSET
    message: Annotated[str, Meta(description="grpc-message as sent")] | UnsetType = UNSET


class RpcResponse(Part, kw_only=True):
    status_code: Annotated[str, Meta(description="name of the gRPC status, as NOT_FOUND; an unknown one as sent")]


class Rpc(Part, kw_only=True):
    system: Literal["grpc"]
    service: str | UnsetType = UNSET
    method: str | UnsetType = UNSET
    response: RpcResponse | UnsetType = UNSET


class FileHash(Part, kw_only=True):
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


class File(Part, kw_only=True):
    hash: FileHash
    size: Count
    path: Annotated[str, Meta(description="where the files process keeps it, until a limit of [files] removes it")]
    mime_type: Annotated[str, Meta(description="type of its content")] | UnsetType = UNSET


class FormFile(Part, kw_only=True):
    name: (
        Annotated[str, Meta(description="filename as sent, the first 128 bytes; never part of a path")] | UnsetType
    ) = UNSET
    complete: Annotated[bool, Meta(description="every byte was captured, decoded and sent to the files process")]
    reason: Annotated[FileReason, Meta(description="why not")] | UnsetType = UNSET
    hash: FileHash | UnsetType = UNSET
    size: Annotated[int, Meta(ge=0)] | UnsetType = UNSET
    mime_type: Annotated[str, Meta(description="type of its content")] | UnsetType = UNSET


FormFiles = Annotated[list[FormFile], Meta(description="files of a form (multipart/form-data), in their order")]


class OtherFile(Part, kw_only=True):
    complete: Annotated[bool, Meta(description="every byte was captured, decoded and sent to the files process")]
    reason: Annotated[FileReason, Meta(description="why not")] | UnsetType = UNSET
    hash: FileHash | UnsetType = UNSET
    size: Annotated[int, Meta(ge=0)] | UnsetType = UNSET
    parts: FormFiles | UnsetType = UNSET


class FileState(Part, kw_only=True):
    direction: Annotated[Literal["request", "response"], Meta(description="the message whose body is the file")]
    complete: Annotated[
        bool,
        Meta(description="every byte was captured, decoded and sent to the files process; without it there is no file"),
    ]
    reason: Annotated[FileReason, Meta(description="why the body of a wanted type is no file")] | UnsetType = UNSET
    parts: FormFiles | UnsetType = UNSET
    request: Annotated[OtherFile, Meta(description="of the request, if the file is the response's")] | UnsetType = UNSET
    response: OtherFile | UnsetType = UNSET


class Appliance(Own, kw_only=True):
    transaction: Annotated[int, Meta(ge=0, description="index in its connection")]
    pairing: Literal["ordered", "verified", "uncertain", "request_only", "response_only"]
    request: Completeness | UnsetType = UNSET
    response: Completeness | UnsetType = UNSET
    timing: Timing
    http2: Http2 | UnsetType = UNSET
    file: Annotated[FileState, Meta(description="a body of a type that [files] wants")] | UnsetType = UNSET
    grpc: Grpc | UnsetType = UNSET
    tunnel: Annotated[Tunnel, Meta(description="another protocol begins behind this transaction")] | UnsetType = UNSET
    midstream: Annotated[bool, Meta(description="the connection was open before the capture saw it")]
    sampling: Sampling | UnsetType = UNSET
    anomalies: list[Anomaly] | UnsetType = UNSET
    informational: (
        Annotated[list[int], Meta(description="1xx responses before the final one, the first 16")] | UnsetType
    ) = UNSET


class HttpEvent(AnyEvent, kw_only=True):
    """One HTTP transaction."""

    event: HttpEventFields
    network: Network
    url: Url | UnsetType = UNSET
    user_agent: UserAgent | UnsetType = UNSET
    rpc: Annotated[Rpc, Meta(description="a gRPC call; names of OpenTelemetry")] | UnsetType = UNSET
    file: Annotated[File, Meta(description="the file that a body became, by the options of [files]")] | UnsetType = (
        UNSET
    )
    http: Http
    appliance: Appliance


EVENTS: dict[str, type[AnyEvent]] = {  # by event.dataset
    "appliance.http": HttpEvent,
    "appliance.websocket": WebSocketEvent,
    "appliance.tls": TlsEvent,
    "appliance.flow": FlowEvent,
}


class _Dataset(msgspec.Struct):
    dataset: str


class _Head(msgspec.Struct):
    event: _Dataset


_head = msgspec.json.Decoder(_Head).decode
_decoders = {dataset: msgspec.json.Decoder(event) for dataset, event in EVENTS.items()}


def decode(line: bytes) -> AnyEvent:
    """Return the event of a line, of the type of its dataset. Raises msgspec.ValidationError."""
    dataset = _head(line).event.dataset
    if dataset not in _decoders:
        raise msgspec.ValidationError(f"{dataset!r} is no dataset")
    return _decoders[dataset].decode(line)


def schema() -> dict[str, Any]:
    """Return the JSON Schema of one event, of any dataset."""
    events, parts = msgspec.json.schema_components(EVENTS.values(), ref_template="#/$defs/{name}")
    draft = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": draft, "title": "appliance event", "oneOf": list(events), "$defs": parts}
