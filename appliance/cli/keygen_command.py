"""The command line of `appliance keygen`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from appliance.cli.options import PATH, stop

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("folder", type=PATH, metavar="DIR")
@click.argument("clients", nargs=-1, metavar="[CLIENT]...")
def keygen(folder: Path, clients: tuple[str, ...]) -> None:
    """Make keys for a locked feed: one pair, and one for each CLIENT.

    Public keys of clients go to DIR/clients, the folder for --curve-clients; their owners may read the feed. To add or
    remove a client, change the folder and send SIGHUP to the appliance. The command never replaces a file.
    """
    from appliance.pubsub.curve_keys import KeyFault, make_keys

    try:
        said = make_keys(folder, list(clients))
    except KeyFault as error:
        stop(str(error))
    for line in said:
        click.echo(line)
