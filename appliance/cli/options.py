"""Options that several commands share, the parsers of their values, and the end of a command that cannot run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import click

from appliance.config.defaults import FEED

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


class PathType(click.Path):
    """A pathlib.Path. click's own `path_type` loads pathlib for commands without a path, and for --help."""

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Path:
        from pathlib import Path

        return Path(os.fsdecode(super().convert(value, param, ctx)))


def size(text: str) -> int:
    """Parse a number of bytes, with K, M or G for powers of 1024."""
    plain = text.strip().lower().removesuffix("b").removesuffix("i")
    number, suffix = (plain[:-1], plain[-1]) if plain[-1:] in ("k", "m", "g") else (plain, "")
    if not (number.isascii() and number.isdigit()):
        raise click.BadParameter(f"{text!r} is not a size; write a number of bytes, or something like 256M")
    return int(number) * SUFFIXES[suffix]


def setting(text: str) -> tuple[str, object]:
    """Parse SECTION.KEY=VALUE. The value is TOML; a bare word is a string."""
    import tomllib

    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise click.BadParameter(f"{text!r} is not KEY=VALUE; see `appliance config` for the keys")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


PATH = PathType()
connect_option = click.option(
    "--connect", default=FEED, show_default=True, metavar="ENDPOINT", help="Endpoint of the feed."
)
replay_option = click.option(
    "--replay", default="", metavar="ENDPOINT", help="Endpoint for replay requests, or off. [announced by the feed]"
)
server_key_option = click.option("--server-key", default="", metavar="FILE", help="Public key of a locked feed.")
key_option = click.option("--key", default="", metavar="FILE", help="File with your own secret key, for a locked feed.")
run_option = click.option("--run", type=PATH, metavar="DIR", help="Run directory. [the instance running here]")


def config_option(help: str = "Read options from this TOML file.") -> Callable[[Any], Any]:
    """Return -c, the parameter `file`."""
    return click.option("-c", "--config", "file", type=PATH, metavar="FILE.toml", help=help)


def set_option(
    help: str = "Set any key of the TOML file.", *, parse: Callable[[str], object] = setting
) -> Callable[[Any], Any]:
    """Return --set, the parameter `settings`. `parse` converts each value."""
    return click.option("--set", "settings", type=parse, multiple=True, metavar="KEY=VALUE", help=help)


def stop(message: str, code: int = 2) -> NoReturn:
    """Print the reason and exit."""
    from appliance.text.terminal import plain

    for line in message.splitlines():
        click.echo(f"appliance: {plain(line)}", err=True)
    sys.exit(code)
