"""The command line of `appliance har`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from appliance import __version__
from appliance.cli.options import (
    config_option,
    connect_option,
    key_option,
    replay_option,
    server_key_option,
    set_option,
    stop,
)

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.option("-r", "--read", "capture", default="", metavar="FILE", help="Read this capture file.")
@click.option(
    "--events", "events_file", default="", metavar="FILE", help="Read events: JSON Lines, also .gz or .zst; - is stdin."
)
@click.option(
    "--since", metavar="WHEN", help="Read stored events of a feed: 90s, 10m, 2h, 1d ago, or an ISO 8601 time."
)
@click.option("-o", "--output", required=True, metavar="OUT.har", help="Write this file; - is standard output.")
@click.option("--where", metavar="EXPR", help="Only transactions that match; see appliance events.")
@click.option(
    "-n", "most", type=click.IntRange(min=1), default=100_000, show_default=True, metavar="N", help="Maximum entries."
)
@config_option("With -r: read options from this TOML file.")
@set_option("With -r: set any key of the TOML file.", parse=str)  # parsed by the run that reads the file
@connect_option
@replay_option
@server_key_option
@key_option
def har(
    capture: str,
    events_file: str,
    since: str | None,
    output: str,
    where: str | None,
    most: int,
    file: Path | None,
    settings: tuple[str, ...],
    connect: str,
    replay: str,
    server_key: str,
    key: str,
) -> None:
    """Write HTTP transactions as an HTTP Archive (HAR 1.2).

    Browsers and proxies open it. An entry has what its event has. From a capture file, that is all header fields and up
    to 1 MiB of each body. From events, http.headers and bodies.excerpt_bytes of the sensor decide. Credentials are
    redacted unless http.redaction is false. A response whose request was not captured is left out.
    """
    from datetime import UTC, datetime

    from appliance.cli.event_choice import chosen_by, ends_at_faults, moment
    from appliance.cli.har import HarArgs, make_archive

    if sum(map(bool, (capture, events_file, since))) != 1:
        stop("give one of -r FILE, --events FILE and --since WHEN")
    if (file or settings) and not capture:
        stop("-c and --set are for -r: events are made already")
    now = datetime.now(UTC)
    test = chosen_by(where) if where is not None else None
    args = HarArgs(
        output,
        capture,
        events_file,
        moment(since, now),
        moment("0s", now),
        test,
        most,
        str(file or ""),
        settings,
        connect,
        replay,
        server_key,
        key,
    )
    with ends_at_faults():
        sys.exit(make_archive(args, __version__))
