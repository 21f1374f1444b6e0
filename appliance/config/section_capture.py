"""The section [capture] of the options."""

from typing import Annotated

import msgspec

from appliance.config.defaults import LONGEST_FRAME
from appliance.config.field import Section, note
from appliance.wire.tcp_locator import DEFAULT_PORTS, DEFAULT_TUNNELS

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
MOST_PORTS = 8  # maximum of the tcp_locator


class Capture(Section, frozen=True):
    """The capture processes, one per interface or several."""

    snaplen: Annotated[
        int,
        note(
            "Maximum bytes captured per frame. The default is libpcap's own maximum: it holds any frame, even "
            "one that offloading made larger than the MTU.",
            unit="bytes",
            ge=64,
            le=1 << 24,
            reached="the frame is truncated; the missing end is a gap in its stream",
            counter="appliance_capture_truncated_frames_total",
        ),
    ] = LONGEST_FRAME
    ring_bytes: Annotated[
        int,
        note(
            "Kernel buffer of each capture. The default bridges a stall of a second at 2 Gbit/s.",
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
            "Capture processes per interface, each with its own ring; the kernel distributes frames among them "
            "by connection (PACKET_FANOUT, packet(7)). Use more than 1 if one core cannot read an interface.",
            unit="processes per interface",
            ge=1,
            le=32,
        ),
    ] = 1
    promiscuous: Annotated[bool, note("Capture frames for other hosts too, as a TAP or SPAN sends them.")] = True
    timeout_ms: Annotated[
        int,
        note(
            "How long the kernel holds a partial block of frames. A short time wakes up often; a long one adds "
            "latency.",
            unit="milliseconds",
            ge=1,
            le=1000,
        ),
    ] = 50
    vlan_aware: Annotated[
        bool,
        note("The filter also matches frames inside VLAN tags; without it `tcp port 80` matches untagged frames only."),
    ] = True
    max_tunnels: Annotated[
        int,
        note(
            "Maximum number of nested tunnels (GRE, VXLAN, Geneve, GTP-U, IP in IP, …) around a flow.",
            unit="tunnels",
            ge=0,
            le=16,
            reached="the frame is counted and not followed",
            counter='appliance_capture_rejected_frames_total{reason="too_many_tunnels"}',
        ),
    ] = DEFAULT_TUNNELS
    max_fragmented_datagrams: Annotated[
        int,
        note(
            "Incomplete IP datagrams in reassembly. The table must not grow with a flood of first fragments.",
            unit="datagrams per capture",
            ge=1,
            le=1 << 20,
            reached="the oldest datagram is dropped",
            counter='appliance_capture_fragments_total{outcome="evicted"}',
        ),
    ] = 16384
    max_fragment_bytes: Annotated[
        int,
        note(
            "Memory for the fragments in reassembly. The default equals Suricata's.",
            unit="bytes per capture",
            ge=1 << 17,
            le=1 << 36,
            reached="the oldest datagram is dropped",
            counter='appliance_capture_fragments_total{outcome="evicted"}',
        ),
    ] = 33554432
    fragment_timeout_s: Annotated[
        float,
        note(
            "How long to wait for the rest of a datagram, as hosts do (Linux 30 s).",
            unit="seconds",
            ge=0.001,
            le=3600,
            reached="the datagram is dropped",
            counter='appliance_capture_fragments_total{outcome="timeout"}',
        ),
    ] = 30.0
    vlan_in_flow: Annotated[
        bool,
        note(
            "Equal addresses on two VLANs are two flows. false makes them one, for taps that tag one direction "
            "only; events then have no VLAN."
        ),
    ] = True
    vxlan_ports: Annotated[
        list[Port],
        note("UDP ports of VXLAN: 4789, and 8472, the earlier default of Linux.", unit="ports", most=MOST_PORTS),
    ] = msgspec.field(default_factory=lambda: [*DEFAULT_PORTS["vxlan"]])
    geneve_ports: Annotated[list[Port], note("UDP ports of Geneve.", unit="ports", most=MOST_PORTS)] = msgspec.field(
        default_factory=lambda: [*DEFAULT_PORTS["geneve"]]
    )
    gtp_u_ports: Annotated[list[Port], note("UDP ports of GTP-U, at either end.", unit="ports", most=MOST_PORTS)] = (
        msgspec.field(default_factory=lambda: [*DEFAULT_PORTS["gtp_u"]])
    )
    teredo_ports: Annotated[
        list[Port],
        note(
            "UDP ports of Teredo servers. At other ports a datagram is Teredo if it is an IPv6 packet of its exact "
            "length with an address in 2001::/32.",
            unit="ports",
            most=MOST_PORTS,
        ),
    ] = msgspec.field(default_factory=lambda: [*DEFAULT_PORTS["teredo"]])

    @property
    def tunnel_ports(self) -> dict[str, list[int]]:
        """Return the UDP ports by kind of tunnel, as a Sharder takes them."""
        return {
            "vxlan": self.vxlan_ports,
            "geneve": self.geneve_ports,
            "gtp_u": self.gtp_u_ports,
            "teredo": self.teredo_ports,
        }
