"""Events of the dataset appliance.tls, TLS and QUIC handshakes, as types. Absent means unknown, as in schema.py."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from workers.events.schema_parts import AnyEvent, Count, EventFields, Network, Outcome, Own, Part

Side = Literal["client", "server"]
Date = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
Version = Annotated[str, Meta(description="as 1.2; drafts of 1.3 as 1.3-draft23")]


class TlsClient(Part, kw_only=True):
    server_name: str | UnsetType = UNSET
    ja3: Annotated[str, Meta(pattern="^[0-9a-f]{32}$", description="only with tls.ja3")] | UnsetType = UNSET


class Digests(Part, kw_only=True):
    sha256: Annotated[str, Meta(pattern="^[0-9A-F]{64}$")]


class X509(Part, kw_only=True):
    alternative_names: list[str]


class TlsServer(Part, kw_only=True):
    """The server's certificate, up to TLS 1.2; of one that does not parse only the digest."""

    hash: Digests
    subject: str | UnsetType = UNSET
    issuer: str | UnsetType = UNSET
    not_before: Date | UnsetType = UNSET
    not_after: Date | UnsetType = UNSET
    x509: X509 | UnsetType = UNSET


class Tls(Part, kw_only=True):
    version: Version | UnsetType = UNSET
    version_protocol: Literal["tls", "ssl"] | UnsetType = UNSET
    cipher: Annotated[str, Meta(description="IANA's name, or the number of a suite that has none")] | UnsetType = UNSET
    curve: str | UnsetType = UNSET
    next_protocol: Annotated[str, Meta(description="ALPN that the server chose, up to TLS 1.2")] | UnsetType = UNSET
    resumed: bool | UnsetType = UNSET
    established: bool | UnsetType = UNSET
    client: TlsClient | UnsetType = UNSET
    server: TlsServer | UnsetType = UNSET


class SeenHello(Part, kw_only=True):
    """The completeness of a captured hello."""

    complete: bool
    missing_bytes: Count | UnsetType = UNSET


class Alert(Part, kw_only=True):
    """An alert in the clear; the last one, if there are several."""

    level: Literal["warning", "fatal"]
    description: Annotated[str, Meta(description="IANA's name, or the number of one that has none")]
    by: Side


class SideBytes(Part, kw_only=True):
    client: Count
    server: Count


class OwnTls(Part, kw_only=True):
    """`appliance.tls`."""

    ja4: Annotated[str, Meta(pattern="^[tq]..[di][0-9]{4}[0-9A-Za-z]{2}_[0-9a-f]{12}_[0-9a-f]{12}$")] | UnsetType = (
        UNSET
    )
    alpn_offered: list[str] | UnsetType = UNSET
    versions_offered: list[Version] | UnsetType = UNSET
    ech_offered: Annotated[bool, Meta(description="clients also send it as grease")] | UnsetType = UNSET
    hello_retry: bool | UnsetType = UNSET
    client_hello: SeenHello | UnsetType = UNSET
    server_hello: SeenHello | UnsetType = UNSET
    alert: Alert | UnsetType = UNSET
    handshake_ns: Count | UnsetType = UNSET
    decrypted: Literal["no_key", "key", "unsupported"] | UnsetType = UNSET
    bytes: Annotated[SideBytes, Meta(description="up to this event, missing ones too")] | UnsetType = UNSET


class OwnQuic(Part, kw_only=True):
    """`appliance.quic`."""

    version: (
        Annotated[str, Meta(description="of the client's first Initial: 1, 2, draft-29; absent: not known")] | UnsetType
    ) = UNSET
    retry: bool | UnsetType = UNSET
    zero_rtt: bool | UnsetType = UNSET


class TlsEventFields(EventFields, kw_only=True):
    category: list[Literal["network"]]
    type: list[Literal["connection", "protocol"]]
    dataset: Literal["appliance.tls"]
    outcome: Annotated[Outcome, Meta(description="success: established; failure: not; else unknown")]


class TlsAppliance(Own, kw_only=True):
    tls: OwnTls
    midstream: Annotated[bool, Meta(description="the connection was open before the capture saw it")]
    quic: Annotated[OwnQuic, Meta(description="the handshake is that of a QUIC connection")] | UnsetType = UNSET
    sampling: (
        Annotated[
            float,
            Meta(gt=0, lt=1, description="share of new connections that was kept when this one began; absent: all"),
        ]
        | UnsetType
    ) = UNSET


class TlsEvent(AnyEvent, kw_only=True):
    """The handshake of a TLS or QUIC connection."""

    event: TlsEventFields
    network: Network
    tls: Tls
    appliance: TlsAppliance
