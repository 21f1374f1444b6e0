"""The command line of `appliance events`."""

from __future__ import annotations

import sys

import click

from appliance.cli.options import connect_option, key_option, replay_option, server_key_option, stop


@click.command()
@connect_option
@replay_option
@server_key_option
@key_option
@click.option(
    "--topic", "topics", multiple=True, metavar="T", help="Only topics with this prefix, e.g. http.5; repeatable."
)
@click.option("--where", metavar="EXPR", help="Only events that match, e.g. status >= 500 and host = *.example")
@click.option("--since", metavar="WHEN", help="Start with stored events: 90s, 10m, 2h, 1d ago, or an ISO 8601 time.")
@click.option("--json", "as_json", is_flag=True, help="Print events as JSON, one object per line.")
@click.option("-n", "limit", type=click.IntRange(min=1), metavar="N", help="Stop after N events.")
def events(
    connect: str,
    replay: str,
    server_key: str,
    key: str,
    topics: tuple[str, ...],
    where: str | None,
    since: str | None,
    as_json: bool,
    limit: int | None,
) -> None:
    """Show the events of a running appliance as they come, a line each.

    Subscribes to its feed: to transactions, or to other topics with --topic. The command requests missed messages again
    and reports unrecoverable ones on standard error.

    WHERE compares method, host, status, path, sni, ja4, version, rpc_service, rpc_method and rpc_status with = != ~
    (contains) !~ < <= > >=, joined by and, or, not and parentheses. * and ? are wildcards. A status may be a class
    (5xx) or none.
    """
    from datetime import UTC, datetime

    from appliance.cli import events as command
    from appliance.cli.event_filter import WhereError, compile_where
    from appliance.ipc.sockets import BusError
    from appliance.pubsub.curve_keys import KeyFault

    try:
        test = compile_where(where) if where is not None else None
    except WhereError as error:
        stop(f"--where {error}")
    try:
        begin = command.since(since, datetime.now(UTC)) if since is not None else ""
    except (ValueError, OverflowError):
        stop(f"--since {since!r}: write how long ago (90s, 10m, 2h, 1d) or a time (2026-11-22T10:00)")
    args = command.EventsArgs(connect, topics, replay, server_key, key, as_json, limit, begin, test)
    try:
        code = command.show_events(args)
    except KeyFault as error:
        stop(f"--server-key, --key: {error}")
    except BusError as error:
        stop(f"--connect {error}")
    sys.exit(code)
