"""Line numbers of keys in a TOML file, which the parser does not report."""

import re

_TABLE = r"\s*\[\s*([\w.\"'-]+)\s*\]"
_KEY = r"\s*([\w.\"'-]+)\s*="


def line_of(text: str, key: str) -> int:
    """Return the line of "section.key", or of a section; 0 if it is not plain (as in an inline table)."""
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if found := re.match(_TABLE, line):
            section = _plain(found[1])
            if section == key:
                return number
        elif found := re.match(_KEY, line):
            name = _plain(found[1])
            if (f"{section}.{name}" if section else name) == key:
                return number
    return 0


def place(file: object, text: str, key: str) -> str:
    """Return the file, and the line if it is known, as compilers write it."""
    line = line_of(text, key)
    return f"{file}:{line}" if line else str(file)


def _plain(name: str) -> str:
    return name.replace('"', "").replace("'", "")
