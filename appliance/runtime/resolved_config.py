"""The whole configuration as a text, for the processes of a run and in its run directory."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

import msgspec

from appliance import __version__
from appliance.config.errors import ConfigError
from appliance.config.schema import Config
from appliance.native.safe_files import OUTPUT_MODE, read_strange, write_whole
from appliance.runtime.paths import CONFIG, Paths

LONGEST = 64 << 20  # bytes
LONGEST_VERSION = 64


def encoded(config: Config) -> bytes:
    """Return the configuration as `decoded` takes it."""
    return msgspec.json.format(msgspec.json.encode(config))


def decoded(text: bytes, place: object) -> Config:
    """Return the configuration in a text from this place. Raises ConfigError if another version wrote it."""
    try:
        return msgspec.json.decode(text, type=Config)
    except msgspec.DecodeError as error:
        raise ConfigError([f"{place}: {error}; it was not written by this version"]) from error


def save_resolved(config: Config, run_dir: Path, *, gid: int | None = None) -> None:
    """Write the configuration to the run directory, readable by this group; whole or not at all.

    The processes of the run have it from elsewhere (config/handover.py). Raises OSError."""
    folder = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        write_whole(folder, CONFIG, encoded(config), mode=0o600 if gid is None else OUTPUT_MODE, gid=gid)
    finally:
        os.close(folder)


def load_resolved(run_dir: Path | str) -> Config:
    """Return the configuration from `save_resolved`. Raises OSError, or ConfigError if another version wrote it."""
    paths = Paths(Path(run_dir))
    try:
        return decoded(read_strange(paths.config, LONGEST), paths.config)
    except ConfigError as error:
        writer = _written_by(paths)
        if writer in ("", __version__):
            raise
        raise ConfigError([f"{line} ({__version__}) but by {writer}" for line in error.faults]) from error


def _written_by(paths: Paths) -> str:
    """Return the version of the appliance that made the run; "" if the run directory does not say."""
    with suppress(OSError, UnicodeDecodeError):
        found = re.fullmatch(r"[0-9A-Za-z.+-]+", read_strange(paths.version, LONGEST_VERSION).decode("ascii"))
        return found[0] if found else ""
    return ""
