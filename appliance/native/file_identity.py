"""The identity of a file behind a path: its device and inode, so links and redirections compare equal."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator

STDIN, STDOUT = 0, 1

Identity = tuple[int, int] | str | None


def identity(path: str, standard: int) -> Identity:
    """Return the identity of the file that a path names; None if writing to it harms no input. "-" is `standard`.

    A missing file has its name as identity. Terminals and devices such as /dev/null may be named twice.
    """
    if not path:
        return None
    try:
        about = os.fstat(standard) if path == "-" else os.stat(path)
    except (OSError, ValueError):
        return None if path == "-" else os.path.realpath(path)
    if stat.S_ISREG(about.st_mode) or stat.S_ISBLK(about.st_mode):
        return about.st_dev, about.st_ino
    return None if path == "-" or stat.S_ISCHR(about.st_mode) else os.path.realpath(path)


def clashes(inputs: Iterable[tuple[str, str]], outputs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield (output name, other name) for every output that is also an input or another output.

    Both arguments hold (name, path).
    """
    known = {identity(path, STDIN): name for name, path in inputs}
    for name, path in outputs:
        found = identity(path, STDOUT)
        other = name if found is None else known.setdefault(found, name)
        if other != name:
            yield name, other


def is_still(path: str, descriptor: int) -> bool:
    """Return whether a path still names the open file; True as well if stat fails for another reason."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        return False
    except OSError:
        return True
