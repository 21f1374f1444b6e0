"""The command line.

Each command imports what it needs when it runs: imports are most of a short command's time. Exit codes: 0 success, 1
failure while running, 2 unusable arguments or configuration, 130 and 143 stopped by a signal.
"""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any

import click

from appliance import __version__
from appliance.cli.har_command import har
from appliance.cli.options import (
    PATH,
    connect_option,
    key_option,
    replay_option,
    run_option,
    server_key_option,
    setting,
    size,
    stop,
)
from appliance.cli.packets_command import packets
from appliance.config.defaults import FEED, METRICS, REPLAY
from appliance.runtime.standard_streams import Commands, standard

if TYPE_CHECKING:
    from pathlib import Path


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="appliance")
def main() -> None:
    """Turn packets of a network interface or a capture file into a feed of HTTP events."""


main.add_command(har)
main.add_command(packets)


# The name of each parameter is its key in the TOML file, with "__" for the dot.
@main.command()
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
@click.option(
    "-c",
    "--config",
    "file",
    type=PATH,
    metavar="FILE.toml",
    help="Read options from this TOML file.",
)
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
@click.option(
    "--set", "settings", type=setting, multiple=True, metavar="KEY=VALUE", help="Set any key of the TOML file."
)
@click.option("-v", "--verbose", is_flag=True, help="Log status every 10 s, and the ledger at the end.")
@click.option("-q", "--quiet", is_flag=True, help="Log only warnings and errors, and print no table.")
def run(
    file: Path | None, settings: tuple[tuple[str, object], ...], verbose: bool, quiet: bool, **options: object
) -> None:
    """Capture, reassemble, parse, publish: live with -i until stopped, or a file with -r to its end.

    Every option is also a key of the TOML file given with -c, where the command line wins; `appliance config` prints
    that file with all keys explained. On SIGHUP a running appliance reads the file again, and reopens its output if
    that was moved. With -r the exit code is 1 if a worker died, or an event or the ledger could not be written.
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


@main.command()
@connect_option
@replay_option
@server_key_option
@key_option
@click.option(
    "--topic", "topics", multiple=True, metavar="T", help="Only topics with this prefix, e.g. http.5; repeatable."
)
@click.option("--where", metavar="EXPR", help="Only events that match, e.g. status >= 500 and host = *.example")
@click.option("--since", metavar="WHEN", help="Start with stored events: 90s, 10m, 2h, 1d ago, or an ISO 8601 time.")
@click.option("--json", "as_json", is_flag=True, help="Print events as JSON, one object per line.")
@click.option("-n", "limit", type=click.IntRange(min=1), metavar="N", help="Stop after N events.")
def events(
    connect: str,
    replay: str,
    server_key: str,
    key: str,
    topics: tuple[str, ...],
    where: str | None,
    since: str | None,
    as_json: bool,
    limit: int | None,
) -> None:
    """Subscribe to a running appliance and show its transactions, or events of other topics, a line each.

    The command requests missed messages again and reports unrecoverable ones on standard error.

    WHERE compares method, host, status, path, sni, ja4, version, rpc_service, rpc_method and rpc_status with = != ~
    (contains) !~ < <= > >=, joined by and, or, not and parentheses. * and ? are wildcards. A status may be a class
    (5xx) or none.
    """
    from datetime import UTC, datetime

    from appliance.cli import events as command
    from appliance.cli.event_filter import WhereError, compile_where
    from appliance.ipc.sockets import BusError
    from appliance.pubsub.curve_keys import KeyFault

    try:
        test = compile_where(where) if where is not None else None
    except WhereError as error:
        stop(f"--where {error}")
    try:
        begin = command.since(since, datetime.now(UTC)) if since is not None else ""
    except (ValueError, OverflowError):
        stop(f"--since {since!r}: write how long ago (90s, 10m, 2h, 1d) or a time (2026-11-22T10:00)")
    args = command.EventsArgs(connect, topics, replay, server_key, key, as_json, limit, begin, test)
    try:
        code = command.show_events(args)
    except KeyFault as error:
        stop(f"--server-key, --key: {error}")
    except BusError as error:
        stop(f"--connect {error}")
    sys.exit(code)


@main.command()
@click.option("--to", required=True, metavar="URL", help="nats://HOST:PORT[/STREAM] or kafka://HOST:PORT[/TOPIC].")
@connect_option
@replay_option
@server_key_option
@key_option
@click.option("--topic", "topics", multiple=True, metavar="T", help="Only topics with this prefix; repeatable. [http.]")
@click.option(
    "--credentials",
    "secret",
    type=PATH,
    metavar="FILE",
    help="TOML file with user, password, token, ca, …; mode 0600. [environment: APPLIANCE_FORWARD_USER, …]",
)
@click.option(
    "--subject", default="appliance", show_default=True, metavar="PREFIX", help="NATS: prefix of the subjects."
)
@click.option(
    "--position", default="", metavar="FILE", help="Save the acknowledged position in this file. [start over]"
)
@click.option(
    "--window",
    type=click.IntRange(1, 1 << 20),
    default=4096,
    show_default=True,
    metavar="N",
    help="Maximum unacknowledged events; reading from the feed pauses at the limit.",
)
@click.option(
    "--window-bytes", type=size, default="64M", show_default=True, metavar="BYTES", help="Maximum unacknowledged bytes."
)
@click.option("--metrics", default="", metavar="HOST:PORT", help="Serve /metrics and /healthz on this address. [off]")
@click.option("--allow-remote", is_flag=True, help="Allow metrics on an address that other hosts reach.")
def forward(
    to: str, topics: tuple[str, ...], secret: Path | None, subject: str, metrics: str, allow_remote: bool, **others: Any
) -> None:
    """Publish the events of a running appliance to NATS JetStream or Kafka, each at least once.

    The event.id is the message ID in JetStream, which drops duplicates, and the record key in Kafka. Forwarding starts
    with the oldest event that the feed still stores. The URL takes several servers of a cluster, separated by commas.
    """
    import os

    from appliance.config.address import is_loopback, split_address
    from appliance.forward.forwarder import ForwardArgs
    from appliance.forward.forwarder import forward as publish
    from appliance.forward.target import SinkFault, TargetFault, credentials, parse
    from appliance.ipc.sockets import BusError

    where = "--to"
    try:
        target = parse(to)
        where = "--credentials"
        known = credentials(secret, os.environ)
        where = "--metrics"
        metrics = "" if metrics == "off" else metrics
        if metrics and not is_loopback(split_address(metrics)[0]) and not allow_remote:
            stop(f"--metrics {metrics}: reachable from other hosts; bind 127.0.0.1, or add --allow-remote")
    except (TargetFault, ValueError) as error:
        stop(f"{where}: {error}")
    if not all(
        part and part.isascii() and part.isprintable() and not set(part) & set(" *>") for part in subject.split(".")
    ):
        stop(f"--subject {subject!r}: words with dots between them, as in appliance.site1")
    args = ForwardArgs(
        target, known, others.pop("connect"), topics or ("http.",), prefix=subject, metrics=metrics, **others
    )
    try:
        code = publish(args)
    except BusError as error:
        stop(f"--connect {error}")
    except SinkFault as error:
        stop(str(error))
    except OSError as error:
        stop(f"--metrics {metrics}: {error.strerror}", 1)
    sys.exit(code)


@main.command()
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


@main.command()
@click.option("-i", "--interface", required=True, metavar="IFACE", help="Interface to send on.")
@click.argument("file", metavar="FILE.pcap")
@click.option("--rate", type=float, metavar="N", help="Frames per second. [as fast as possible]")
@click.option("--speed", type=float, metavar="FACTOR", help="Keep the recorded spacing; 2 is twice as fast.")
@click.option("-n", "limit", type=click.IntRange(min=1), metavar="N", help="Stop after N frames.")
@click.option(
    "--loop", "loops", type=click.IntRange(min=1), default=1, metavar="TIMES", help="Send the file this many times."
)
def inject(interface: str, file: str, rate: float | None, speed: float | None, limit: int | None, loops: int) -> None:
    """Write the frames of a capture file to an interface; - is standard input.

    Reports on standard error what was sent. Counts frames that the interface refuses; the exit code is then 1.
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


