"""Clients at work while something else happens."""

from __future__ import annotations

from eventually import PATIENCE_S
from scene import Scene
from transactions import Transaction, of_client


class Load:
    """Clients at work from now until `stop`, several connections at a time, each replaced after a few requests."""

    def __init__(self, scene: Scene, name: str = "first") -> None:
        options = (
            "--name",
            name,
            "--connections",
            6,
            "--each",
            12,
            "--largest",
            20_000,
            "--pause",
            0.002,
            "--until-eof",
        )
        self.process = scene.load(*options)

    def stop(self) -> list[Transaction]:
        """End the client and return its transactions."""
        out, _ = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0
        return of_client(out)
