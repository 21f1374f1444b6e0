"""The section [quic] of the options."""

from typing import Annotated

from appliance.config.field import Section, note


class Quic(Section, frozen=True):
    """QUIC handshakes. Only Initial packets are opened, whose keys follow from a connection ID in clear text."""

    max_initials_per_second: Annotated[
        int,
        note(
            "Initial packets to try to open. Each costs some 20 µs, forged ones too. Half of a second's budget is kept "
            "for connections of which both sides were seen: nothing answers a flood. 0 leaves QUIC out: its datagrams "
            "are rejected as not_tcp, as other UDP.",
            unit="packets per second and worker",
            ge=0,
            le=10_000_000,
            reached="a hello waits for its answer; without one it stays closed, its handshake unknown or incomplete",
            counter='appliance_quic_datagrams_total{outcome="over_limit"}',
        ),
    ] = 10000
    max_connections: Annotated[
        int,
        note(
            "Connections that are followed, at 2 to 4 KB each, and connections whose event is written and that are "
            "remembered, so that repeated packets make no second event.",
            unit="connections per worker",
            ge=1,
            le=1 << 24,
            reached="the oldest connection is evicted; its event has what is known by then",
            counter="appliance_quic_evicted_connections_total",
        ),
    ] = 32768
    timeout_s: Annotated[
        float,
        note(
            "How long a connection is followed after its first Initial packet. A handshake takes some round trips.",
            unit="seconds",
            ge=0.1,
            le=3600,
            reached="its event is written with what is known, and the connection is forgotten",
        ),
    ] = 30.0
    max_crypto_bytes: Annotated[
        int,
        note(
            "Bytes of the handshake of one side of a connection. A hello of all known clients is shorter than 4 KiB.",
            unit="bytes per side",
            ge=1024,
            le=1 << 24,
            reached="the frame is dropped, and the hello stays incomplete",
            counter="appliance_quic_crypto_over_limit_total",
        ),
    ] = 65536
    max_crypto_pieces: Annotated[
        int,
        note(
            "Pieces of the handshake of one side that wait for earlier ones. Some clients send a hello in dozens of "
            "pieces, in random order.",
            unit="pieces per side",
            ge=1,
            le=65536,
            reached="the frame is dropped, and the hello stays incomplete",
            counter="appliance_quic_crypto_over_limit_total",
        ),
    ] = 128
    max_early_datagrams: Annotated[
        int,
        note(
            "Datagrams that wait, for a second at most, for the other side: hellos beyond max_initials_per_second for "
            "their answer, and answers for their hello where several captures, as the halves of a TAP, see them in "
            "this order. Each has at most 2 KiB.",
            unit="datagrams per worker",
            ge=0,
            le=1 << 20,
            reached="the datagrams of the flow that has waited longest count as unopened or over_limit",
            counter='appliance_quic_datagrams_total{outcome="unopened"}',
        ),
    ] = 4096
