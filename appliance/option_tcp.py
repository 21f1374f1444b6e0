"""The section [tcp] of the options."""

from typing import Annotated, Literal

from appliance.notes import Section, note


class Tcp(Section, frozen=True):
    """Limits of TCP reassembly, each per worker. All are on by default: the traffic is not to be trusted."""

    max_connections: Annotated[
        int,
        note(
            "Connections followed at a time. The table must not grow with a flood of SYNs.",
            unit="connections",
            ge=16,
            le=1 << 26,
            reached="the connection idle for longest is given up, its open messages end truncated",
            counter='appliance_tcp_flows_total{end="evicted"}',
        ),
    ] = 1000000
    max_half_open: Annotated[
        int,
        note(
            "Attempts followed at the same time: connections that only one side has spoken of so far. A flood of them "
            "costs this many, and no established connection.",
            unit="connections per worker",
            ge=16,
            le=1 << 26,
            reached="the oldest attempt is forgotten; if it goes on, it is picked up in the middle",
            counter='appliance_tcp_flows_total{end="half_open"}',
        ),
    ] = 65536
    half_open_timeout_s: Annotated[
        float,
        note(
            "How long an attempt is followed: a SYN is repeated after 1, 3, 7 and 15 s.",
            unit="seconds",
            ge=0.1,
            le=86400,
            reached="the attempt is forgotten",
            counter='appliance_tcp_flows_total{end="timeout"}',
        ),
    ] = 30.0
    checksums: Annotated[
        Literal["off", "count", "drop"],
        note(
            'Checksums of IPv4 and TCP: "count" verifies them, "drop" also leaves a segment with a wrong one out, as '
            "its receiver does. What a host's own stack leaves to its card is neither, and is counted apart.",
            counter="appliance_tcp_checksums_total",
        ),
    ] = "count"
    overlap: Annotated[
        Literal["first", "last"],
        note(
            "Which copy counts when bytes come twice with different content while they are held. Bytes that were "
            "handed on stay. Either way the difference is counted, and its event marked overlap_conflict.",
            counter='appliance_tcp_payload_bytes_total{outcome="conflicting"}',
        ),
    ] = "first"
    idle_timeout_s: Annotated[
        float,
        note(
            "A connection without a frame for so long is over. Longer than the usual keep-alive of a server.",
            unit="seconds",
            ge=0.1,
            le=86400,
            reached="the connection is closed, its open messages end truncated",
            counter='appliance_tcp_flows_total{end="timeout"}',
        ),
    ] = 300.0
    closed_linger_s: Annotated[
        float,
        note(
            "How long a closed connection is remembered, so that its late frames do not open a new one.",
            unit="seconds",
            ge=0,
            le=3600,
            reached="it is forgotten",
        ),
    ] = 5.0
    gap_timeout_s: Annotated[
        float,
        note(
            "How long bytes are waited for that the receiver has acknowledged and nobody will send again: covers the "
            "skew of a TAP's halves. Ten times as long if the receiver lacks them too.",
            unit="seconds",
            ge=0,
            le=300,
            reached="the bytes become a gap and the stream goes on behind it; what its receiver never took is left out",
            counter="appliance_tcp_gaps_total",
        ),
    ] = 1.0
    settle_ms: Annotated[
        int,
        note(
            "How long a connection whose SYN was not seen is watched before its first byte is decided; also how long a "
            "direction that was never seen is waited for, and frames behind a RST: covers the skew of a TAP's halves.",
            unit="milliseconds",
            ge=0,
            le=10000,
            reached="the lowest byte seen counts as the first; a missing direction is not waited for; a reset is final",
        ),
    ] = 100
    max_pending_bytes: Annotated[
        int,
        note(
            "Bytes held behind a hole of one stream: a window of 1 MiB is rarely exceeded.",
            unit="bytes per stream",
            ge=1024,
            le=1 << 32,
            reached="the oldest hole becomes a gap and what waited behind it is delivered",
            counter="appliance_tcp_gaps_total",
        ),
    ] = 1048576
    max_pending_segments: Annotated[
        int,
        note(
            "Segments held behind a hole of one stream: tiny ones cost more by their number than by their bytes.",
            unit="segments per stream",
            ge=1,
            le=1 << 20,
            reached="the oldest hole becomes a gap and what waited behind it is delivered",
            counter="appliance_tcp_gaps_total",
        ),
    ] = 4096
    max_total_pending_bytes: Annotated[
        int,
        note(
            "Bytes held behind holes by all streams of a worker: bounds its memory whatever the traffic does.",
            unit="bytes per worker",
            ge=1024,
            le=1 << 40,
            reached="holes become gaps and what waited behind them is delivered",
            counter="appliance_tcp_gaps_total",
        ),
    ] = 268435456
