"""The command line of `appliance forward`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from appliance.cli.options import PATH, connect_option, key_option, replay_option, server_key_option, size, stop

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.option("--to", required=True, metavar="URL", help="nats://HOST:PORT[/STREAM] or kafka://HOST:PORT[/TOPIC].")
@connect_option
@replay_option
@server_key_option
@key_option
@click.option("--topic", "topics", multiple=True, metavar="T", help="Only topics with this prefix; repeatable. [http.]")
@click.option(
    "--credentials",
    "secret",
    type=PATH,
    metavar="FILE",
    help="TOML file with user, password, token, ca, …; mode 0600. [environment: APPLIANCE_FORWARD_USER, …]",
)
@click.option(
    "--subject", default="appliance", show_default=True, metavar="PREFIX", help="NATS: prefix of the subjects."
)
@click.option(
    "--position", default="", metavar="FILE", help="Save the acknowledged position in this file. [start over]"
)
@click.option(
    "--window",
    type=click.IntRange(1, 1 << 20),
    default=4096,
    show_default=True,
    metavar="N",
    help="Maximum unacknowledged events; reading from the feed pauses at the limit.",
)
@click.option(
    "--window-bytes", type=size, default="64M", show_default=True, metavar="BYTES", help="Maximum unacknowledged bytes."
)
@click.option("--metrics", default="", metavar="HOST:PORT", help="Serve /metrics and /healthz on this address. [off]")
@click.option("--allow-remote", is_flag=True, help="Allow metrics on an address that other hosts reach.")
def forward(
    to: str, topics: tuple[str, ...], secret: Path | None, subject: str, metrics: str, allow_remote: bool, **others: Any
) -> None:
    """Publish events to NATS JetStream or Kafka, each at least once.

    Subscribes to the feed of a running appliance. The event.id is the message ID in JetStream, which drops duplicates,
    and the record key in Kafka. Forwarding starts with the oldest event that the feed still stores. The URL takes
    several servers of a cluster, separated by commas.
    """
    import os

    from appliance.config.address import is_loopback, split_address
    from appliance.forward.forwarder import ForwardArgs
    from appliance.forward.forwarder import forward as publish
    from appliance.forward.target import SinkFault, TargetFault, credentials, parse
    from appliance.ipc.sockets import BusError

    where = "--to"
    try:
        target = parse(to)
        where = "--credentials"
        known = credentials(secret, os.environ)
        where = "--metrics"
        metrics = "" if metrics == "off" else metrics
        if metrics and not is_loopback(split_address(metrics)[0]) and not allow_remote:
            stop(f"--metrics {metrics}: reachable from other hosts; bind 127.0.0.1, or add --allow-remote")
    except (TargetFault, ValueError) as error:
        stop(f"{where}: {error}")
    if not all(
        part and part.isascii() and part.isprintable() and not set(part) & set(" *>") for part in subject.split(".")
    ):
        stop(f"--subject {subject!r}: words with dots between them, as in appliance.site1")
    args = ForwardArgs(
        target, known, others.pop("connect"), topics or ("http.",), prefix=subject, metrics=metrics, **others
    )
    try:
        code = publish(args)
    except BusError as error:
        stop(f"--connect {error}")
    except SinkFault as error:
        stop(str(error))
    except OSError as error:
        stop(f"--metrics {metrics}: {error.strerror}", 1)
    sys.exit(code)
