"""Values of named parameters out of targets, header fields and form bodies."""

import re
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

REDACTED = b"[redacted]"
_NAME = re.compile(rb"(?:^|[?&;#])([^?&;#=]*)=")
_NAME_INSIDE = re.compile(rb"[?&;#]([^?&;#=]*)=")


class Parameters:
    """The parameters whose values are hidden, by name, in any case of letters."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = frozenset(name.lower().encode() for name in names)

    def __bool__(self) -> bool:
        return bool(self.names)

    def hide(self, text: bytes, form: bool = False) -> bytes:
        """The text with each such value replaced, up to the next & or its end; linear in its length.

        A name stands behind one of ? & ; # (in a form also at the beginning) and before =. What looks like a name
        inside of another value counts too: rather too much is hidden than too little.
        """
        kept = []
        done = 0
        for found in (_NAME if form else _NAME_INSIDE).finditer(text):
            if found.start(1) >= done and self._is_named(found[1]):
                end = text.find(b"&", found.end())
                kept += [text[done : found.end()], REDACTED]
                done = end if end >= 0 else len(text)
        return b"".join([*kept, text[done:]]) if kept else text

    def _is_named(self, name: bytes) -> bool:
        return unquote_to_bytes(name.replace(b"+", b" ")).strip().lower() in self.names
