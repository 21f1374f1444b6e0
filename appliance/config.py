"""From a TOML file and command-line options to one checked `Config`, and from there to the child processes.

Both sources name an option `section.key`; the command line wins. Either a whole configuration comes out, or one
`ConfigError` that lists every fault with its place. Nothing here touches an interface or the network: a name or
a filter that the machine does not know is found by the process that uses it.
"""

import ipaddress
import json
import math
import os
import re
import socket
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
from msgspec.inspect import BoolType, FloatType, IntType, ListType, LiteralType, Metadata, Type, type_info

from appliance.notes import Section
from appliance.options import Config
from appliance.places import place as place_of

__all__ = [
    "Config",
    "ConfigError",
    "default_toml",
    "load_resolved",
    "load_toml",
    "resolve",
    "save_resolved",
    "split_address",
]

OFF = "off"
RESOLVED = "config.json"
ENTRUSTED = "APPLIANCE_CONFIGURATION"
LONGEST_VARIABLE = 100_000  # bytes; the kernel takes 128 KiB
_saved: dict[str, str] = {}  # by run directory

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a field name, RFC 9110 section 5.6.2
_SECTIONS: dict[str, type[Section]] = {field.name: field.type for field in msgspec.structs.fields(Config)}
_FIELDS: dict[str, msgspec.structs.FieldInfo] = {
    f"{name}.{field.name}": field for name, section in _SECTIONS.items() for field in msgspec.structs.fields(section)
}
_WITHOUT_SOURCE = "source.interfaces or source.file: nothing to capture from; name an interface or a capture file"


