"""Redaction of the values of named parameters in targets, header fields and form bodies."""

import re
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from appliance.runtime import log

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
        """Return the text with each such value replaced, up to the next & or its end; linear in its length.

        A name stands behind one of ? & ; # (in a form also at the beginning) and before =. An apparent name inside of
        another value counts too, to hide rather too much than too little. On a fault this hides the whole text.
        """
        try:
            return self._hidden(text, form)
        except Exception as fault:
            log.bug("the values of parameters cannot be found, so the whole text is hidden", fault)
            return REDACTED

    def _hidden(self, text: bytes, form: bool) -> bytes:
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
