"""The command line of `appliance inject`."""

from __future__ import annotations

import sys

import click

from appliance.cli.options import stop


@click.command()
@click.option("-i", "--interface", required=True, metavar="IFACE", help="Interface to send on.")
@click.argument("file", metavar="FILE.pcap")
@click.option("--rate", type=float, metavar="N", help="Frames per second. [as fast as possible]")
@click.option("--speed", type=float, metavar="FACTOR", help="Keep the recorded spacing; 2 is twice as fast.")
@click.option("-n", "limit", type=click.IntRange(min=1), metavar="N", help="Stop after N frames.")
@click.option(
    "--loop", "loops", type=click.IntRange(min=1), default=1, metavar="TIMES", help="Send the file this many times."
)
def inject(interface: str, file: str, rate: float | None, speed: float | None, limit: int | None, loops: int) -> None:
    """Write the frames of a capture file to an interface.

    A FILE of - is standard input. Reports on standard error what was sent. Counts frames that the interface refuses;
    the exit code is then 1.
    """
    for option, value in (("--rate", rate), ("--speed", speed)):
        if value is not None and not 0 < value < float("inf"):
            stop(f"{option}: a number above 0, not {value:g}")
    if rate is not None and speed is not None:
        stop("--rate and --speed exclude each other")
    from appliance.cli.inject import Injection
    from appliance.native.safe_files import Unusable

    try:
        code = Injection(interface, file, rate=rate, speed=speed, limit=limit, loops=loops).run()
    except Unusable as error:
        stop(str(error))
    sys.exit(code)