class ConfigError(Exception):
    """The configuration cannot be used. `faults` holds every reason, each with its place and what to do."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def resolve(file: Path | None, options: Mapping[str, object], *, source_required: bool = True) -> Config:
    """The configuration of a run: `file`, overridden by `options` ("section.key"; None = not given).

    What "0" or "" leaves open (workers, observer, replay without a feed) is filled in, so every process sees the same.
    source_required: False to check a file whose source comes by command line. Raises ConfigError with all faults."""
    values, faults, text = _read_toml(file) if file else ({}, [], "")
    given = {key: value for key, value in options.items() if value is not None}
    if given.get("source.interfaces") or given.get("source.file"):
        values.pop("source.interfaces", None)  # a source on the command line replaces the file's, of whichever kind
        values.pop("source.file", None)
    place = dict.fromkeys(values, str(file))
    for key, value in given.items():
        fault = _fault(key, value)
        if fault:
            faults.append((key, f"command line: {fault}"))
        else:
            values[key], place[key] = value, "command line"
    refused = {key for key, _ in faults}
    unreadable = "" in refused
    for keys, fault in _contradictions(_build(values), source_required and not unreadable):
        if refused.isdisjoint(keys):  # a value that was refused already proves nothing about its neighbours
            where = {place[key]: key for key in reversed(keys) if key in place}  # the first of each
            named = [place_of(one, text, key) if one == str(file) else one for one, key in reversed(where.items())]
            faults.append(("", f"{' and '.join(named) or file or 'command line'}: {fault}"))
    if faults:
        raise ConfigError([text for _, text in faults])
    return _build(values)


def load_toml(file: Path) -> dict[str, object]:
    """The options a file sets, by "section.key". Raises ConfigError with every fault of the file itself."""
    values, faults, _ = _read_toml(file)
    if faults:
        raise ConfigError([text for _, text in faults])
    return values


def save_resolved(config: Config, run_dir: Path) -> None:
    """Leaves the configuration for the child processes, whole or not at all. Raises OSError."""
    part = run_dir / f"{RESOLVED}.part"
    text = msgspec.json.format(msgspec.json.encode(config))
    part.write_bytes(text)
    _saved[str(run_dir)] = text.decode()
    part.chmod(0o600)
    home = run_dir.stat()
    if home.st_uid != os.geteuid():  # run.user
        os.chown(part, home.st_uid, home.st_gid)
    part.replace(run_dir / RESOLVED)


def entrusted(run_dir: Path | str) -> dict[str, str]:
    """What a child starts with beside its environment: the configuration itself.

    Its predecessors may write in the run directory, and must not be able to tell it what it may do."""
    text = _saved.get(str(run_dir), "")
    return {ENTRUSTED: text} if 0 < len(text) < LONGEST_VARIABLE else {}


def is_entrusted() -> bool:
    """Whether `load_resolved` will give what this process was started with."""
    return ENTRUSTED in os.environ


def load_resolved(run_dir: Path | str) -> Config:
    """What a child was started with; what `save_resolved` left when that was read before, or there is none.

    Raises OSError, or ConfigError when it is not from this version."""
    path = Path(run_dir) / RESOLVED
    given = os.environ.pop(ENTRUSTED, "")
    try:
        return msgspec.json.decode(given.encode() or path.read_bytes(), type=Config)
    except msgspec.DecodeError as error:
        raise ConfigError([f"{path}: {error}; it was not written by this version"]) from error


def default_toml() -> str:
    """A configuration file that sets nothing and explains every option, with its default behind a `#`."""
    out = ["# Every option with its default. Take away the # before a key to set it.", ""]
    for name, section in _SECTIONS.items():
        out += [*_comment(" ".join((section.__doc__ or "").split())), f"[{name}]"]
        for field in msgspec.structs.fields(section):
            about, extra = _about(field)
            out += ["", *_comment(about)]
            if extra["unit"]:
                out += _comment(f"Takes {_expected(field)}.")
            if extra["reached"]:
                out += _comment(f"When reached: {extra['reached']}.")
            if extra["counter"]:
                out += _comment(f"Shown by: {extra['counter']}")
            out.append(f"#{field.name} = {_literal(_default(field))}")
        out.append("")
    return "\n".join(out)


def split_address(text: str) -> tuple[str, int]:
    """HOST:PORT or [IPV6]:PORT in two. Port 0 stands for any free one. Raises ValueError that says what is wrong."""
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise ValueError(f"{text!r} is not HOST:PORT")
    if host.startswith("[") and host.endswith("]"):
        host = str(ipaddress.IPv6Address(host[1:-1]))
    elif ":" in host:
        raise ValueError(f"{text!r}: an IPv6 address needs brackets, as in [::1]:9470")
    elif not re.fullmatch(r"[A-Za-z0-9._*-]+", host):
        raise ValueError(f"{host!r} is not a host name or address")
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError(f"{port!r} is not a port; use 0 to 65535")
    return host, int(port)


# -- one value -------------------------------------------------------------------------------------------------------


def _read_toml(file: Path) -> tuple[dict[str, object], list[tuple[str, str]], str]:
    """Usable values by "section.key", the faults of everything else with their key ("" = the file as a whole), and the
    text."""
    import tomllib  # here, as difflib below: the processes of a run start without them

    try:
        text = file.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        return {}, [("", f"{file}: cannot be read: {error.strerror}")], ""
    except UnicodeDecodeError as error:
        return {}, [("", f"{file}: byte {error.start} is not UTF-8, as TOML has to be")], ""
    except tomllib.TOMLDecodeError as error:
        return {}, [("", f"{file}: not TOML: {error}")], ""
    values: dict[str, object] = {}
    faults = []

    def blame(key: str, fault: str) -> None:
        faults.append((key, f"{place_of(file, text, key)}: {fault}"))

    for name, content in document.items():
        if name not in _SECTIONS:
            blame(name, _unknown_section(name, content))
        elif not isinstance(content, dict):
            blame(name, f"{name} is a section: write [{name}] and its options below")
        else:
            for key, value in content.items():
                if fault := _fault(f"{name}.{key}", value):
                    blame(f"{name}.{key}", fault)
                else:
                    values[f"{name}.{key}"] = value
    return values, faults, text


def _close(name: str, known: Iterable[str]) -> list[str]:
    """The one that was meant, probably; none where difflib cannot be loaded: in a process that is fenced in."""
    try:
        from difflib import get_close_matches
    except (ImportError, OSError):
        return []
    return get_close_matches(name, list(known), n=1)


def _unknown_section(name: str, content: object) -> str:
    if not isinstance(content, dict):
        return _unknown(name)
    close = _close(name, _SECTIONS)
    return f"[{name}] is not a section; " + (
        f"did you mean [{close[0]}]?" if close else f"known: {', '.join(_SECTIONS)}"
    )


def _unknown(key: str) -> str:
    section, _, name = key.rpartition(".")
    elsewhere = [known for known in _FIELDS if known.partition(".")[2] == name]
    near = _close(name, (known.partition(".")[2] for known in _FIELDS if known.startswith(f"{section}.")))
    close = [f"{section}.{near[0]}"] if near else elsewhere[:1] or _close(key, _FIELDS)
    return f"{key} is not an option" + (f"; did you mean {close[0]}?" if close else "")


def _fault(key: str, value: object) -> str:
    """What is wrong with one value on its own; empty when nothing is."""
    field = _FIELDS.get(key)
    if field is None:
        return _unknown(key)
    expected = f"{key} = {_shown(value)}: must be {_expected(field)}"
    if isinstance(value, float) and not math.isfinite(value):
        return expected
    try:
        msgspec.convert(value, field.type, strict=True)
    except msgspec.ValidationError:
        return expected
    if isinstance(value, str) and "\0" in value:
        return f"{key} = {_shown(value)}: holds a NUL character"
    return ""


def _shown(value: object) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _type(field: msgspec.structs.FieldInfo) -> Type:
    info = type_info(field.type)
    return info.type if isinstance(info, Metadata) else info


def _about(field: msgspec.structs.FieldInfo) -> tuple[str, dict[str, str]]:
    """The text of a field and its other notes."""
    (meta,) = field.type.__metadata__
    return meta.description, meta.extra


def _expected(field: msgspec.structs.FieldInfo) -> str:
    """What a field takes, in words."""
    info = _type(field)
    _, extra = _about(field)
    if isinstance(info, IntType | FloatType):
        kind = "a whole number" if isinstance(info, IntType) else "a number"
        return f"{kind} from {info.ge} to {info.le} ({extra['unit']})"
    if isinstance(info, BoolType):
        return "true or false"
    if isinstance(info, LiteralType):
        return "one of " + ", ".join(f'"{value}"' for value in info.values)
    if isinstance(info, ListType) and isinstance(info.item_type, LiteralType):
        return "a list of some of " + ", ".join(f'"{value}"' for value in info.item_type.values)
    return 'a list of texts, as in ["a", "b"]' if isinstance(info, ListType) else "a text in quotes"


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()


def _literal(value: object) -> str:
    """A TOML literal; JSON's are, for the kinds of values there are."""
    return json.dumps(value, ensure_ascii=False)


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


