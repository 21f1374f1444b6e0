"""The section [run] of the options."""

from typing import Annotated, Literal

from appliance.config.field import Section, note


class Run(Section, frozen=True):
    """The run as a whole."""

    directory: Annotated[
        str, note('Run directory, for sockets and counters; "" makes a private one in memory and removes it.')
    ] = ""
    observer: Annotated[str, note('Name of this sensor in its events; "" is the name of the host.')] = ""
    ledger: Annotated[str, note('File for the ledger as JSON, replaced at the end; "" is none.')] = ""
    drain_s: Annotated[
        float,
        note(
            "How long a stop may take to deliver frames and events in flight.",
            unit="seconds",
            ge=0,
            le=3600,
            reached="the supervisor kills the remaining processes; the ledger has their losses",
            counter="appliance_frames_unaccounted",
        ),
    ] = 5.0
    hung_s: Annotated[
        float,
        note(
            "How long a process of a live capture may make no progress. Waiting processes report progress, and a "
            "worker progresses with every batch, which takes milliseconds.",
            unit="seconds",
            ge=0.5,
            le=3600,
            reached="the supervisor kills and restarts it",
            counter='appliance_process_restarts_total{reason="hung"}',
        ),
    ] = 6.0
    log: Annotated[
        Literal["text", "json"],
        note(
            "Format of standard error: lines for people, or one JSON object a line. In the journal each has a priority."
        ),
    ] = "text"
    log_lines_per_s: Annotated[
        int,
        note(
            "Lines of one reason in any second, of all processes of a kind together: a flood of faults must not "
            "fill the disk. Suppressed lines are counted and reported.",
            unit="lines per second",
            ge=1,
            le=10000,
            reached="further lines are suppressed, and their number is logged when there is room again",
            counter="appliance_log_suppressed_total",
        ),
    ] = 10
    sandbox: Annotated[
        Literal["on", "off"],
        note(
            "Each process drops unneeded rights as soon as it works: capabilities, network, files, other "
            "programs. Off is for debuggers and profilers.",
            counter="appliance_sandbox",
        ),
    ] = "on"
    user: Annotated[
        str,
        note(
            'User of every process but the supervisor, when started as root; "" keeps them root, without its '
            "capabilities. The user must be able to write the output."
        ),
    ] = ""
    allow_remote: Annotated[
        bool,
        note(
            "Allow metrics on an address that other hosts reach. They need no authentication: use it behind a firewall."
        ),
    ] = False
