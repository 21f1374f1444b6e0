"""The section [bodies] of the options."""

from typing import Annotated, Literal

import msgspec

from appliance.config.field import Section, note

EXCERPT_TYPES = (
    "text/*",
    "application/json",
    "*+json",
    "application/xml",
    "*+xml",
    "application/x-www-form-urlencoded",
)


class Bodies(Section, frozen=True):
    """Body content in events. All of it is off by default; it costs time per byte.

    The limits bound the cost of a body beyond its bytes on the wire, because content codings expand.
    """

    hashes: Annotated[
        list[Literal["sha256", "md5"]],
        note("Digests of the decoded content. Absent where bytes are missing or were not decoded."),
    ] = []
    mime_type: Annotated[
        bool, note("Take mime_type of events from the content instead of the Content-Type; absent if unknown.")
    ] = False
    excerpt_bytes: Annotated[
        int,
        note(
            "Bytes from the start of the decoded content that go into the event; 0 is none.",
            unit="bytes",
            ge=0,
            le=1 << 20,
        ),
    ] = 0
    excerpt_types: Annotated[
        list[str],
        note("Content types that get excerpts; a * at the beginning or the end is a wildcard."),
    ] = msgspec.field(default_factory=lambda: list(EXCERPT_TYPES))
    decode: Annotated[
        bool,
        note("Decode gzip, deflate, br and zstd first. false: digests and excerpts cover the bytes as sent."),
    ] = True
    max_decoded_bytes: Annotated[
        int,
        note(
            "Maximum size of a decoded body, and so of one with a digest. A core decodes and hashes this much in "
            "some 60 ms, so this limit is reached before max_decode_ms.",
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
            "Maximum ratio of decoded size to bytes on the wire, checked only beyond 1 MiB. Text reaches 100, a "
            "gzip bomb 1,000.",
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
            "Maximum number of stacked codings. One is usual, two occur by mistake.",
            unit="codings",
            ge=1,
            le=8,
            reached="no decoding: no digest, no excerpt, marked body_limit",
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
    decode_ns: Annotated[
        int,
        note(
            "Estimated decoding time granted for each byte on the wire of an encoded body, its head included. 64 "
            "ns suffice where gzip expands 12 times, or zstd 30 times; usual text expands 4 to 10 times.",
            unit="nanoseconds per byte",
            ge=0,
            le=1_000_000_000,
            reached="the body draws on the reserve that all bodies of the worker share",
        ),
    ] = 64
    decode_reserve_ns: Annotated[
        int,
        note(
            "Decoding time that each byte of an inspected body adds to the reserve of its worker. With decode_ns "
            "it bounds the cost of each hostile byte.",
            unit="nanoseconds per byte",
            ge=0,
            le=1_000_000_000,
        ),
    ] = 32
    decode_reserve_ms: Annotated[
        int,
        note(
            "Maximum reserve of decoding time, also the reserve at the start. A body may take a quarter of the "
            "remaining reserve: under attack, the most expensive bodies are refused, and usual ones do not need "
            "it. A second reserve of this size is for brotli, whose time is measured.",
            unit="milliseconds per worker",
            ge=0,
            le=1 << 30,
            reached="decoding stops or does not begin: no digest, marked body_limit",
            counter="appliance_http_bodies_out_of_time_total",
        ),
    ] = 300
    max_bombs: Annotated[
        int,
        note(
            "Bodies of one connection that may reach a limit. A peer that sends this many will send more.",
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
            "Memory for bodies being read and for excerpts in flight: some 50 KiB for each gzip, up to 8 MiB for "
            "zstd and 16 MiB for br, depending on their size so far.",
            unit="bytes per worker",
            ge=1 << 20,
            le=1 << 40,
            reached="the body is not inspected, or its decoding stops; marked body_limit",
            counter='appliance_http_bodies_total{outcome="limit"}',
        ),
    ] = 268435456
