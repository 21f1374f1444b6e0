"""The command line of `appliance files`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from appliance.cli.options import PATH, stop

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("folder", type=PATH, metavar="DIR")
@click.option("--exec", "command", default="", metavar="COMMAND", help="Run this for each file; {} is its path.")
@click.option(
    "--done",
    "done_codes",
    type=click.IntRange(0, 255),
    multiple=True,
    metavar="CODE",
    help="Exit code of a COMMAND that has done its work; repeatable. [0]",
)
@click.option(
    "--jobs", type=click.IntRange(1, 256), default=1, show_default=True, metavar="N", help="Commands at the same time."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="S",
    help="Kill a command after this time.",
)
@click.option("--once", is_flag=True, help="End when each file in the queue was tried.")
def files(folder: Path, command: str, done_codes: tuple[int, ...], jobs: int, timeout: float, once: bool) -> None:
    """Name each new file of a sensor, or run a command for it.

    The command may be a virus scanner. DIR is files.path of a sensor with files.announce = true. A file leaves the
    queue when it is named, or when its command ends with a code of --done. After another code, a signal or a timeout
    the command runs again, after 1 s at first and 5 min at most. No shell reads COMMAND; without {} the path becomes
    its last argument.
    """
    import shlex

    from appliance.cli.files import FilesArgs, watch_files
    from appliance.native.safe_files import Unusable

    try:
        words = shlex.split(command)
    except ValueError as fault:
        stop(f"--exec {command!r}: {fault}")
    if done_codes and not words:
        stop("--done is for --exec")
    try:
        code = watch_files(FilesArgs(folder, words, done_codes or (0,), jobs, timeout, once))
    except Unusable as error:
        stop(str(error))
    sys.exit(code)