# -- all values together ---------------------------------------------------------------------------------------------


def _build(values: Mapping[str, object]) -> Config:
    """The configuration of good values, with what they leave open filled in."""
    sections: dict[str, dict[str, object]] = {name: {} for name in _SECTIONS}
    for key, value in values.items():
        section, _, name = key.partition(".")
        sections[section][name] = list(value) if isinstance(value, list | tuple) else value
    draft = msgspec.convert(sections, Config)
    sections["workers"]["count"] = draft.worker_count
    sections["run"]["observer"] = draft.run.observer or socket.gethostname()
    if draft.feed.bind == OFF:
        sections["feed"]["replay"] = OFF
    return msgspec.convert(sections, Config)


def _contradictions(config: Config, source_required: bool) -> Iterator[tuple[list[str], str]]:
    """What is wrong with values that are good on their own: the keys it takes to be wrong, and the fault."""
    yield from _source_faults(config, source_required)
    yield from _limit_faults(config)
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
        yield both[:1], f"source.interfaces: {name!r} is there twice; its frames would be counted twice"
    paths = {"source.file": source.file, "output.path": config.output.path, "run.ledger": config.run.ledger}
    real = {key: os.path.realpath(path) for key, path in paths.items() if path not in ("", "-")}
    for key, other in [("output.path", "source.file"), ("run.ledger", "source.file"), ("run.ledger", "output.path")]:
        if key in real and real[key] == real.get(other):
            yield [key, other], f"{key} and {other} are the same file, which would be overwritten; choose another"
    if paths["run.ledger"] == "-":
        yield ["run.ledger"], 'run.ledger = "-": the ledger goes to a file; it is also printed at the end'


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
    if find_spec("pyarrow") is None:
        yield ["output.format", "output.path"], "Parquet needs pyarrow: pip install 'capture-appliance[parquet]'"


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
            where = _endpoint(text) if key.startswith("feed.") else split_address(text)
        except ValueError as error:
            yield [key], f"{key} = {_shown(text)}: {error}"
            continue
        same = where[1] or key if isinstance(where, tuple) else where  # on one host, ports clash whatever the address
        if same in seen:
            yield (
                [key, seen[same]],
                f"{key} = {_shown(text)}: {seen[same]} is there already; choose another port or path",
            )
        seen[same] = key
        if isinstance(where, tuple) and not is_loopback(where[0]):
            yield from _remote_faults(config, key, text)


def _remote_faults(config: Config, key: str, text: str) -> Iterator[tuple[list[str], str]]:
    """An address that other hosts reach needs a lock, or words that say that there is none."""
    feed = config.feed
    beyond = f"{key} = {_shown(text)}: reachable from other hosts, and nobody is asked who they are"
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


def _endpoint(text: str) -> tuple[str, int] | str:
    """The address of a tcp:// endpoint, or the path of an ipc:// one. Raises ValueError."""
    scheme, _, rest = text.partition("://")
    if scheme == "tcp" and rest:
        return split_address(rest)
    if scheme != "ipc" or not rest:
        raise ValueError('must be tcp://HOST:PORT, ipc://PATH or "off"')
    if len(os.fsencode(rest)) > 107:  # sockaddr_un.sun_path, less the final NUL
        raise ValueError("the path of a socket has at most 107 bytes")
    return rest


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address; a name is not looked up, "localhost" aside."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a name or an interface: what it stands for may change
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
