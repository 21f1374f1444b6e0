"""The section [bodies] of the options."""

from typing import Annotated, Literal

import msgspec

from appliance.notes import Section, note

EXCERPT_TYPES = (
    "text/*",
    "application/json",
    "*+json",
    "application/xml",
    "*+xml",
    "application/x-www-form-urlencoded",
)


class Bodies(Section, frozen=True):
    """What events say about the content of bodies. All of it is off by default; it costs time per byte. The limits are
    for what a body can cost beyond its bytes on the wire: codings make large from small."""

    hashes: Annotated[
        list[Literal["sha256", "md5"]],
        note("Digests of the decoded content. Absent where bytes are missing or were not decoded."),
    ] = []
    mime_type: Annotated[
        bool, note("mime_type of events comes from the content instead of the Content-Type, and is absent if unknown.")
    ] = False
    excerpt_bytes: Annotated[
        int,
        note(
            "How much of the beginning of the decoded content goes into the event; 0 is none.",
            unit="bytes",
            ge=0,
            le=1 << 20,
        ),
    ] = 0
    excerpt_types: Annotated[
        list[str],
        note("Content types of which there are excerpts; a * at the beginning or the end stands for anything."),
    ] = msgspec.field(default_factory=lambda: list(EXCERPT_TYPES))
    decode: Annotated[
        bool,
        note("Undo gzip, deflate, br and zstd before all this. false: digests and excerpts are of the bytes as sent."),
    ] = True
    max_decoded_bytes: Annotated[
        int,
        note(
            "What a body may become when it is decoded: the largest of which there can be a digest. A core decodes and "
            "hashes so much in some 60 ms, so that this limit is reached before max_decode_ms.",
            unit="bytes per body",
            ge=1024,
            le=1 << 40,
            reached="decoding stops: no digest, the excerpt stays, marked body_limit",
            counter='appliance_http_bodies_total{outcome="limit"}',
        ),
    ] = 16777216
    max_ratio: Annotated[
        int,
        note(
            "How many times larger than its bytes on the wire a body may become; asked only beyond 1 MiB. Text reaches "
            "100, a gzip bomb 1,000.",
            unit="times",
            ge=2,
            le=1 << 20,
            reached="decoding stops: no digest, the excerpt stays, marked body_limit",
            counter='appliance_http_bodies_total{outcome="limit"}',
        ),
    ] = 500
    max_layers: Annotated[
        int,
        note(
            "Codings on top of each other. One is usual, two occur by mistake.",
            unit="codings",
            ge=1,
            le=8,
            reached="nothing is decoded: no digest, no excerpt, marked body_limit",
            counter='appliance_http_bodies_total{outcome="limit"}',
        ),
    ] = 2
    max_decode_ms: Annotated[
        int,
        note(
            "Processor time for one encoded body, hashing included. The last resort, as it depends on the machine.",
            unit="milliseconds per body",
            ge=1,
            le=60000,
            reached="decoding stops: no digest, the excerpt stays, marked body_limit",
            counter='appliance_http_bodies_total{outcome="limit"}',
        ),
    ] = 100
    max_bombs: Annotated[
        int,
        note(
            "Bodies of one connection that may reach a limit. Who sends so many will send more.",
            unit="bodies per connection",
            ge=1,
            le=1 << 30,
            reached="no further body of the connection is decoded: no digest, no excerpt, marked body_limit",
            counter='appliance_http_bodies_total{outcome="limit"}',
        ),
    ] = 3
    max_memory_bytes: Annotated[
        int,
        note(
            "Memory for bodies that are being read and for excerpts on their way: some 50 KiB for each gzip, up to "
            "8 MiB for zstd and 16 MiB for br, as much as they have become so far.",
            unit="bytes per worker",
            ge=1 << 20,
            le=1 << 40,
            reached="a body is not looked into, or its decoding stops; marked body_limit",
            counter='appliance_http_bodies_total{outcome="limit"}',
        ),
    ] = 268435456
