"""A real Prometheus of its own, which scrapes one appliance every second."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from eventually import eventually
from hosts import Host

CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 900ms, evaluation_interval: 1s}}
rule_files: {rules}
scrape_configs:
  - job_name: appliance
    static_configs: [{{targets: ["{target}"]}}]
"""


class Prometheus:
    """The server, on loopback. rules: files with rules to evaluate."""

    def __init__(self, host: Host, directory: Path, target: str, port: int = 9090, rules: Iterable[Path] = ()) -> None:
        self.host = host
        self.url = f"http://127.0.0.1:{port}"
        config = directory / "prometheus.yml"
        config.write_text(CONFIG.format(target=target, rules=json.dumps([str(rule) for rule in rules])))
        with (directory / "prometheus.log").open("wb") as log:
            self.process = host.start(
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={directory / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
                stdout=log,
                stderr=log,
            )
        eventually(lambda: host.fetch(f"{self.url}/-/ready")[0] == 200, "Prometheus is ready")

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The instant vector of a query now."""
        status, text = self.host.fetch(f"{self.url}/api/v1/query?query={quote(query)}")
        assert status == 200, text
        return list(json.loads(text)["data"]["result"])

    def wait(self, query: str) -> list[dict[str, Any]]:
        """The answer, once there is one."""
        return eventually(lambda: self.ask(query), query)

    def value(self, query: str) -> float:
        """The value of the one series of the answer."""
        (series,) = self.ask(query)
        return float(series["value"][1])
