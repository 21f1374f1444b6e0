"""The command line.

Each command is imported when it is named, and imports what it needs when it runs: imports are most of a short command's
time. Exit codes: 0 success, 1 failure while running, 2 unusable arguments or configuration, 130 and 143 stopped by a
signal.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from importlib import import_module

import click

from appliance import __version__
from appliance.runtime.standard_streams import Commands

NAMES = (
    "run",
    "events",
    "forward",
    "packets",
    "keep",
    "files",
    "har",
    "inject",
    "devices",
    "doctor",
    "top",
    "keygen",
    "check",
    "config",
    "version",
)


class CommandsByName(MutableMapping[str, click.Command]):
    """The commands by name; `NAME` is the function of that name in NAME_command.py."""

    def __init__(self) -> None:
        self._known: dict[str, click.Command | None] = dict.fromkeys(NAMES)

    def __getitem__(self, name: str) -> click.Command:
        command = self._known[name]
        if command is None:
            command = getattr(import_module(f"appliance.cli.{name}_command"), name)
            self._known[name] = command
        return command

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._known[name] = command

    def __delitem__(self, name: str) -> None:
        del self._known[name]

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


@click.group(
    cls=Commands,
    commands=CommandsByName(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="appliance")
def main() -> None:
    """Turn packets of a network interface or a capture file into a feed of HTTP events."""
