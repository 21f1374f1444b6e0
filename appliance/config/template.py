"""The configuration file that explains every option."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import msgspec

from appliance.config.load import load_toml
from appliance.config.values import SECTIONS, expected_value, notes


def default_toml() -> str:
    """Return a configuration file that sets nothing and explains every option, with its default behind a `#`."""
    out = ["# Every option with its default. Take away the # before a key to set it.", ""]
    for name, section in SECTIONS.items():
        out += [*_comment(" ".join((section.__doc__ or "").split())), f"[{name}]"]
        for field in msgspec.structs.fields(section):
            about, extra = notes(field)
            out += ["", *_comment(about)]
            if extra["unit"]:
                out += _comment(f"Takes {expected_value(field)}.")
            if extra["reached"]:
                out += _comment(f"When reached: {extra['reached']}.")
            if extra["counter"]:
                out += _comment(f"Shown by: {extra['counter']}")
            out.append(f"#{field.name} = {_literal(_default(field))}")
        out.append("")
    return "\n".join(out)


def differences(file: Path) -> str:
    """Return a TOML file that means the same with nothing but what is not the default, the default behind each.

    Raises ConfigError with every fault of the file.
    """
    values = load_toml(file)
    out: list[str] = []
    for name, section in SECTIONS.items():
        changed = []
        for field in msgspec.structs.fields(section):
            value, default = values.get(f"{name}.{field.name}", _default(field)), _default(field)
            if value != default:
                changed.append(f"{field.name} = {_literal(value)}  # default: {_literal(default)}")
        if changed:
            out += [*([""] if out else []), f"[{name}]", *changed]
    return "\n".join(out)


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()


def _literal(value: object) -> str:
    """Format a TOML literal; JSON's syntax serves for these kinds of values."""
    return json.dumps(value, ensure_ascii=False)


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
