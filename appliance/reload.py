"""A new configuration for a run that goes on: what may change in it, and whether it can be used.

Nothing is swapped before all of it was looked at: the file as at a start, the filter compiled for the frames that the
captures really see, the folder of keys read. What a change would tear down (sockets, processes, memory) is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec

from appliance.config import Config, ConfigError, load_toml, resolve
from appliance.places import place

SECTIONS = ("tcp", "http", "bodies")  # whose keys may all change
EXCEPT = ("tcp.checksums",)  # but these: what a capture begins with
KEYS = ("source.filter", "capture.vlan_aware", "feed.curve_clients")  # and these
LINK_TYPES = (1, 113, 276, 101, 105, 0)  # Ethernet first: what a filter may be for when nothing is captured yet
LEFT_OPEN = ("workers.count", "run.observer")  # which a start fills in, from what the machine says then


class Origin:
    """Where the configuration of a run came from: a file, and options of the command line, which win."""

    def __init__(self, file: Path, options: Mapping[str, object]) -> None:
        self.file = file
        self.options = dict(options)

    def again(self, now: Config) -> Config:
        """What it says now. Raises ConfigError."""
        if not self.file.is_file():  # a pipe would be waited for
            raise ConfigError([f"{self.file}: there is no such file, or none that can be read again"])
        options = dict(self.options)
        known = load_toml(self.file) | options
        for key in LEFT_OPEN:
            if not known.get(key):
                options[key] = value(now, key)
        return resolve(self.file, options)


def value(config: Config, key: str) -> object:
    """Of "section.key"."""
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)


def differences(before: Config, after: Config) -> list[str]:
    """The keys, "section.key", that have another value."""
    found = []
    for section in msgspec.structs.fields(Config):
        for field in msgspec.structs.fields(section.type):
            key = f"{section.name}.{field.name}"
            if value(before, key) != value(after, key):
                found.append(key)
    return found


def may_change(key: str) -> bool:
    """Whether a running appliance can take a new value of this key."""
    return key in KEYS or (key.partition(".")[0] in SECTIONS and key not in EXCEPT)


def read(origin: Origin, now: Config, link_types: Sequence[int]) -> tuple[Config, list[str]]:
    """The configuration to go on with, and which keys of it are new. link_types: of the frames that are captured.

    Raises ConfigError with every fault."""
    config = origin.again(now)
    changed = differences(now, config)
    fixed = "cannot be changed while it runs; restart the appliance for it, or take the change back"
    faults = [(key, fixed) for key in changed if not may_change(key)]
    for link_type in dict.fromkeys(link_types):
        faults += _filter_faults(config.source.filter, [link_type])
    faults += _key_faults(config.feed.curve_clients)
    if faults:
        raise ConfigError(_placed(origin.file, faults))
    return config, changed


def check(file: Path) -> None:
    """Whether a run could start with this file, as far as that can be known now. Raises ConfigError with all faults."""
    faults: list[str] = []
    try:
        resolve(file, {}, source_required=False)
    except ConfigError as error:
        faults = error.faults
    said = partial(_said, _document(file))
    found = [*_filter_faults(said("source.filter"), LINK_TYPES), *_key_faults(said("feed.curve_clients"))]
    if said("feed.curve_key"):
        from appliance.curve import KeyFault, read_pair  # here, as below: a run starts without ZeroMQ in its supervisor

        try:
            read_pair(said("feed.curve_key"))
        except KeyFault as fault:
            found.append(("feed.curve_key", str(fault)))
    if found:
        faults = faults + _placed(file, found)
    if faults:
        raise ConfigError(faults)


def _document(file: Path) -> dict[str, object]:
    """What a file says that may be wrong in any way; nothing if it is no TOML."""
    import tomllib

    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _said(document: dict[str, object], key: str) -> str:
    section, _, name = key.partition(".")
    content = document.get(section)
    text = content.get(name) if isinstance(content, dict) else None
    return text if isinstance(text, str) else ""


def _placed(file: Path, faults: Iterable[tuple[str, str]]) -> list[str]:
    text = file.read_text(encoding="utf-8")
    return [f"{place(file, text, key)}: {key}: {fault}" for key, fault in faults]


def _filter_faults(text: str, link_types: Sequence[int]) -> Iterator[tuple[str, str]]:
    """What the first of these kinds of frames says to the filter, if none can do with it."""
    from appliance.bpf import Filter  # here: libpcap is not needed before
    from appliance.pcaperror import BadFilter

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
        from appliance.curve import KeyFault, read_allowed

        try:
            read_allowed(folder)
        except KeyFault as fault:
            yield "feed.curve_clients", str(fault)


def has_terminal() -> bool:
    """Whether this process belongs to a terminal that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
