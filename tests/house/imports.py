"""The imports of a source: every form of them, in .py, .pyx, .pxd and .pyi files."""

from __future__ import annotations

import re
from pathlib import Path

OURS = ("appliance", "workers")
# `from X import a, (b as c)`, `cimport x.y as z, w`, `cdef extern` needs none; a string of code is not an import.
_FROM = re.compile(r"^[ \t]*from[ \t]+([\w.]+)[ \t]+c?import[ \t]+(\([^)]*\)|(?:[^\n\\(]|\\\n)+)", re.M)
_PLAIN = re.compile(r"^[ \t]*(?:>>> )?c?import[ \t]+((?:[^\n\\(]|\\\n)+)", re.M)
_SEMICOLON = re.compile(r";[ \t]*(from|import|cimport)[ \t]")
_BY_NAME = re.compile(r"\b(?:import_module|__import__)\(\s*(f?)[\"']([\w.{}]+)[\"']")
_INCLUDE = re.compile(r"^[ \t]*include[ \t]+[\"']([^\"']+)[\"']", re.M)


def _names(text: str) -> list[str]:
    plain = re.sub(r"#[^\n]*", "", text).replace("\\\n", " ").strip().strip("()")
    return [name.split(" as ")[0].strip() for name in plain.replace("\n", " ").split(",") if name.strip()]


def _without_strings(text: str) -> str:
    """Blank out triple-quoted strings: prose, and programs for other processes, are no imports of this file."""
    return re.sub(r"(\"\"\"|''')(?:\\.|(?!\1)[\s\S])*\1", lambda found: "\n" * found[0].count("\n"), text)


def imported(path: Path, package: str) -> set[str]:
    """Return the dotted names that the file imports: `from x import y` gives x.y; relative ones begin at `package`."""
    text = _SEMICOLON.sub(r"\n\1 ", _without_strings(path.read_text()))
    found: set[str] = set()
    for module, names in _FROM.findall(text):
        found |= {f"{_absolute(module, package)}.{name}" for name in _names(names)}
    for names in _PLAIN.findall(text):
        found |= set(_names(names))
    for formatted, name in _BY_NAME.findall(text):
        found.add(name.partition("{")[0].rstrip(".") if formatted else name)
    if _INCLUDE.search(text):
        raise ValueError(f"{path}: `include` pastes another file in; use cimport")
    return found


def _absolute(module: str, package: str) -> str:
    if not module.startswith("."):
        return module
    up = len(module) - len(module.lstrip("."))
    parts = package.split(".")[: len(package.split(".")) - up + 1]
    return ".".join([*parts, module[up:]]).rstrip(".")
