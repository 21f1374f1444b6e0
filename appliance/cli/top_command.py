"""The command line of `appliance top`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from appliance.cli.options import key_option, run_option, stop

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@run_option
@click.option(
    "--interval",
    type=click.FloatRange(0.2, 60),
    default=2.0,
    show_default=True,
    metavar="S",
    help="Refresh interval.",
)
@click.option("--once", is_flag=True, help="Print one snapshot, of one interval, and exit.")
@click.option("--server-key", default="", metavar="FILE", help="Public key of a locked feed, for host latencies.")
@key_option
def top(run: Path | None, interval: float, once: bool, server_key: str, key: str) -> None:
    """Watch a running appliance on the terminal.

    Shows rates, losses by stage, workers, TCP, HTTP and the slowest hosts. Press q to quit. The command only reads from
    the appliance.
    """
    from appliance.native.safe_files import Unusable
    from appliance.pubsub.curve_keys import KeyFault
    from appliance.report.running_instance import find
    from appliance.top.top import TopArgs
    from appliance.top.top import top as show

    try:
        code = show(TopArgs(find(run), interval, once, server_key, key))
    except KeyFault as error:
        stop(f"--server-key, --key: {error}")
    except Unusable as error:
        stop(str(error))
    sys.exit(code)
