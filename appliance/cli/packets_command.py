"""The command line of `appliance packets`."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from appliance.cli.options import size, stop
from appliance.config.defaults import LONGEST_FRAME


@click.command()
@click.option("-i", "--interface", default="", metavar="IFACE", help="Capture on this interface until stopped.")
@click.option(
    "-r",
    "--read",
    "files",
    multiple=True,
    metavar="FILE",
    help="Read this capture file; - is standard input. Repeatable with --event.",
)
@click.option(
    "--event",
    "events",
    multiple=True,
    metavar="ID",
    help="Write the frames of this event's connection, or of all in a file of events; repeatable.",
)
@click.option(
    "--record",
    default="",
    metavar="DIR",
    help="Take frames of events from the ring of a recorder, too, and from its kept ones.",
)
@click.option("--identity", default="", metavar="FILE", help="Private key to an encrypted ring (record.encrypt_to).")
@click.option("--keylog", default="", metavar="FILE", help="Decrypt TLS with this key log to find the events.")
@click.option("--secrets", is_flag=True, help="Write the TLS secrets of the connections into OUT.pcapng, too.")
@click.option("--where", metavar="EXPR", help="Only events that match; without --event, all of them.")
@click.option("--since", metavar="WHEN", help="Only events that end later: 90s, 10m, 2h, 1d ago, or an ISO 8601 time.")
@click.option("--until", metavar="WHEN", help="Only events that begin earlier.")
@click.option("-f", "--filter", default="", metavar="BPF", help="Show only frames that match this tcpdump filter.")
@click.option("-n", "limit", type=click.IntRange(min=1), metavar="N", help="Stop after N frames.")
@click.option(
    "-w",
    "--write",
    "output",
    default="",
    metavar="OUT.pcap",
    help="Write the frames to this file, replacing it; - is stdout.",
)
@click.option("--layers", "view", flag_value="layers", help="Show each layer of each frame with its fields.")
@click.option("--dump", "view", flag_value="dump", help="The same, with every byte in hexadecimal.")
@click.option("--json", "view", flag_value="json", help="Print one JSON object per frame and line.")
@click.option(
    "--snaplen", type=size, default=str(LONGEST_FRAME), metavar="BYTES", help="Maximum bytes captured per frame. [256K]"
)
@click.option("--promiscuous/--no-promiscuous", default=True, help="Capture frames for other hosts too.")
def packets(
    interface: str,
    files: tuple[str, ...],
    events: tuple[str, ...],
    record: str,
    identity: str,
    keylog: str,
    secrets: bool,
    where: str | None,
    since: str | None,
    until: str | None,
    filter: str,
    limit: int | None,
    output: str,
    view: str | None,
    snaplen: int,
    promiscuous: bool,
) -> None:
    """Show frames as lines or layers, or write them to a capture file.

    With -w nothing is printed unless --layers, --dump or --json asks for it. Times are in UTC. At the end, standard
    error has the number of frames captured and dropped by the kernel.

    With --event, an ID is the event.id of an event or the appliance.connection of a connection, and OUT.pcap becomes a
    pcapng file with a comment for each event. A run over it gives the same events. --record DIR searches the ring that
    record.path of a run names, with or without captures; --where, --since and --until choose events. --secrets takes
    them from --keylog and the captures; OUT.pcapng alone is then enough to decrypt these connections.
    """
    if events or record or identity or keylog or secrets or where or since or until:
        others = bool(interface or filter or limit or view)
        choice = (where, since, until)
        _packets_of_events(
            files, events, output, record, choice, identity=identity, keylog=keylog, secrets=secrets, others=others
        )
    if bool(interface) == bool(files):
        stop("give either -i IFACE or -r FILE" if not files else "-i and -r exclude each other")
    if len(files) > 1:
        stop("several -r FILE are for --event")
    if output == "-" and view:
        stop(f"-w - and --{view} both write to standard output")
    from appliance.cli.packets import PacketsArgs
    from appliance.cli.packets import packets as look
    from appliance.native.safe_files import Unusable

    shown = view or ("" if output else "line")
    try:
        code = look(
            PacketsArgs(interface, files[0] if files else "", filter, limit, output, shown, snaplen, promiscuous)
        )
    except Unusable as error:
        stop(str(error))
    sys.exit(code)


def _packets_of_events(
    files: tuple[str, ...],
    events: tuple[str, ...],
    output: str,
    record: str,
    choice: tuple[str | None, str | None, str | None],
    *,
    identity: str,
    keylog: str,
    secrets: bool,
    others: bool,
) -> NoReturn:
    from datetime import UTC, datetime

    from appliance.cli.event_choice import chosen_by, ends_at_faults, moment
    from appliance.cli.packets_of_events import EventPacketsArgs, packets_of_events

    where, since, until = choice
    if not (files or record) or output in ("", "-") or others:
        stop("--event takes -r FILE or --record DIR, and -w OUT.pcapng, and no other option")
    if identity and not record:
        stop("--identity needs --record DIR")
    if not (events or where or since or until):
        stop("--record needs --event, or --where, --since or --until, to choose events")
    now = datetime.now(UTC)
    test = chosen_by(where) if where is not None else None
    begin, end = moment(since, now), moment(until, now, "--until")
    with ends_at_faults():
        args = EventPacketsArgs(files, events, output, record, test, begin, end, keylog, secrets, identity)
        sys.exit(packets_of_events(args))
