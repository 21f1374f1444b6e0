"""Checks of the host at the start of a run. Each raises Unusable, whose text is for a person."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from appliance.config.address import split_address
from appliance.config.schema import Config
from appliance.config.section_files import NEW
from appliance.ipc.memory_sizes import arena_bytes, least_bytes
from appliance.native.safe_files import Unusable, make_folder_for
from appliance.output.output_file import prepare_output
from appliance.report.run_report import Report
from appliance.runtime import sandbox
from appliance.text import units

FOLDER_MODE = 0o750  # of the folders of the ring and of files


def child_user(config: Config) -> tuple[int, int] | None:
    """Return (uid, gid) of the child processes, if it is not ours."""
    if not config.run.user:
        return None
    try:
        user = sandbox.account(config.run.user)
    except sandbox.UnknownUser as fault:
        raise Unusable(str(fault)) from fault
    return None if user[0] == os.geteuid() else user


def make_folder(path: str, option: str, user: tuple[int, int] | None) -> None:
    """Make the folder that an option names for its process, unless it is there."""
    try:
        if user:
            make_folder_for(path, FOLDER_MODE, *user)
        else:
            os.makedirs(path, FOLDER_MODE)
    except FileExistsError:
        if not os.path.isdir(path):
            raise Unusable(f"{option} {path}: not a folder") from None
    except OSError as error:
        raise Unusable(f"{option} {path}: {error.strerror}") from error


def make_outputs(config: Config, user: tuple[int, int] | None) -> list[str]:
    """Check that the output and the ledger can be written, and make folders. Return the files that it made."""
    made = []
    for path, option in ((config.output.opened, "-o"), (config.run.ledger, "--ledger")):
        if path and prepare_output(path, option, user):
            made.append(path)
    if config.record.path:
        make_folder(config.record.path, "record.path", user)
    if config.record.keeps:
        make_folder(config.record.kept_path, "record.path", user)
    if config.files.path:
        make_folder(config.files.path, "files.path", user)
        make_folder(os.path.join(config.files.path, NEW), "files.path", user)
    return made


def check_port(bind: str) -> None:
    """Check that the port of the metrics is free, at once and cheaply."""
    host, port = split_address(bind)
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("" if host == "*" else host, port))
    except OSError as error:
        raise Unusable(f"--metrics {bind}: {error.strerror}; name another HOST:PORT, or off") from error


def check_memory(config: Config, directory: Path, free: int, report: Report) -> None:
    """Warn if the run directory cannot hold all batches. free: bytes, before any process started.

    Raises Unusable if it cannot hold the least that a run needs.
    """
    least, most, size = least_bytes(config), arena_bytes(config), units.size
    room = f"{directory} has {size(free)} free"
    advice = "make room there (df; in a container: --shm-size)"
    if free < least:
        raise Unusable(f"{room}, and batches of frames need {size(least)}; {advice}, or lower shard.batch_bytes")
    if free < most:
        report.warn(
            f"{room}, and batches may take {size(most)}: when it is full, frames and events are dropped; {advice}, "
            "or lower shard.link_bytes",
            reason="link",
        )
