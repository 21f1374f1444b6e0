"""The reload of the configuration of a running appliance: which keys may change, and whether the new values work.

The check is complete before any value changes: it reads the file as a start would, compiles the filter for the link
types in use, and reads the folder of keys. A change that needs new sockets, processes or memory is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec

from appliance.config.errors import ConfigError
from appliance.config.load import load_toml, read_text, resolve
from appliance.config.schema import Config
from appliance.config.toml_lines import place

SECTIONS = ("tcp", "http", "quic", "bodies", "tls", "events", "websocket")  # sections whose keys may all change
EXCEPT = ("tcp.checksums", "quic.max_initials_per_second", "events.udp_flows")  # but these, for captures at their start
RECORD_KEYS = ("record.bytes", "record.seconds", "record.only", "record.kept_bytes")
FEED_KEYS = ("feed.curve_clients", "feed.connection_share", "feed.connection_bytes_s")
FILES_KEYS = tuple(
    f"files.{key}" for key in ("types", "min_bytes", "max_bytes", "budget_bytes", "keep_s", "max_parts", "announce")
)
KEYS = ("source.filter", "capture.vlan_aware", *RECORD_KEYS, *FEED_KEYS, *FILES_KEYS)  # and these
LINK_TYPES = (1, 113, 276, 101, 105, 0)  # Ethernet first: candidates for a filter before any capture is open
LEFT_OPEN = ("workers.count", "run.observer")  # a start derives these from the machine


class Origin:
    """The origin of a configuration: a file, and options of the command line, which override it."""

    def __init__(self, file: Path, options: Mapping[str, object]) -> None:
        self.file = file
        self.options = dict(options)

    def again(self, now: Config) -> Config:
        """Return its configuration as of now. Raises ConfigError."""
        if not self.file.is_file():  # reading a pipe would block
            raise ConfigError([f"{self.file}: there is no such file, or none that can be read again"])
        options = dict(self.options)
        known = load_toml(self.file) | options
        for key in LEFT_OPEN:
            if not known.get(key):
                options[key] = value(now, key)
        return resolve(self.file, options)


def value(config: Config, key: str) -> object:
    """Return the value of "section.key"."""
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)


def differences(before: Config, after: Config) -> list[str]:
    """Return the keys, "section.key", whose values differ."""
    found = []
    for section in msgspec.structs.fields(Config):
        for field in msgspec.structs.fields(section.type):
            key = f"{section.name}.{field.name}"
            if value(before, key) != value(after, key):
                found.append(key)
    return found


def may_change(key: str) -> bool:
    """Return whether a running appliance can take a new value of this key."""
    return key in KEYS or (key.partition(".")[0] in SECTIONS and key not in EXCEPT)


def read(origin: Origin, now: Config, link_types: Sequence[int]) -> tuple[Config, list[str]]:
    """Return the new configuration, and the keys that differ. link_types: of the captured frames.

    Raises ConfigError with every fault.
    """
    config = origin.again(now)
    changed = differences(now, config)
    fixed = "cannot be changed while it runs; restart the appliance for it, or take the change back"
    faults = [(key, fixed) for key in changed if not may_change(key)]
    if now.record.keeps != config.record.keeps and "record.path" not in changed:
        faults.append(("record.only", "its process starts with the run; restart the appliance to turn it on or off"))
    for link_type in dict.fromkeys(link_types):
        faults += _filter_faults(config.source.filter, [link_type])
    faults += _key_faults(config.feed.curve_clients)
    if faults:
        raise ConfigError(_placed(origin.file, faults))
    return config, changed


def check(file: Path) -> None:
    """Check whether a run could start with this file now. Raises ConfigError with all faults."""
    faults: list[str] = []
    try:
        resolve(file, {}, source_required=False)
    except ConfigError as error:
        faults = error.faults
    said = partial(_said, _document(file))
    found = [*_filter_faults(said("source.filter"), LINK_TYPES), *_key_faults(said("feed.curve_clients"))]
    if said("feed.curve_key"):
        # here, as below, because a run starts without ZeroMQ in its supervisor
        from appliance.pubsub.curve_keys import (
            KeyFault,
            read_pair,
        )

        try:
            read_pair(said("feed.curve_key"))
        except KeyFault as fault:
            found.append(("feed.curve_key", str(fault)))
    if found:
        faults = faults + _placed(file, found)
    if faults:
        raise ConfigError(faults)


def _document(file: Path) -> dict[str, object]:
    """Return the document of a file without any check of its values; an empty one if it is not TOML."""
    import tomllib

    try:
        return tomllib.loads(read_text(file))
    except (OSError, ValueError):
        return {}


def _said(document: dict[str, object], key: str) -> str:
    section, _, name = key.partition(".")
    content = document.get(section)
    text = content.get(name) if isinstance(content, dict) else None
    return text if isinstance(text, str) else ""


def _placed(file: Path, faults: Iterable[tuple[str, str]]) -> list[str]:
    text = read_text(file)
    return [f"{place(file, text, key)}: {key}: {fault}" for key, fault in faults]


def _filter_faults(text: str, link_types: Sequence[int]) -> Iterator[tuple[str, str]]:
    """Yield the fault of a filter for the first of these link types, if none accepts it."""
    from appliance.pcap.bpf import Filter  # here: libpcap is not needed before
    from appliance.pcap.errors import BadFilter

    faults = []
    for link_type in link_types:
        try:
            Filter(text, link_type)
            return
        except BadFilter as fault:
            faults.append(("source.filter", str(fault)))
    yield from faults[:1]


def _key_faults(folder: str) -> Iterator[tuple[str, str]]:
    if folder:
        from appliance.pubsub.curve_keys import KeyFault, read_allowed

        try:
            read_allowed(folder)
        except KeyFault as fault:
            yield "feed.curve_clients", str(fault)


def has_terminal() -> bool:
    """Return whether this process has a terminal that still exists."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
