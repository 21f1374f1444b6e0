"""Read the prose of a source: docstrings, comments, and the texts that users read (help, options, logs, errors)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_TOKEN = re.compile(
    r"""(?P<string>(?i:[rbuf]{0,2})(?:\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''"""
    r"""|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))|(?P<comment>\#[^\n]*)""",
    re.S,
)
_OPENS = re.compile(r"^[ \t]*(?P<kind>class|def|cdef class|cdef|cpdef|async def)\b", re.M)
_DIRECTIVE = re.compile(r"#!|# (?:type|noqa|ruff|cython|distutils|mypy|no-cython-lint|fmt)\b|# -[- ]")
LEAST_WORDS = 3  # of a string that is read as a text


class Text(NamedTuple):
    """Prose of a source. kind: "function", "class" or "module" (a docstring), "comment" or "message"."""

    kind: str
    line: int
    words: str


def texts(path: Path) -> list[Text]:
    """Return the prose of a .py, .pyx, .pxd or .pyi file, in its order."""
    return list(_texts(path.read_text()))


def _texts(source: str) -> Iterator[Text]:
    tokens = list(_TOKEN.finditer(source))
    place = 0
    while place < len(tokens):
        first = last = tokens[place]
        parts = [_inside(first)]
        while place + 1 < len(tokens) and _continues(source, last, tokens[place + 1]):
            place += 1
            last = tokens[place]
            parts.append(_inside(last))
        place += 1
        line = source.count("\n", 0, first.start()) + 1
        if first.lastgroup == "comment":
            if not _DIRECTIVE.match(first[0]):
                yield Text("comment", line, " ".join("".join(parts).split()))
            continue
        words = " ".join("".join(parts).split())
        kind = _docstring_of(source, first)
        if kind or len(words.split()) >= LEAST_WORDS:
            yield Text(kind or "message", line, words)


def _inside(token: re.Match[str]) -> str:
    """Return the text of a comment or a string, without its marks."""
    if token.lastgroup == "comment":
        return token[0].lstrip("#") + " "
    text = token[0].lstrip("rbufRBUF")
    return text[3:-3] if text.startswith(('"""', "'''")) else text[1:-1]


def _continues(source: str, last: re.Match[str], following: re.Match[str]) -> bool:
    """Return whether a comment or a string continues in the next one."""
    between = source[last.end() : following.start()]
    if between.strip() or last.lastgroup != following.lastgroup:
        return False
    if last.lastgroup == "string":
        return not _docstring_of(source, last)
    return between.count("\n") == 1 and not _code_before(source, following)


def _code_before(source: str, token: re.Match[str]) -> bool:
    return bool(source[source.rfind("\n", 0, token.start()) + 1 : token.start()].strip())


def _docstring_of(source: str, token: re.Match[str]) -> str:
    """Return "module", "class" or "function" for a docstring, else an empty string."""
    if not token[0].lstrip("rR").startswith('"""'):
        return ""
    before = source[: token.start()].rstrip()
    while (last := before[before.rfind("\n") + 1 :]).lstrip().startswith("#") or re.search(r":[ \t]+#[^\n]*$", last):
        before = before[: before.rindex("#")].rstrip()
    if not before:
        return "module"
    if not before.endswith(":") or _code_before(source, token):
        return ""
    opened = list(_OPENS.finditer(source, max(0, token.start() - 2000), token.start()))
    if not opened or source.startswith("cdef extern", opened[-1].start("kind")):
        return ""  # a block of C
    return "class" if "class" in opened[-1]["kind"] else "function"