@main.command()
@click.option("-i", "--interface", "interfaces", multiple=True, metavar="IFACE", help="Check this one; repeatable.")
@click.option(
    "-c",
    "--config",
    "file",
    type=PATH,
    metavar="FILE.toml",
    help="Configuration file, as for run.",
)
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
    """Check interfaces, host and running appliance; report problems and fixes.

    Checks the interfaces of -i, of the configuration, or of the appliance that runs here, and the counters of that
    appliance. Changes nothing. Exit codes: 0 all checks pass, 1 a warning, 2 a failure.
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


@main.command()
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
    """Watch a running appliance on the terminal: rates, losses by stage, workers, TCP, HTTP, the slowest hosts.

    Press q to quit. The command only reads from the appliance.
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


@main.command()
@click.argument("folder", type=PATH, metavar="DIR")
@click.argument("clients", nargs=-1, metavar="[CLIENT]...")
def keygen(folder: Path, clients: tuple[str, ...]) -> None:
    """Make keys for a locked feed: the server's, and a pair for each CLIENT.

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


@main.command()
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


@main.command()
@click.option(
    "--diff",
    "file",
    type=PATH,
    metavar="FILE.toml",
    help="Print only what FILE sets to another value.",
)
def config(file: Path | None) -> None:
    """Print a configuration file with every key, its default and its meaning.

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


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, with the version of each dependency.")
def version(as_json: bool) -> None:
    """Print versions, build, and the features of kernel and extras."""
    from appliance.cli.version import lines, versions

    if as_json:
        import json

        click.echo(json.dumps(versions(), indent=2))
    else:
        click.echo("\n".join(lines()))
