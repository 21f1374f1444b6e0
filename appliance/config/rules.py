"""The rules between options: values that are valid on their own and contradict each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from appliance.config.address import OFF, endpoint, is_loopback, split_address
from appliance.config.schema import Config
from appliance.config.values import shown
from appliance.native.file_identity import clashes

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a field name, RFC 9110 section 5.6.2
OWN = "the configuration file (-c)"
LEAST_RECORD_BATCHES = 32
STDOUT_NAME = "standard output"
_WITHOUT_SOURCE = "source.interfaces or source.file: nothing to capture from; name an interface or a capture file"


def how_to_install(extra: str) -> str:
    """Return the command that brings the libraries of an optional part."""
    return f"make setup EXTRAS={extra} (an installed appliance: make install EXTRAS={extra})"


def contradictions(config: Config, source_required: bool) -> Iterator[tuple[list[str], str]]:
    """Yield the contradictions between valid values: the suspected keys, and the fault."""
    yield from _source_faults(config, source_required)
    yield from _limit_faults(config)
    yield from _record_faults(config)
    yield from _files_faults(config)
    yield from _output_faults(config)
    yield from _header_faults(config)
    yield from _address_faults(config)


def _source_faults(config: Config, required: bool) -> Iterator[tuple[list[str], str]]:
    source, both = config.source, ["source.interfaces", "source.file"]
    if source.file and source.interfaces:
        yield both, "source.interfaces and source.file exclude each other; keep one"
    if required and not source.file and not source.interfaces:
        yield both, _WITHOUT_SOURCE
    for name in source.interfaces:
        if not name or name != name.strip() or "/" in name:
            yield both[:1], f"source.interfaces: {name!r} is not an interface name; see `appliance devices`"
    for name in sorted({name for name in source.interfaces if source.interfaces.count(name) > 1}):
        yield both[:1], f"source.interfaces: {name!r} is repeated; its frames would be counted twice"


def file_faults(config: Config, file: Path | None, running: bool) -> Iterator[tuple[list[str], str]]:
    """Yield conflicts of files: an input that is also an output, or an output that is used twice.

    file: of the configuration itself; running: "-" is the standard input or output of this process.
    """
    path, opened = config.output.path, config.output.opened
    inputs = [("source.file", config.source.file), ("feed.curve_key", config.feed.curve_key), (OWN, str(file or ""))]
    outputs = [("output.path", path), ("output.path", opened), ("run.ledger", config.run.ledger)]
    if config.lossless and not path:
        outputs.append((STDOUT_NAME, "-"))
    for key, other in dict.fromkeys(clashes(inputs, [one for one in outputs if running or one[1] != "-"])):
        yield [key, other], f"{key} and {other} are the same file, which would be overwritten; choose another"
    if config.run.ledger == "-":
        yield ["run.ledger"], 'run.ledger = "-": the ledger goes to a file; -v prints it at the end'


def _limit_faults(config: Config) -> Iterator[tuple[list[str], str]]:
    shard, tcp, http = config.shard, config.tcp, config.http
    if config.link_bytes < 2 * shard.batch_bytes:
        text = (
            f"shard.link_bytes = {config.link_bytes}: must hold two batches of shard.batch_bytes = {shard.batch_bytes}"
        )
        yield ["shard.link_bytes", "shard.batch_bytes"], text
    if tcp.max_total_pending_bytes < tcp.max_pending_bytes:
        text = f"tcp.max_total_pending_bytes = {tcp.max_total_pending_bytes}: less than one stream may hold"
        keys = ["tcp.max_total_pending_bytes", "tcp.max_pending_bytes"]
        yield keys, f"{text} (tcp.max_pending_bytes = {tcp.max_pending_bytes})"
    if http.max_total_head_bytes < http.max_head_bytes:
        text = f"http.max_total_head_bytes = {http.max_total_head_bytes}: less than one head may have"
        keys = ["http.max_total_head_bytes", "http.max_head_bytes"]
        yield keys, f"{text} (http.max_head_bytes = {http.max_head_bytes})"
    if config.tls.max_total_bytes < config.tls.max_hello_bytes:
        text = f"tls.max_total_bytes = {config.tls.max_total_bytes}: less than one hello may have"
        keys = ["tls.max_total_bytes", "tls.max_hello_bytes"]
        yield keys, f"{text} (tls.max_hello_bytes = {config.tls.max_hello_bytes})"


def _record_faults(config: Config) -> Iterator[tuple[list[str], str]]:
    least = LEAST_RECORD_BATCHES * config.shard.batch_bytes
    if config.record.path and config.record.bytes < least:
        yield (
            ["record.bytes", "shard.batch_bytes"],
            f"record.bytes = {config.record.bytes}: must hold {LEAST_RECORD_BATCHES} batches of shard.batch_bytes = "
            f"{config.shard.batch_bytes}, which are {least}",
        )

    if config.record.only:
        # here, because a run without the option has no use for the parser
        from appliance.expression.event_filter import WhereError, compile_where

        try:
            compile_where(config.record.only)
        except WhereError as error:
            yield ["record.only"], f"record.only: {error}"
        if not config.record.path:
            yield ["record.only", "record.path"], "record.only: nothing is recorded; name a folder in record.path"
        if config.record.encrypt_to:
            yield (
                ["record.only", "record.encrypt_to"],
                "record.only and record.encrypt_to exclude each other: the sensor cannot read what it encrypts",
            )


def _files_faults(config: Config) -> Iterator[tuple[list[str], str]]:
    files = config.files
    if files.path and files.budget_bytes < 2 * files.max_bytes:
        yield (
            ["files.budget_bytes", "files.max_bytes"],
            f"files.budget_bytes = {files.budget_bytes}: must hold two files of files.max_bytes = {files.max_bytes}",
        )
    if files.path and files.min_bytes > files.max_bytes:
        yield (
            ["files.min_bytes", "files.max_bytes"],
            f"files.min_bytes = {files.min_bytes}: more than files.max_bytes = {files.max_bytes}",
        )


def _output_faults(config: Config) -> Iterator[tuple[list[str], str]]:
    output = config.output
    if output.rotates and output.path in ("", "-"):
        yield ["output.path"], "output.rotate_bytes and output.rotate_s need a file: set output.path (-o)"
    if output.parquet:
        yield from _parquet_faults(config)
    if not output.rotates and (output.compress != "none" or output.keep_files or output.keep_bytes):
        keys = ["output.rotate_bytes", "output.rotate_s"]
        yield (
            keys,
            "output.compress, keep_files and keep_bytes are about closed files: set output.rotate_bytes or rotate_s",
        )


def _parquet_faults(config: Config) -> Iterator[tuple[list[str], str]]:
    output = config.output
    if output.path in ("", "-"):
        yield ["output.format", "output.path"], 'output.format = "parquet": needs a file, set output.path (-o)'
    if output.compress != "none":
        yield ["output.compress"], "output.compress: Parquet files are compressed inside; leave it out"
    if config.source.interfaces and not output.rotate_s:
        yield (
            ["output.path", "output.rotate_s"],
            f"output.path (-o) {output.path}: a Parquet file can be read only when it is finished; "
            "set output.rotate_s, as in --set output.rotate_s=60",
        )
    from importlib.util import find_spec  # here: rarely needed

    if find_spec("pyarrow") is None:
        yield (
            ["output.format", "output.path"],
            f"Parquet needs pyarrow: {how_to_install('parquet')}",
        )


def _header_faults(config: Config) -> Iterator[tuple[list[str], str]]:
    for key, names in [("http.headers", config.http.headers), ("http.redact", config.http.redact)]:
        for name in names:
            if not _TOKEN.fullmatch(name):
                yield [key], f"{key}: {name!r} cannot be the name of a header field"


def _address_faults(config: Config) -> Iterator[tuple[list[str], str]]:
    if bool(config.feed.curve_key) != bool(config.feed.curve_clients):
        yield ["feed.curve_key", "feed.curve_clients"], "feed.curve_key and feed.curve_clients belong together"
    seen: dict[object, str] = {}
    for key, text in [
        ("feed.bind", config.feed.bind),
        ("feed.replay", config.feed.replay),
        ("metrics.bind", config.metrics.bind),
    ]:
        if text == OFF:
            continue
        try:
            where = endpoint(text) if key.startswith("feed.") else split_address(text)
        except ValueError as error:
            yield [key], f"{key} = {shown(text)}: {error}"
            continue
        same = where[1] or key if isinstance(where, tuple) else where  # on one host, ports clash for any address
        if same in seen:
            yield (
                [key, seen[same]],
                f"{key} = {shown(text)}: {seen[same]} is there already; choose another port or path",
            )
        seen[same] = key
        if isinstance(where, tuple) and not is_loopback(where[0]):
            yield from _remote_faults(config, key, text)


def _remote_faults(config: Config, key: str, text: str) -> Iterator[tuple[list[str], str]]:
    """Yield a fault if other hosts reach an address without a lock or an explicit permission."""
    feed = config.feed
    beyond = f"{key} = {shown(text)}: reachable from other hosts without authentication"
    if key == "metrics.bind" and not config.run.allow_remote:
        yield (
            [key, "run.allow_remote"],
            f"{beyond}; bind 127.0.0.1, or set run.allow_remote = true behind a firewall",
        )
    elif key != "metrics.bind" and not feed.curve_key and not feed.anyone_may_read:
        yield (
            [key, "feed.anyone_may_read"],
            f"{beyond}; set feed.curve_key and feed.curve_clients (`appliance keygen` makes keys), bind 127.0.0.1, "
            "or set feed.anyone_may_read = true behind a firewall",
        )
