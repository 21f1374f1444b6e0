"""The command line of `appliance events`."""

from __future__ import annotations

import sys

import click

from appliance.cli.options import connect_option, key_option, replay_option, server_key_option


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

    from appliance.cli.event_choice import chosen_by, ends_at_faults, moment
    from appliance.cli.events import EventsArgs, show_events

    test = chosen_by(where) if where is not None else None
    begin = moment(since, datetime.now(UTC))
    with ends_at_faults():
        sys.exit(show_events(EventsArgs(connect, topics, replay, server_key, key, as_json, limit, begin, test)))
