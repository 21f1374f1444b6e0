"""The section [shedding] of the options."""

from typing import Annotated

from appliance.config.field import Section, note


class Shedding(Section, frozen=True):
    """Load shedding of a live capture: under overload it drops whole new connections, by their hash.

    Followed connections stay whole. Reading a file waits instead.
    """

    enabled: Annotated[
        bool, note("false drops whichever batches do not fit, and so leaves gaps in connections of all kinds.")
    ] = True
    high_fill: Annotated[
        float,
        note(
            "Fill level of the backlog of a link, or of the kernel's ring, at which shedding of new connections "
            "starts. A low level sheds during bursts that the rest would have held; a high one leaves little "
            "room until shedding works.",
            unit="of the room",
            ge=0.01,
            le=0.95,
            reached="a growing share of new connections is shed, with all their frames",
            counter="appliance_capture_shed_frames_total",
        ),
    ] = 0.25
    kernel: Annotated[
        bool,
        note(
            "When the kernel's ring still overflows, its filter refuses shed connections, uncounted, and some "
            "followed ones with them.",
            counter="appliance_capture_kernel_shed_ratio",
        ),
    ] = True
    release_s: Annotated[
        float,
        note(
            "How long it takes until shedding ends, once links and ring are nearly empty. A short time follows "
            "the load closely, and oscillates.",
            unit="seconds",
            ge=0.1,
            le=3600,
            reached="every new connection is followed; shed ones that continue are picked up mid-stream",
            counter="appliance_capture_shed_ratio",
        ),
    ] = 4.0
    max_flows: Annotated[
        int,
        note(
            "Shed connections that are remembered, in 8 bytes each. The table must not grow with a flood of SYNs.",
            unit="connections per capture",
            ge=1,
            le=1 << 26,
            reached="a half-open connection, or else the one idle for longest, is forgotten; if it continues, it is "
            "picked up mid-stream",
            counter="appliance_capture_shed_evicted_flows_total",
        ),
    ] = 1048576
    flow_timeout_s: Annotated[
        float,
        note(
            "Idle time after which a shed connection is forgotten: as long as the keep-alive of most servers.",
            unit="seconds",
            ge=1,
            le=86400,
            reached="the connection is forgotten; if it continues, it is picked up mid-stream",
        ),
    ] = 75.0
