"""Checks of a single option's value: the type and range of its field, and the message for a value that does not fit."""

from __future__ import annotations

import json
import math

import msgspec
from msgspec.inspect import BoolType, FloatType, IntType, ListType, LiteralType, Metadata, Type, type_info

from appliance.config.field import Section
from appliance.config.schema import Config

SECTIONS: dict[str, type[Section]] = {field.name: field.type for field in msgspec.structs.fields(Config)}
FIELDS: dict[str, msgspec.structs.FieldInfo] = {
    f"{name}.{field.name}": field for name, section in SECTIONS.items() for field in msgspec.structs.fields(section)
}


_CLOSE = 0.65  # likeness of two names from which one may be meant by the other
_SAME_SECTION = 0.15  # likeness that the right section is worth


def unknown_section(name: str, content: object) -> str:
    if not isinstance(content, dict):
        return _unknown(name)
    close = max(SECTIONS, key=lambda section: _likeness(name, section))
    return f"[{name}] is not a section; " + (
        f"did you mean [{close}]?" if _likeness(name, close) >= _CLOSE else f"known: {', '.join(SECTIONS)}"
    )


# Former names of options, "section.key", and the present ones. A former name works for one version.
RENAMED: dict[str, str] = {}

# Removed options, and their replacements.
_REPLACED = {
    "http.max_pipelined": "requests in flight are bounded by their bytes, over all connections of a worker: "
    "remove it, or set http.max_total_waiting_bytes",
}


def _unknown(key: str) -> str:
    if key in _REPLACED:
        return f"{key} is not an option any more; {_REPLACED[key]}"
    section, _, name = key.rpartition(".")
    if meant := _meant(section, name):
        return f"{key} is not an option; did you mean {meant}?"
    known = ", ".join(option.partition(".")[2] for option in FIELDS if option.startswith(f"{section}."))
    return f"{key} is not an option" + (f"; [{section}] has {known}" if known else "")


def _meant(section: str, name: str) -> str:
    """Return the option whose name is closest, in any section; an empty text if none is close.

    A name that is that of a section means its first option: `shard.workers` means `workers.count`. The section that was
    given decides between options that are about equally close.
    """
    closest, best = "", _CLOSE
    firsts = {next(option for option in FIELDS if option.startswith(f"{known}.")) for known in SECTIONS}
    for option in FIELDS:
        own, _, known = option.partition(".")
        likeness = max(_likeness(name, known), _likeness(name, own) if option in firsts else 0.0)
        if likeness >= _CLOSE and likeness + _SAME_SECTION * (own == section) > best:
            closest, best = option, likeness + _SAME_SECTION * (own == section)
    return closest


def _likeness(one: str, other: str) -> float:
    """Return 0.0 to 1.0; only equal names are alike if difflib cannot be loaded, as inside the sandbox."""
    try:
        from difflib import SequenceMatcher
    except (ImportError, OSError):
        return float(one == other)
    return SequenceMatcher(None, one, other).ratio()


def fault_of(key: str, value: object) -> str:
    """Return the fault of one value on its own; an empty text if there is none."""
    field = FIELDS.get(key)
    if field is None:
        return _unknown(key)
    expected = f"{key} = {shown(value)}: must be {expected_value(field)}"
    if isinstance(value, float) and not math.isfinite(value):
        return expected
    try:
        msgspec.convert(value, field.type, strict=True)
    except msgspec.ValidationError:
        return expected
    if not encodes(value):
        return f"{key} = {shown(value)}: holds bytes that are not UTF-8"
    if isinstance(value, str) and "\0" in value:
        return f"{key} = {shown(value)}: holds a NUL character"
    return ""


def encodes(value: object) -> bool:
    """Return whether all text in it can be written as UTF-8: a command-line argument may contain any bytes."""
    try:
        json.dumps(value, default=str, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(value: object) -> str:
    """Return a value as text; terminal.plain() escapes what is not printable."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _type(field: msgspec.structs.FieldInfo) -> Type:
    info = type_info(field.type)
    return info.type if isinstance(info, Metadata) else info


def notes(field: msgspec.structs.FieldInfo) -> tuple[str, dict[str, str]]:
    """Return the text of a field and its other notes."""
    (meta,) = field.type.__metadata__
    return meta.description, meta.extra


def expected_value(field: msgspec.structs.FieldInfo) -> str:
    """Return a description of the values that a field accepts."""
    info = _type(field)
    _, extra = notes(field)
    if isinstance(info, IntType | FloatType):
        kind = "a whole number" if isinstance(info, IntType) else "a number"
        return f"{kind} from {info.ge} to {info.le} ({extra['unit']})"
    if isinstance(info, BoolType):
        return "true or false"
    if isinstance(info, LiteralType):
        return "one of " + ", ".join(f'"{value}"' for value in info.values)
    if isinstance(info, ListType) and isinstance(info.item_type, LiteralType):
        return "a list of some of " + ", ".join(f'"{value}"' for value in info.item_type.values)
    if isinstance(info, ListType) and isinstance(info.item_type, IntType):
        item = info.item_type
        return f"a list of at most {info.max_length} whole numbers from {item.ge} to {item.le}, as in [{item.le}]"
    return 'a list of texts, as in ["a", "b"]' if isinstance(info, ListType) else "a text in quotes"
