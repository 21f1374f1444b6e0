"""The command line of `appliance run`."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import click

from appliance.cli.options import config_option, set_option, size, stop
from appliance.config.defaults import FEED, METRICS, REPLAY
from appliance.runtime.standard_streams import standard

if TYPE_CHECKING:
    from pathlib import Path


# The name of each parameter is its key in the TOML file, with "__" for the dot.
@click.command()
@click.option(
    "-i",
    "--interface",
    "source__interfaces",
    multiple=True,
    metavar="IFACE",
    help="Capture on this interface; repeatable.",
)
@click.option(
    "-r", "--read", "source__file", metavar="FILE", help="Read this pcap or pcapng file; - is standard input."
)
@click.option(
    "-f", "--filter", "source__filter", metavar="BPF", help="Capture only frames that match this tcpdump filter."
)
@config_option()
@click.option(
    "-o",
    "--output",
    "output__path",
    metavar="PATH",
    help="Write events to this file: JSON Lines, or Parquet for PATH.parquet; - is standard output. -i appends to "
    "an existing file, -r replaces it. [-r: a table of the transactions]",
)
@click.option(
    "--dataset",
    "events__datasets",
    multiple=True,
    metavar="NAME",
    help="Write only events of this kind: http, websocket, tls or flow; repeatable. [all but flow]",
)
@click.option(
    "--workers", "workers__count", type=int, metavar="N", help="Number of worker processes. [live: cores - 1]"
)
@click.option(
    "--feed", "feed__bind", metavar="ENDPOINT", help=f"Publish events on this endpoint, or off. [{FEED}; -r: off]"
)
@click.option(
    "--replay",
    "feed__replay",
    metavar="ENDPOINT",
    help=f"Answer replay requests on this endpoint. [{REPLAY}]",
)
@click.option(
    "--metrics",
    "metrics__bind",
    metavar="HOST:PORT",
    help=f"Serve /metrics and /healthz on this address, or off. [{METRICS}; -r: off]",
)
@click.option(
    "--ledger", "run__ledger", metavar="PATH", help="Write the frame ledger to this file at the end, replacing it."
)
@click.option(
    "--snaplen", "capture__snaplen", type=size, metavar="BYTES", help="Maximum bytes captured per frame. [256K]"
)
@click.option("--ring", "capture__ring_bytes", type=size, metavar="BYTES", help="Kernel buffer per interface. [256M]")
@click.option(
    "--promiscuous/--no-promiscuous", "capture__promiscuous", default=None, help="Capture frames for other hosts too."
)
@click.option("--name", "run__observer", metavar="NAME", help="Name of this sensor in its events. [host name]")
@click.option(
    "--run-dir", "run__directory", metavar="DIR", help="Run directory, for sockets and counters. [a private one]"
)
@click.option("--log", "run__log", type=click.Choice(["text", "json"]), help="Format of standard error. [text]")
@click.option(
    "--allow-remote",
    "run__allow_remote",
    is_flag=True,
    default=None,
    help="Allow metrics on an address that other hosts reach.",
)
@click.option(
    "--curve-key",
    "feed__curve_key",
    metavar="FILE",
    help="File with the feed's secret key; locks the feed. See keygen.",
)
@click.option(
    "--curve-clients", "feed__curve_clients", metavar="DIR", help="Folder with the public keys of the feed's readers."
)
@click.option(
    "--anyone-may-read",
    "feed__anyone_may_read",
    is_flag=True,
    default=None,
    help="Allow an unlocked feed on an address that other hosts reach.",
)
@set_option()
@click.option("-v", "--verbose", is_flag=True, help="Log status every 10 s, and the ledger at the end.")
@click.option("-q", "--quiet", is_flag=True, help="Log only warnings and errors, and print no table.")
def run(
    file: Path | None, settings: tuple[tuple[str, object], ...], verbose: bool, quiet: bool, **options: object
) -> None:
    """Capture, reassemble, parse and publish: live, or from a file.

    With -i it runs until stopped, with -r to the end of the file. Every option is also a key of the TOML file given
    with -c, where the command line wins; `appliance config` prints that file with all keys explained. On SIGHUP a
    running appliance reads the file again, and reopens its output if that was moved. With -r the exit code is 1 if a
    worker died, or an event or the ledger could not be written.
    """
    gc.disable()  # until start-up has finished: a collection would find nothing to free
    from appliance.config.errors import ConfigError
    from appliance.config.load import former_names, resolve
    from appliance.native.safe_files import Unusable
    from appliance.report.run_report import Report
    from appliance.report.transaction_table import TransactionTable, has_no_other_output
    from appliance.runtime import log
    from appliance.runtime.child import exit_now
    from appliance.supervisor.reload import Origin
    from appliance.supervisor.supervisor import Supervisor

    given = dict(settings)
    for name, value in options.items():
        if value is not None and value != ():
            given[name.replace("__", ".")] = list(value) if isinstance(value, tuple) else value
    try:
        config = resolve(file, given)
        for key, number, path in (("source.file", 0, config.source.file), ("output.path", 1, config.output.path)):
            if (plain := standard(path, number)) != path:
                given[key] = plain
                config = resolve(file, given)
        log.start(config, "supervisor", None)
        for renamed in former_names(file, given):
            log.warning(renamed)
        table = None
        if has_no_other_output(config) and not quiet:
            table, given["output.path"] = TransactionTable(config), "-"
            config = resolve(file, given)
        origin = Origin(file, given) if file else None
        report = Report(config, verbose=verbose, quiet=quiet)
        code = Supervisor(config, report, origin, alone=True, table=table).run()
    except ConfigError as error:
        stop(str(error))
    except Unusable as error:
        log.error(str(error))
        code = 2
    exit_now(code)
