"""The section [tcp] of the options."""

from typing import Annotated, Literal

from appliance.config.field import Section, note

CHECKSUMS = ("off", "count", "drop")  # in the order of workers/core/limits.pxd


class Tcp(Section, frozen=True):
    """Limits of TCP reassembly, each per worker. All are on by default because the traffic is not trusted."""

    max_connections: Annotated[
        int,
        note(
            "Maximum number of tracked connections. The table must not grow with a flood of SYNs.",
            unit="connections",
            ge=16,
            le=1 << 26,
            reached="the connection idle for longest is evicted, its open messages end truncated",
            counter='appliance_tcp_flows_total{end="evicted"}',
        ),
    ] = 1000000
    max_half_open: Annotated[
        int,
        note(
            "Maximum number of half-open connections, in which only one side has sent. A flood of SYNs fills "
            "this table, and displaces no established connection.",
            unit="connections per worker",
            ge=16,
            le=1 << 26,
            reached="the oldest half-open connection is forgotten; if it continues, it is picked up mid-stream",
            counter='appliance_tcp_flows_total{end="half_open"}',
        ),
    ] = 65536
    half_open_timeout_s: Annotated[
        float,
        note(
            "How long a half-open connection is tracked: a SYN is retransmitted after 1, 3, 7 and 15 s.",
            unit="seconds",
            ge=0.1,
            le=86400,
            reached="the half-open connection is forgotten",
            counter='appliance_tcp_flows_total{end="timeout"}',
        ),
    ] = 30.0
    checksums: Annotated[
        Literal["off", "count", "drop"],
        note(
            'Checksums of IPv4 and TCP: "count" verifies them, "drop" also drops segments with a wrong one, as '
            "their receiver does. Checksums that the sending host leaves to its card are counted apart.",
            counter="appliance_tcp_checksums_total",
        ),
    ] = "count"
    overlap: Annotated[
        Literal["first", "last"],
        note(
            "Which copy counts if buffered bytes arrive twice with different content. Delivered bytes stay. The "
            "difference is counted, and the event is marked overlap_conflict.",
            counter='appliance_tcp_payload_bytes_total{outcome="conflicting"}',
        ),
    ] = "first"
    idle_timeout_s: Annotated[
        float,
        note(
            "Idle time after which a connection is closed. Longer than the usual keep-alive of a server.",
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
            reached="the connection is forgotten",
        ),
    ] = 5.0
    gap_timeout_s: Annotated[
        float,
        note(
            "How long to wait for missing bytes that the receiver has acknowledged (no retransmission will "
            "come); must exceed the skew between TAP ports. Unacknowledged gaps and FINs wait ten times longer.",
            unit="seconds",
            ge=0,
            le=300,
            reached="the bytes become a gap and the stream continues behind it; bytes that its receiver never "
            "acknowledged are dropped",
            counter="appliance_tcp_gaps_total",
        ),
    ] = 1.0
    settle_ms: Annotated[
        int,
        note(
            "Delay before the initial sequence number of a mid-stream connection is fixed, before a one-sided "
            "capture is assumed, and before a RST or, in a one-sided capture, a FIN takes effect; must exceed "
            "the skew between TAP ports.",
            unit="milliseconds",
            ge=0,
            le=10000,
            reached="the lowest sequence number seen is the first; a missing direction is skipped; a reset is final",
        ),
    ] = 100
    max_pending_bytes: Annotated[
        int,
        note(
            "Out-of-order bytes buffered per stream: windows rarely exceed 1 MiB.",
            unit="bytes per stream",
            ge=1024,
            le=1 << 32,
            reached="the oldest gap is declared lost and the bytes behind it are delivered",
            counter="appliance_tcp_gaps_total",
        ),
    ] = 1048576
    max_pending_segments: Annotated[
        int,
        note(
            "Out-of-order segments buffered per stream: the number of tiny ones costs more than their bytes.",
            unit="segments per stream",
            ge=1,
            le=1 << 20,
            reached="the oldest gap is declared lost and the bytes behind it are delivered",
            counter="appliance_tcp_gaps_total",
        ),
    ] = 4096
    max_total_pending_bytes: Annotated[
        int,
        note(
            "Out-of-order bytes buffered by all streams of a worker: bounds its memory for any traffic.",
            unit="bytes per worker",
            ge=1024,
            le=1 << 40,
            reached="gaps are declared lost and the bytes behind them are delivered",
            counter="appliance_tcp_gaps_total",
        ),
    ] = 268435456
