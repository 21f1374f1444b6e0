"""KeyLogParser: the text of a key log, in any pieces, to secrets. Junk is counted, and bounded in memory."""

from __future__ import annotations

import re

from appliance.keylog.secrets import LABELS, LENGTHS, Secret

LONGEST_LINE = 1024  # bytes; a longer line is junk and is passed over
_LINE = re.compile(rb"([A-Z][A-Z0-9_]{1,63}) ([0-9A-Fa-f]{64}) ([0-9A-Fa-f]{64,512})")
_RSA = re.compile(rb"RSA [0-9A-Fa-f]{16} [0-9A-Fa-f]{96}")
_PLACES = {label.encode(): place for place, label in enumerate(LABELS)}


class KeyLogParser:
    """The lines of one key log. `feed` returns the secrets of the lines that are complete."""

    def __init__(self) -> None:
        self.secrets = 0  # lines with a secret that may open a connection
        self.ignored = 0  # comments, blank lines and lines with another label
        self.junk = 0  # lines that are none of a key log
        self._rest = b""  # of a line that is not complete
        self._skipping = False  # to the end of a line

    def feed(self, piece: bytes) -> list[Secret]:
        """Read on; return the secrets in their order."""
        lines = piece.split(b"\n")
        if self._skipping and len(lines) > 1:
            lines[0] = b""
            self._skipping = False
            self.ignored -= 1  # the emptied line, counted when it began
        elif not self._skipping:
            lines[0] = self._rest + lines[0]
        self._rest = b""
        found = []
        for line in lines[:-1]:
            secret = self._read(line)
            if secret is not None:
                found.append(secret)
        if not self._skipping:
            self._rest = lines[-1]
            if len(self._rest) > LONGEST_LINE:
                self.junk += 1
                self.skip_line()
        return found

    def finish(self) -> list[Secret]:
        """Read a last line without its end; nothing more follows."""
        return self.feed(b"\n") if self._rest else []

    def skip_line(self) -> None:
        """Pass over the rest of the present line."""
        self._rest = b""
        self._skipping = True

    def restart(self) -> None:
        """Begin at the start of a line: another file follows, or the same one from its beginning."""
        if self._rest:
            self.junk += 1
        self._rest = b""
        self._skipping = False

    def _read(self, line: bytes) -> Secret | None:
        line = line.removesuffix(b"\r")
        found = _LINE.fullmatch(line) if len(line) <= LONGEST_LINE else None
        if found is not None and len(found[3]) % 2 == 0:
            place = _PLACES.get(found[1])
            if place is None:
                self.ignored += 1
                return None
            if len(found[3]) // 2 in LENGTHS[place]:
                self.secrets += 1
                return place, bytes.fromhex(found[2].decode()), bytes.fromhex(found[3].decode())
        elif not line.strip() or line.startswith(b"#") or _RSA.fullmatch(line):
            self.ignored += 1
            return None
        self.junk += 1
        return None
