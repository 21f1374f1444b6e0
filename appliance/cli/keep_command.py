"""The command line of `appliance keep`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from appliance.cli.options import PATH, connect_option, key_option, replay_option, server_key_option, size

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.option("--record", required=True, type=PATH, metavar="DIR", help="Ring of the sensor: its record.path.")
@click.option("--where", required=True, metavar="EXPR", help="Keep the frames of events that match; see events.")
@click.option("--to", "folder", required=True, type=PATH, metavar="DIR", help="Keep them in this folder.")
@click.option(
    "--bytes",
    "most_bytes",
    type=size,
    default="10G",
    show_default=True,
    metavar="BYTES",
    help="Size of that folder; the oldest file goes when it is full.",
)
@click.option(
    "--every",
    type=click.FloatRange(min=1),
    default=10.0,
    show_default=True,
    metavar="S",
    help="Write one file for the events of this time.",
)
@click.option("--topic", "topics", multiple=True, metavar="T", help="Only topics with this prefix; repeatable. [all]")
@click.option("--since", metavar="WHEN", help="Start with stored events: 90s, 10m, 2h, 1d ago, or an ISO 8601 time.")
@connect_option
@replay_option
@server_key_option
@key_option
def keep(
    record: Path,
    where: str,
    folder: Path,
    most_bytes: int,
    every: float,
    topics: tuple[str, ...],
    since: str | None,
    connect: str,
    replay: str,
    server_key: str,
    key: str,
) -> None:
    """Keep the frames of chosen events beyond the time of the ring.

    The ring of a running appliance has everything for a while; this command copies the connections of matching events
    out of it, as they happen. Each file is a pcapng capture with a comment for each event, and the events lie beside
    it. A run over it gives the same events.
    """
    from datetime import UTC, datetime

    from appliance.cli.event_choice import chosen_by, ends_at_faults, moment
    from appliance.cli.keep import KeepArgs, keep_frames

    test, begin = chosen_by(where), moment(since, datetime.now(UTC))
    args = KeepArgs(record, folder, test, most_bytes, every, topics, begin, connect, replay, server_key, key)
    with ends_at_faults():
        sys.exit(keep_frames(args))
