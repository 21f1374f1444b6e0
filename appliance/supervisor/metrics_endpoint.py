"""The metrics server of a run: its port is checked at the start; a short run over a file ends before it serves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from appliance.config.address import OFF, split_address
from appliance.config.schema import Config
from appliance.stats.snapshot import Snapshots
from appliance.supervisor import start_checks

if TYPE_CHECKING:
    from appliance.metrics.collector import Collector
    from appliance.metrics.http_server import MetricsServer

SERVE_FILE_S = 1.0  # a shorter run over a file ends before a scrape


class MetricsEndpoint:
    """The endpoint of metrics.bind. due_at: time.monotonic() at which to call `serve`, or None."""

    def __init__(self, config: Config, snapshots: Callable[[], Snapshots], healthy: Callable[[], tuple[bool, str]]):
        self.due_at: float | None = None
        self._config = config
        self._snapshots = snapshots
        self._healthy = healthy
        self._collector: Collector | None = None
        self._server: MetricsServer | None = None  # until the process ends: its thread is a daemon

    def reserve(self, started: float) -> None:
        """Check that the port is free, at once and cheaply. Raises Unusable."""
        bind = self._config.metrics.bind
        if bind != OFF:
            start_checks.check_port(bind)
            self.due_at = started + (SERVE_FILE_S if self._config.lossless else 0.0)

    def serve(self) -> str:
        """Start the server and return its address. Raises OSError.

        Loading it costs a short run more than the rest of the supervisor.
        """
        from appliance.metrics.collector import Collector
        from appliance.metrics.http_server import MetricsServer

        self.due_at = None
        self._collector = Collector(self._config, self._snapshots)
        bind = self._config.metrics.bind
        self._server = MetricsServer(bind, self._collector.collect, self._healthy)
        host, _ = split_address(bind)
        return f"[{host}]:{self._server.port}" if ":" in host else f"{host}:{self._server.port}"

    def configure(self, config: Config) -> None:
        """Apply a new configuration. The address stays."""
        self._config = config
        if self._collector:
            self._collector.config = config
