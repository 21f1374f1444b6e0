"""The command line. Each command imports what it needs when it runs: most of a short command is its imports.

Exit codes: 0 done, 1 failed while running, 2 unusable arguments or configuration, 130 and 143 stopped by a signal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from appliance import __version__

SUFFIXES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
FEED = "tcp://127.0.0.1:5556"


def size(text: str) -> int:
    """A number of bytes, with K, M or G for powers of 1024."""
    plain = text.strip().lower().removesuffix("b").removesuffix("i")
    number, suffix = (plain[:-1], plain[-1]) if plain[-1:] in ("k", "m", "g") else (plain, "")
    if not (number.isascii() and number.isdigit()):
        raise click.BadParameter(f"{text!r} is not a size; write a number of bytes, or something like 256M")
    return int(number) * SUFFIXES[suffix]


def setting(text: str) -> tuple[str, object]:
    """SECTION.KEY=VALUE, the value in TOML; a bare word is a text."""
    import tomllib

    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise click.BadParameter(f"{text!r} is not KEY=VALUE; see `appliance config` for the keys")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def stop(message: str, code: int = 2) -> NoReturn:
    """Says why, and ends."""
    for line in message.splitlines():
        click.echo(f"appliance: {line}", err=True)
    sys.exit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="appliance")
def main() -> None:
    """Turns the packets of a network interface, or of a capture file, into a feed of HTTP events."""


# The name of each parameter is its key in the TOML file, with "__" for the dot.
@main.command()
@click.option(
    "-i", "--interface", "source__interfaces", multiple=True, metavar="IFACE", help="Capture here; repeatable."
)
@click.option("-r", "--read", "source__file", metavar="FILE", help="Read a pcap or pcapng file; - is standard input.")
@click.option("-f", "--filter", "source__filter", metavar="BPF", help="Only frames that match, as in tcpdump.")
@click.option(
    "-c", "--config", "file", type=click.Path(path_type=Path), metavar="FILE.toml", help="Read options from it."
)
@click.option(
    "-o",
    "--output",
    "output__path",
    metavar="PATH",
    help="Write events there: JSON Lines, or Parquet for PATH.parquet; - is standard output.",
)
@click.option("--workers", "workers__count", type=int, metavar="N", help="Parsing processes. [live: cores - 1]")
@click.option("--feed", "feed__bind", metavar="ENDPOINT", help=f"Publish events here, or off. [{FEED}]")
@click.option(
    "--replay", "feed__replay", metavar="ENDPOINT", help="Answer for lost events here. [tcp://127.0.0.1:5557]"
)
@click.option("--metrics", "metrics__bind", metavar="HOST:PORT", help="/metrics and /healthz, or off. [127.0.0.1:9470]")
@click.option("--ledger", "run__ledger", metavar="PATH", help="Write the account of every frame there at the end.")
@click.option("--snaplen", "capture__snaplen", type=size, metavar="BYTES", help="Longest part kept of a frame. [256K]")
@click.option("--ring", "capture__ring_bytes", type=size, metavar="BYTES", help="Kernel buffer per interface. [256M]")
@click.option(
    "--promiscuous/--no-promiscuous", "capture__promiscuous", default=None, help="Frames for other hosts too."
)
@click.option("--name", "run__observer", metavar="NAME", help="Name of this sensor in its events. [host name]")
@click.option("--run-dir", "run__directory", metavar="DIR", help="Sockets and counters live here. [a private one]")
@click.option("--log", "run__log", type=click.Choice(["text", "json"]), help="How standard error is written. [text]")
@click.option("--allow-remote", "run__allow_remote", is_flag=True, default=None, help="Bind metrics beyond this host.")
@click.option("--curve-key", "feed__curve_key", metavar="FILE", help="Lock the feed with this secret key; see keygen.")
@click.option("--curve-clients", "feed__curve_clients", metavar="DIR", help="Public keys of those who may read it.")
@click.option(
    "--anyone-may-read",
    "feed__anyone_may_read",
    is_flag=True,
    default=None,
    help="Bind the feed beyond this host without a lock.",
)
@click.option("--set", "settings", type=setting, multiple=True, metavar="KEY=VALUE", help="Any key of the TOML file.")
@click.option("-v", "--verbose", is_flag=True, help="A line on standard error every 10 s.")
@click.option("-q", "--quiet", is_flag=True, help="Only warnings and errors on standard error.")
def run(
    file: Path | None, settings: tuple[tuple[str, object], ...], verbose: bool, quiet: bool, **options: object
) -> None:
    """Capture, reassemble, parse, publish: live with -i until stopped, or a file with -r to its end.

    Every option is also a key of the TOML file given with -c, where the command line wins; `appliance config` prints
    that file with all keys explained. SIGHUP makes a running appliance read it again.
    """
    from appliance import log
    from appliance.config import ConfigError, resolve
    from appliance.reload import Origin
    from appliance.report import Report
    from appliance.rundir import Unusable
    from appliance.station import leave
    from appliance.supervisor import Supervisor

    given = dict(settings)
    for name, value in options.items():
        if value is not None and value != ():
            given[name.replace("__", ".")] = list(value) if isinstance(value, tuple) else value
    try:
        config = resolve(file, given)
        log.start(config, "supervisor", None)
        origin = Origin(file, given) if file else None
        code = Supervisor(config, Report(config, verbose=verbose, quiet=quiet), origin, alone=True).run()
    except ConfigError as error:
        stop(str(error))
    except Unusable as error:
        log.tell(str(error), level=log.ERROR)
        code = 2
    leave(code)


@main.command()
@click.option("--connect", default=FEED, show_default=True, metavar="ENDPOINT", help="The feed of a running appliance.")
@click.option("--replay", default="", metavar="ENDPOINT", help="Ask for lost events here, or off. [as the feed says]")
@click.option("--server-key", default="", metavar="FILE", help="Public key of a locked feed.")
@click.option("--key", default="", metavar="FILE", help="Secret key of your own for a locked feed.")
@click.option("--topic", "topics", multiple=True, metavar="T", help="Only topics that start so, as http.5; repeatable.")
@click.option("--where", metavar="EXPR", help="Only such events, as in: status >= 500 and host = *.example")
@click.option("--since", metavar="WHEN", help="Begin with stored events: 90s, 10m, 2h, 1d ago, or a time (ISO 8601).")
@click.option("--json", "as_json", is_flag=True, help="The events themselves, one JSON object per line.")
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
    """Subscribe to a running appliance and show its transactions, a line each.

    What was published and did not arrive is asked for again; what cannot be had is reported on standard error. WHERE
    knows method, host, status and path, the signs = != ~ (contains) !~ < <= > >=, and, or, not and parentheses;
    * and ? stand for anything; a status may be a class (5xx) or none.
    """
    from datetime import UTC, datetime

    from appliance import watch
    from appliance.bus import BusError
    from appliance.curve import KeyFault
    from appliance.where import WhereError, compile_where

    try:
        test = compile_where(where) if where is not None else None
    except WhereError as error:
        stop(f"--where {error}")
    try:
        begin = watch.since(since, datetime.now(UTC)) if since is not None else ""
    except (ValueError, OverflowError):
        stop(f"--since {since!r}: write how long ago (90s, 10m, 2h, 1d) or a time (2026-11-22T10:00)")
    try:
        code = watch.watch(watch.Wanted(connect, topics, replay, server_key, key, as_json, limit, begin, test))
    except KeyFault as error:
        stop(f"--server-key, --key: {error}")
    except BusError as error:
        stop(f"--connect {error}")
    sys.exit(code)


@main.command()
@click.option("--to", required=True, metavar="URL", help="nats://HOST:PORT[/STREAM] or kafka://HOST:PORT[/TOPIC].")
@click.option("--connect", default=FEED, show_default=True, metavar="ENDPOINT", help="The feed of a running appliance.")
@click.option("--replay", default="", metavar="ENDPOINT", help="Ask for lost events here, or off. [as the feed says]")
@click.option("--server-key", default="", metavar="FILE", help="Public key of a locked feed.")
@click.option("--key", default="", metavar="FILE", help="Secret key of your own for a locked feed.")
@click.option("--topic", "topics", multiple=True, metavar="T", help="Only topics that start so; repeatable. [http.]")
@click.option(
    "--credentials",
    "secret",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML with user, password, token, ca, …; mode 0600. [APPLIANCE_FORWARD_USER, … of the environment]",
)
@click.option("--subject", default="appliance", show_default=True, metavar="PREFIX", help="NATS: of the subjects.")
@click.option("--position", default="", metavar="FILE", help="Remember there what is acknowledged. [start over]")
@click.option(
    "--window",
    type=click.IntRange(1, 1 << 20),
    default=4096,
    show_default=True,
    metavar="N",
    help="Events that may wait for the server; then the feed is not read.",
)
@click.option("--window-bytes", type=size, default="64M", show_default=True, metavar="BYTES", help="The same in bytes.")
@click.option("--metrics", default="", metavar="HOST:PORT", help="Serve /metrics and /healthz there. [off]")
@click.option("--allow-remote", is_flag=True, help="Serve them beyond this host.")
def forward(
    to: str, topics: tuple[str, ...], secret: Path | None, subject: str, metrics: str, allow_remote: bool, **others: Any
) -> None:
    """Publish the events of a running appliance to NATS JetStream or Kafka, each at least once.

    Each is published under its event.id: JetStream leaves out what it has, in Kafka it is the key of the record.
    Begins with the oldest event that the feed still has. More servers of a cluster stand in the URL with commas.
    """
    import os

    from appliance.bus import BusError
    from appliance.config import is_loopback, split_address
    from appliance.forward import Wanted
    from appliance.forward import forward as publish
    from appliance.target import SinkFault, TargetFault, credentials, parse

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
    wanted = Wanted(
        target, known, others.pop("connect"), topics or ("http.",), prefix=subject, metrics=metrics, **others
    )
    try:
        code = publish(wanted)
    except BusError as error:
        stop(f"--connect {error}")
    except SinkFault as error:
        stop(str(error))
    except OSError as error:
        stop(f"--metrics {metrics}: {error.strerror}", 1)
    sys.exit(code)


@main.command()
@click.option("-i", "--interface", default="", metavar="IFACE", help="Frames of this interface, until stopped.")
@click.option("-r", "--read", "file", default="", metavar="FILE", help="Frames of a capture file; - is standard input.")
@click.option("-f", "--filter", default="", metavar="BPF", help="Only frames that match, as in tcpdump.")
@click.option("-n", "limit", type=click.IntRange(min=1), metavar="N", help="Stop after N frames.")
@click.option("-w", "--write", "output", default="", metavar="OUT.pcap", help="Write the frames there; - is stdout.")
@click.option("--layers", "view", flag_value="layers", help="Each layer of each frame with its fields.")
@click.option("--dump", "view", flag_value="dump", help="The same, and every byte in hexadecimal.")
@click.option("--json", "view", flag_value="json", help="One JSON object per line and frame.")
@click.option("--snaplen", type=size, default="256K", metavar="BYTES", help="Longest part kept of a frame. [256K]")
@click.option("--promiscuous/--no-promiscuous", default=True, help="Frames for other hosts too.")
def packets(
    interface: str,
    file: str,
    filter: str,
    limit: int | None,
    output: str,
    view: str | None,
    snaplen: int,
    promiscuous: bool,
) -> None:
    """Look at frames: a line each, or layer by layer, or write them to a capture file.

    With -w nothing is printed unless --layers, --dump or --json asks for it. Times are in UTC. What was captured, and
    what the kernel dropped, is said on standard error at the end.
    """
    if bool(interface) == bool(file):
        stop("give either -i IFACE or -r FILE" if not file else "-i and -r exclude each other")
    if output == "-" and view:
        stop(f"-w - and --{view} both write to standard output")
    from appliance.packets import Unusable, Wanted
    from appliance.packets import packets as look

    shown = view or ("" if output else "line")
    try:
        code = look(Wanted(interface, file, filter, limit, output, shown, snaplen, promiscuous))
    except Unusable as error:
        stop(str(error))
    sys.exit(code)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="As one JSON array.")
def devices(as_json: bool) -> None:
    """List the interfaces that can be captured on."""
    from appliance.pcap import PcapError
    from appliance.pcap import devices as find

    try:
        found = find()
    except PcapError as error:
        stop(str(error), 1)
    if as_json:
        import json

        listed = [{**device._asdict(), "addresses": [a._asdict() for a in device.addresses]} for device in found]
        click.echo(json.dumps(listed, indent=2))
        return
    from appliance.show import columns, safe

    rows = [("name", "flags", "address", "netmask", "description")]
    for device in found:
        about = (device.name, " ".join(device.flags))
        addresses = [(a.ip, a.netmask or "") for a in device.addresses] or [("", "")]
        for number, address in enumerate(addresses):
            rows.append((*(about if number == 0 else ("", "")), *address, device.description if number == 0 else ""))
    for line in columns([[safe(cell) for cell in row] for row in rows]):
        click.echo(line)


@main.command()
@click.option("-i", "--interface", required=True, metavar="IFACE", help="Send there.")
@click.argument("file", metavar="FILE.pcap")
@click.option("--rate", type=float, metavar="N", help="Frames a second. [as fast as possible]")
@click.option("--speed", type=float, metavar="FACTOR", help="As they were recorded, 2 being twice as fast.")
@click.option("-n", "limit", type=click.IntRange(min=1), metavar="N", help="Stop after N frames.")
@click.option("--loop", "loops", type=click.IntRange(min=1), default=1, metavar="TIMES", help="Send the file so often.")
def inject(interface: str, file: str, rate: float | None, speed: float | None, limit: int | None, loops: int) -> None:
    """Write the frames of a capture file to an interface; - is standard input.

    Says on standard error what was really sent. Frames that the interface refuses are counted, and the exit code is 1.
    """
    for option, value in (("--rate", rate), ("--speed", speed)):
        if value is not None and not 0 < value < float("inf"):
            stop(f"{option}: a number above 0, not {value:g}")
    if rate is not None and speed is not None:
        stop("--rate and --speed exclude each other")
    from appliance.inject import Injection, Unusable

    try:
        code = Injection(interface, file, rate=rate, speed=speed, limit=limit, loops=loops).run()
    except Unusable as error:
        stop(str(error))
    sys.exit(code)


@main.command()
@click.option("-i", "--interface", "interfaces", multiple=True, metavar="IFACE", help="Look at this one; repeatable.")
@click.option("-c", "--config", "file", type=click.Path(path_type=Path), metavar="FILE.toml", help="As for run.")
@click.option("--run", type=click.Path(path_type=Path), metavar="DIR", help="Run directory. [the one that runs here]")
@click.option(
    "--seconds",
    type=click.FloatRange(0, 600),
    default=3.0,
    show_default=True,
    metavar="S",
    help="How long to look at traffic and at a run; 0: not at traffic.",
)
@click.option("--json", "as_json", is_flag=True, help="As one JSON document.")
def doctor(interfaces: tuple[str, ...], file: Path | None, run: Path | None, seconds: float, as_json: bool) -> None:
    """Say what is wrong with interfaces, this machine and a running appliance, why it matters, and what mends it.

    Looks at the interfaces of -i, of the configuration, or of the appliance that runs here, whose counters are judged,
    too. Changes nothing. Exit code 0: all is well, 1: something to look at, 2: something fails.
    """
    from appliance.config import ConfigError
    from appliance.doctor import Wanted
    from appliance.doctor import doctor as examine
    from appliance.rundir import Unusable

    try:
        code = examine(Wanted(interfaces, file, run, seconds, as_json))
    except (ConfigError, Unusable) as error:
        stop(str(error))
    sys.exit(code)


@main.command()
@click.option("--run", type=click.Path(path_type=Path), metavar="DIR", help="Run directory. [the one that runs here]")
@click.option(
    "--interval",
    type=click.FloatRange(0.2, 60),
    default=2.0,
    show_default=True,
    metavar="S",
    help="Time between two pictures.",
)
@click.option("--once", is_flag=True, help="Print one picture, of one interval, and end.")
@click.option("--server-key", default="", metavar="FILE", help="Public key of a locked feed, for the slowest hosts.")
@click.option("--key", default="", metavar="FILE", help="Secret key of your own for a locked feed.")
def top(run: Path | None, interval: float, once: bool, server_key: str, key: str) -> None:
    """Watch a running appliance on the terminal: rates, losses by stage, workers, TCP, HTTP, the slowest hosts.

    q ends it. The appliance is only read.
    """
    from appliance.curve import KeyFault
    from appliance.rundir import Unusable
    from appliance.running import find
    from appliance.top import Wanted
    from appliance.top import top as show

    try:
        code = show(Wanted(find(run), interval, once, server_key, key))
    except KeyFault as error:
        stop(f"--server-key, --key: {error}")
    except Unusable as error:
        stop(str(error))
    sys.exit(code)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.argument("clients", nargs=-1, metavar="[CLIENT]...")
def keygen(folder: Path, clients: tuple[str, ...]) -> None:
    """Make keys for a feed that not everybody may read: the server's, and a pair for each CLIENT.

    Public keys of clients go to DIR/clients, the folder for --curve-clients: whose key is there may read. To let
    another one in, or out, change the folder and send SIGHUP to the appliance. No file is ever replaced.
    """
    from appliance.curve import KeyFault, make_keys

    try:
        said = make_keys(folder, list(clients))
    except KeyFault as error:
        stop(str(error))
    for line in said:
        click.echo(line)


@main.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE.toml")
def check(file: Path) -> None:
    """Say every fault of a configuration file with its line, or ok. The filter is compiled and keys are read.

    Ends with 0 when it is good and 2 when it is not.
    """
    from appliance.config import ConfigError
    from appliance.reload import check as examine

    try:
        examine(file)
    except ConfigError as error:
        stop(str(error))
    click.echo("ok")


@main.command()
def config() -> None:
    """Print a configuration file with every key, its default and its meaning."""
    from appliance.config import default_toml

    click.echo(default_toml())
