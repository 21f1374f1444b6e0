"""The section [capture] of the options."""

from typing import Annotated

from appliance.notes import Section, note


class Capture(Section, frozen=True):
    """The capture processes, one per interface or several."""

    snaplen: Annotated[
        int,
        note(
            "Longest part of a frame that is kept. The default is libpcap's own maximum: it holds any frame, even one "
            "that offloading made larger than the MTU.",
            unit="bytes",
            ge=64,
            le=1 << 24,
            reached="the frame is cut; the missing end is a gap in its stream",
            counter="appliance_capture_truncated_frames_total",
        ),
    ] = 262144
    ring_bytes: Annotated[
        int,
        note(
            "The kernel's buffer of each capture. The default rides out a stall of a second at 2 Gbit/s.",
            unit="bytes",
            ge=1 << 20,
            le=(1 << 31) - 1,
            reached="the kernel drops the newest frames",
            counter='appliance_capture_dropped_frames_total{stage="kernel"}',
        ),
    ] = 268435456
    fanout: Annotated[
        int,
        note(
            "Captures of each interface, each with a ring of its own; the kernel gives every frame to one of them, by "
            "its connection (PACKET_FANOUT, packet(7)). More than 1 when one core is not enough to read an interface.",
            unit="processes per interface",
            ge=1,
            le=32,
        ),
    ] = 1
    promiscuous: Annotated[bool, note("Take frames that are not addressed to this host: what a TAP or SPAN sends.")] = (
        True
    )
    timeout_ms: Annotated[
        int,
        note(
            "How long the kernel holds a block of frames that is not full. Short wakes up often; long adds latency.",
            unit="milliseconds",
            ge=1,
            le=1000,
        ),
    ] = 50
    vlan_aware: Annotated[
        bool,
        note("The filter also matches frames inside VLAN tags; without it `tcp port 80` sees untagged frames only."),
    ] = True
    max_tunnels: Annotated[
        int,
        note(
            "How many tunnels inside each other (GRE, VXLAN, Geneve, GTP-U, IP in IP, …) are entered to find a flow.",
            unit="tunnels",
            ge=0,
            le=16,
            reached="the frame is counted and not followed",
            counter='appliance_capture_rejected_frames_total{reason="too_many_tunnels"}',
        ),
    ] = 4
    max_fragmented_datagrams: Annotated[
        int,
        note(
            "IP datagrams of which some fragments are held. The table must not grow with a flood of first fragments.",
            unit="datagrams per capture",
            ge=1,
            le=1 << 20,
            reached="the oldest is given up",
            counter='appliance_capture_fragments_total{outcome="evicted"}',
        ),
    ] = 16384
    max_fragment_bytes: Annotated[
        int,
        note(
            "Memory for what those fragments carry. The default is what Suricata takes for the same purpose.",
            unit="bytes per capture",
            ge=1 << 17,
            le=1 << 36,
            reached="the oldest datagram is given up",
            counter='appliance_capture_fragments_total{outcome="evicted"}',
        ),
    ] = 33554432
    fragment_timeout_s: Annotated[
        float,
        note(
            "How long the rest of a datagram is waited for, as hosts do (Linux 30 s).",
            unit="seconds",
            ge=0.001,
            le=3600,
            reached="the datagram is given up",
            counter='appliance_capture_fragments_total{outcome="timeout"}',
        ),
    ] = 30.0
    vlan_in_flow: Annotated[
        bool,
        note(
            "Equal addresses on two VLANs are two flows. false makes them one, for taps that tag one direction only; "
            "events then name no VLAN."
        ),
    ] = True
