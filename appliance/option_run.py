"""The section [run] of the options."""

from typing import Annotated, Literal

from appliance.notes import Section, note


class Run(Section, frozen=True):
    """The run as a whole."""

    directory: Annotated[
        str, note('Private directory for sockets and counters; "" makes one in memory and removes it.')
    ] = ""
    observer: Annotated[str, note('Name of this sensor in its events; "" is the name of the host.')] = ""
    ledger: Annotated[str, note('File that receives the ledger as JSON at the end; "" is none.')] = ""
    drain_s: Annotated[
        float,
        note(
            "How long a stop may take to bring out what is on its way.",
            unit="seconds",
            ge=0,
            le=3600,
            reached="the processes still running are killed; the ledger says what was lost",
            counter="appliance_frames_unaccounted",
        ),
    ] = 5.0
    hung_s: Annotated[
        float,
        note(
            "How long a process of a live capture may stand still. None ever has to: whoever waits says that it does. "
            "A worker moves with every batch, which takes milliseconds.",
            unit="seconds",
            ge=0.5,
            le=3600,
            reached="it is killed and started again",
            counter='appliance_process_restarts_total{reason="hung"}',
        ),
    ] = 6.0
    log: Annotated[
        Literal["text", "json"],
        note(
            "What standard error gets: lines for people, or one JSON object a line. In the journal each has a priority."
        ),
    ] = "text"
    log_lines_per_s: Annotated[
        int,
        note(
            "Lines of one reason in any second, of all processes of a kind together: a flood of faults must not fill "
            "the disk. What is left out is counted and said.",
            unit="lines per second",
            ge=1,
            le=10000,
            reached="further lines are left out, and how many that were is said when there is room again",
            counter="appliance_log_suppressed_total",
        ),
    ] = 10
    sandbox: Annotated[
        Literal["on", "off"],
        note(
            "Each process gives up what it does not need as soon as it is at work: capabilities, network, files, other "
            "programs. Off is for debuggers and profilers.",
            counter="appliance_sandbox",
        ),
    ] = "on"
    user: Annotated[
        str,
        note(
            'User that every process but the supervisor becomes, when started as root; "" is nobody else: they stay '
            "root without its capabilities. It has to be able to write the output."
        ),
    ] = ""
    allow_remote: Annotated[
        bool,
        note("Metrics may be bound beyond this host. They do not ask who is there: use it behind a firewall."),
    ] = False
