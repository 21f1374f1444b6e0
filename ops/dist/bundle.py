"""Rewrites wheels so that two builds give the same bytes, and adds what only the build knows.

usage: bundle.py [--add PATH=FILE]... WHEEL...     rewrites each in place

Entries are sorted, dated SOURCE_DATE_EPOCH, with plain modes, and RECORD is written anew. `--add` puts a file into the
wheel: `{dist-info}` in PATH stands for the wheel's metadata folder. Format: PEP 427 and the binary distribution format
of the Python packaging guide.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import sys
import time
import zipfile
from pathlib import Path

OLDEST = 315532800  # 1980-01-01: a zip file knows no earlier time


def moment() -> tuple[int, int, int, int, int, int]:
    """Return SOURCE_DATE_EPOCH as a zip file has it, in UTC."""
    when = time.gmtime(max(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), OLDEST))
    return (when.tm_year, when.tm_mon, when.tm_mday, when.tm_hour, when.tm_min, when.tm_sec)


def record(contents: dict[str, bytes], path: str) -> bytes:
    """Return RECORD: a line for each file with its digest and size; none for RECORD itself."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for name in sorted(contents):
        if name != path:
            digest = base64.urlsafe_b64encode(hashlib.sha256(contents[name]).digest()).rstrip(b"=").decode()
            writer.writerow((name, f"sha256={digest}", len(contents[name])))
    writer.writerow((path, "", ""))
    return text.getvalue().encode()


def rewrite(wheel: Path, added: dict[str, bytes]) -> None:
    """Replace a wheel by the same one in its canonical form, with these files in it.

    Raises ValueError when it has no RECORD.
    """
    contents, programs = {}, set()
    with zipfile.ZipFile(wheel) as old:
        for entry in old.infolist():
            if entry.is_dir():
                continue
            contents[entry.filename] = old.read(entry)
            if entry.external_attr >> 16 & 0o111:
                programs.add(entry.filename)
    records = [name for name in contents if name.endswith(".dist-info/RECORD")]
    if len(records) != 1:
        raise ValueError(f"{wheel}: a wheel has one RECORD, not {len(records)}")
    folder = records[0].rpartition("/")[0]
    for path, data in added.items():
        contents[path.replace("{dist-info}", folder)] = data
    contents[records[0]] = record(contents, records[0])
    fresh = wheel.with_suffix(".part")
    when = moment()
    with zipfile.ZipFile(fresh, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new:
        # The metadata stand last, as the format recommends.
        for name in sorted(contents, key=lambda name: (name.startswith(folder + "/"), name)):
            entry = zipfile.ZipInfo(name, when)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = (0o100755 if name in programs else 0o100644) << 16
            new.writestr(entry, contents[name])
    fresh.replace(wheel)


def main(words: list[str]) -> int:
    """Rewrite the wheels named on the command line; return the exit code."""
    added: dict[str, bytes] = {}
    wheels = []
    rest = iter(words)
    for word in rest:
        if word == "--add":
            path, _, file = next(rest).partition("=")
            added[path] = Path(file).read_bytes()
        else:
            wheels.append(Path(word))
    for wheel in wheels:
        rewrite(wheel, added)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
