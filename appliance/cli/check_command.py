"""The command line of `appliance check`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from appliance.cli.options import PATH, stop

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("file", type=PATH, metavar="FILE.toml")
def check(file: Path) -> None:
    """Report every fault of a configuration file with its line, or ok.

    Compiles the filter and reads the keys. Exit codes: 0 valid, 2 faulty.
    """
    from appliance.config.errors import ConfigError
    from appliance.config.load import former_names
    from appliance.supervisor.reload import check as examine

    try:
        examine(file)
    except ConfigError as error:
        stop(str(error))
    for renamed in former_names(file, {}):
        click.echo(renamed, err=True)
    click.echo("ok")
