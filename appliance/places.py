"""Where in a TOML file a key stands: the parser does not say, and a person wants to know."""

import re

_TABLE = re.compile(r"\s*\[\s*([\w.\"'-]+)\s*\]")
_KEY = re.compile(r"\s*([\w.\"'-]+)\s*=")


def line_of(text: str, key: str) -> int:
    """The line of "section.key", or of a section; 0 where it is not plain to see (as in an inline table)."""
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if found := _TABLE.match(line):
            section = _plain(found[1])
            if section == key:
                return number
        elif found := _KEY.match(line):
            name = _plain(found[1])
            if (f"{section}.{name}" if section else name) == key:
                return number
    return 0


def place(file: object, text: str, key: str) -> str:
    """The file, and the line if it is known, as compilers write it."""
    line = line_of(text, key)
    return f"{file}:{line}" if line else str(file)


def _plain(name: str) -> str:
    return name.replace('"', "").replace("'", "")
