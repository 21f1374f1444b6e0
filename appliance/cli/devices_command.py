"""The command line of `appliance devices`."""

from __future__ import annotations

import sys

import click

from appliance.cli.options import stop


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def devices(as_json: bool) -> None:
    """List the interfaces that can be captured on."""
    from appliance.pcap.devices import devices as find
    from appliance.pcap.errors import PcapError

    try:
        found = find()
    except PcapError as error:
        stop(str(error), 1)
    if as_json:
        import json

        listed = [{**device._asdict(), "addresses": [a._asdict() for a in device.addresses]} for device in found]
        click.echo(json.dumps(listed, indent=2))
        return
    import shutil

    from appliance.text.terminal import columns, safe

    rows = [("name", "flags", "address", "netmask", "description")]
    for device in found:
        about = (device.name, " ".join(device.flags))
        addresses = [(a.ip, a.netmask or "") for a in device.addresses] or [("", "")]
        for number, address in enumerate(addresses):
            rows.append((*(about if number == 0 else ("", "")), *address, device.description if number == 0 else ""))
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 1 << 30
    for line in columns([[safe(cell) for cell in row] for row in rows], width, left_out=(3, 1)):
        click.echo(line)
