"""The fault of a configuration."""

from __future__ import annotations


class ConfigError(Exception):
    """The configuration cannot be used. `faults` has every reason, each with its place and its fix."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults
