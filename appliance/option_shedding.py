"""The section [shedding] of the options."""

from typing import Annotated

from appliance.notes import Section, note


class Shedding(Section, frozen=True):
    """What a live capture does when the machine is not enough: it leaves out whole new connections, by their hash.

    Connections that it follows stay whole. Reading a file waits instead."""

    enabled: Annotated[
        bool, note("false drops whatever batches do not fit, and so leaves holes in connections of all kinds.")
    ] = True
    high_fill: Annotated[
        float,
        note(
            "How full the backlog of a link, or the kernel's ring, may be before new connections are left out. Low "
            "loses some of them in bursts that the rest would have held; high leaves little room until it works.",
            unit="of the room",
            ge=0.01,
            le=0.95,
            reached="a growing share of new connections is left out, with all their frames",
            counter="appliance_capture_shed_frames_total",
        ),
    ] = 0.25
    kernel: Annotated[
        bool,
        note(
            "When the kernel's ring overflows all the same, its filter refuses what is left out, unseen and uncounted, "
            "with connections among it that were followed before.",
            counter="appliance_capture_kernel_shed_ratio",
        ),
    ] = True
    release_s: Annotated[
        float,
        note(
            "How long it takes until nothing is left out, once links and ring are all but empty. Short follows the "
            "load closely, and swings.",
            unit="seconds",
            ge=0.1,
            le=3600,
            reached="every new connection is followed; those left out that still go on are picked up in the middle",
            counter="appliance_capture_shed_ratio",
        ),
    ] = 4.0
    max_flows: Annotated[
        int,
        note(
            "Connections remembered as left out, in 8 bytes each. The table must not grow with a flood of SYNs.",
            unit="connections per capture",
            ge=1,
            le=1 << 26,
            reached="an attempt, or else the connection idle for longest, is forgotten; if it goes on, it is picked up "
            "in the middle",
            counter="appliance_capture_shed_evicted_flows_total",
        ),
    ] = 1048576
    flow_timeout_s: Annotated[
        float,
        note(
            "How long a connection that is left out may be quiet: as long as keep-alive lasts at most servers.",
            unit="seconds",
            ge=1,
            le=86400,
            reached="it is forgotten; if it goes on, it is picked up in the middle",
        ),
    ] = 75.0
