"""Import of cryptography.x509 in two thirds of its time.

The library compiles the patterns of its parser of RFC 4514 names at import, and one of them covers all of Unicode. That
takes some 10 ms of the start of every worker, which parses no such name. Here they are compiled at their first use.
"""

from __future__ import annotations

import re
import sys

COMPILE = re.compile
SPARED = "cryptography.x509.name"


class LazyPattern:
    """A pattern that is compiled when it is used."""

    def __init__(self, pattern: str, flags: int) -> None:
        self._source = pattern, flags

    def __getattr__(self, name: str) -> object:
        return getattr(COMPILE(*self._source), name)


def _compile(pattern: str, flags: int = 0) -> re.Pattern[str] | LazyPattern:
    if sys._getframe(1).f_globals["__name__"] == SPARED:
        return LazyPattern(pattern, flags)
    return COMPILE(pattern, flags)


re.compile = _compile  # type: ignore[assignment]
try:
    from cryptography import x509
finally:
    re.compile = COMPILE

__all__ = ["x509"]
