"""Text on a terminal: safe to print, and fitted to its columns."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Sequence

MARKS = ("Mn", "Me", "Mc")  # categories of characters that combine with the one before
MOST_MARKS = 4  # on one character; no script needs more
BLANKS = "\u115f\u1160\u2800\u3164\uffa0"  # letters without a glyph
GAP = 2  # blanks between two columns


def safe(text: str) -> str:
    """Return `text` with every character that is not plainly visible escaped as \\x, \\u or \\U, and backslashes
    doubled.

    A byte that is not UTF-8 becomes \\x and its two digits. Combining marks that pile up on one character, or would
    combine with the text before, are escaped, too.
    """
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    return plain(text.replace("\\", "\\\\"))


def plain(text: str) -> str:
    """Return `text` escaped as `safe` does, but keep backslashes: parts of it may be `safe` already."""
    if text.isascii() and text.isprintable():
        return text
    shown, marks = [], MOST_MARKS  # a mark at the start has no base character
    for character in text:
        marks = marks + 1 if unicodedata.category(character) in MARKS else 0
        hidden = marks > MOST_MARKS or character in BLANKS or not character.isprintable()
        shown.append(_escape(character) if hidden else character)
    return "".join(shown)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name that is not UTF-8, as Python decodes it (PEP 383)
        code -= 0xDC00
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def stderr_line(text: str) -> None:
    """Print a line for a person on standard error, terminal-safe."""
    print(f"appliance: {plain(text)}", file=sys.stderr, flush=True)


def shortened(text: str, width: int) -> str:
    """Return `text` in at most `width` columns, with "…" where it is cut; wide characters take two."""
    from rich.cells import cell_len, set_cell_size

    if len(text) <= width and cell_len(text) <= width:
        return text
    return f"{set_cell_size(text[:width], max(0, width - 1)).rstrip()}…"


def fit(parts: Sequence[tuple[str, int]], width: int, gap: str = "  ") -> str:
    """Join the parts with gaps, within `width`.

    While they are too long, drop the whole part with the highest rank: a truncated number is a wrong number. Parts of
    rank 0 stay. Return "" if even those are too long.
    """
    left = list(parts)
    while True:
        text = gap.join(text for text, _ in left)
        if len(text) <= width:
            return text
        worst = max((rank for _, rank in left), default=0)
        if worst == 0:
            return ""
        left.pop(max(place for place, (_, rank) in enumerate(left) if rank == worst))


def columns(rows: Sequence[Sequence[str]], width: int = 1 << 30, left_out: Sequence[int] = ()) -> list[str]:
    """Format rows as left-aligned columns, two blanks apart.

    If `width` is too small, drop the columns of `left_out` in turn, then shorten the last column, which is text.
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    kept = list(range(len(widths)))
    for place in left_out:
        if sum(widths[one] + GAP for one in kept[:-1]) + min(widths[-1], LEAST_TEXT) > width:
            kept.remove(place)
    rows, widths = [[row[one] for one in kept] for row in rows], [widths[one] for one in kept]
    room = max(1, width - sum(one + GAP for one in widths[:-1]))
    if widths[-1] > room:
        rows = [[*row[:-1], shortened(row[-1], room)] for row in rows]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


LEAST_TEXT = 12  # minimum columns of a description before others are dropped
