"""Draws the dashboard as a picture, from what a Prometheus answers to its queries; no Grafana is needed:

    python ops/grafana/draw.py http://127.0.0.1:9090 dashboard.png --minutes 10

For a look at a change of the dashboard, or a picture for a report. Places and kinds of panels are those of its JSON."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import dates, pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter
from queries import Prometheus, Query, Series, queries

FILE = Path(__file__).parent / "dashboards" / "capture-appliance.json"
COLUMNS = 24
CELL = 0.75, 0.34  # inches of one grid cell
BACK, INK, DIM, GREEN, RED, ORANGE = "#181b1f", "#d8d9da", "#6e7279", "#73bf69", "#f2495c", "#ff9830"
COLOURS = [GREEN, "#5794f2", "#f2cc0c", ORANGE, RED, "#b877d9", "#37872d", "#8ab8ff", "#ffa6b0", "#8f3bb8", "#fade2a"]
LEGENDS = 8  # of a panel; what is beyond is left to the lines
LEGEND_LETTERS = 80  # in one line

Answers = dict[tuple[str, str], list[Series]]  # by title of the panel and letter of the query


def scaled(value: float, base: int = 1000, units: Sequence[str] = ("", "k", "M", "G", "T")) -> str:
    place = 0
    while abs(value) >= base and place < len(units) - 1:
        value, place = value / base, place + 1
    return f"{value:.3g}{units[place]}"


def seconds(value: float) -> str:
    for limit, factor, unit in ((1e-3, 1e6, "µs"), (1, 1e3, "ms"), (120, 1, "s"), (7200, 1 / 60, "min")):
        if abs(value) < limit:
            return f"{value * factor:.3g} {unit}" if value else "0"
    return f"{value / 3600:.3g} h"


UNITS: dict[str, Callable[[float], str]] = {
    "percentunit": lambda value: f"{100 * value:.3g} %",
    "s": seconds,
    "bytes": lambda value: scaled(value, 1024, (" B", " KiB", " MiB", " GiB", " TiB")),
    "Bps": lambda value: scaled(value) + "B/s",
    "bps": lambda value: scaled(value) + "b/s",
    "pps": lambda value: scaled(value) + "/s",
    "cps": lambda value: scaled(value) + "/s",
    "reqps": lambda value: scaled(value) + "/s",
    "short": scaled,
}


# -- panels ----------------------------------------------------------------------------------------------------------


def lines(axes: Axes, panel: dict[str, Any], found: list[Series], unit: Callable[[float], str]) -> None:
    custom = panel["fieldConfig"]["defaults"].get("custom", {})
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    if stacked:
        times = sorted({at for one in found for at, _ in one.points})
        known = [dict(one.points) for one in found]
        heights = [[points.get(at, 0.0) for at in times] for points in known]
        axes.stackplot([at / 86400 for at in times], heights, colors=COLOURS, alpha=0.75)
        axes.set_ylim(0, 1.05 * max(map(sum, zip(*heights, strict=True))) or 1.0)
        shown = [pyplot.Rectangle((0, 0), 1, 1, color=COLOURS[n % len(COLOURS)]) for n in range(len(found))]
    else:
        shown = []
        for n, one in enumerate(found):
            x, y = [at / 86400 for at, _ in one.points], [value for _, value in one.points]
            shown += axes.plot(x, y, color=COLOURS[n % len(COLOURS)], linewidth=1.2)
    if not stacked:
        values = [value for one in found for _, value in one.points]
        axes.set_ylim(1.05 * min(0.0, *values), 1.05 * max(values) or 1.0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: unit(value)))
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M:%S"))
    axes.xaxis.set_major_locator(dates.AutoDateLocator(maxticks=5))
    axes.grid(color="#2c3235", linewidth=0.6)
    names = [one.legend for one in found][:LEGENDS]
    columns = max(1, min(4, LEGEND_LETTERS // max(map(len, names))))
    axes.legend(
        shown[:LEGENDS], names, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=columns, fontsize=6.5,
        frameon=False, labelcolor=INK, handlelength=1.2, columnspacing=1.2,
    )  # fmt: skip


def number(axes: Axes, panel: dict[str, Any], found: list[Series], unit: Callable[[float], str]) -> None:
    value = found[0].points[-1][1]
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    colour = [step["color"] for step in steps if step["value"] is None or value >= step["value"]][-1]
    axes.set_axis_off()
    axes.text(0.5, 0.42, unit(value), color={"green": GREEN}.get(colour, RED), fontsize=22, ha="center", va="center")


def bars(axes: Axes, panel: dict[str, Any], found: list[Series], unit: Callable[[float], str]) -> None:
    names, values = [one.legend for one in found], [one.points[-1][1] for one in found]
    colours = [RED if n.startswith("lost") else ORANGE if n.startswith(("left", "not ")) else GREEN for n in names]
    places = range(len(names), 0, -1)
    most = max([*values, 1.0])
    axes.barh(places, [most] * len(names), color="#22252b", height=0.7)
    axes.barh(places, values, color=colours, height=0.7)
    for place, value, colour in zip(places, values, colours, strict=True):
        axes.text(most * 1.01, place, f"{value:,.0f}", color=colour if value else DIM, fontsize=8, va="center")
    axes.set_yticks(list(places), names, fontsize=8)
    axes.set_xlim(0, most * 1.12)
    axes.xaxis.set_visible(False)


def heat(axes: Axes, panel: dict[str, Any], found: list[Series], unit: Callable[[float], str]) -> None:
    by_bound = sorted((float(one.labels["le"]), dict(one.points)) for one in found)
    times = sorted({at for _, points in by_bound for at in points})
    below, cells = dict.fromkeys(times, 0.0), []
    for _, points in by_bound:
        cells.append([max(0.0, points.get(at, 0.0) - below[at]) or float("nan") for at in times])
        below = {at: points.get(at, below[at]) for at in times}
    axes.pcolormesh([at / 86400 for at in times], range(len(cells)), cells, cmap="Oranges_r", shading="nearest")
    axes.set_yticks(range(len(cells)), [unit(b) if b != float("inf") else "more" for b, _ in by_bound], fontsize=6.5)
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M:%S"))
    axes.xaxis.set_major_locator(dates.AutoDateLocator(maxticks=5))


KINDS = {"timeseries": lines, "stat": number, "bargauge": bars, "heatmap": heat}


# -- the picture -----------------------------------------------------------------------------------------------------


def draw(board: dict[str, Any], answers: Answers, file: Path) -> None:
    """Leaves a PNG."""
    times = [at / 86400 for found in answers.values() for one in found for at, _ in one.points]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    figure = pyplot.figure(figsize=(COLUMNS * CELL[0], height * CELL[1]), facecolor="#111217")
    pyplot.rcParams.update({"font.family": "DejaVu Sans", "text.color": INK})
    for panel in board["panels"]:
        place = panel["gridPos"]
        left, width = place["x"] / COLUMNS, place["w"] / COLUMNS
        bottom, tall = 1 - (place["y"] + place["h"]) / height, place["h"] / height
        if panel["type"] == "row":
            figure.text(0.004, bottom + tall * 0.3, panel["title"], fontsize=11, weight="bold", color=INK)
            continue
        back = figure.add_axes((left + 0.002, bottom + 0.0009, width - 0.004, tall - 0.0018))
        back.set_facecolor(BACK)
        back.set(xticks=[], yticks=[])
        for spine in back.spines.values():
            spine.set_color("#2c3235")
        back.text(0.02 * 8 / place["w"], 1 - 0.45 / place["h"], panel["title"], fontsize=9, va="center", weight="bold")
        found = [one for target in panel["targets"] for one in answers[panel["title"], target["refId"]] if one.points]
        if not found:
            back.text(0.5, 0.5, "no data", color=DIM, ha="center", va="center")
            continue
        inner = {"bargauge": (0.27, 0.03, 0.71, 0.88), "stat": (0.0, 0.0, 1.0, 0.85)}.get(
            panel["type"], (0.12, 0.26, 0.85, 0.62)
        )
        axes = figure.add_axes(
            (left + width * inner[0], bottom + tall * inner[1], width * inner[2], tall * inner[3]), facecolor="none"
        )
        axes.tick_params(colors=INK, labelsize=6.5, length=2)
        for spine in axes.spines.values():
            spine.set_visible(False)
        KINDS[panel["type"]](axes, panel, found, UNITS[panel["fieldConfig"]["defaults"]["unit"]])
        if panel["type"] in ("timeseries", "heatmap"):
            axes.set_xlim(min(times), max(times))
    figure.savefig(file, dpi=100, facecolor=figure.get_facecolor())
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draws the dashboard from what a Prometheus answers.")
    parser.add_argument("prometheus", help="its URL")
    parser.add_argument("picture", type=Path, help="the PNG to write")
    parser.add_argument("--minutes", type=float, default=60, help="how far back (default: 60)")
    parser.add_argument("--scrape", type=float, default=15, help="seconds between two scrapes (default: 15)")
    options = parser.parse_args()
    board = json.loads(FILE.read_text())
    server, end = Prometheus(options.prometheus), time.time()

    def answer(query: Query) -> list[Series]:
        return server.answer(query, end - 60 * options.minutes, end, options.scrape)

    draw(board, {(query.panel, query.letter): answer(query) for query in queries(board)}, options.picture)


if __name__ == "__main__":
    main()
