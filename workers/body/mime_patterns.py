"""Patterns of MIME types, as options write them: a type, or a part of one with a * at its beginning or end."""

from __future__ import annotations


def fits(kind: str, pattern: str) -> bool:
    """Return whether a type fits a pattern, both in lower case; "" is an unknown type. Both * and */* mean any type."""
    if pattern.endswith("*") and kind.startswith(pattern[:-1].removesuffix("*/")):
        return True
    return kind == pattern or (pattern.startswith("*") and kind.endswith(pattern[1:]))
