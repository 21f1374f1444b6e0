"""The command line.

Each command imports what it needs when it runs: imports are most of a short command's time. Exit codes: 0 success, 1
failure while running, 2 unusable arguments or configuration, 130 and 143 stopped by a signal.
"""

from __future__ import annotations

import click

from appliance import __version__
from appliance.cli.check_command import check
from appliance.cli.config_command import config
from appliance.cli.devices_command import devices
from appliance.cli.doctor_command import doctor
from appliance.cli.events_command import events
from appliance.cli.files_command import files
from appliance.cli.forward_command import forward
from appliance.cli.har_command import har
from appliance.cli.inject_command import inject
from appliance.cli.keep_command import keep
from appliance.cli.keygen_command import keygen
from appliance.cli.packets_command import packets
from appliance.cli.run_command import run
from appliance.cli.top_command import top
from appliance.cli.version_command import version
from appliance.runtime.standard_streams import Commands


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="appliance")
def main() -> None:
    """Turn packets of a network interface or a capture file into a feed of HTTP events."""


for command in (
    run,
    events,
    forward,
    packets,
    keep,
    files,
    har,
    inject,
    devices,
    doctor,
    top,
    keygen,
    check,
    config,
    version,
):
    main.add_command(command)
