"""The section [http] of the options."""

from typing import Annotated

from appliance.config.field import Section, note


class Http(Section, frozen=True):
    """Limits of the HTTP parser, and the content of events."""

    max_head_bytes: Annotated[
        int,
        note(
            "Maximum size of a start line with its header fields. Servers allow 8 to 64 KiB.",
            unit="bytes",
            ge=256,
            le=1 << 24,
            reached="the partial message is reported, marked head_too_long, and the parser searches for the next one",
            counter="appliance_http_parse_errors_total",
        ),
    ] = 65536
    max_total_head_bytes: Annotated[
        int,
        note(
            "Bytes of unfinished heads, and of potential ones, buffered by all connections of a worker: bounds "
            "its memory when many clients send half a head each.",
            unit="bytes per worker",
            ge=256,
            le=1 << 40,
            reached="the head that grew last is treated as too long",
            counter="appliance_http_parse_errors_total",
        ),
    ] = 268435456
    max_headers: Annotated[
        int,
        note(
            "Maximum number of header fields parsed per message, as in Suricata; servers allow 100 to 200.",
            unit="fields",
            ge=16,
            le=1 << 20,
            reached="the rest of the head is skipped; the event is marked too_many_headers",
            counter='appliance_http_anomalies_total{anomaly="too_many_headers"}',
        ),
    ] = 1024
    max_total_waiting_bytes: Annotated[
        int,
        note(
            "Memory for messages without their counterpart, of all connections of a worker: requests without a "
            "response, including pipelined ones, and responses whose request is not known yet. The default holds "
            "some 150,000.",
            unit="bytes per worker",
            ge=4096,
            le=1 << 40,
            reached="the oldest message of a connection that has most of it is reported alone; a connection with "
            "less than 4096 bytes of it, or one request, keeps them",
            counter="appliance_http_given_up_total",
        ),
    ] = 134217728
    max_streams: Annotated[
        int,
        note(
            "Open streams followed on one HTTP/2 connection. Servers allow 100 to 250, some of gRPC any number.",
            unit="streams per connection",
            ge=16,
            le=1 << 20,
            reached="the oldest stream of the connection is reported as it is",
            counter="appliance_http2_streams_given_up_total",
        ),
    ] = 4096
    max_streams_bytes: Annotated[
        int,
        note(
            "Bytes of header fields of the open streams of one HTTP/2 connection.",
            unit="bytes per connection",
            ge=4096,
            le=1 << 30,
            reached="the oldest stream of the connection is reported as it is",
            counter="appliance_http2_streams_given_up_total",
        ),
    ] = 4194304
    max_join_bytes: Annotated[
        int,
        note(
            "Bytes of a connection that are kept until a header block proves that they are the middle of HTTP/2. "
            "max_total_head_bytes bounds their memory, of all connections.",
            unit="bytes per connection",
            ge=4096,
            le=1 << 24,
            reached="the bytes are read as if they were not HTTP/2; the next piece may try again",
            counter="appliance_http2_joins_given_up_total",
        ),
    ] = 65536
    max_total_table_bytes: Annotated[
        int,
        note(
            "Memory for the header tables (HPACK) of all HTTP/2 connections of a worker. Two of at most 64 KiB belong "
            "to a connection, usually of 4 KiB.",
            unit="bytes per worker",
            ge=65536,
            le=1 << 40,
            reached="the table that grew last is emptied: header fields that refer to its entries are unknown",
            counter="appliance_http2_tables_emptied_total",
        ),
    ] = 268435456
    max_connect_depth: Annotated[
        int,
        note(
            "CONNECT tunnels that are entered one inside another. 0 enters none.",
            unit="tunnels",
            ge=0,
            le=16,
            reached="the bytes of the innermost tunnel are counted only",
            counter="appliance_http_tunnels_too_deep_total",
        ),
    ] = 4
    headers: Annotated[list[str], note('Header fields to put into events, by name; ["all"] for every one.')] = []
    redact: Annotated[
        list[str],
        note("More fields whose value is redacted, beside authorization, proxy-authorization, cookie and set-cookie."),
    ] = []
    redaction: Annotated[bool, note("false writes even credentials into every event and every output.")] = True
    redact_parameters: Annotated[
        list[str],
        note(
            "Parameters of queries and forms whose value is redacted wherever an event shows it: in url, in "
            "header fields and in excerpts of form bodies. Case and percent-encoding do not matter."
        ),
    ] = []
