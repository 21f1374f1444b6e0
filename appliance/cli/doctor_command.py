"""The command line of `appliance doctor`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from appliance.cli.options import config_option, run_option, stop

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.option("-i", "--interface", "interfaces", multiple=True, metavar="IFACE", help="Check this one; repeatable.")
@config_option("Configuration file, as for run.")
@run_option
@click.option(
    "--seconds",
    type=click.FloatRange(0, 600),
    default=3.0,
    show_default=True,
    metavar="S",
    help="How long to observe traffic and a run; 0 skips traffic.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("-v", "--verbose", is_flag=True, help="Report checks that pass, too.")
def doctor(
    interfaces: tuple[str, ...], file: Path | None, run: Path | None, seconds: float, as_json: bool, verbose: bool
) -> None:
    """Check interfaces, host and running appliance; name the fixes.

    Reports each problem and its fix. Checks the interfaces of -i, of the configuration, or of the appliance that runs
    here, and the counters of that appliance. Changes nothing. Exit codes: 0 all checks pass, 1 a warning, 2 a failure.
    """
    from appliance.config.errors import ConfigError
    from appliance.doctor.doctor import DoctorArgs
    from appliance.doctor.doctor import doctor as examine
    from appliance.native.safe_files import Unusable

    try:
        code = examine(DoctorArgs(interfaces, file, run, seconds, as_json, verbose))
    except (ConfigError, Unusable) as error:
        stop(str(error))
    sys.exit(code)
