"""The command line of `appliance config`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from appliance.cli.options import PATH, stop

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.option(
    "--diff",
    "file",
    type=PATH,
    metavar="FILE.toml",
    help="Print only what FILE sets to another value.",
)
def config(file: Path | None) -> None:
    """Print a configuration file: each key, its default, its meaning.

    With --diff: print only the keys that FILE sets to another value, each with its default. The result is itself a
    configuration file.
    """
    from appliance.config.errors import ConfigError
    from appliance.config.template import default_toml, differences

    try:
        text = default_toml() if file is None else differences(file)
    except ConfigError as error:
        stop(str(error))
    if text:
        click.echo(text)
