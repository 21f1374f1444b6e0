"""The queries of a dashboard as Grafana asks them: variables filled in, sent to Prometheus, answers by panel.

Grafana itself is not needed for it: what it would do between a panel and Prometheus is here, as far as ours use it."""

from __future__ import annotations

import json
import math
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

ALL = {"instance": ".*", "interface": ".*", "worker": ".*"}
Fetch = Callable[[str], str]  # URL to body


class Query(NamedTuple):
    """One target of a panel."""

    panel: str
    letter: str
    expression: str
    legend: str
    instant: bool


class Series(NamedTuple):
    """One series of an answer: one line of a panel. An instant query has one point."""

    legend: str
    labels: dict[str, str]
    points: list[tuple[float, float]]


def queries(board: dict[str, Any]) -> Iterator[Query]:
    """Every one of a dashboard's JSON."""
    for panel in board["panels"]:
        for one in panel.get("targets", ()):
            yield Query(panel["title"], one["refId"], one["expr"], one["legendFormat"], one["instant"])


def filled(expression: str, range_s: float, scrape_s: float, variables: dict[str, str] = ALL) -> str:
    """With every variable replaced as Grafana would: $__rate_interval is four scrapes."""
    values = {"__rate_interval": f"{4 * scrape_s:g}s", "__range": f"{range_s:.0f}s", **variables}
    for name in sorted(values, key=len, reverse=True):
        expression = expression.replace(f"${name}", values[name])
    return expression


def http(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


class Prometheus:
    """Its HTTP API. fetch: how URLs are read, for a server in another network namespace."""

    def __init__(self, url: str, fetch: Fetch = http) -> None:
        self.url = url.rstrip("/")
        self.fetch = fetch

    def ask(self, path: str, **parameters: object) -> Any:
        """The data of an answer. Raises ValueError with what the server says is wrong."""
        text = self.fetch(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        answer = json.loads(text)
        if answer["status"] != "success":
            raise ValueError(f"{parameters.get('query', path)}: {answer['error']}")
        return answer["data"]

    def answer(self, query: Query, start: float, end: float, scrape_s: float) -> list[Series]:
        """The series of one query over a time, in steps of a scrape or of a two-hundredth of it."""
        expression = filled(query.expression, end - start, scrape_s)
        if query.instant:
            found = self.ask("query", query=expression, time=end)["result"]
        else:
            step = max(scrape_s, (end - start) / 200)
            found = self.ask("query_range", query=expression, start=start, end=end, step=step)["result"]
        return [_series(query, one) for one in found]


def _series(query: Query, one: dict[str, Any]) -> Series:
    labels = one["metric"]
    legend = query.legend
    for name, value in labels.items():
        legend = legend.replace(f"{{{{{name}}}}}", value)
    points = [(float(at), float(value)) for at, value in one.get("values") or [one["value"]]]
    return Series(legend, labels, [point for point in points if not math.isnan(point[1])])
