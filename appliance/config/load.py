"""From a TOML file and command-line options to one checked `Config`, and from there to the child processes.

Both sources name an option `section.key`; the command line wins. The result is a whole configuration, or one
`ConfigError` that lists every fault with its place. Nothing here touches an interface or the network: the process that
uses a name or a filter checks it.
"""

import os
import socket
import stat
from codecs import BOM_UTF8
from collections.abc import Mapping
from pathlib import Path

import msgspec

from appliance.config.address import OFF
from appliance.config.errors import ConfigError
from appliance.config.rules import contradictions, file_faults
from appliance.config.schema import Config
from appliance.config.toml_lines import place as place_of
from appliance.config.values import RENAMED, SECTIONS, fault_of, unknown_section

ASK_FOR_FEED = ("feed.bind", "feed.curve_key", "feed.curve_clients", "feed.anyone_may_read")


def resolve(file: Path | None, options: Mapping[str, object], *, source_required: bool = True) -> Config:
    """Return the configuration of a run: `file`, overridden by `options` ("section.key"; None = not given).

    Defaults that "0" or "" stand for (workers, observer, replay without a feed) are filled in, so every process sees
    the same. source_required: False to check a file whose source comes by command line. Raises ConfigError with all
    faults.
    """
    values, faults, text = _read_toml(file) if file else ({}, [], "")
    given = {RENAMED.get(key, key): value for key, value in options.items() if value is not None}
    if given.get("source.interfaces") or given.get("source.file"):
        values.pop("source.interfaces", None)  # a source on the command line replaces that of the file, of either kind
        values.pop("source.file", None)
    place = dict.fromkeys(values, str(file))
    for key, value in given.items():
        fault = fault_of(key, value)
        if fault:
            faults.append((key, f"command line: {fault}"))
        else:
            values[key], place[key] = value, "command line"
    refused = {key for key, _ in faults}
    unreadable = "" in refused
    config = _build(values)
    found = [*file_faults(config, file, source_required), *contradictions(config, source_required and not unreadable)]
    for keys, fault in found:
        if refused.isdisjoint(keys):  # a rejected value proves nothing about its neighbours
            where = {place[key]: key for key in reversed(keys) if key in place}  # the first of each
            named = [place_of(one, text, key) if one == str(file) else one for one, key in reversed(where.items())]
            faults.append(("", f"{' and '.join(named) or file or 'command line'}: {fault}"))
    if faults:
        raise ConfigError([text for _, text in faults])
    return config


def load_toml(file: Path) -> dict[str, object]:
    """Return the options that a file sets, by "section.key". Raises ConfigError with every fault of the file itself."""
    values, faults, _ = _read_toml(file)
    if faults:
        raise ConfigError([text for _, text in faults])
    return values


def former_names(file: Path | None, options: Mapping[str, object]) -> list[str]:
    """Return a note for each option that a readable file or the command line gives by its former name."""
    if not RENAMED:
        return []
    import tomllib

    text = read_text(file) if file else ""
    used = [(place_of(file, text, key), key) for key in _keys(tomllib.loads(text)) if key in RENAMED] if file else []
    used += [("command line", key) for key, value in options.items() if key in RENAMED and value is not None]
    return [f"{place}: {key} is now {RENAMED[key]}; the former name works in this version only" for place, key in used]


def _keys(document: Mapping[str, object]) -> list[str]:
    return [f"{name}.{key}" for name, content in document.items() if isinstance(content, dict) for key in content]


def read_text(file: Path) -> str:
    """Read a configuration file, without the byte-order mark of some editors. Raises OSError, UnicodeDecodeError."""
    return file.read_bytes().removeprefix(BOM_UTF8).decode()


# -- a file -----------------------------------------------------------------------------------------------------------


def _read_toml(file: Path) -> tuple[dict[str, object], list[tuple[str, str]], str]:
    """Return usable values by "section.key", the faults of the others with their key ("" = the whole file), and the
    text.
    """
    import tomllib  # here, as difflib below: the processes of a run do not need them

    try:
        text = read_text(file)
        document = tomllib.loads(text)
    except OSError as error:
        return {}, [("", f"{file}: cannot be read: {error.strerror}")], ""
    except UnicodeDecodeError as error:
        return {}, [("", f"{file}: byte {error.start} is not UTF-8, which TOML requires")], ""
    except tomllib.TOMLDecodeError as error:
        return {}, [("", f"{file}: not TOML: {error}")], ""
    values: dict[str, object] = {}
    faults = []

    def blame(key: str, fault: str) -> None:
        faults.append((key, f"{place_of(file, text, key)}: {fault}"))

    for name, content in document.items():
        if name not in SECTIONS:
            blame(name, unknown_section(name, content))
        elif not isinstance(content, dict):
            blame(name, f"{name} is a section: write [{name}] and its options below")
        else:
            for key, value in content.items():
                written = f"{name}.{key}"
                present = RENAMED.get(written, written)
                if present in values:
                    blame(written, f"{present} is set twice, by its present and its former name; remove one")
                elif fault := fault_of(present, value):
                    blame(written, fault)
                else:
                    values[present] = value
    return values, faults, text


# -- all values together ---------------------------------------------------------------------------------------------


def _build(values: Mapping[str, object]) -> Config:
    """Return the configuration of valid values, with defaults filled in."""
    sections: dict[str, dict[str, object]] = {name: {} for name in SECTIONS}
    for key, value in values.items():
        section, _, name = key.partition(".")
        sections[section][name] = list(value) if isinstance(value, list | tuple) else value
    draft = msgspec.convert(sections, Config)
    sections["workers"]["count"] = draft.workers.count or (1 if _fits_a_batch(draft) else draft.worker_count)
    sections["run"]["observer"] = draft.run.observer or socket.gethostname()
    if draft.source.file:  # several runs over files may coexist, and none takes the ports of a live capture
        asked = any(values.get(key) for key in ASK_FOR_FEED) or values.get("feed.replay", OFF) != OFF
        if not asked:
            sections["feed"]["bind"] = OFF
        sections["metrics"].setdefault("bind", OFF)
    if OFF in (draft.feed.bind, sections["feed"].get("bind")):
        sections["feed"]["replay"] = OFF
    return msgspec.convert(sections, Config)


def _fits_a_batch(config: Config) -> bool:
    """Return whether the source is a file so short that a second worker would start after the first has finished."""
    try:
        about = os.stat(config.source.file or os.devnull)
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(about.st_mode) and about.st_size <= config.shard.batch_bytes
