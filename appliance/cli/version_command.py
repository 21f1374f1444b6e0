"""The command line of `appliance version`."""

from __future__ import annotations

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, with the version of each dependency.")
def version(as_json: bool) -> None:
    """Print versions, build, and the features of kernel and extras."""
    from appliance.cli.version import lines, versions

    if as_json:
        import json

        click.echo(json.dumps(versions(), indent=2))
    else:
        click.echo("\n".join(lines()))
